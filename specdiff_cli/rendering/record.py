"""Where a file of audio comes from: the record that travels inside it, and whether it still is what would be rendered.

All of it is known without PyTorch, so that a batch in which nothing is left to do ends at once.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from specdiff_cli import __version__
from specdiff_cli.audio.compression import Compression
from specdiff_cli.audio.record import PROGRAM
from specdiff_cli.choices import NOTE_VOCODERS
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.diffusion.sampling import AUTOREGRESSIVE_SAMPLING, FIXED_SAMPLING, TEMPLATES_SAMPLING, Sampling
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.midi.edits import Edits
from specdiff_cli.rendering.request import Finish, Request
from specdiff_cli.weights.voices import VoiceCard
from specdiff_cli.wording import count

#: Rate in hertz and whether in stereo, where nothing is said: of voices of note templates, which make both at once, and
#: of the others, whose networks work at 16 kHz.
TEMPLATES_SOUND, PLAIN_SOUND = (44_100, True), (SAMPLE_RATE_HZ, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundOptions(Finish):
    """Every option that changes the sound, with the voice's defaults filled in.

    Those with a default here came later: a record names them only where they differ from it, so that files of older
    versions are still known for what they are.
    """

    steps: int
    sampler: str
    schedule: str
    guidance: float
    seed: int
    vocoder: str
    tail_s: float
    subtype: str
    device: str
    dtype: str
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    overlap_frames: int = 0
    sample_rate_hz: int = SAMPLE_RATE_HZ
    stereo: bool = False
    track: int | None = None
    reader: str = "music"
    edits: Edits = field(default_factory=Edits)
    reuse_every: int = 1

    @property
    def compression(self) -> Compression:
        """Of lossy formats."""
        return Compression(self.quality, self.bit_rate_kbps)

    @property
    def by_stems(self) -> bool:
        """Whether each instrument is rendered on its own; a vocoder that knows the notes places them all at once."""
        return self.stems or (self.stereo and not self._knows_notes)

    @property
    def made_rate_hz(self) -> int:
        """Samples per second of what the synthesizer makes; other rates are converted from that."""
        return self.sample_rate_hz if self._knows_notes else SAMPLE_RATE_HZ

    @property
    def made_channels(self) -> int:
        """Channels of what the synthesizer makes; stems are placed afterwards."""
        return 2 if self.stereo and not self.by_stems else 1

    @property
    def _knows_notes(self) -> bool:
        return self.vocoder in NOTE_VOCODERS

    @property
    def sampling(self) -> Sampling:
        """The part of them that the engine takes."""
        return Sampling(
            self.steps,
            self.sampler,
            self.schedule,
            self.guidance,
            self.seed,
            self.guidance_interval,
            self.overlap_frames,
            self.reuse_every,
        )

    @property
    def how(self) -> str:
        """Sampling and seed in words, for a summary."""
        if self.sampler == AUTOREGRESSIVE_SAMPLING.sampler:
            return f"frame by frame · seed {self.seed}"
        if self.sampler == TEMPLATES_SAMPLING.sampler:
            return f"from note templates · seed {self.seed}"
        guidance = "" if self.guidance == 1 else f", guidance {self.guidance:g}"
        reuse = "" if self.reuse_every == 1 else f", one whole in {self.reuse_every}"
        return f"{count(self.steps, f'{self.sampler} step')}{reuse}, {self.schedule}{guidance} · seed {self.seed}"

    def recorded(self) -> dict[str, Any]:
        """Option -> value as JSON has it, without those that stand at a default of this class."""
        options = asdict(self)
        options |= options.pop("edits")
        return {key: value for key, value in _plain(options).items() if key not in _DEFAULTS or value != _DEFAULTS[key]}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads back from a record: tuples are lists there."""
    plain: dict[str, Any] = json.loads(json.dumps(options))
    return plain


_DEFAULTS = _plain(
    {item.name: item.default for item in fields(SoundOptions) if item.default is not MISSING} | asdict(Edits())
)


@dataclass(frozen=True, slots=True)
class Settled:
    """A request and the voice it is for, with nothing left to defaults."""

    request: Request
    voice: VoiceCard
    sound: SoundOptions

    @property
    def follows(self) -> frozenset[str]:
        """What of a file this voice, heard so, can follow beyond notes: names of ``midi.remarks.CAPABILITIES``."""
        found = {"velocity"} if self.voice.follows_velocity else set()
        if self.voice.kind == "templates":
            found.add("gain")
            if self.sound.vocoder in NOTE_VOCODERS:
                found |= {"pitch_bend", "modulation", "portamento", "scale_tuning", "soft_pedal", "pan"}
        return frozenset(found | {"pan"} if self.sound.stereo else found)


def settle(request: Request, voice: VoiceCard) -> Settled:
    """Fill in what the request leaves to the preset or the voice.

    Raises:
        UsageError: no such preset, or the voice has no use for what was asked for.
    """
    from specdiff_cli.diffusion.presets import find_preset

    asked = request.sampling
    if voice.kind in FIXED_SAMPLING:
        _check_no_denoising(voice.name, FIXED_SAMPLING[voice.kind][1], request)
    chosen = voice.sampling if asked.preset is None else find_preset(asked.preset, voice.presets).sampling
    sampling = chosen.with_given(
        steps=asked.steps,
        sampler=asked.sampler,
        schedule=asked.schedule,
        guidance=asked.guidance,
        guidance_interval=asked.guidance_interval,
        seed=asked.seed,
        overlap_frames=asked.overlap_frames,
        reuse_every=asked.reuse_every,
    )
    if request.output.snapshots:
        from specdiff_cli.rendering.snapshots import check_snapshots

        check_snapshots(request.output.snapshots, sampling.steps)
    vocoder = voice.vocoder.best if request.sound.vocoder is None else request.sound.vocoder
    has_notes = voice.kind == "templates" and vocoder in NOTE_VOCODERS
    usual_rate_hz, is_usually_stereo = TEMPLATES_SOUND if has_notes else PLAIN_SOUND
    if request.output.format == "opus" and usual_rate_hz != SAMPLE_RATE_HZ:
        usual_rate_hz = 48_000  # which it has instead of 44100
    sound = SoundOptions(
        steps=sampling.steps,
        sampler=str(sampling.sampler),
        schedule=str(sampling.schedule),
        guidance=sampling.guidance,
        seed=sampling.seed,
        vocoder=vocoder,
        tail_s=request.sound.tail_s,
        subtype=request.output.subtype,
        device=request.machine.device,
        dtype=request.machine.dtype,
        guidance_interval=sampling.guidance_interval,
        overlap_frames=sampling.overlap_frames,
        sample_rate_hz=request.sound.sample_rate_hz or usual_rate_hz,
        stereo=is_usually_stereo if request.sound.stereo is None else request.sound.stereo,
        track=request.score.track,
        reader=request.score.reader,
        edits=request.score.edits,
        reuse_every=sampling.reuse_every,
        **request.sound.finish(),
    )
    if sound.by_stems and not sound.stems:
        request.check_by_stems(Option("stereo"))
    return Settled(request, voice, sound)


def _check_no_denoising(voice: str, what: str, request: Request) -> None:
    """Raises UsageError for options of diffusion; ``what`` the voice does instead."""
    asked = request.sampling
    given = {
        "preset": asked.preset,
        "steps": asked.steps,
        "sampler": asked.sampler,
        "schedule": asked.schedule,
        "guidance": asked.guidance,
        "guidance_interval": asked.guidance_interval,
        "reuse_every": asked.reuse_every,
        "snapshots": request.output.snapshots or None,
    }
    for name in (name for name, value in given.items() if value is not None):
        raise UsageError(Option(name), f": the voice {voice} {what}, without denoising; leave it out", option=name)
    if asked.overlap_frames:
        name = "overlap_frames"
        raise UsageError(Option(name), f": the voice {voice} {what}; its windows cannot overlap", option=name)


def source_facts(name: str, data: bytes, voice: VoiceCard, options: SoundOptions) -> dict[str, Any]:
    """What decides a render and is known before it: the part of a record that is compared."""
    return {
        "program": PROGRAM,
        "version": __version__,
        "input": {"name": name, "sha256": hashlib.sha256(data).hexdigest()},
        "model": {"name": voice.name, "weights": voice.weights_sha256},
        "options": options.recorded(),
    }


def render_record(facts: Mapping[str, Any], device: str, dtype: str) -> dict[str, Any]:
    """The record of a render: the facts, and what computed it."""
    import torch

    return {**facts, "device": device, "dtype": dtype, "torch": str(torch.__version__)}


def differences(record: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Why a file with this record is not what would be rendered now, as phrases; none where it is.

    The version of the program is not compared: an upgrade alone renders nothing again.
    """
    found = []
    if _table(record, "input").get("sha256") != facts["input"]["sha256"]:
        found.append("the input has changed")
    model = _table(record, "model")
    if model.get("name") != facts["model"]["name"]:
        found.append(f"the model was {model.get('name')}, now {facts['model']['name']}")
    elif model.get("weights") != facts["model"]["weights"]:
        found.append(f"the weights of {facts['model']['name']} have changed")
    was, now = dict(_table(record, "options")), facts["options"]
    for key in dict.fromkeys([*now, *was]):
        before, after = (options.get(key, _DEFAULTS.get(key)) for options in (was, now))
        # auto stands for whatever it was resolved to, so asking for just that by name changes nothing
        if before != after and not (key in ("device", "dtype") and after == record.get(key)):
            found.append(f"{shown_option(key)} was {_shown(before)}, now {_shown(after)}")
    return found


def shown_option(key: str) -> str:
    """A key of a record's options as the command line has it: ``sample_rate_hz`` -> ``sample-rate``."""
    plain = key.removesuffix("_s").removesuffix("_hz").replace("_", "-")
    return {"swaps": "swap", "programs": "program"}.get(plain, plain)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _table(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}

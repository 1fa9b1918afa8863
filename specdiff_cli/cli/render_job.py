"""One song: from a MIDI file to a file of audio, with what is said about it."""

import sys
import time
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from specdiff_cli.cli.console import clock, count, render_display, say, working
from specdiff_cli.cli.estimate import count_windows
from specdiff_cli.cli.mel_file import MelWriter
from specdiff_cli.cli.plan import Job
from specdiff_cli.cli.provenance import (
    SoundOptions,
    VoiceIdentity,
    differences,
    render_record,
    source_facts,
)
from specdiff_cli.cli.resume import Sidecar
from specdiff_cli.constants import WINDOW_S
from specdiff_cli.errors import MidiError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    import numpy.typing as npt

    from specdiff_cli.audio.wav import AtomicWriter, StreamWriter
    from specdiff_cli.midi.notes import MidiSong, Note
    from specdiff_cli.synthesizer import Progress, Sampling, Synthesizer


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """What the user asked for, apart from which files; ``sound`` is what can be heard of it."""

    sound: SoundOptions
    file_format: str
    overwrite: bool = False
    skip_existing: bool = False
    resume: bool = False
    max_duration_s: float = 3 * 3600.0
    threads: int | None = None
    quiet: bool = False
    verbose: bool = False

    def tell(self, line: str) -> None:
        """Say something that ``--quiet`` silences."""
        if not self.quiet:
            say(line)


class Engine:
    """A voice that is loaded when the first song needs it, and once."""

    def __init__(self, model: str, voice: VoiceIdentity, options: RenderOptions) -> None:
        self.voice = voice
        self._model = model
        self._options = options

    @cached_property
    def synthesizer(self) -> "Synthesizer":
        """The voice, ready to render.

        Raises:
            UsageError, WeightsError, DeviceError: what would make every song fail.
        """
        with working(f"loading {self._model}", self._options.quiet):
            synthesizer = self._load()
        for note in synthesizer.voice.notes:
            self._options.tell(note)
        return synthesizer

    @cached_property
    def sampling(self) -> "Sampling":
        """How to sample; valid once the voice is loaded."""
        from specdiff_cli.synthesizer import Sampling

        sound = self._options.sound
        return Sampling(
            steps=sound.steps,
            sampler=sound.sampler,
            schedule=sound.schedule,
            guidance=sound.guidance,
            seed=sound.seed,
        )

    def _load(self) -> "Synthesizer":
        import torch

        from specdiff_cli.devices import resolve_device, resolve_dtype, set_threads
        from specdiff_cli.diffusion.samplers import SAMPLERS
        from specdiff_cli.diffusion.schedules import N_TRAINING_STEPS, SCHEDULES
        from specdiff_cli.synthesizer import Synthesizer
        from specdiff_cli.vocoders import load_vocoder
        from specdiff_cli.weights.load import load_voice

        sound = self._options.sound
        for option, value, known in (
            ("--sampler", sound.sampler, SAMPLERS),
            ("--schedule", sound.schedule, SCHEDULES),
        ):
            if value not in known:
                raise UsageError(f"{option} {value}: is not one of {', '.join(known)}")
        if sound.schedule == "discrete" and sound.steps > N_TRAINING_STEPS:
            raise UsageError(f"--steps {sound.steps}: the discrete schedule has at most {N_TRAINING_STEPS}")
        device = resolve_device(sound.device)
        set_threads(self._options.threads)
        voice = load_voice(self._model)
        dtype = resolve_dtype(sound.dtype, device, prefers_bfloat16=voice.prefers_bfloat16)
        vocoder = load_vocoder(voice, sound.vocoder, n_threads=torch.get_num_threads())
        return Synthesizer(voice, vocoder, device, dtype)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A song that is read and is to be rendered; ``why`` says why although there is a file already."""

    song: "MidiSong"
    notes: "list[Note]"
    messages: list[str]
    facts: dict[str, Any]
    duration_s: float
    overwrite: bool
    why: str | None = None

    @property
    def n_windows(self) -> int:
        """Windows of the render."""
        return count_windows(self.duration_s)


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a finished render took; ``rendered_s`` leaves out what an earlier run had done."""

    duration_s: float
    rendered_s: float
    elapsed_s: float
    n_clipped: int

    @property
    def realtime_factor(self) -> float:
        """Seconds of audio per second of work."""
        return self.rendered_s / max(self.elapsed_s, 1e-9)


def prepare(job: Job, voice: VoiceIdentity, options: RenderOptions) -> Prepared | None:
    """Read a song and decide about its output, all without PyTorch; None: its audio is there already.

    Raises:
        MidiError: the song cannot be read, or holds nothing for this voice.
        OutputError: the output cannot be written, or exists and is not ours to replace.
    """
    from specdiff_cli.midi import notes as midi
    from specdiff_cli.midi.adapt import fit_to_voice

    data = midi.read_bytes(job.source)
    facts = source_facts(job.source.name, data, voice, options.sound)
    why = None
    if job.target is not None and options.skip_existing and job.target.exists():
        why = _why_again(job.target, facts, options)
        if why is None and job.mel_target is not None and not job.mel_target.exists():
            why = f"{job.mel_target} is missing"
        if why is None:
            return None
    overwrite = options.overwrite or why is not None
    _check_outputs(job, options, overwrite)
    song = midi.parse_midi(data, str(job.source), max_duration_s=options.max_duration_s)
    notes, messages = fit_to_voice(song.notes, voice.programs, voice.plays_drums, voice.follows_velocity)
    if not notes:
        raise MidiError(f"{job.source}: holds only drums, which the voice {voice.name} does not play; use --model base")
    return Prepared(
        song=song,
        notes=notes,
        messages=messages,
        facts=facts,
        duration_s=song.end_s + options.sound.tail_s,
        overwrite=overwrite,
        why=why,
    )


def _check_outputs(job: Job, options: RenderOptions, overwrite: bool) -> None:
    """Refuse an impossible output before any work is done for it."""
    from specdiff_cli.audio.pending import check_target
    from specdiff_cli.audio.wav import StreamWriter

    if job.target is None:
        if sys.stdout is None:
            raise OutputError("-o -: standard output is closed; give a file name")
        StreamWriter(sys.stdout.buffer, file_format=options.file_format, subtype=options.sound.subtype)
    elif not (job.makes_folder and not job.target.parent.exists()):
        check_target(job.target, overwrite)
    if job.mel_target is not None:
        check_target(job.mel_target, overwrite)


def _why_again(target: Path, facts: dict[str, Any], options: RenderOptions) -> str | None:
    """Why an existing file must be rendered again; None if it is complete and just what is asked for."""
    from specdiff_cli.audio.pending import reason, shown_path
    from specdiff_cli.audio.record import find_problem, read_record

    try:
        record = read_record(target)
        if record is None:
            if options.overwrite:
                return "it was not made by specdiff"
            raise OutputError(
                f"{shown_path(target)} exists already and does not tell how it was made: "
                "use --overwrite to replace it, or another name"
            )
        return "; ".join(differences(record, facts)) or find_problem(target, record)
    except OSError as error:
        raise OutputError(f"cannot read {shown_path(target)}: {reason(error)}") from None


def render_song(job: Job, prepared: Prepared, engine: Engine, options: RenderOptions) -> Rendered:
    """Render one song to its output.

    Raises:
        OutputError: the output cannot be written.
        BrokenPipeError: the reader of standard output has ended.
    """
    from specdiff_cli.audio.wav import AtomicWriter

    synthesizer = engine.synthesizer
    if prepared.why is not None:
        options.tell(f"{job.target}: rendered again: {prepared.why}")
    if job.target is not None and job.makes_folder:
        _make_folder(job.target.parent)
    record = render_record(prepared.facts, str(synthesizer.device), str(synthesizer.dtype).removeprefix("torch."))
    start_s = time.perf_counter()
    writer = _open_writer(job, prepared, synthesizer, record, options)
    mel_writer = _open_mel(job, prepared, synthesizer)
    mel_has_its_name = False
    try:
        with _open_sidecar(job, prepared, record, options) as sidecar, writer:
            with mel_writer or nullcontext():
                _write_audio(job, prepared, engine, writer, mel_writer, sidecar, options)
                if isinstance(writer, AtomicWriter):
                    writer.settle()  # a full disk shows here, before the spectrogram has its name
            mel_has_its_name = mel_writer is not None
    except OutputError:
        if mel_has_its_name and mel_writer is not None:
            mel_writer.retract()
        raise
    n_kept = 0
    if sidecar is not None:
        n_kept = sidecar.n_finished
        sidecar.remove()
    rendered = Rendered(
        duration_s=prepared.duration_s,
        rendered_s=max(0.0, prepared.duration_s - n_kept * WINDOW_S),
        elapsed_s=time.perf_counter() - start_s,
        n_clipped=writer.levels.n_clipped,
    )
    _tell_about(job, prepared, rendered, engine, options)
    return rendered


def _write_audio(
    job: Job,
    prepared: Prepared,
    engine: Engine,
    writer: "AtomicWriter | StreamWriter",
    mel_writer: MelWriter | None,
    sidecar: Sidecar | None,
    options: RenderOptions,
) -> None:
    synthesizer, sampling = engine.synthesizer, engine.sampling
    first_window = 0
    extra: dict[str, Any] = {}
    if sidecar is not None:
        first_window = sidecar.n_finished
        extra = {"finished": sidecar.finished(), "on_window": sidecar.add}
        if sidecar.why_from_start is not None:
            options.tell(f"{job.source.name}: begun anew: {sidecar.why_from_start}")
        elif first_window:
            options.tell(f"{job.source.name}: {count(first_window, 'window')} of {prepared.n_windows} done earlier")
    with render_display(
        job.source.name, prepared.n_windows, sampling.steps, options.quiet, first_window=first_window
    ) as display:

        def on_progress(at: "Progress") -> None:
            done_s = (at.window + at.step / at.n_steps) * WINDOW_S
            display.step(at.window, at.n_windows, at.step, at.n_steps, min(done_s, prepared.duration_s))

        chunks = synthesizer.stream(
            prepared.notes,
            prepared.duration_s,
            sampling,
            on_progress=on_progress,
            on_mel=None if mel_writer is None else mel_writer.write,
            **extra,
        )
        # However this ends: it may be sampling ahead on a thread of its own.
        with closing(cast("Generator[npt.NDArray[np.float32], None, None]", chunks)):
            for chunk in chunks:
                writer.write(chunk)


def _tell_about(job: Job, prepared: Prepared, rendered: Rendered, engine: Engine, options: RenderOptions) -> None:
    from specdiff_cli.midi.adapt import describe_oddities

    synthesizer, sampling = engine.synthesizer, engine.sampling
    messages = [*describe_oddities(prepared.song), *prepared.messages]
    if synthesizer.n_dropped_events:
        dropped = count(synthesizer.n_dropped_events, "note event")
        messages.append(f"{dropped} did not fit into their windows and were dropped")
    if rendered.n_clipped:
        messages.append(f"{count(rendered.n_clipped, 'sample')} clipped; --subtype float keeps them")
    for message in messages:
        options.tell(f"{job.source.name}: {message}")
    guidance = "" if sampling.guidance == 1 else f", guidance {sampling.guidance:g}"
    options.tell(
        f"{job.target or 'stdout'}: {clock(rendered.duration_s)} of audio in {rendered.elapsed_s:.1f} s, "
        f"{rendered.realtime_factor:.1f} × realtime · {synthesizer.describe()} · "
        f"{sampling.steps} {sampling.sampler} step{'s' if sampling.steps > 1 else ''}, "
        f"{sampling.schedule}{guidance} · seed {sampling.seed}"
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be created ({error.strerror}); choose another folder") from None


def _open_writer(
    job: Job, prepared: Prepared, synthesizer: "Synthesizer", record: dict[str, Any], options: RenderOptions
) -> "AtomicWriter | StreamWriter":
    from specdiff_cli.audio.wav import AtomicWriter, StreamWriter

    if job.target is None:
        return StreamWriter(sys.stdout.buffer, file_format=options.file_format, subtype=options.sound.subtype)
    return AtomicWriter(
        job.target,
        file_format=options.file_format,
        subtype=options.sound.subtype,
        overwrite=prepared.overwrite,
        expected_samples=synthesizer.count_samples(prepared.duration_s),
        record=record,
    )


def _open_mel(job: Job, prepared: Prepared, synthesizer: "Synthesizer") -> MelWriter | None:
    if job.mel_target is None:
        return None
    return MelWriter(job.mel_target, synthesizer.count_frames(prepared.duration_s), overwrite=prepared.overwrite)


def _open_sidecar(
    job: Job, prepared: Prepared, record: dict[str, Any], options: RenderOptions
) -> "AbstractContextManager[Sidecar | None]":
    if job.target is None or not options.resume:
        return nullcontext()
    import torch

    # More threads add up in another order, which can change the last bit.
    key = {**record, "threads": torch.get_num_threads()}
    return Sidecar(job.target, key, prepared.n_windows)

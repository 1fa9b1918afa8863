"""How one note sounds, as a function of time: our voices' note templates.

To a first approximation a note's sound does not depend on what else is played. So one small network learns, from an
atlas of isolated notes, the power of each band at any time after a note's onset and after its end. It has two parts: a
trunk that is asked once per note (a learned vector per instrument and key, and the velocity), and two decoders that
are asked once per frame: one for a note that is held, one for what its end takes away. The last layer of the first is
the note's own: the trunk writes a few spectra, the decoder mixes them.
"""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specdiff_cli.constants import (
    FRAME_SAMPLES,
    LEVEL_VELOCITIES,
    N_HIGH_BANDS,
    N_MELS,
    SAMPLE_RATE_HZ,
    SWELL_AGES_S,
)
from specdiff_cli.midi.programs import N_PROGRAMS
from specdiff_cli.midi.vocabulary import Vocabulary
from specdiff_cli.model.config import ModelConfig

N_BANDS = N_MELS + N_HIGH_BANDS
N_KEYS, MAX_VELOCITY = 128, 127
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
# The trunk.
WIDTH, HIDDEN, N_BLOCKS, KEY_WIDTH = 512, 1024, 3, 192
# The decoders of a held note and of its end: width, hidden units, blocks, spectra that the note brings along.
HELD, ENDED = (320, 640, 2, 16), (192, 384, 1, 4)
N_LOG_WAVES, N_WAVES, WAVE_HZ, N_HATS, HAT_S = 12, 26, 0.5, 16, 0.005
EARLIEST_S, LATEST_S = 0.002, 8.0
FADES = (6, 0.01, 10**0.5)  # how many, the fastest in seconds, and their ratio
LENGTH_WAVES = 4
QUIET_LOG_POWER = -14.0  # what an untrained network says
#: What the atlas measures of each instrument's keys; columns of ``NoteFunction.facts``. Partial k of a note lies at
#: ``k f0 sqrt(1 + inharmonicity k^2)`` with f0 ``detune_cents`` off the tempered pitch; vibrato swings by
#: ``vibrato_cents`` to either side from ``vibrato_delay_s`` on; ``noise_share`` (0-1) is the share of the power that is
#: in no partial; ``pan`` (-1 left, 1 right) is where the sample lies.
FACTS = (
    "inharmonicity",
    "detune_cents",
    "vibrato_hz",
    "vibrato_cents",
    "vibrato_delay_s",
    "noise_share",
    "pan",
)
N_PHASES = 12  # partials of a note whose phases at its onset are known; columns of ``NoteFunction.phases``
N_TONES = 24  # frequencies at which a struck sound rings; columns of ``NoteFunction.tones``


def time_features(
    since_s: Tensor,
    n_log: int,
    n_waves: int,
    span: tuple[float, float] = (EARLIEST_S, LATEST_S),
    wave_hz: float = WAVE_HZ,
    hats: tuple[int, float] = (N_HATS, HAT_S),
    fades: tuple[int, float, float] = FADES,
) -> Tensor:
    """(...) seconds since a frame's end first reached an event -> (..., features).

    Waves over log time, for all that happens once; waves over time, for beats and vibrato; hats over the first frames;
    fades. The constants are arguments because TorchScript does not see a module's.
    """
    since_s = since_s.clamp(min=0.0)
    earliest_s, latest_s = span
    x = torch.log((since_s + earliest_s) / earliest_s) / math.log(latest_s / earliest_s)
    log_phase = math.pi * x.unsqueeze(-1) * torch.arange(1, n_log + 1, device=since_s.device)
    phase = 2 * math.pi * wave_hz * since_s.unsqueeze(-1) * torch.arange(1, n_waves + 1, device=since_s.device)
    near = (1 - (since_s.unsqueeze(-1) / hats[1] - torch.arange(hats[0], device=since_s.device)).abs()).clamp(min=0.0)
    times_s = fades[1] * torch.pow(fades[2], torch.arange(fades[0], device=since_s.device))
    columns = [x.unsqueeze(-1), 0.25 * since_s.unsqueeze(-1), torch.exp(-since_s.unsqueeze(-1) / times_s), near]
    columns += [torch.sin(log_phase), torch.cos(log_phase), torch.sin(phase), torch.cos(phase)]
    return torch.cat(columns, dim=-1)


def n_time_features(n_log: int, n_waves: int) -> int:
    """Columns of :func:`time_features`."""
    return 2 + FADES[0] + N_HATS + 2 * n_log + 2 * n_waves


def note_function_config(kits: tuple[int, ...], chokes: tuple[tuple[int, int, int], ...] = ()) -> ModelConfig:
    """The configuration of a voice of this kind: the trunk's sizes, drum programs, and which drums silence which."""
    vocabulary = Vocabulary(MAX_VELOCITY)
    sizes = (WIDTH, 0, 0, HIDDEN, N_BLOCKS, 0, HELD[2])
    return ModelConfig(*sizes, vocabulary.n_ids, MAX_VELOCITY, kind="templates", kits=kits, chokes=chokes)


class FrameDecoder(nn.Module):
    """Features of a time and the trunk's word about a note -> the 144 bands."""

    def __init__(self, n_features: int, sizes: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.width, hidden, self.n_blocks, self.rank = sizes
        self.n_bands = N_BANDS
        self.note = nn.Linear(WIDTH, self.width * (1 + 2 * self.n_blocks))
        self.spectra = nn.Linear(WIDTH, (1 + self.rank) * N_BANDS)
        self.time = nn.Linear(n_features, self.width)
        self.up = nn.ModuleList([nn.Linear(self.width, hidden) for _ in range(self.n_blocks)])
        self.down = nn.ModuleList([nn.Linear(hidden, self.width, bias=False) for _ in range(self.n_blocks)])
        self.out = nn.Linear(self.width, N_BANDS + self.rank)

    def forward(self, note: Tensor, features: Tensor) -> Tensor:
        """note (N, WIDTH), features (N, F, n) -> (N, F, 144) float32."""
        parts, spectra = self.of_note(note)
        return self.mixed(parts, spectra, self.time(features))

    @torch.jit.export
    def of_note(self, note: Tensor) -> tuple[Tensor, Tensor]:
        """What does not depend on the time, for ``mixed``."""
        parts = self.note(note).view(-1, 1, 1 + 2 * self.n_blocks, self.width)
        return parts, self.spectra(note).view(-1, 1 + self.rank, self.n_bands)

    @torch.jit.export
    def mixed(self, parts: Tensor, spectra: Tensor, times: Tensor) -> Tensor:
        """(N, F, 144) of notes (see ``of_note``) at times (1 or N, F, width), which do not depend on the note."""
        x = F.gelu(times + parts[:, :, 0], approximate="tanh")
        for k, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            turned = F.layer_norm(x, [self.width]) * (1 + parts[:, :, 1 + 2 * k]) + parts[:, :, 2 + 2 * k]
            x = x + down(F.gelu(up(turned), approximate="tanh"))
        out = self.out(x)
        mixed = torch.baddbmm(spectra[:, :1].float(), out[:, :, self.n_bands :].float(), spectra[:, 1:].float())
        bands: Tensor = mixed + out[:, :, : self.n_bands].float()
        return bands


class NoteFunction(nn.Module):
    """(instrument, key, velocity) and times -> log power of 128 mel bands (squared) and 16 bands from 8 to 20 kHz.

    Instruments 0 to 127 are General MIDI's programs, those from 128 on the drum kits ``config.kits``. Buffers go with
    the weights: ``facts`` (instruments, 128, columns of ``FACTS``) and ``phases`` (instruments, 128, N_PHASES), the
    turns that the cosines of partials have at the onset, NaN where they have none, were measured of each key;
    ``levels`` (instruments, 128, velocities) are added to log powers at ``LEVEL_VELOCITIES``, so that notes are as loud
    as was measured, and ``later_levels`` to those after the first half second; ``swells`` (instruments, 128, ages) are
    added to loud bands at ``SWELL_AGES_S``, so that notes swell and beat as was measured. ``tones`` (instruments, 128,
    N_TONES) are the frequencies in hertz at which struck sounds ring, rising, then NaN. Weights may
    lack all of these but the facts, as older ones do.

    Raises ValueError: a configuration of other sizes than :func:`note_function_config` has.
    """

    facts: Tensor
    phases: Tensor
    levels: Tensor
    later_levels: Tensor
    swells: Tensor
    tones: Tensor
    #: Buffers that weights may lack, and what they hold then.
    lacking: ClassVar[dict[str, float]] = {
        "phases": math.nan,
        "levels": 0.0,
        "later_levels": 0.0,
        "swells": 0.0,
        "tones": math.nan,
    }

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config != note_function_config(config.kits, config.chokes):
            raise ValueError("kind = 'templates': of other sizes than this version of specdiff knows")
        self.config = config
        n_kits = len(config.kits)
        self.n_log, self.n_waves, self.n_length_waves = N_LOG_WAVES, N_WAVES, LENGTH_WAVES
        self.frame_s = FRAME_S
        n_instruments = N_PROGRAMS + n_kits
        self.keys = nn.Embedding(n_instruments * N_KEYS, KEY_WIDTH)
        self.instruments = nn.Embedding(n_instruments, WIDTH)
        self.pitches = nn.Embedding(N_KEYS, WIDTH)
        self.key = nn.Linear(KEY_WIDTH, WIDTH, bias=False)
        self.velocity = nn.Linear(4, WIDTH)
        self.up = nn.ModuleList([nn.Linear(WIDTH, HIDDEN) for _ in range(N_BLOCKS)])
        self.down = nn.ModuleList([nn.Linear(HIDDEN, WIDTH, bias=False) for _ in range(N_BLOCKS)])
        self.held = FrameDecoder(n_time_features(N_LOG_WAVES, N_WAVES), HELD)
        self.ended = FrameDecoder(n_time_features(N_LOG_WAVES, 0) + 2 * LENGTH_WAVES, ENDED)
        self.fade = nn.Linear(WIDTH, N_BANDS)
        self.register_buffer("facts", torch.zeros(n_instruments, N_KEYS, len(FACTS)))
        self.register_buffer("phases", torch.full((n_instruments, N_KEYS, N_PHASES), math.nan))
        self.register_buffer("levels", torch.zeros(n_instruments, N_KEYS, len(LEVEL_VELOCITIES)))
        self.register_buffer("later_levels", torch.zeros(n_instruments, N_KEYS, len(LEVEL_VELOCITIES)))
        self.register_buffer("swells", torch.zeros(n_instruments, N_KEYS, len(SWELL_AGES_S)))
        self.register_buffer("tones", torch.full((n_instruments, N_KEYS, N_TONES), math.nan))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *others: Any) -> None:
        """As ``nn.Module`` does; what weights may lack is put in."""
        for name, value in self.lacking.items():
            state_dict.setdefault(prefix + name, torch.full(getattr(self, name).shape, value))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw weights; every note begins quiet."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name in ("keys.weight", "instruments.weight", "pitches.weight"):
                nn.init.normal_(parameter, std=0.3, generator=generator)
            else:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=generator)
        for decoder in (self.held, self.ended):
            for layer in (decoder.note, decoder.spectra, decoder.out):
                nn.init.normal_(layer.weight, std=0.1 * layer.in_features**-0.5, generator=generator)
        nn.init.constant_(self.held.out.bias[:N_BANDS], QUIET_LOG_POWER)
        nn.init.constant_(self.fade.bias, 2.0)

    @torch.jit.export
    def encode(self, instrument: Tensor, key: Tensor, velocity: Tensor) -> Tensor:
        """(N,) instruments, keys 0-127 and velocities (float, 1-127) -> (N, WIDTH), the trunk's word about each."""
        v = (velocity.float() / 127).clamp(min=1 / 127)
        about = torch.stack([v, v.square(), torch.log(v), torch.sqrt(v)], dim=-1)
        x = self.key(self.keys(instrument * 128 + key)) + self.instruments(instrument) + self.pitches(key)
        x = x + self.velocity(about.to(x.dtype))
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(F.gelu(up(F.layer_norm(x, [x.shape[-1]])), approximate="tanh"))
        return F.layer_norm(x, [x.shape[-1]])

    @torch.jit.export
    def sustained(self, note: Tensor, velocity: Tensor, age_s: Tensor) -> Tensor:
        """Log power (N, F, 144) of held notes in frames that begin ``age_s`` (N, F) after their onsets."""
        parts, spectra = self.held.of_note(note)
        return self.held.mixed(parts, spectra, self.held_times(age_s)) + self.loudness(velocity)

    @torch.jit.export
    def held_times(self, age_s: Tensor) -> Tensor:
        """(N, F) ages to the (N, F, width) of ``held.mixed``: the same for all notes."""
        times: Tensor = self.held.time(time_features(age_s + self.frame_s, self.n_log, self.n_waves))
        return times

    @torch.jit.export
    def loudness(self, velocity: Tensor) -> Tensor:
        """(N, 1, 1) log power by the SoundFont standard's curve, 40 log10."""
        return 4 * torch.log(velocity.float() / 127)[:, None, None]

    @torch.jit.export
    def released(self, note: Tensor, since_end_s: Tensor, hold_s: Tensor) -> Tensor:
        """What is added to that (N, F, 144) in frames that begin ``since_end_s`` (N, F) after the notes' ends.

        ``hold_s`` (N,) is how long they were held.
        """
        return self.released_at(note, since_end_s, hold_s, self.ended_times(since_end_s))

    @torch.jit.export
    def ended_times(self, since_end_s: Tensor) -> Tensor:
        """(N, F) seconds since notes' ends to the (N, F, width) of ``released_at``: the same for all notes."""
        features = time_features((since_end_s + self.frame_s).clamp(min=0.0), self.n_log, 0)
        weight = self.ended.time.weight[:, : features.shape[2]]
        return F.linear(features, weight, self.ended.time.bias)

    @torch.jit.export
    def released_at(self, note: Tensor, since_end_s: Tensor, hold_s: Tensor, times: Tensor) -> Tensor:
        """``released`` with the ``ended_times`` (1 or N, F, width) of these seconds (1 or N, F)."""
        length = torch.log(hold_s.clamp(0.02, 8.0) / 0.02)[:, None] / math.log(400.0)
        phase = math.pi * length * torch.arange(1, self.n_length_waves + 1, device=hold_s.device)
        about = torch.cat([torch.sin(phase), torch.cos(phase)], dim=1)
        of_length = F.linear(about, self.ended.time.weight[:, -2 * self.n_length_waves :])
        parts, spectra = self.ended.of_note(note)
        added = self.ended.mixed(parts, spectra, times + of_length[:, None])
        reached_s = (since_end_s + self.frame_s).clamp(min=0.0)
        rate = F.softplus(self.fade(note).float())[:, None]
        fall = -2.0 * rate * (reached_s - 0.5 * self.frame_s).clamp(min=0.0).unsqueeze(-1)
        begun = (reached_s / 0.01).clamp(max=1.0).unsqueeze(-1)
        change: Tensor = fall + begun * added
        return change

"""An atlas of notes: every program and drum kit of a soundfont, note by note, as spectra in the reference's geometry.

Each note is rendered alone and dry at 48 kHz, so that its onset lies on a known sample, and its frames are taken at
exact times relative to it: every 5 ms around onset and end, every 20 ms elsewhere, from a phase that differs from note
to note. Layout of the folder:

- ``atlas.json``: version, soundfont, settings; a call with others is refused.
- ``program-000.npz`` … and ``kit-000.npz`` …, one per preset, present once complete. ``notes`` (n,): see
  ``NOTE_DTYPE``; ``age_s`` and ``since_end_s`` (F,) float32: where a frame begins relative to its note's onset and end;
  ``log_power`` (F, 144) float16: squared mel values of the reference's 128 bands, then the power in 16 bands of 750 Hz
  from 8 to 20 kHz (squared magnitudes added up), natural logarithm; ``facts`` (128, 7) float32: what was measured of
  each key's frequencies, see :class:`specdiff_cli.corpus.note_facts.NoteFacts`; ``phases`` (128, 12) float32: turns of
  each key's first partials at its onset, see :mod:`specdiff_cli.corpus.note_phases`; ``chokes`` (n, 2) int64: of a kit,
  keys and the key that silences each; ``levels`` (128, 8, 2) float32: how loud each key is at each of eight velocities,
  see :func:`specdiff_cli.corpus.note_levels.preset_levels`; ``tones`` (128, 24) float32: where struck keys ring, see
  :mod:`specdiff_cli.corpus.note_tones`.

Every preset depends on the settings alone, so a call that was interrupted goes on where it stopped, whatever the number
of workers.
"""

import json
import os
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.audio.mel import mel_matrix
from specdiff_cli.constants import (
    FFT_SAMPLES,
    FRAME_SAMPLES,
    HIGH_BAND_HZ,
    HIGH_MIN_HZ,
    HOP_SAMPLES,
    N_HIGH_BANDS,
    N_MELS,
    SAMPLE_RATE_HZ,
)
from specdiff_cli.corpus.chokes import kit_chokes
from specdiff_cli.corpus.note_facts import N_FACTS, N_KEYS, program_facts
from specdiff_cli.corpus.note_levels import preset_levels
from specdiff_cli.corpus.note_phases import program_phases
from specdiff_cli.corpus.note_tones import preset_tones
from specdiff_cli.corpus.soundfont import GAIN, FluidSynth, Stroke, whole_blocks
from specdiff_cli.corpus.soundfont_presets import drum_kits, read_presets, stand_ins
from specdiff_cli.corpus.spread import Spread, shared_out
from specdiff_cli.engine.timbres import RINGING_PROGRAMS
from specdiff_cli.errors import Option, OutputError, SpecdiffError, UsageError
from specdiff_cli.midi.programs import N_PROGRAMS
from specdiff_cli.model.note_function import N_PHASES, N_TONES
from specdiff_cli.weights.lock import file_sha256

ATLAS_VERSION = 4
PRESET_ARRAYS = ("notes", "age_s", "since_end_s", "log_power", "facts", "phases", "chokes", "levels", "tones")
OVERSAMPLING = 3
RATE_HZ = SAMPLE_RATE_HZ * OVERSAMPLING
N_BANDS = N_MELS + N_HIGH_BANDS
LEAD_S = 0.04  # one frame: the first frame that hears the onset begins here
FINE_S, COARSE_S = 0.005, HOP_SAMPLES / SAMPLE_RATE_HZ
FINE_AFTER_ONSET_S, FINE_AFTER_END_S = 0.2, 0.1
TAIL_S = 3.0
POWER_FLOOR = 1e-12  # a hundredth of the reference's floor: levels are turned down in songs
GOLDEN = 0.6180339887498949
# A stroke that no louder than this is no sound: the preset has nothing on this key.
SILENT_PEAK = 1e-6

NOTE_DTYPE = np.dtype(
    [
        ("pitch", "i2"),
        ("velocity", "i2"),
        ("hold_s", "f4"),
        ("first_frame", "i8"),
        ("n_frames", "i8"),
        ("peak", "f4"),
        ("left_power", "f8"),
        ("right_power", "f8"),
        ("cross_power", "f8"),
    ]
)


@dataclass(frozen=True)
class AtlasConfig:
    """What decides which notes there are.

    ``pitch_step``: semitones from one pitch to the next, for programs; drum kits are taken key by key. Per pitch there
    are ``n_rounds`` times four notes: a long, a sustained, a medium and a short one, of other velocities each time.
    """

    soundfont: str
    lowest_pitch: int = 12
    highest_pitch: int = 119
    lowest_key: int = 21
    highest_key: int = 98
    pitch_step: int = 1
    n_rounds: int = 1
    gain: float = GAIN

    def __post_init__(self) -> None:
        if not 1 <= self.pitch_step <= 12:
            raise UsageError(f"a pitch step of {self.pitch_step}: must be between 1 and 12")
        if not 1 <= self.n_rounds <= 8:
            raise UsageError(f"{self.n_rounds} rounds: must be between 1 and 8")


@dataclass(frozen=True)
class Preset:
    """A program or a drum kit, and the program of the font that plays it."""

    program: int
    is_drum: bool
    played_by: int

    def path(self, folder: Path) -> Path:
        """Where it lies once it is complete."""
        return folder / f"{'kit' if self.is_drum else 'program'}-{self.program:03d}.npz"


def plan(config: AtlasConfig) -> list[Preset]:
    """All presets of an atlas: 128 programs, and the font's kits. Raises UsageError for an unreadable font."""
    presets = read_presets(Path(config.soundfont))
    others = stand_ins(presets)
    programs = [Preset(program, False, others.get(program, program)) for program in range(N_PROGRAMS)]
    return programs + [Preset(kit, True, kit) for kit in drum_kits(presets)]


def preset_keys(preset: Preset, config: AtlasConfig) -> range:
    """The keys that are played."""
    if preset.is_drum:
        return range(config.lowest_key, config.highest_key + 1)
    return range(config.lowest_pitch, config.highest_pitch + 1, config.pitch_step)


def strokes(preset: Preset, config: AtlasConfig) -> list[Stroke]:
    """The notes of a preset; by a golden-ratio sequence, neighbours complement each other in velocity and length."""
    pitches = preset_keys(preset, config)
    if preset.is_drum:
        holds_s: tuple[tuple[float, float], ...] = ((1.5, 1.5), (0.1, 0.1), (0.2, 1.0), (0.03, 0.3))
    else:
        holds_s = ((4.5, 4.5), (2.0, 2.5), (0.25, 1.2), (0.04, 0.25))
    # The long notes: one played loudly, one softly; the shorter ones of any velocity.
    velocities = ((72, 127), (14, 76), (10, 127), (10, 127))
    made = []
    count = preset.program * 7919 + 104729 * preset.is_drum
    for pitch in pitches:
        for _ in range(config.n_rounds):
            for (low_s, high_s), (softest, loudest) in zip(holds_s, velocities, strict=True):
                count += 1
                u, v = (count * GOLDEN) % 1.0, (count * GOLDEN**2 + 0.5) % 1.0
                times_s = LEAD_S, low_s * (high_s / low_s) ** v, TAIL_S
                velocity = round(softest + (loudest - softest) * u)
                made.append(Stroke(pitch, velocity, *(whole_blocks(time_s, RATE_HZ) for time_s in times_s)))
    return made


def frame_times(hold_s: float, length_s: float, phase: float) -> NDArray[np.float64]:
    """Where frames begin, in seconds from the onset, for a note that is heard for ``length_s``; ``phase`` is 0 to 1."""
    coarse = np.arange(-LEAD_S + phase * COARSE_S, length_s, COARSE_S)
    onset = np.arange(-LEAD_S + FINE_S * phase, FINE_AFTER_ONSET_S, FINE_S)
    end = hold_s + np.arange(-LEAD_S + FINE_S * phase, FINE_AFTER_END_S, FINE_S)
    times_s = np.unique(np.concatenate([coarse[coarse > FINE_AFTER_ONSET_S], onset, end[end > FINE_AFTER_ONSET_S]]))
    return np.asarray(times_s[times_s < length_s])


@lru_cache(maxsize=1)
def _band_matrices() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """From magnitudes to mel (513, 128), and from powers above 8 kHz to bands (bins, 16)."""
    bins_hz = np.arange(FFT_SAMPLES * OVERSAMPLING // 2 + 1) * (SAMPLE_RATE_HZ / FFT_SAMPLES)
    band = np.floor((bins_hz - HIGH_MIN_HZ) / HIGH_BAND_HZ).astype(int)
    high = (band[:, None] == np.arange(N_HIGH_BANDS)).astype(np.float32)
    return mel_matrix(), high


def log_powers(mono: NDArray[np.float32], times_s: NDArray[np.float64]) -> NDArray[np.float32]:
    """(n,) audio at 48 kHz -> (frames, 144) log power of frames that begin ``times_s`` after the first sample.

    Magnitudes are those of the reference's analysis at 16 kHz: the same window in seconds, the same bins in hertz.
    """
    import torch

    n_window = FRAME_SAMPLES * OVERSAMPLING
    starts = np.round(times_s * RATE_HZ).astype(int)
    n_missing = int(starts.max(initial=0)) + n_window - len(mono)
    padded = torch.from_numpy(np.pad(mono, (0, max(0, n_missing))))
    frames = padded.unfold(0, n_window, 1)[torch.from_numpy(starts)]
    window = torch.hann_window(n_window, periodic=True) / OVERSAMPLING
    magnitude = torch.fft.rfft(frames * window, n=FFT_SAMPLES * OVERSAMPLING).abs()
    to_mel, to_high = (torch.from_numpy(matrix) for matrix in _band_matrices())
    mel = magnitude[:, : len(to_mel)] @ to_mel
    power = torch.cat([mel.square(), magnitude.square() @ to_high], dim=1)
    return np.asarray(power.clamp(min=POWER_FLOOR).log().numpy(), dtype=np.float32)


def _key_facts(preset: Preset, synth: FluidSynth, config: AtlasConfig) -> dict[str, Any]:
    """What is measured of a preset's keys: the arrays beside its notes."""
    facts = np.zeros((N_KEYS, N_FACTS), dtype=np.float32)
    phases = np.full((N_KEYS, N_PHASES), np.nan, dtype=np.float32)
    chokes: list[tuple[int, int]] = []
    if preset.is_drum:
        chokes = kit_chokes(preset.played_by, synth, RATE_HZ)
    else:
        facts = program_facts(preset.played_by, synth, RATE_HZ)
        phases = program_phases(preset.played_by, synth, RATE_HZ, facts)
    keys, name = preset_keys(preset, config), (preset.played_by, preset.is_drum)
    tones = np.full((N_KEYS, N_TONES), np.nan, dtype=np.float32)
    if preset.is_drum or preset.program in RINGING_PROGRAMS:
        tones = preset_tones(name, keys, synth, RATE_HZ)
    return {
        "facts": facts,
        "phases": phases,
        "chokes": np.array(chokes, dtype=np.int64).reshape(-1, 2),
        "levels": preset_levels(name, keys, synth, RATE_HZ, log_powers),
        "tones": tones,
    }


def make_preset(preset: Preset, synth: FluidSynth, folder: Path, config: AtlasConfig) -> int:
    """Render and store one preset; returns its number of notes. Raises OutputError when it cannot be written."""
    plan_ = strokes(preset, config)
    notes = np.zeros(len(plan_), dtype=NOTE_DTYPE)
    ages, rests, powers = [], [], []
    n_frames = 0
    for row, (stroke, stereo) in enumerate(
        zip(plan_, synth.play_notes(preset.played_by, preset.is_drum, plan_), strict=True)
    ):
        hold_s = stroke.hold_samples / RATE_HZ
        length_s = (len(stereo) - stroke.lead_samples) / RATE_HZ
        is_silent = float(np.abs(stereo).max()) < SILENT_PEAK
        times_s = frame_times(hold_s, 0.0 if is_silent else length_s, (row * GOLDEN) % 1.0)
        # One frame more of silence before the note: the earliest frames begin before it does.
        mono = np.pad(stereo.mean(axis=1), (FRAME_SAMPLES * OVERSAMPLING - stroke.lead_samples, 0))
        ages.append(times_s)
        rests.append(times_s - hold_s)
        powers.append(log_powers(mono.astype(np.float32), times_s + FRAME_SAMPLES / SAMPLE_RATE_HZ).astype(np.float16))
        left, right = stereo[:, 0].astype(np.float64), stereo[:, 1].astype(np.float64)
        peak = float(np.abs(stereo).max())
        sizes = (n_frames, len(times_s))
        notes[row] = (
            stroke.pitch,
            stroke.velocity,
            hold_s,
            *sizes,
            peak,
            np.square(left).sum(),
            np.square(right).sum(),
            (left * right).sum(),
        )
        n_frames += len(times_s)
    path = preset.path(folder)
    unfinished = path.with_suffix(".npz.partial")
    try:
        with open(unfinished, "wb") as file:
            np.savez(
                file,
                notes=notes,
                age_s=np.concatenate(ages).astype(np.float32),
                since_end_s=np.concatenate(rests).astype(np.float32),
                log_power=np.concatenate(powers),
                **_key_facts(preset, synth, config),
            )
        unfinished.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return len(notes)


class PresetWork:
    """Makes the presets of an atlas with one synthesizer."""

    def __init__(self, synth: FluidSynth, folder: Path, config: AtlasConfig) -> None:
        self._synth, self._folder, self._config = synth, folder, config

    def one(self, preset: Preset) -> int | SpecdiffError:
        """Its number of notes, whether it was there or is made now."""
        n_notes = _n_finished(preset.path(self._folder))
        if n_notes is not None:
            return n_notes
        try:
            return make_preset(preset, self._synth, self._folder, self._config)
        except SpecdiffError as error:
            return error


def make_preset_work(folder: Path, config: AtlasConfig) -> PresetWork:
    """In the process that does it. Raises UsageError: no soundfont, or no FluidSynth there."""
    import torch

    torch.set_num_threads(1)
    return PresetWork(FluidSynth(Path(config.soundfont), config.gain, RATE_HZ), folder, config)


def _n_finished(path: Path) -> int | None:
    """Notes of a finished preset; None where it is missing or damaged."""
    try:
        with np.load(path) as file:
            return len(file["notes"])
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        return None


def read_preset(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of one preset, by name. Raises UsageError for a file that is none."""
    try:
        with np.load(path) as file:
            return {name: file[name] for name in PRESET_ARRAYS}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        raise UsageError(f"{path} is no preset of an atlas: make it again with `specdiff train atlas`") from None


def read_kits(folder: Path) -> list[int]:
    """The drum kits of an atlas, complete or not. Raises UsageError for a folder that is none."""
    path = folder / "atlas.json"
    try:
        return [int(kit) for kit in json.loads(path.read_text())["kits"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder} holds no atlas: make one with `specdiff train atlas`") from None


def make_atlas(folder: Path, config: AtlasConfig, workers: int | Spread) -> Iterator[tuple[int, int, int]]:
    """Make (or complete) an atlas; yields (presets ready, presets planned, notes ready) after each preset.

    ``workers``: processes here, or who else shares the presets out.

    Raises UsageError for settings or a version that differ from the folder's, for an unreadable soundfont and where
    FluidSynth is missing; OutputError when the folder cannot be written.
    """
    presets = plan(config)
    _check_settings(folder, config)
    FluidSynth(Path(config.soundfont), config.gain, RATE_HZ).close()  # its absence is told here, not by a worker
    n_notes = 0
    with closing(shared_out(workers)(make_preset_work, (folder, config), presets)) as results:
        for ready, result in enumerate(results, start=1):
            if isinstance(result, SpecdiffError):
                raise result
            n_notes += result
            yield ready, len(presets), n_notes


def _record(config: AtlasConfig) -> dict[str, object]:
    """What ``atlas.json`` says. The soundfont is known by what it holds: where it lies may change."""
    soundfont = Path(config.soundfont)
    presets = read_presets(soundfont)
    return {
        "atlas_version": ATLAS_VERSION,
        "soundfont_sha256": file_sha256(soundfont),
        "settings": asdict(config) | {"soundfont": soundfont.name},
        "kits": drum_kits(presets),
        "stand_ins": {str(program): other for program, other in stand_ins(presets).items()},
    }


def _check_settings(folder: Path, config: AtlasConfig) -> None:
    record = json.loads(json.dumps(_record(config)))
    path = folder / "atlas.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.exists(path):
            path.write_text(json.dumps(record, indent=2) + "\n")
            return
        found = json.loads(path.read_text())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    except ValueError:
        raise UsageError(f"{path} is damaged: give another ", Option("out")) from None
    if found != record:
        version = found.get("atlas_version") if isinstance(found, dict) else None
        if version != ATLAS_VERSION:
            what = f"{path} is an atlas of version {version}, this is {ATLAS_VERSION}: give another "
            raise UsageError(what, Option("out"))
        raise UsageError(f"{path} was made with other settings: give another ", Option("out"), ", or the same settings")

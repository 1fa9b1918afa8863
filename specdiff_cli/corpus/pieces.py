"""The training corpus: pieces of music, their notes and the audio that a soundfont makes of them.

Each piece depends on the settings and its index alone, so the same call gives the same corpus whatever the number of
workers, and an interrupted call goes on where it stopped. Layout of the folder, format 1:

- ``corpus.json``: the format's number and the settings; a call with others is refused.
- ``train/piece-000000.npz``, ``validation/piece-000050.npz`` …: ``audio`` (n,) int16 mono at 16 kHz, ``notes``
  (n_notes, 6) float64 (start_s, end_s, pitch, velocity, program, is_drum), ``clipped_samples``, ``peak`` and
  ``has_reverb``.
- the ``.mid`` beside each.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.choices import check_range
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.corpus.alone import sounds_alone
from specdiff_cli.corpus.compose import COMPOSER_VERSION, ComposeConfig, arrange, compose, note_table
from specdiff_cli.corpus.loudness import calibrated_gain
from specdiff_cli.corpus.soundfont import FluidSynth
from specdiff_cli.corpus.spread import Spread, shared_out
from specdiff_cli.errors import Option, OutputError, SpecdiffError, UsageError
from specdiff_cli.files import files_below
from specdiff_cli.weights.lock import file_sha256

CORPUS_FORMAT = 1  # raised when a reader of today would misread what is written
MEAN_PIECE_S = 100.0  # measured: composed pieces and arrangements of songs together, tail included
# Composed validation pieces draw their seeds from a range that training never reaches.
VALIDATION_SEED_OFFSET = 1 << 40
SEED_STRIDE = 1 << 20  # pieces per corpus seed
INT16_PEAK = 32767
MAX_HOURS = 10_000


def check_validation_share(share: float) -> None:
    """Raises UsageError for a share that leaves nothing on one side."""
    if not 0 < share < 1:
        raise UsageError.of("validation_share", share, "must be above 0 and below 1")


@dataclass(frozen=True)
class CorpusConfig:
    """Everything that decides what the pieces are.

    ``midi_share``: of the pieces, arrangements of files under ``midi_folders``; the others are composed.
    ``loudness_lufs``: what the corpus's pieces have on average. One gain serves all of them, since a velocity must be
    equally loud everywhere: from the notes alone a network could not know how each piece was levelled.
    ``sounds_share``: of the composed pieces, those in which sounds are heard one by one.
    """

    seed: int
    soundfont: str
    midi_folders: tuple[str, ...] = ()
    midi_share: float = 0.4
    validation_share: float = 0.02
    reverb_share: float = 0.0
    loudness_lufs: float = -28.0
    sounds_share: float = 0.0

    def __post_init__(self) -> None:
        check_range("seed", self.seed, 0, VALIDATION_SEED_OFFSET // SEED_STRIDE - 1)
        check_range("midi_share", self.midi_share, 0, 1)
        check_range("reverb_share", self.reverb_share, 0, 1)
        check_range("sounds_share", self.sounds_share, 0, 1)
        check_validation_share(self.validation_share)
        check_range("loudness", self.loudness_lufs, -60, -10, " LUFS")


@dataclass(frozen=True)
class Piece:
    """One entry of the plan. ``source`` is the MIDI file to arrange, None for a composed piece."""

    index: int
    seed: int
    is_validation: bool
    source: Path | None
    has_reverb: bool = False
    is_of_sounds: bool = False

    def path(self, folder: Path) -> Path:
        """Where the finished piece lies."""
        return folder / ("validation" if self.is_validation else "train") / f"piece-{self.index:06d}.npz"


def is_validation_file(path: Path, share: float) -> bool:
    """Whether a source file belongs to validation: a property of its name, so it never changes sides."""
    digest = hashlib.blake2b(path.name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < share


def plan(config: CorpusConfig, n_pieces: int) -> list[Piece]:
    """The corpus's pieces in order, both kinds and both splits interleaved.

    A longer plan begins with the shorter one. Raises UsageError when the folder has no MIDI files.
    """
    sources: dict[bool, list[Path]] = {False: [], True: []}
    for folder in config.midi_folders if config.midi_share > 0 else ():
        files = files_below(Path(folder), (".mid", ".midi"))
        if not files:
            raise UsageError(f"no MIDI files under {folder}: give another folder with ", Option("midi"))
        for path in files:
            sources[is_validation_file(path, config.validation_share)].append(path)
    if sources[False] or sources[True]:
        for split in sources:
            order = np.random.default_rng([config.seed, 3, int(split)]).permutation(len(sources[split]))
            sources[split] = [sources[split][int(i)] for i in order]
    pieces = []
    used = {False: 0, True: 0}
    seen = {False: 0, True: 0}
    for index in range(n_pieces):
        split = _falls_due(index, config.validation_share)
        source = None
        if sources[split] and _falls_due(seen[split], config.midi_share):
            source = sources[split][used[split] % len(sources[split])]
            used[split] += 1
        seen[split] += 1
        seed = config.seed * SEED_STRIDE + index + (VALIDATION_SEED_OFFSET if split else 0)
        is_of_sounds = source is None and _drawn(config, 5, index) < config.sounds_share
        pieces.append(Piece(index, seed, split, source, _drawn(config, 4, index) < config.reverb_share, is_of_sounds))
    return pieces


def _drawn(config: CorpusConfig, what: int, index: int) -> float:
    """A piece's random number for one of its properties."""
    return float(np.random.default_rng([config.seed, what, index]).random())


def _falls_due(index: int, share: float) -> bool:
    """True for ``share`` of the indices, evenly spread."""
    return math.floor((index + 1) * share + 0.5) > math.floor(index * share + 0.5)


def make_piece(piece: Piece, synth: FluidSynth, folder: Path, compose_config: ComposeConfig) -> float:
    """Compose or arrange, render, and store one piece; returns its length in seconds.

    Raises OutputError when the folder cannot be written.
    """
    path = piece.path(folder)
    if piece.is_of_sounds:
        midi = sounds_alone(piece.seed, compose_config)
    elif piece.source is None:
        midi = compose(piece.seed, compose_config)
    else:
        midi = arrange(piece.source, piece.seed, compose_config)
    audio = synth.render(midi, has_reverb=piece.has_reverb)
    midi_path = path.with_suffix(".mid")
    partial_midi_path = path.with_suffix(".mid.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        midi.save(partial_midi_path)
        notes = note_table(partial_midi_path)
        partial_midi_path.replace(midi_path)
    except OSError as error:
        raise OutputError(f"cannot write {midi_path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial_midi_path.unlink(missing_ok=True)
    store_piece(path, audio, notes, has_reverb=piece.has_reverb)
    return len(audio) / SAMPLE_RATE_HZ


def store_piece(
    path: Path, audio: NDArray[np.float32], notes: NDArray[np.float64], *, has_reverb: bool = False
) -> None:
    """Write a piece, audio (n,) and notes (n_notes, 6); its presence means that it is complete. Raises OutputError."""
    samples: NDArray[np.int16] = np.clip(np.round(audio * INT16_PEAK), -INT16_PEAK, INT16_PEAK).astype(np.int16)
    partial_path = path.with_suffix(".npz.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial_path, "wb") as file:
            np.savez(
                file,
                audio=samples,
                notes=notes,
                clipped_samples=np.int64((np.abs(audio) > 1.0).sum()),
                peak=np.float64(np.abs(audio).max(initial=0.0)),
                has_reverb=np.bool_(has_reverb),
            )
        partial_path.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial_path.unlink(missing_ok=True)


def finished_s(path: Path) -> float | None:
    """Length in seconds of a finished piece; None where it is missing or damaged."""
    try:
        with np.load(path) as piece:
            return len(piece["audio"]) / SAMPLE_RATE_HZ if len(piece["notes"]) else None
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        return None


class PieceWork:
    """Makes the pieces of a corpus with one synthesizer."""

    def __init__(self, synth: FluidSynth, folder: Path, compose_config: ComposeConfig) -> None:
        self._synth, self._folder, self._compose_config = synth, folder, compose_config

    def one(self, piece: Piece) -> float | SpecdiffError:
        """Its length in seconds, whether it was there or is made now."""
        done_s = finished_s(piece.path(self._folder))
        if done_s is not None:
            return done_s
        try:
            return make_piece(piece, self._synth, self._folder, self._compose_config)
        except SpecdiffError as error:
            return error


def make_piece_work(soundfont: Path, gain: float, folder: Path, compose_config: ComposeConfig) -> PieceWork:
    """In the process that does it. Raises UsageError: no soundfont, or no FluidSynth there."""
    return PieceWork(FluidSynth(soundfont, gain), folder, compose_config)


def make_corpus(
    folder: Path, hours: float, config: CorpusConfig, workers: int | Spread, compose_config: ComposeConfig
) -> Iterator[tuple[int, int, float]]:
    """Make (or complete) a corpus; yields (pieces ready, pieces planned, hours ready) after each piece.

    ``workers``: processes here, or who else shares the pieces out.

    Raises UsageError for hours that nobody waits for, for settings that differ from the folder's, for an unreadable
    soundfont and where FluidSynth is missing; OutputError when the folder cannot be written.
    """
    if not 0 < hours <= MAX_HOURS:
        raise UsageError.of("hours", hours, f"must be above 0 and at most {MAX_HOURS}")
    pieces = plan(config, math.ceil(hours * 3600 / MEAN_PIECE_S))
    soundfont = Path(config.soundfont)
    gain = _known_gain(folder, config, compose_config)
    if gain is None:
        gain = calibrated_gain(soundfont, config.loudness_lufs, compose_config)
    _check_settings(folder, config, compose_config, gain)
    with only_maker(folder):
        yield from _make_pieces(folder, pieces, soundfont, gain, shared_out(workers), compose_config)


def _make_pieces(
    folder: Path, pieces: list[Piece], soundfont: Path, gain: float, spread: Spread, compose_config: ComposeConfig
) -> Iterator[tuple[int, int, float]]:
    total_s = 0.0
    with closing(spread(make_piece_work, (soundfont, gain, folder, compose_config), pieces)) as results:
        for ready, result in enumerate(results, start=1):
            if isinstance(result, SpecdiffError):
                raise result
            total_s += result
            yield ready, len(pieces), total_s / 3600


@contextmanager
def only_maker(folder: Path) -> Iterator[None]:
    """Keep a second process from filling the same folder; the lock goes with the process, even if it is killed."""
    import fcntl

    path = folder / ".lock"
    try:
        lock = open(path, "w")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"another process is making a corpus in {folder}: wait for it, or give another "
            raise UsageError(what, Option("out")) from None
        yield


def _record(config: CorpusConfig, compose_config: ComposeConfig, gain: float) -> str:
    """What ``corpus.json`` says. The soundfont is known by what it holds: where it lies may change."""
    record = {
        "format": CORPUS_FORMAT,
        "composer_version": COMPOSER_VERSION,
        "corpus": asdict(config) | {"soundfont": Path(config.soundfont).name},
        "soundfont_sha256": file_sha256(Path(config.soundfont)),
        "gain": gain,
        "composer": asdict(compose_config),
    }
    return json.dumps(record, indent=2) + "\n"


def _is_same(text: str, settings: str) -> bool:
    try:
        # corpora of format 1 were made before it had a number, and some before there were pieces of single sounds
        begun = {"format": 1} | json.loads(text)
        begun["corpus"] = {"sounds_share": 0.0} | begun["corpus"]
        return bool(begun == json.loads(settings))
    except (ValueError, TypeError, KeyError):
        return False


def check_corpus_format(folder: Path) -> None:
    """Raise UsageError for a corpus that a later version made in another format; one without a record is taken."""
    try:
        number = json.loads((folder / "corpus.json").read_text()).get("format", 1)
    except (OSError, ValueError, AttributeError):
        return
    if number != CORPUS_FORMAT:
        raise UsageError(f"{folder}: is a corpus of format {number}, and this version reads {CORPUS_FORMAT}; update it")


def _known_gain(folder: Path, config: CorpusConfig, compose_config: ComposeConfig) -> float | None:
    """The gain of a corpus that was begun with the same settings, so that it need not be measured again."""
    try:
        text = (folder / "corpus.json").read_text()
        gain = float(json.loads(text)["gain"])
        return gain if _is_same(text, _record(config, compose_config, gain)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_settings(folder: Path, config: CorpusConfig, compose_config: ComposeConfig, gain: float) -> None:
    settings = _record(config, compose_config, gain)
    path = folder / "corpus.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.exists(path):
            path.write_text(settings)
        elif not _is_same(path.read_text(), settings):
            what = f"{path} was made with other settings: give another "
            raise UsageError(what, Option("out"), ", or the same settings")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

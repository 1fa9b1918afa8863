"""The training corpus: pieces of music, their notes and the audio that a soundfont makes of them.

``python -m specdiff_cli.train.corpus --out DIR --hours 8 --seed 0 --soundfont FILE --workers 2 --midi FOLDER``

Each piece depends on the seed and its index alone, so the same call gives the same corpus whatever the number of
workers, and an interrupted call goes on where it stopped. Layout of the folder:

- ``corpus.json``: the settings; a call with others is refused.
- ``train/piece-000000.npz``, ``validation/piece-000050.npz`` …: ``audio`` (n,) int16 mono at 16 kHz, ``notes``
  (n_notes, 6) float64 (start_s, end_s, pitch, velocity, program, is_drum), ``clipped_samples`` and ``peak``.
- the ``.mid`` beside each.
"""

import argparse
import hashlib
import json
import logging
import math
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import OutputError, SpecdiffError, UsageError
from specdiff_cli.train.compose import COMPOSER_VERSION, ComposeConfig, arrange, compose, note_table
from specdiff_cli.train.soundfont import GAIN, FluidSynth

logger = logging.getLogger(__name__)

MEAN_PIECE_S = 100.0  # measured: composed pieces and arrangements of songs together, tail included
# Composed validation pieces draw their seeds from a range that training never reaches.
VALIDATION_SEED_OFFSET = 1 << 40
SEED_STRIDE = 1 << 20  # pieces per corpus seed
INT16_PEAK = 32767


@dataclass(frozen=True)
class CorpusConfig:
    """Everything that decides what the pieces are."""

    seed: int
    soundfont: str
    midi_folder: str | None = None
    midi_share: float = 0.4
    validation_share: float = 0.02
    gain: float = GAIN


@dataclass(frozen=True)
class Piece:
    """One entry of the plan. ``source`` is the MIDI file to arrange, None for a composed piece."""

    index: int
    seed: int
    is_validation: bool
    source: Path | None

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
    if config.midi_folder is not None and config.midi_share > 0:
        files = sorted(p for p in Path(config.midi_folder).rglob("*") if p.suffix.lower() in (".mid", ".midi"))
        if not files:
            raise UsageError(f"no MIDI files under {config.midi_folder}: give another folder with --midi")
        for path in files:
            sources[is_validation_file(path, config.validation_share)].append(path)
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
        pieces.append(Piece(index, seed, split, source))
    return pieces


def _falls_due(index: int, share: float) -> bool:
    """True for ``share`` of the indices, evenly spread."""
    return math.floor((index + 1) * share + 0.5) > math.floor(index * share + 0.5)


def make_piece(piece: Piece, synth: FluidSynth, folder: Path, compose_config: ComposeConfig) -> float:
    """Compose or arrange, render, and store one piece; returns its length in seconds.

    Raises OutputError when the folder cannot be written.
    """
    path = piece.path(folder)
    if piece.source is None:
        midi = compose(piece.seed, compose_config)
    else:
        midi = arrange(piece.source, piece.seed, compose_config)
    audio = synth.render(midi)
    peak = float(np.abs(audio).max())
    samples: NDArray[np.int16] = np.clip(np.round(audio * INT16_PEAK), -INT16_PEAK, INT16_PEAK).astype(np.int16)
    midi_path = path.with_suffix(".mid")
    partial_path, partial_midi_path = path.with_suffix(".npz.partial"), path.with_suffix(".mid.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        midi.save(partial_midi_path)
        with open(partial_path, "wb") as file:
            np.savez(
                file,
                audio=samples,
                notes=note_table(partial_midi_path),
                clipped_samples=np.int64((np.abs(audio) > 1.0).sum()),
                peak=np.float64(peak),
            )
        partial_midi_path.replace(midi_path)
        partial_path.replace(path)  # last: its presence means that the piece is complete
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial_path.unlink(missing_ok=True)
            partial_midi_path.unlink(missing_ok=True)
    return len(samples) / SAMPLE_RATE_HZ


def finished_s(path: Path) -> float | None:
    """Length in seconds of a finished piece; None where it is missing or damaged."""
    try:
        with np.load(path) as piece:
            return len(piece["audio"]) / SAMPLE_RATE_HZ if len(piece["notes"]) else None
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        return None


_worker_synth: FluidSynth | None = None


def _start_worker(config: CorpusConfig) -> None:
    global _worker_synth
    _worker_synth = FluidSynth(Path(config.soundfont), config.gain)


def _work(piece: Piece, folder: Path, compose_config: ComposeConfig) -> float | SpecdiffError:
    if _worker_synth is None:
        raise RuntimeError("the worker has no synthesizer")
    done_s = finished_s(piece.path(folder))
    if done_s is not None:
        return done_s
    try:
        return make_piece(piece, _worker_synth, folder, compose_config)
    except SpecdiffError as error:
        return error


def make_corpus(
    folder: Path, hours: float, config: CorpusConfig, workers: int, compose_config: ComposeConfig
) -> Iterator[tuple[int, int, float]]:
    """Make (or complete) a corpus; yields (pieces ready, pieces planned, hours ready) after each piece.

    Raises UsageError for settings that differ from the folder's, OutputError when it cannot be written.
    """
    _check_settings(folder, config, compose_config)
    with _only_maker(folder):
        yield from _make_pieces(folder, hours, config, workers, compose_config)


def _make_pieces(
    folder: Path, hours: float, config: CorpusConfig, workers: int, compose_config: ComposeConfig
) -> Iterator[tuple[int, int, float]]:
    pieces = plan(config, math.ceil(hours * 3600 / MEAN_PIECE_S))
    FluidSynth(Path(config.soundfont), config.gain).close()  # a bad soundfont fails here, not in every worker
    task = partial(_work, folder=folder, compose_config=compose_config)
    total_s = 0.0
    with multiprocessing.get_context("spawn").Pool(workers, _start_worker, (config,)) as pool:
        for ready, result in enumerate(pool.imap(task, pieces), start=1):
            if isinstance(result, SpecdiffError):
                raise result
            total_s += result
            yield ready, len(pieces), total_s / 3600


@contextmanager
def _only_maker(folder: Path) -> Iterator[None]:
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
            message = f"another process is making a corpus in {folder}: wait for it, or give another --out"
            raise UsageError(message) from None
        yield


def _check_settings(folder: Path, config: CorpusConfig, compose_config: ComposeConfig) -> None:
    settings = (
        json.dumps(
            {"composer_version": COMPOSER_VERSION, "corpus": asdict(config), "composer": asdict(compose_config)},
            indent=2,
        )
        + "\n"
    )
    path = folder / "corpus.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(settings)
        elif path.read_text() != settings:
            raise UsageError(f"{path} was made with other settings: give another --out, or the same settings")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m specdiff_cli.train.corpus", description="Make a training corpus.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--hours", type=float, required=True, help="about how much audio")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--soundfont", type=Path, required=True, help="an .sf2 or .sf3 file")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--midi", type=Path, help="folder of MIDI files to arrange")
    parser.add_argument("--midi-share", type=float, default=0.4, help="share of the pieces that are arrangements")
    parser.add_argument("--validation-share", type=float, default=0.02)
    parser.add_argument("--status", type=Path, help="file to which progress lines are appended")
    return parser.parse_args()


def main() -> int:
    """The command; returns its exit code."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = CorpusConfig(
        seed=arguments.seed,
        soundfont=str(arguments.soundfont),
        midi_folder=None if arguments.midi is None else str(arguments.midi),
        midi_share=arguments.midi_share,
        validation_share=arguments.validation_share,
    )
    began_s = time.monotonic()
    try:
        for ready, planned, hours in make_corpus(
            arguments.out, arguments.hours, config, arguments.workers, ComposeConfig()
        ):
            if ready % 10 == 0 or ready == planned:
                line = f"ready {ready} pieces of {planned}, {hours:.2f} h, {time.monotonic() - began_s:.0f} s"
                logger.info(line)
                if arguments.status is not None:
                    with open(arguments.status, "a") as status:
                        status.write(line + "\n")
    except SpecdiffError as error:
        logger.error("%s", error)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

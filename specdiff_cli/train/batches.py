"""Training batches: random windows of a corpus with their true previous window.

Batch n of a run is a function of the seed, the process and n alone. So a run that resumes at step n needs to know
nothing about the batches before, and worker processes may build batches ahead in any order.
"""

import hashlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from specdiff_cli.audio.mel import log_mel, to_model_range
from specdiff_cli.constants import FRAMES_PER_SECOND, MAX_TOKENS, N_MELS, STEPS_PER_SECOND, WINDOW_FRAMES
from specdiff_cli.corpus.pieces import check_corpus_format
from specdiff_cli.engine.devices import usable_cpus
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.files import files_in, size_bytes
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import model_class
from specdiff_cli.midi.vocabulary import END_ID, Vocabulary
from specdiff_cli.midi.windows import RELEASE_S, WINDOW_STEPS, EventTable, WindowWriter, layout_rows

STEPS_PER_FRAME = STEPS_PER_SECOND // FRAMES_PER_SECOND
BATCHES_PER_GROUP = 8  # windows are drawn for so many batches at once, and sorted by their number of tokens
START_SHARE = 0.05  # of the windows begin where their piece begins: there is no context
N_LOADERS = 8
_PCM16_SCALE = 32768.0


@dataclass(frozen=True)
class Batch:
    """One training batch; shapes as in :meth:`specdiff_cli.model.network.SpectrogramDiffusion.forward`."""

    target: Tensor  # (B, 256, 128) in model range, float16
    context: Tensor  # (B, 256, 128) in model range, float16
    has_context: Tensor  # (B,) bool
    tokens: Tensor  # (B, K) int64, 0 where padded
    layout_tokens: Tensor  # (B, N, 3) int64
    layout_times: Tensor  # (B, N, 2) float32

    def pin_memory(self) -> Self:
        """A copy in page-locked memory, from where a GPU fetches it while the program goes on."""
        return type(self)(**{field.name: getattr(self, field.name).pin_memory() for field in fields(self)})

    def to(self, device: torch.device) -> Self:
        """A copy on a device, its spectrograms in float32."""
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        moved["target"], moved["context"] = moved["target"].float(), moved["context"].float()
        return type(self)(**moved)


class Piece:
    """A rendered piece: its spectrogram in model range and its notes, ready to be cut anywhere on the frame grid.

    Raises UsageError for a file that holds no piece.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary) -> None:
        audio, rows = read_piece(path)
        self.mel = to_model_range(log_mel(audio)).half()  # (frames, 128)
        notes = notes_of(rows)
        self._vocabulary = vocabulary
        self._events = EventTable.from_notes(notes, vocabulary)
        self._start_steps = np.rint(rows[:, 0] * STEPS_PER_SECOND)
        self._end_steps = np.rint(rows[:, 1] * STEPS_PER_SECOND)
        self._rows = rows
        self._programs = np.array([model_class(note.program) for note in notes], dtype=np.int64)
        laid = layout_rows(notes, vocabulary)
        self._ids, self._times_s = laid[:, :3].astype(np.int64), laid[:, 3:]
        self._is_drum = rows[:, 5] > 0

    @property
    def n_frames(self) -> int:
        return int(self.mel.shape[0])

    def count_notes(self) -> Counter[int | str]:
        """Notes of each model class, and of the "drums"."""
        counts: Counter[int | str] = Counter(self._programs[~self._is_drum].tolist())
        counts["drums"] = int(self._is_drum.sum())
        return counts

    def count_events(self, first_frame: int) -> int:
        """Note events in the window that begins at ``first_frame``."""
        start = first_frame * STEPS_PER_FRAME
        return self._events.position_of_step(start + WINDOW_STEPS) - self._events.position_of_step(start)

    def tokens(self, first_frame: int) -> list[int]:
        """Token ids of the window that begins at ``first_frame``."""
        start = first_frame * STEPS_PER_FRAME
        writer = WindowWriter(self._vocabulary, MAX_TOKENS)
        tied = (self._start_steps < start) & (self._end_steps >= start) & ~self._is_drum
        pairs = {(int(self._programs[i]), int(self._rows[i, 2])) for i in np.flatnonzero(tied)}
        for program, pitch in sorted(pairs):
            writer.add_tied(program, pitch)
        writer.add_tie()
        low = self._events.position_of_step(start)
        high = self._events.position_of_step(start + WINDOW_STEPS)
        for program, pitch, velocity_bin, is_drum, step in self._events.rows(low, high):
            writer.add_event(program, pitch, velocity_bin, is_drum, step - start)
        return [*writer.tokens, END_ID]

    def layout(self, first_frame: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Ids (N, 3) and times (N, 2) of the notes that sound or release in the window."""
        start_s = first_frame / FRAMES_PER_SECOND
        end_s = start_s + (WINDOW_FRAMES + 1) / FRAMES_PER_SECOND
        chosen = (self._times_s[:, 0] < end_s) & (self._times_s[:, 1] > start_s - RELEASE_S)
        return self._ids[chosen], self._times_s[chosen] - start_s

    def window(self, first_frame: int) -> Tensor:
        """(256, 128) float16, silence beyond either end."""
        out = torch.full((WINDOW_FRAMES, N_MELS), -1.0, dtype=torch.float16)
        low, high = max(0, first_frame), min(self.n_frames, first_frame + WINDOW_FRAMES)
        if high > low:
            out[low - first_frame : high - first_frame] = self.mel[low:high]
        return out


def read_piece(path: Path) -> tuple[Tensor, npt.NDArray[np.float64]]:
    """Audio (n,) float32 and notes (n, 6) of a piece of a corpus. Raises UsageError."""
    try:
        with np.load(path) as archive:
            pcm, rows = archive["audio"], archive["notes"]
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path}: is not a piece of a corpus ({detail}); make it again") from None
    if pcm.dtype != np.int16 or pcm.ndim != 1 or rows.ndim != 2 or rows.shape[1] != 6:
        raise UsageError(f"{path}: is not a piece of a corpus (16-bit audio and notes of 6 columns); make it again")
    return torch.from_numpy(pcm.astype(np.float32) / _PCM16_SCALE), np.asarray(rows, dtype=np.float64)


def notes_of(rows: npt.NDArray[np.float64]) -> list[Note]:
    """The notes of a piece, from their table (n, 6)."""
    return [Note(row[0], row[1], int(row[2]), int(row[3]), int(row[4]), bool(row[5])) for row in rows.tolist()]


def _round_up(count: int, multiple: int) -> int:
    return max(multiple, -(-count // multiple) * multiple)


def collate(chosen: Sequence[tuple[Piece, int]]) -> Batch:
    """Pad and stack windows, given as (piece, first frame)."""
    tokens = [piece.tokens(frame) for piece, frame in chosen]
    layouts = [piece.layout(frame) for piece, frame in chosen]
    # Whole multiples: kernels are compiled per shape, and a new shape at every step would cost more than padding.
    n_tokens = _round_up(max(map(len, tokens)), 128)
    n_notes = _round_up(max(len(ids) for ids, _ in layouts), 64)
    token_rows = torch.zeros(len(chosen), n_tokens, dtype=torch.int64)
    id_rows = torch.zeros(len(chosen), n_notes, 3, dtype=torch.int64)
    time_rows = torch.zeros(len(chosen), n_notes, 2)
    for row, (ids, (layout_ids, times)) in enumerate(zip(tokens, layouts, strict=True)):
        token_rows[row, : len(ids)] = torch.tensor(ids)
        id_rows[row, : len(layout_ids)] = torch.from_numpy(layout_ids)
        time_rows[row, : len(times)] = torch.from_numpy(times)
    return Batch(
        target=torch.stack([piece.window(frame) for piece, frame in chosen]),
        context=torch.stack([piece.window(frame - WINDOW_FRAMES) for piece, frame in chosen]),
        has_context=torch.tensor([frame > 0 for _, frame in chosen]),
        tokens=token_rows,
        layout_tokens=id_rows,
        layout_times=time_rows,
    )


@dataclass(frozen=True)
class CorpusFiles:
    """The pieces of a corpus folder, listed once: a run keeps to them."""

    folder: Path
    training: tuple[Path, ...]
    validation: tuple[Path, ...]

    @classmethod
    def find(cls, folder: Path) -> Self:
        """List a folder. Raises UsageError when it is no corpus, or a part of it is empty."""
        if not os.path.isdir(folder):
            raise UsageError(f"{folder}: is not a folder; give a corpus made by specdiff train data")
        check_corpus_format(folder)
        parts = [tuple(files_in(folder / part, "*.npz")) for part in ("train", "validation")]
        if not any(parts):
            raise UsageError(f"{folder}: holds no pieces (train/*.npz); make a corpus with specdiff train data")
        for part, paths in zip(("train", "validation"), parts, strict=True):
            if not paths:
                what = f"{folder}: has no {part} part ({part}/*.npz); make it with more "
                raise UsageError(what, Option("hours"), " or ", Option("validation_share"))
        return cls(folder, *parts)

    @property
    def fingerprint(self) -> str:
        """Changes when pieces come, go or change their size."""
        digest = hashlib.sha256()
        for path in (*self.training, *self.validation):
            digest.update(f"{path.parent.name}/{path.name} {size_bytes(path)}\n".encode())
        return digest.hexdigest()


class Corpus:
    """Pieces in memory, about 46 MB an hour, and random windows of them."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        lengths = np.array([piece.n_frames for piece in pieces], dtype=np.float64)
        if not lengths.sum():
            raise UsageError("the corpus holds no audio; make it again")
        self._shares = lengths / lengths.sum()

    @classmethod
    def load(
        cls, paths: Sequence[Path], vocabulary: Vocabulary, on_loaded: Callable[[int, int], None] | None = None
    ) -> Self:
        """Read pieces in several threads; ``on_loaded`` hears (pieces read, pieces in all). Raises UsageError."""
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # one thread per piece, not all for each
        pieces = []
        try:
            with ThreadPoolExecutor(min(N_LOADERS, usable_cpus())) as pool:
                for piece in pool.map(lambda path: Piece(path, vocabulary), paths):
                    pieces.append(piece)
                    if on_loaded is not None:
                        on_loaded(len(pieces), len(paths))
        finally:
            torch.set_num_threads(n_threads)
        return cls(pieces)

    @property
    def hours(self) -> float:
        return sum(piece.n_frames for piece in self.pieces) / FRAMES_PER_SECOND / 3600

    def count_notes(self) -> Counter[int | str]:
        """Notes of each model class, and of the "drums"."""
        total: Counter[int | str] = Counter()
        for piece in self.pieces:
            total.update(piece.count_notes())
        return total

    def choose(self, n_windows: int, generator: np.random.Generator) -> list[tuple[Piece, int]]:
        """Random windows as (piece, first frame): pieces by length, offsets anywhere, one in twenty at a start."""
        picks = generator.choice(len(self.pieces), size=n_windows, p=self._shares)
        chosen = []
        for pick in picks:
            last = max(1, self.pieces[pick].n_frames - WINDOW_FRAMES // 2)
            frame = 0 if generator.random() < START_SHARE else int(generator.integers(0, last))
            chosen.append((self.pieces[pick], frame))
        return chosen


class BatchStream(Dataset[Batch]):
    """Batch n of one process of a run. Windows of a batch are alike in number of tokens: little of it is padding."""

    def __init__(self, corpus: Corpus, batch_size: int, seed: int, rank: int = 0) -> None:
        self._corpus = corpus
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._kept: tuple[int, list[list[tuple[Piece, int]]]] = (-1, [])

    def __getitem__(self, index: int) -> Batch:
        group, position = divmod(index, BATCHES_PER_GROUP)
        if self._kept[0] != group:
            self._kept = (group, self._choose(group))
        return collate(self._kept[1][position])

    def _choose(self, group: int) -> list[list[tuple[Piece, int]]]:
        generator = np.random.default_rng([self._seed, self._rank, group])
        chosen = self._corpus.choose(self._batch_size * BATCHES_PER_GROUP, generator)
        chosen.sort(key=lambda item: item[0].count_events(item[1]))
        batches = [chosen[i : i + self._batch_size] for i in range(0, len(chosen), self._batch_size)]
        return [batches[i] for i in generator.permutation(len(batches))]


def iterate(stream: BatchStream, first: int, end: int, n_workers: int, device: torch.device) -> Iterator[Batch]:
    """Batches ``first`` to ``end`` (exclusive) on a device; built ahead by processes, or in line with 0 of them."""
    loader = DataLoader(
        stream,
        batch_size=None,
        sampler=range(first, end),
        num_workers=min(n_workers, usable_cpus()),
        pin_memory=device.type == "cuda",
        worker_init_fn=_ignore_signals,
    )
    for batch in loader:
        yield batch.to(device)


def _ignore_signals(_worker: int) -> None:
    # Ctrl-C reaches every process of the terminal; the main one still wants its batch to finish the step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

"""Training batches: random windows of a corpus with their true previous window."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specdiff_cli.audio.mel import log_mel, to_model_range
from specdiff_cli.constants import FRAMES_PER_SECOND, MAX_TOKENS, N_MELS, STEPS_PER_SECOND, WINDOW_FRAMES
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import model_class
from specdiff_cli.midi.vocabulary import END_ID, Vocabulary
from specdiff_cli.midi.windows import RELEASE_S, WINDOW_STEPS, EventTable, WindowWriter, layout_rows

STEPS_PER_FRAME = STEPS_PER_SECOND // FRAMES_PER_SECOND
_PCM16_SCALE = 32768.0


@dataclass(frozen=True)
class Batch:
    """One training batch; shapes as in :meth:`specdiff_cli.model.network.SpectrogramDiffusion.forward`."""

    target: Tensor  # (B, 256, 128) in model range
    context: Tensor  # (B, 256, 128) in model range
    has_context: Tensor  # (B,) bool
    tokens: Tensor  # (B, K) int64, 0 where padded
    layout_tokens: Tensor  # (B, N, 3) int64
    layout_times: Tensor  # (B, N, 2) float32


class Piece:
    """A rendered piece: its spectrogram in model range and its notes, ready to be cut anywhere on the frame grid."""

    def __init__(self, path: Path, vocabulary: Vocabulary) -> None:
        with np.load(path) as archive:
            audio = torch.from_numpy(archive["audio"].astype(np.float32) / _PCM16_SCALE)
            rows: npt.NDArray[np.float64] = archive["notes"]
        self.mel = to_model_range(log_mel(audio)).half()  # (frames, 128)
        notes = [Note(row[0], row[1], int(row[2]), int(row[3]), int(row[4]), bool(row[5])) for row in rows.tolist()]
        self._vocabulary = vocabulary
        self._events = EventTable.from_notes(notes, vocabulary)
        self._start_steps = np.rint(rows[:, 0] * STEPS_PER_SECOND)
        self._end_steps = np.rint(rows[:, 1] * STEPS_PER_SECOND)
        self._rows = rows
        self._programs = np.array([model_class(note.program) for note in notes], dtype=np.int64)
        self._ids = layout_rows(notes, vocabulary)[:, :3].astype(np.int64)
        self._is_drum = rows[:, 5] > 0

    @property
    def n_frames(self) -> int:
        return int(self.mel.shape[0])

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
        chosen = (self._rows[:, 0] < end_s) & (self._rows[:, 1] > start_s - RELEASE_S)
        return self._ids[chosen], self._rows[chosen, :2] - start_s

    def window(self, first_frame: int) -> Tensor:
        """(256, 128) float32, silence beyond either end."""
        out = torch.full((WINDOW_FRAMES, N_MELS), -1.0)
        low, high = max(0, first_frame), min(self.n_frames, first_frame + WINDOW_FRAMES)
        if high > low:
            out[low - first_frame : high - first_frame] = self.mel[low:high].float()
        return out


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


class Corpus:
    """Pieces of a folder, loaded once each; new ones are found by :meth:`refresh`."""

    def __init__(self, folder: Path, vocabulary: Vocabulary) -> None:
        self._folder = folder
        self._vocabulary = vocabulary
        self._loaded: dict[str, Piece] = {}

    def refresh(self, limit: int = 1_000_000) -> int:
        """Load at most ``limit`` pieces that were not there before; returns how many."""
        new = [path for path in sorted(self._folder.glob("*.npz")) if path.name not in self._loaded][:limit]
        for path in new:
            self._loaded[path.name] = Piece(path, self._vocabulary)
        return len(new)

    @property
    def pieces(self) -> list[Piece]:
        return list(self._loaded.values())

    @property
    def hours(self) -> float:
        return sum(piece.n_frames for piece in self.pieces) / FRAMES_PER_SECOND / 3600

    def choose(self, n_windows: int, generator: np.random.Generator) -> list[tuple[Piece, int]]:
        """Random windows as (piece, first frame): pieces by length, offsets anywhere, one in twenty at a start."""
        pieces = self.pieces
        lengths = np.array([piece.n_frames for piece in pieces], dtype=np.float64)
        picks = generator.choice(len(pieces), size=n_windows, p=lengths / lengths.sum())
        chosen = []
        for pick in picks:
            last = max(1, pieces[pick].n_frames - WINDOW_FRAMES // 2)
            frame = 0 if generator.random() < 0.05 else int(generator.integers(0, last))
            chosen.append((pieces[pick], frame))
        return chosen

    def batches(self, batch_size: int, generator: np.random.Generator, n_batches: int = 8) -> list[Batch]:
        """Random batches whose windows are alike in number of tokens, so that little of them is padding."""
        chosen = self.choose(batch_size * n_batches, generator)
        chosen.sort(key=lambda item: item[0].count_events(item[1]))
        groups = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
        return [collate(groups[i]) for i in generator.permutation(len(groups))]

"""Notes to windows of tokens.

Follows the reference system's note representation: a prefix of the pitches still sounding, a tie token, then the
window's events with absolute time shifts; repeated program and velocity tokens are dropped.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specdiff_cli.constants import HOP_SAMPLES, MAX_TOKENS, SAMPLE_RATE_HZ, STEPS_PER_SECOND, WINDOW_FRAMES, WINDOW_S
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import model_class
from specdiff_cli.midi.vocabulary import END_ID, MAX_SHIFT_STEPS, N_SPECIAL_IDS, Vocabulary

WINDOW_STEPS = round(WINDOW_S * STEPS_PER_SECOND)  # 512
# A drum's note-off says nothing about how long it rings; players ignore it, and so does the layout.
DRUM_RING_S = 3.0
RELEASE_S = 1.0  # notes that ended at most this long before a window are still laid out in it

#: Columns of `TokenWindow.layout`.
LAYOUT_COLUMNS = ("pitch or drum token", "program token", "velocity token", "onset_s", "end_s")


@dataclass(frozen=True, slots=True)
class TokenWindow:
    """The model's note input for one window.

    Attributes:
        index: number of the window; it begins at ``index * 5.12`` s.
        n_frames: frames of audio it covers (256, fewer in the last window).
        tokens: (n_tokens,) int64 ids, end-of-sequence included, no padding, at most 2048.
        n_dropped_events: note events that did not fit into 2048 tokens.
        layout: (n_notes, 5) float64, the notes that sound or release in the window; see ``LAYOUT_COLUMNS``. Times are
            seconds from the window's start (onsets of notes tied over are negative). Drum rows have program token 0.
    """

    index: int
    n_frames: int
    tokens: npt.NDArray[np.int64]
    n_dropped_events: int
    layout: npt.NDArray[np.float64]

    @property
    def start_s(self) -> float:
        return self.index * WINDOW_S


def count_frames(total_s: float) -> int:
    """Frames of a song: its samples padded by a whole, always non-zero, number of samples up to a hop."""
    return int(total_s * SAMPLE_RATE_HZ) // HOP_SAMPLES + 1


def count_windows(total_s: float) -> int:
    """Windows that cover ``total_s`` seconds; at least one."""
    return math.ceil(count_frames(total_s) / WINDOW_FRAMES)


def tokenize(
    notes: Sequence[Note],
    vocabulary: Vocabulary | None = None,
    *,
    total_s: float | None = None,
    max_tokens: int = MAX_TOKENS,
) -> Iterator[TokenWindow]:
    """Cut notes into windows of tokens, lazily; work is linear in the number of events after one sort.

    Args:
        notes: in the order of :func:`specdiff_cli.midi.notes.read_midi`.
        vocabulary: token ids; the published checkpoints' by default.
        total_s: length to cover; by default up to the last note's end.
        max_tokens: tokens per window, end-of-sequence included.

    Source: SPEC of the note representation in Hawthorne et al. 2022, section 3.1.
    """
    vocabulary = vocabulary or Vocabulary()
    if total_s is None:
        total_s = max((note.end_s for note in notes), default=0.0)
    n_frames = count_frames(total_s)
    n_windows = math.ceil(n_frames / WINDOW_FRAMES)
    events = EventTable.from_notes(notes, vocabulary)
    layouts = _Layouts(notes, vocabulary)
    sounding: set[tuple[int, int]] = set()  # (program, pitch)
    position = 0
    for index in range(n_windows):
        is_last = index == n_windows - 1
        end = events.count if is_last else events.position_of_step((index + 1) * WINDOW_STEPS)
        writer = WindowWriter(vocabulary, max_tokens)
        for program, pitch in sorted(sounding):
            writer.add_tied(program, pitch)
        writer.add_tie()
        for program, pitch, velocity_bin, is_drum, step in events.rows(position, end):
            writer.add_event(program, pitch, velocity_bin, is_drum, step - index * WINDOW_STEPS)
            if is_drum:
                continue
            if velocity_bin:
                sounding.add((program, pitch))
            else:
                sounding.discard((program, pitch))
        position = end
        yield TokenWindow(
            index=index,
            n_frames=min(WINDOW_FRAMES, n_frames - index * WINDOW_FRAMES),
            tokens=np.array([*writer.tokens, END_ID], dtype=np.int64),
            n_dropped_events=writer.n_dropped,
            layout=layouts.window(index),
        )


@dataclass(frozen=True, slots=True)
class EventTable:
    """Note-offs and note-ons of a song in time order, as parallel arrays."""

    steps: npt.NDArray[np.int64]
    programs: npt.NDArray[np.int64]
    pitches: npt.NDArray[np.int64]
    velocity_bins: npt.NDArray[np.int64]
    are_drums: npt.NDArray[np.bool_]

    @classmethod
    def from_notes(cls, notes: Sequence[Note], vocabulary: Vocabulary) -> "EventTable":
        programs = [note.program if note.is_drum else model_class(note.program) for note in notes]
        order = sorted(range(len(notes)), key=lambda i: (notes[i].is_drum, programs[i], notes[i].pitch))
        offs = [i for i in order if not notes[i].is_drum]
        rows = offs + order
        times_s = np.array([notes[i].end_s for i in offs] + [notes[i].start_s for i in order], dtype=np.float64)
        bins = [0] * len(offs) + [vocabulary.velocity_bin(notes[i].velocity) for i in order]
        by_time = np.argsort(times_s, kind="stable")
        return cls(
            # np.rint rounds halves to even, as Python's round does.
            steps=np.rint(times_s * STEPS_PER_SECOND)[by_time].astype(np.int64),
            programs=np.array([programs[i] for i in rows], dtype=np.int64)[by_time],
            pitches=np.array([notes[i].pitch for i in rows], dtype=np.int64)[by_time],
            velocity_bins=np.array(bins, dtype=np.int64)[by_time],
            are_drums=np.array([notes[i].is_drum for i in rows], dtype=np.bool_)[by_time],
        )

    @property
    def count(self) -> int:
        return len(self.steps)

    def position_of_step(self, step: int) -> int:
        """Position of the first event that is not before ``step``."""
        return int(np.searchsorted(self.steps, step, side="left"))

    def rows(self, start: int, end: int) -> Iterator[tuple[int, int, int, bool, int]]:
        """(program, pitch, velocity bin, is_drum, step) of the events in [start, end)."""
        columns = (self.programs, self.pitches, self.velocity_bins, self.are_drums, self.steps)
        return zip(*(column[start:end].tolist() for column in columns), strict=True)


class WindowWriter:
    """Token ids of one window; whole events only, never more than ``max_tokens`` with the end token."""

    def __init__(self, vocabulary: Vocabulary, max_tokens: int) -> None:
        self._vocabulary = vocabulary
        self._room = max_tokens - 1  # the end token
        self._program = -1
        self._velocity_bin = -1
        self._step = 0
        self.tokens: list[int] = []
        self.n_dropped = 0

    def add_tied(self, program: int, pitch: int) -> None:
        tokens = [] if program == self._program else [self._vocabulary.first_program_id + program]
        tokens.append(self._vocabulary.first_pitch_id + pitch)
        if self._append(tokens, reserve=1):  # the tie token always follows
            self._program = program

    def add_tie(self) -> None:
        self.tokens.append(self._vocabulary.tie_id)

    def add_event(self, program: int, pitch: int, velocity_bin: int, is_drum: bool, step: int) -> None:
        vocabulary = self._vocabulary
        tokens: list[int] = []
        if not is_drum and program != self._program:
            tokens.append(vocabulary.first_program_id + program)
        if velocity_bin != self._velocity_bin:
            tokens.append(vocabulary.first_velocity_id + velocity_bin)
        tokens.append((vocabulary.first_drum_id if is_drum else vocabulary.first_pitch_id) + pitch)
        if step != self._step:
            tokens[:0] = self._shifts(step)
        if self._append(tokens):
            self._step = step
            self._velocity_bin = velocity_bin
            if not is_drum:
                self._program = program

    def _shifts(self, step: int) -> list[int]:
        """Absolute time since the window's start, in pieces of at most 1000 steps."""
        n_full, rest = divmod(step, MAX_SHIFT_STEPS)
        return [N_SPECIAL_IDS + MAX_SHIFT_STEPS] * n_full + ([N_SPECIAL_IDS + rest] if rest else [])

    def _append(self, tokens: list[int], reserve: int = 0) -> bool:
        # Once one event did not fit, no later (shorter) one may slip in: the earliest events are kept.
        if self.n_dropped and not reserve:
            self.n_dropped += 1
            return False
        if len(self.tokens) + len(tokens) + reserve > self._room:
            self.n_dropped += 1
            return False
        self.tokens.extend(tokens)
        return True


def layout_rows(notes: Sequence[Note], vocabulary: Vocabulary) -> npt.NDArray[np.float64]:
    """(n_notes, 5) rows of ``LAYOUT_COLUMNS``, in the order given, with times from the start of the song."""
    rows = np.empty((len(notes), len(LAYOUT_COLUMNS)), dtype=np.float64)
    for row, note in zip(rows, notes, strict=True):
        first_id = vocabulary.first_drum_id if note.is_drum else vocabulary.first_pitch_id
        program_id = 0 if note.is_drum else vocabulary.first_program_id + model_class(note.program)
        velocity_id = vocabulary.first_velocity_id + vocabulary.velocity_bin(note.velocity)
        end_s = note.start_s + DRUM_RING_S if note.is_drum else note.end_s
        row[:] = (first_id + note.pitch, program_id, velocity_id, note.start_s, end_s)
    return rows


class _Layouts:
    """Which notes sound or release in each window; each query costs the notes of its window only."""

    def __init__(self, notes: Sequence[Note], vocabulary: Vocabulary) -> None:
        rows = layout_rows(sorted(notes, key=lambda note: note.start_s), vocabulary)
        self._rows = rows
        self._next = 0
        self._carried = rows[:0]

    def window(self, index: int) -> npt.NDArray[np.float64]:
        """Rows of window ``index``; windows must be asked for in order."""
        start_s = index * WINDOW_S
        first = self._next
        # An analysis frame reaches one hop beyond its own, so the last frame hears notes just after the window.
        end_s = start_s + WINDOW_S + HOP_SAMPLES / SAMPLE_RATE_HZ
        self._next = int(np.searchsorted(self._rows[:, 3], end_s, side="left"))
        rows = np.concatenate([self._carried, self._rows[first : self._next]])
        rows = rows[rows[:, 4] > start_s - RELEASE_S]
        self._carried = rows
        relative = rows.copy()
        relative[:, 3:] -= start_s
        return relative

"""Notes to windows of tokens.

Follows the reference system's note representation: a prefix of the pitches still sounding, a tie token, then the
window's events with absolute time shifts; repeated program and velocity tokens are dropped.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

from specdiff_cli.constants import (
    FRAMES_PER_SECOND,
    HOP_SAMPLES,
    MAX_TOKENS,
    SAMPLE_RATE_HZ,
    STEPS_PER_SECOND,
    WINDOW_FRAMES,
    WINDOW_S,
    exact_div,
)
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import model_class
from specdiff_cli.midi.vocabulary import Vocabulary

STEPS_PER_FRAME = exact_div(STEPS_PER_SECOND, FRAMES_PER_SECOND)  # 2
WINDOW_STEPS = WINDOW_FRAMES * STEPS_PER_FRAME  # 512
# A drum's note-off says nothing about how long it rings; players ignore it, and so does the layout.
DRUM_RING_S = 3.0
RELEASE_S = 1.0  # notes that ended at most this long before a window are still laid out in it

#: Columns of `TokenWindow.layout`.
LAYOUT_COLUMNS = ("pitch or drum token", "program token", "velocity token", "onset_s", "end_s")


@dataclass(frozen=True, slots=True)
class TokenWindow:
    """The model's note input for one window.

    Attributes:
        index: number of the window; it begins at frame ``index * hop_frames``.
        n_frames: frames of audio it covers (256, fewer in the last window).
        tokens: (n_tokens,) int64 ids, end-of-sequence included, no padding, at most 2048.
        n_dropped_events: note events that did not fit into 2048 tokens.
        layout: (n_notes, 5) float64, the notes that sound or release in the window; see ``LAYOUT_COLUMNS``. Times are
            seconds from the window's start (onsets of notes tied over are negative). Drum rows have program token 0.
        hop_frames: frames from one window's start to the next one's; fewer than 256 where windows overlap.
    """

    index: int
    n_frames: int
    tokens: npt.NDArray[np.int64]
    n_dropped_events: int
    layout: npt.NDArray[np.float64]
    hop_frames: int = WINDOW_FRAMES

    @property
    def start_s(self) -> float:
        return _start_s(self.index, self.hop_frames)


def count_padded_frames(total_s: float) -> int:
    """Frames of a song as the reference pads it: its samples, and always some more, up to a whole hop.

    A render has no such frame at its end: :func:`specdiff_cli.lengths.count_frames`.
    """
    return int(total_s * SAMPLE_RATE_HZ) // HOP_SAMPLES + 1


def count_padded_windows(total_s: float, hop_frames: int = WINDOW_FRAMES) -> int:
    """Windows that cover ``total_s`` seconds so padded; at least one."""
    return 1 + math.ceil(max(0, count_padded_frames(total_s) - WINDOW_FRAMES) / hop_frames)


def _start_s(index: int, hop_frames: int) -> float:
    return index * (hop_frames / FRAMES_PER_SECOND)


def tokenize(
    notes: Sequence[Note],
    vocabulary: Vocabulary | None = None,
    *,
    total_s: float | None = None,
    max_tokens: int = MAX_TOKENS,
    hop_frames: int = WINDOW_FRAMES,
    joins_keys: bool = False,
) -> Iterator[TokenWindow]:
    """Cut notes into windows of tokens, lazily; work is linear in the number of events after one sort.

    Windows are 256 frames long whatever ``hop_frames`` is; an event in the overlap of two windows is in both.

    Args:
        notes: in the order of :func:`specdiff_cli.midi.notes.read_midi`.
        vocabulary: token ids; the published checkpoints' by default.
        total_s: length to cover; by default up to the last note's end.
        max_tokens: tokens per window, end-of-sequence included.
        hop_frames: frames from one window's start to the next one's, 1 to 256; 256 - k for an overlap of k frames.
        joins_keys: a note whose key was pressed again before its end does not silence what sounds on. It changes
            nothing for notes of the reference reader.

    Raises:
        ValueError: ``hop_frames`` is outside its range.

    Source: SPEC of the note representation in Hawthorne et al. 2022, section 3.1.
    """
    if not 1 <= hop_frames <= WINDOW_FRAMES:
        raise ValueError(f"a hop of {hop_frames} frames is outside 1 to {WINDOW_FRAMES}")
    vocabulary = vocabulary or Vocabulary()
    if total_s is None:
        total_s = max((note.end_s for note in notes), default=0.0)
    n_frames = count_padded_frames(total_s)
    n_windows = count_padded_windows(total_s, hop_frames)
    hop_steps = hop_frames * STEPS_PER_FRAME
    events = EventTable.from_notes(notes, vocabulary, joins_keys=joins_keys)
    layouts = _Layouts(notes, vocabulary)
    sounding: set[tuple[int, int]] = set()  # (program, pitch), at the window's start
    position = 0
    for index in range(n_windows):
        start_step = index * hop_steps
        is_last = index == n_windows - 1
        end = events.count if is_last else events.position_of_step(start_step + WINDOW_STEPS)
        next_position = events.position_of_step(start_step + hop_steps)
        writer = WindowWriter(vocabulary, max_tokens)
        for program, pitch in sorted(sounding):
            writer.add_tied(program, pitch)
        writer.add_tie()
        for row, (program, pitch, velocity_bin, is_drum, step) in enumerate(events.rows(position, end), position):
            writer.add_event(program, pitch, velocity_bin, is_drum, step - start_step)
            if is_drum or row >= next_position:  # what the next window begins with was decided before its start
                continue
            if velocity_bin:
                sounding.add((program, pitch))
            else:
                sounding.discard((program, pitch))
        position = next_position
        yield TokenWindow(
            index=index,
            n_frames=min(WINDOW_FRAMES, n_frames - index * hop_frames),
            tokens=np.array([*writer.tokens, *vocabulary.end_ids], dtype=np.int64),
            n_dropped_events=writer.n_dropped,
            layout=layouts.window(_start_s(index, hop_frames)),
            hop_frames=hop_frames,
        )


def empty_windows(total_s: float) -> Iterator[TokenWindow]:
    """The windows that cover ``total_s`` seconds, for voices that read no tokens."""
    n_frames, nothing = count_padded_frames(total_s), np.zeros(0, dtype=np.int64)
    for index in range(count_padded_windows(total_s)):
        n_own = min(WINDOW_FRAMES, n_frames - index * WINDOW_FRAMES)
        yield TokenWindow(index, n_own, nothing, 0, np.zeros((0, len(LAYOUT_COLUMNS))))


@dataclass(frozen=True, slots=True)
class EventTable:
    """Note-offs and note-ons of a song in time order, as parallel arrays."""

    steps: npt.NDArray[np.int64]
    programs: npt.NDArray[np.int64]
    pitches: npt.NDArray[np.int64]
    velocity_bins: npt.NDArray[np.int64]
    are_drums: npt.NDArray[np.bool_]

    @classmethod
    def from_notes(cls, notes: Sequence[Note], vocabulary: Vocabulary, *, joins_keys: bool = False) -> "EventTable":
        if vocabulary.dialect == "lightning":
            return cls._by_instrument(notes)
        programs = [note.program if note.is_drum else model_class(note.program) for note in notes]
        order = sorted(range(len(notes)), key=lambda i: (notes[i].is_drum, programs[i], notes[i].pitch))
        held = _held_by_another(notes) if joins_keys else set()
        offs = [i for i in order if not notes[i].is_drum and i not in held]
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

    @classmethod
    def _by_instrument(cls, notes: Sequence[Note]) -> "EventTable":
        """The order of the lightning dialect: within a step each program's note-offs, then its note-ons; drums last.

        Programs stay as the file has them, and every note lasts a step at least.
        Source: ``preprocessor/preprocessor.py`` of music-spectrogram-diffusion-pytorch.
        """
        rows: list[tuple[int, bool, int, int, int]] = []
        for note in notes:
            start, end = (round(time_s * STEPS_PER_SECOND) for time_s in (note.start_s, note.end_s))
            rows.append((start, note.is_drum, note.program, 1, note.pitch))
            if not note.is_drum:
                rows.append((end if end > start else start + 1, False, note.program, 0, note.pitch))
        columns = np.array(sorted(rows), dtype=np.int64).reshape(-1, 5).T
        steps, are_drums, programs, bins, pitches = columns
        return cls(steps, programs, pitches, bins, are_drums.astype(np.bool_))

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


def _held_by_another(notes: Sequence[Note]) -> set[int]:
    """Positions of the notes whose end is no silence: their own key was pressed again before, and goes on sounding.

    Tokens cannot say which of two notes of one pitch ends. The reference's reader never gives such notes: there, a
    note-off ends all that sounds of its key.
    """
    keys: defaultdict[tuple[int, int, int, int, int], list[int]] = defaultdict(list)
    for position, note in enumerate(notes):
        if not note.is_drum:
            keys[note.track, note.port, note.channel, note.program, note.pitch].append(position)
    held: set[int] = set()
    for positions in keys.values():
        if len(positions) > 1:
            held |= _held_in_key(notes, positions)
    return held


def _held_in_key(notes: Sequence[Note], positions: list[int]) -> set[int]:
    positions.sort(key=lambda position: notes[position].start_s)
    if all(notes[a].end_s <= notes[b].start_s for a, b in pairwise(positions)):
        return set()
    by_end = sorted(positions, key=lambda position: notes[position].end_s)
    held: set[int] = set()
    n_begun = n_ended = 0
    for end_s, group in groupby(by_end, key=lambda position: notes[position].end_s):
        ending = list(group)
        n_ended += len(ending)
        while n_begun < len(positions) and notes[positions[n_begun]].start_s < end_s:
            n_begun += 1
        if n_begun > n_ended:
            held.update(ending)
    return held


class WindowWriter:
    """Token ids of one window; whole events only, never more than ``max_tokens`` with the end token."""

    def __init__(self, vocabulary: Vocabulary, max_tokens: int) -> None:
        self._vocabulary = vocabulary
        self._room = max_tokens - 1  # the end token
        self._restates = vocabulary.dialect == "lightning"
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
        if self._restates:
            self._program = -1

    def add_event(self, program: int, pitch: int, velocity_bin: int, is_drum: bool, step: int) -> None:
        vocabulary = self._vocabulary
        tokens: list[int] = []
        current, current_bin = self._program, self._velocity_bin
        if self._restates and step != self._step:
            current = current_bin = -1
        if not is_drum and program != current:
            tokens.append(vocabulary.first_program_id + program)
            current = program
            current_bin = -1 if self._restates else current_bin
        if velocity_bin != current_bin:
            tokens.append(vocabulary.first_velocity_id + velocity_bin)
        tokens.append((vocabulary.first_drum_id if is_drum else vocabulary.first_pitch_id) + pitch)
        if step != self._step:
            tokens[:0] = self._shifts(step)
        if self._append(tokens):
            self._step = step
            self._velocity_bin = velocity_bin
            self._program = current

    def _shifts(self, step: int) -> list[int]:
        """Absolute time since the window's start, in pieces of at most 1000 steps."""
        first_id, most = self._vocabulary.n_special_ids, self._vocabulary.max_shift_steps
        n_full, rest = divmod(step, most)
        return [first_id + most] * n_full + ([first_id + rest] if rest else [])

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

    def window(self, start_s: float) -> npt.NDArray[np.float64]:
        """Rows of the window that begins at ``start_s``; windows must be asked for in order."""
        first = self._next
        # An analysis frame reaches one hop beyond its own, so the last frame hears notes just after the window.
        end_s = start_s + WINDOW_S + HOP_SAMPLES / SAMPLE_RATE_HZ
        self._next = int(np.searchsorted(self._rows[:, 3], end_s, side="left"))
        rows = self._carried
        if self._next > first:
            rows = np.concatenate([rows, self._rows[first : self._next]])
        is_heard = rows[:, 4] > start_s - RELEASE_S
        if not is_heard.all():  # windows of long held chords lose nothing: no copy for them
            rows = rows[is_heard]
        self._carried = rows
        relative = rows.copy()
        relative[:, 3:] -= start_s
        return relative

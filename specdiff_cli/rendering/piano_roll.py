"""The piano roll of a song: a bar for each note, an instrument a colour, and the drums on lanes below."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from specdiff_cli.midi.programs import GM_NAMES
from specdiff_cli.rendering.sheet import GRID, MAX_COLUMNS, clock
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from specdiff_cli.midi.bars import BarMap
    from specdiff_cli.midi.notes import Note

MIN_BAR_COLUMNS = 4  # a bar of less than a pixel could fall between two
MAX_BAR_LINES = 120

ROLL_IN, DRUMS_IN = 4.4, 1.0
_MAX_NAMES = 18
_BAR_LINE = "#b4bac6"
# Told apart in pairs of light and dark, too; later instruments take them again.
_COLOURS = (
    "#3366cc", "#e8710a", "#1a9850", "#c2185b", "#7b4bb7", "#00a3b4", "#b8860b", "#d73027", "#6b8e23", "#8c564b",
    "#5b9bd5", "#f4a259", "#66bd63", "#e377c2", "#b39ddb", "#4dd0c4", "#d4b106", "#ff8a80", "#a6bf5b", "#a1887f",
)  # fmt: skip
DRUM_COLOUR = "#5f6673"
_DRUM_LANES = {
    "other": frozenset[int](),
    "kick": frozenset({35, 36}),
    "snare": frozenset({37, 38, 39, 40}),
    "toms": frozenset({41, 43, 45, 47, 48, 50}),
    "hi-hat": frozenset({42, 44, 46}),
    "cymbals": frozenset({49, 51, 52, 53, 55, 57, 59}),
}


@dataclass(frozen=True, slots=True)
class _Roll:
    """Notes as arrays, (n_notes,) each."""

    start_s: npt.NDArray[np.floating]
    end_s: npt.NDArray[np.floating]
    lane: npt.NDArray[np.int64]
    colour: npt.NDArray[np.int64]
    velocity: npt.NDArray[np.int64]

    def thinned(self, duration_s: float) -> "_Roll":
        """Without notes that would be drawn on the very same columns; the loudest stays. Short ones come last."""
        column_s = float(max(duration_s, 1e-3) / MAX_COLUMNS)
        start = np.floor(self.start_s / column_s).astype(np.int64)
        end = np.maximum(np.ceil(self.end_s / column_s).astype(np.int64), start + MIN_BAR_COLUMNS)
        order = np.argsort(-self.velocity, kind="stable")
        keys = np.stack([start, end, self.lane, self.colour], axis=1)[order]
        _, first = np.unique(keys, axis=0, return_index=True)
        kept = order[first]
        kept = kept[np.argsort(start[kept] - end[kept], kind="stable")]
        return _Roll(
            (start * column_s)[kept], (end * column_s)[kept], self.lane[kept], self.colour[kept], self.velocity[kept]
        )


def _roll(notes: "Sequence[Note]", lanes: Sequence[int], colours: Sequence[int]) -> _Roll:
    return _Roll(
        np.array([note.start_s for note in notes], np.float64),
        np.array([note.end_s for note in notes], np.float64),
        np.array(lanes, np.int64),
        np.array(colours, np.int64),
        np.array([note.velocity for note in notes], np.int64),
    )


def roll_heights(notes: "Sequence[Note]") -> list[float]:
    """Height of the piano roll, and of the drums below it, of those that are there."""
    has_drums = any(note.is_drum for note in notes)
    has_pitches = any(not note.is_drum for note in notes) or not has_drums
    return [ROLL_IN] * has_pitches + [DRUMS_IN] * has_drums


def facts(notes: "Sequence[Note]", duration_s: float) -> str:
    n_instruments = len({(note.is_drum, 0 if note.is_drum else note.program) for note in notes})
    return f"{clock(duration_s)} · {count(len(notes), 'note')} · {count(n_instruments, 'instrument')}"


def draw_notes(axes: "Sequence[Axes]", notes: "Sequence[Note]", duration_s: float) -> None:
    """The piano roll and, on axes of their own below it, the drums."""
    pitched = [note for note in notes if not note.is_drum]
    drums = [note for note in notes if note.is_drum]
    if pitched or not drums:
        _draw_pitches(axes[0], pitched, duration_s)
    if drums:
        _draw_drums(axes[-1], drums, duration_s)


def draw_bars(axes: "Sequence[Axes]", bars: "BarMap | None", duration_s: float) -> None:
    """A line where each bar begins; of many bars, where every second, fourth … does."""
    if bars is None:
        return
    first, last = bars.bar_at(0.0), bars.count(duration_s)
    step = 1
    while (last - first) // step > MAX_BAR_LINES:
        step *= 2
    times_s = [bars.start_s(bar) for bar in range(first, last + 1, step)]
    for axis in axes:
        axis.vlines(times_s, 0, 1, transform=axis.get_xaxis_transform(), colors=_BAR_LINE, linewidth=0.6, zorder=0.5)


def _draw_pitches(axis: "Axes", notes: "Sequence[Note]", duration_s: float) -> None:
    from matplotlib.patches import Patch

    by_program = [program for program, _ in Counter(note.program for note in notes).most_common()]
    rank = {program: index for index, program in enumerate(by_program)}
    roll = _roll(notes, [note.pitch for note in notes], [rank[note.program] for note in notes])
    lowest, highest = (min(roll.lane) - 2, max(roll.lane) + 2) if notes else (48, 84)
    lowest, highest = min(lowest, highest - 12), max(highest, lowest + 12)
    for pitch in range(lowest, highest + 1):
        if pitch % 12 in (1, 3, 6, 8, 10):  # black keys
            axis.axhspan(pitch - 0.5, pitch + 0.5, color="#f2f3f6", linewidth=0)
    _draw_roll(axis, roll.thinned(duration_s), 0.86, [_COLOURS[index % len(_COLOURS)] for index in rank.values()])
    axis.set_ylim(lowest - 0.5, highest + 0.5)
    octaves = [pitch for pitch in range(lowest, highest + 1) if pitch % 12 == 0]
    axis.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves])
    axis.grid(axis="y", color=GRID, linewidth=0.6)
    axis.set_ylabel("pitch")
    names = [
        Patch(color=_COLOURS[index % len(_COLOURS)], label=GM_NAMES[program])
        for index, program in enumerate(by_program[:_MAX_NAMES])
    ]
    if len(by_program) > _MAX_NAMES:
        names.append(Patch(alpha=0, label=f"and {len(by_program) - _MAX_NAMES} more"))
    if names:
        axis.legend(
            handles=names, loc="upper left", bbox_to_anchor=(1.0, 1.01), frameon=False, fontsize=8,
            handlelength=0.9, handleheight=0.9, labelspacing=0.45,
        )  # fmt: skip


def _draw_drums(axis: "Axes", notes: "Sequence[Note]", duration_s: float) -> None:
    lane_of = {pitch: lane for lane, pitches in enumerate(_DRUM_LANES.values()) for pitch in pitches}
    used = sorted({lane_of.get(note.pitch, 0) for note in notes})
    lanes = [used.index(lane_of.get(note.pitch, 0)) for note in notes]
    roll = _roll(notes, lanes, [0] * len(notes))
    struck = _Roll(roll.start_s, roll.start_s, roll.lane, roll.colour, roll.velocity)  # a drum's length means nothing
    _draw_roll(axis, struck.thinned(duration_s), 0.7, [DRUM_COLOUR])
    axis.set_ylim(-0.6, len(used) - 0.4)
    axis.set_yticks(range(len(used)), [list(_DRUM_LANES)[lane] for lane in used])
    axis.set_ylabel("drums")


def _draw_roll(axis: "Axes", roll: _Roll, height: float, colours: Sequence[str]) -> None:
    """One bar for each note, the softer the paler."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba_array

    low, high = roll.lane - height / 2, roll.lane + height / 2
    corners = [(roll.start_s, low), (roll.start_s, high), (roll.end_s, high), (roll.end_s, low)]
    bars = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)  # (n_notes, 4, 2)
    if not len(bars):
        return
    strength = 0.35 + 0.65 * roll.velocity / 127
    rgb = 1 - (1 - to_rgba_array(colours)[roll.colour, :3]) * strength[:, None]
    axis.add_collection(PolyCollection(list(bars), facecolors=rgb, linewidths=0, antialiaseds=False), autolim=False)

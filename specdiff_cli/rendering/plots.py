"""Pictures of a render: piano roll, spectrogram and waveform on one page, as PNG.

matplotlib (the ``plot`` extra) is loaded inside functions and drawn on through its objects, without pyplot: no window
system, no global state. Memory does not grow with the song: what is drawn is reduced as it arrives.
"""

import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.pooling import Pool
from specdiff_cli.constants import FRAMES_PER_SECOND, LOG_MEL_MAX, LOG_MEL_MIN, MEL_MAX_HZ, N_MELS
from specdiff_cli.errors import UsageError
from specdiff_cli.files import PendingFile, check_target, output_error, shown_path
from specdiff_cli.midi.programs import GM_NAMES
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from specdiff_cli.midi.bars import BarMap
    from specdiff_cli.midi.notes import MidiSong, Note

MAX_COLUMNS = 4096  # of anything along the time axis: two or three for each pixel of the page
MIN_BAR_COLUMNS = 4  # a bar of less than a pixel could fall between two
DECIBELS_PER_NEPER = 20 / np.log(10)
RANGE_DB = 80.0
MAX_BAR_LINES = 120

_WIDTH_IN, _DPI = 14.0, 150
_ROLL_IN, _DRUMS_IN, _MEL_IN, _WAVE_IN, _TITLE_IN, _AXIS_IN, _GAP_IN = 4.4, 1.0, 3.0, 0.9, 0.6, 0.55, 0.12
_LEFT_IN, _RIGHT_IN = 1.05, 2.15
_MAX_NAMES = 18
_INK, _GRID, _WAVE, _BAR_LINE = "#22262e", "#d9dce3", "#3d5a80", "#b4bac6"
# Told apart in pairs of light and dark, too; later instruments take them again.
_COLOURS = (
    "#3366cc", "#e8710a", "#1a9850", "#c2185b", "#7b4bb7", "#00a3b4", "#b8860b", "#d73027", "#6b8e23", "#8c564b",
    "#5b9bd5", "#f4a259", "#66bd63", "#e377c2", "#b39ddb", "#4dd0c4", "#d4b106", "#ff8a80", "#a6bf5b", "#a1887f",
)  # fmt: skip
_DRUM_COLOUR = "#5f6673"
_DRUM_LANES = {
    "other": frozenset[int](),
    "kick": frozenset({35, 36}),
    "snare": frozenset({37, 38, 39, 40}),
    "toms": frozenset({41, 43, 45, 47, 48, 50}),
    "hi-hat": frozenset({42, 44, 46}),
    "cymbals": frozenset({49, 51, 52, 53, 55, 57, 59}),
}
_TICKS_HZ = (100, 250, 500, 1000, 2000, 4000, 8000)


def check_plot(path: Path, overwrite: bool) -> Path:
    """Refuse a picture that cannot be drawn or written, before any work is done for it.

    Returns the path with symbolic links followed.

    Raises:
        UsageError: matplotlib is not installed, or the name does not end in .png.
        OutputError: the file exists and ``overwrite`` is false, its folder is missing and the like.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{shown_path(path)}: pictures are PNG files; give a name that ends in .png")
    check_matplotlib()
    return check_target(path, overwrite)


def check_matplotlib() -> None:
    """Raises UsageError: it is not installed."""
    with _quiet_matplotlib():
        try:
            import matplotlib.figure  # noqa: F401
        except ImportError:
            raise UsageError("pictures need matplotlib: run \"pip install '.[plot]'\" in a copy of specdiff") from None


class PagePlot:
    """Collects a render as it streams and draws it on one page at the end."""

    def __init__(self, n_channels: int = 1) -> None:
        self._n_channels = n_channels
        self._power = Pool(np.add, N_MELS, MAX_COLUMNS)
        self._lowest = Pool(np.minimum, n_channels, MAX_COLUMNS)
        self._highest = Pool(np.maximum, n_channels, MAX_COLUMNS)

    def add_mel(self, mel: npt.NDArray[np.float32]) -> None:
        """Take the next frames, (n, 128) log-mel in feature range."""
        finite = np.nan_to_num(np.asarray(mel, np.float64), nan=LOG_MEL_MIN).clip(LOG_MEL_MIN, 2 * LOG_MEL_MAX)
        self._power.push(np.exp(2 * finite))

    def add_audio(self, chunk: npt.ArrayLike) -> None:
        """Take the next samples, (n,) or (n, n_channels), at any rate: together they fill the page's time."""
        audio = np.nan_to_num(np.asarray(chunk, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        columns = audio.reshape(-1, self._n_channels)
        self._lowest.push(columns)
        self._highest.push(columns)

    def write(
        self,
        path: Path,
        notes: "Sequence[Note]",
        duration_s: float,
        title: str,
        overwrite: bool = False,
        bars: "BarMap | None" = None,
    ) -> None:
        """Draw the page; the file appears complete or not at all. Raises as ``check_plot``, and OutputError."""
        heights = [*_roll_heights(notes), _MEL_IN, *[_WAVE_IN] * self._n_channels]
        with _page(path, overwrite, title, _facts(notes, duration_s), heights, duration_s) as (figure, axes):
            n_rolls = len(axes) - 1 - self._n_channels
            _draw_notes(axes[:n_rolls], notes, duration_s)
            _draw_bars(axes[:n_rolls], bars, duration_s)
            mean_power = self._power.columns() / self._power.sizes()[:, None]
            mel = 0.5 * np.log(np.maximum(mean_power, 1e-30))
            column_s = self._power.factor / FRAMES_PER_SECOND
            _draw_mel(figure, axes[n_rolls], mel, column_s, _limits(mel))
            self._draw_waves(axes[n_rolls + 1 :], duration_s)

    def _draw_waves(self, axes: "Sequence[Axes]", duration_s: float) -> None:
        lowest, highest, sizes = self._lowest.columns(), self._highest.columns(), self._lowest.sizes()
        times_s = (np.cumsum(sizes) - sizes / 2) * duration_s / max(1, sizes.sum())
        limit = max(0.05, float(np.abs([lowest, highest]).max(initial=0.0)))
        for channel, axis in enumerate(axes):
            axis.fill_between(times_s, lowest[:, channel], highest[:, channel], color=_WAVE, linewidth=0.4)
            axis.set_ylim(-1.05 * limit, 1.05 * limit)
            axis.axhline(0, color=_GRID, linewidth=0.6, zorder=0)
            if limit > 0.9:
                axis.set_yticks([-1, 0, 1])
            axis.set_ylabel("waveform" if len(axes) == 1 else ("left", "right")[channel])


def piano_roll_page(path: Path, song: "MidiSong", title: str, overwrite: bool = False) -> None:
    """Draw the notes of a song; the file appears complete or not at all. Raises as ``check_plot``, and OutputError."""
    heights = [1.3 * height for height in _roll_heights(song.notes)]
    with _page(path, overwrite, title, _facts(song.notes, song.end_s), heights, song.end_s) as (_, axes):
        _draw_notes(axes, song.notes, song.end_s)
        _draw_bars(axes, song.bars, song.end_s)


def spectrogram_picture(path: Path, mel: npt.NDArray[np.float32], title: str, overwrite: bool = False) -> None:
    """Draw a short piece of log-mel, (n, 128) in feature range, which is also the range of the colours: pictures
    can be compared. The file appears complete or not at all. Raises as ``check_plot``, and OutputError."""
    duration_s = len(mel) / FRAMES_PER_SECOND
    with _page(path, overwrite, title, "", [1.4 * _MEL_IN], duration_s) as (figure, axes):
        _draw_mel(figure, axes[0], mel, 1 / FRAMES_PER_SECOND, (LOG_MEL_MIN, LOG_MEL_MAX))


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


def _roll_heights(notes: "Sequence[Note]") -> list[float]:
    """Height of the piano roll, and of the drums below it, of those that are there."""
    has_drums = any(note.is_drum for note in notes)
    has_pitches = any(not note.is_drum for note in notes) or not has_drums
    return [_ROLL_IN] * has_pitches + [_DRUMS_IN] * has_drums


def _facts(notes: "Sequence[Note]", duration_s: float) -> str:
    n_instruments = len({(note.is_drum, 0 if note.is_drum else note.program) for note in notes})
    return f"{_clock(duration_s)} · {count(len(notes), 'note')} · {count(n_instruments, 'instrument')}"


def _draw_notes(axes: "Sequence[Axes]", notes: "Sequence[Note]", duration_s: float) -> None:
    """The piano roll and, on axes of their own below it, the drums."""
    pitched = [note for note in notes if not note.is_drum]
    drums = [note for note in notes if note.is_drum]
    if pitched or not drums:
        _draw_pitches(axes[0], pitched, duration_s)
    if drums:
        _draw_drums(axes[-1], drums, duration_s)


def _draw_bars(axes: "Sequence[Axes]", bars: "BarMap | None", duration_s: float) -> None:
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
    axis.grid(axis="y", color=_GRID, linewidth=0.6)
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
    _draw_roll(axis, struck.thinned(duration_s), 0.7, [_DRUM_COLOUR])
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


def _limits(mel: npt.NDArray[Any]) -> tuple[float, float]:
    """The log-mel values of the darkest and the brightest colour: what a song uses of ``RANGE_DB``, or half of that."""
    if not mel.size:
        return LOG_MEL_MIN, LOG_MEL_MAX
    quietest, loudest = np.quantile(mel, [0.02, 0.9995])
    range_db = np.clip((loudest - quietest) * DECIBELS_PER_NEPER, RANGE_DB / 2, RANGE_DB)
    return float(loudest - range_db / DECIBELS_PER_NEPER), float(loudest)


def _draw_mel(
    figure: "Figure", axis: "Axes", mel: npt.NDArray[Any], column_s: float, limits: tuple[float, float]
) -> None:
    """A spectrogram with its bar of colours, whose 0 dB is the upper of the ``limits`` (log-mel)."""
    from specdiff_cli.audio.mel import hz_to_mel

    lowest, highest = limits
    decibels = (mel.T - highest) * DECIBELS_PER_NEPER  # (128, n_columns)
    image = axis.imshow(
        decibels, origin="lower", aspect="auto", cmap="magma", vmin=(lowest - highest) * DECIBELS_PER_NEPER, vmax=0.0,
        extent=(0.0, max(len(mel), 1) * column_s, -0.5, N_MELS - 0.5), interpolation="antialiased",
    )  # fmt: skip
    axis.set_facecolor("black")
    # Band i has its centre at the (i + 1)-th of 129 equal steps in mel.
    bands = hz_to_mel(_TICKS_HZ) / hz_to_mel(MEL_MAX_HZ) * (N_MELS + 1) - 1
    axis.set_yticks(bands.clip(max=N_MELS - 0.5), [f"{hertz / 1000:g}" for hertz in _TICKS_HZ])
    axis.set_ylabel("kHz (mel)")
    bar = figure.colorbar(image, cax=axis.inset_axes((1.015, 0.0, 0.012, 1.0)))
    bar.ax.tick_params(labelsize=8, colors=_INK)
    bar.set_label("dB", color=_INK, fontsize=8)
    bar.outline.set_visible(False)


@contextmanager
def _page(
    path: Path, overwrite: bool, title: str, facts: str, heights_in: Sequence[float], duration_s: float
) -> Iterator[tuple["Figure", list["Axes"]]]:
    """Axes of these heights under each other with one time axis; written as PNG when the block ends."""
    target = check_plot(path, overwrite)
    picture = io.BytesIO()
    with _quiet_matplotlib():
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # whatever style the user's own plots have
            height_in = _TITLE_IN + sum(heights_in) + _GAP_IN * (len(heights_in) - 1) + _AXIS_IN
            figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, facecolor="white")
            FigureCanvasAgg(figure)
            axes = _stacked_axes(figure, heights_in, height_in, duration_s)
            left, top = _LEFT_IN / _WIDTH_IN, 1 - 0.2 / height_in
            shown = shown_path(title)
            figure.text(left, top, shown, size=13, weight="bold", color=_INK, va="top", parse_math=False)
            right = 1 - _RIGHT_IN / _WIDTH_IN
            figure.text(right, top, facts, size=9.5, color=_INK, va="top", ha="right")
            yield figure, axes
            figure.savefig(picture, format="png", metadata={"Software": None})
    _write(path, target, picture.getvalue(), overwrite)


def _stacked_axes(figure: "Figure", heights_in: Sequence[float], height_in: float, duration_s: float) -> list["Axes"]:
    axes: list[Axes] = []
    top_in = height_in - _TITLE_IN
    for own_in in heights_in:
        box = (
            _LEFT_IN / _WIDTH_IN,
            (top_in - own_in) / height_in,
            1 - (_LEFT_IN + _RIGHT_IN) / _WIDTH_IN,
            own_in / height_in,
        )
        axis = figure.add_axes(box, sharex=axes[0] if axes else None)
        axis.tick_params(labelbottom=False, bottom=False, labelsize=8, colors=_INK)
        axis.yaxis.label.set(color=_INK, size=9)
        axis.yaxis.set_label_coords(-0.066, 0.5)
        axis.spines[:].set_color(_GRID)
        axis.set_axisbelow(True)
        axes.append(axis)
        top_in -= own_in + _GAP_IN
    last = axes[-1]
    last.tick_params(labelbottom=True, bottom=True)
    last.set_xlim(0.0, max(duration_s, 1e-3))
    last.xaxis.set_major_formatter(lambda at_s, _: _clock(at_s) if duration_s > 90 else f"{at_s:g}")
    last.xaxis.set_major_locator(_time_ticks(duration_s))
    last.set_xlabel("minutes : seconds" if duration_s > 90 else "seconds", color=_INK, size=9)
    return axes


def _time_ticks(duration_s: float) -> Any:
    """Ticks at round times, at most a dozen and a half of them."""
    from matplotlib.ticker import MultipleLocator

    steps_s = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    return MultipleLocator(next((step_s for step_s in steps_s if duration_s / step_s <= 16), duration_s / 10))


def _clock(at_s: float) -> str:
    minutes, seconds = divmod(round(at_s), 60)
    return f"{minutes}:{seconds:02d}"


def _write(path: Path, target: Path, content: bytes, overwrite: bool) -> None:
    pending = PendingFile(target, overwrite)
    try:
        pending.open().write(content)
        pending.commit()
    except OSError as error:
        raise output_error(shown_path(path), error) from None
    finally:
        pending.discard()


@contextmanager
def _quiet_matplotlib() -> Iterator[None]:
    """No remarks on standard error about caches of fonts and characters that a font does not have."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

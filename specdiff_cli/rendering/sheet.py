"""A sheet to draw on: axes below each other with one time axis, written as a PNG that appears complete or not at all.

matplotlib (the ``plot`` extra) is loaded inside functions and drawn on through its objects, without pyplot: no window
system, no global state.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specdiff_cli.errors import UsageError
from specdiff_cli.files import PendingFile, check_target, output_error, shown_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COLUMNS = 4096  # of anything along the time axis: two or three for each pixel of the page
INK, GRID = "#22262e", "#d9dce3"
WIDTH_IN, DPI = 14.0, 150
TITLE_IN, AXIS_IN, GAP_IN = 0.6, 0.55, 0.12
LEFT_IN, RIGHT_IN = 1.05, 2.15


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


@contextmanager
def page(
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
            height_in = TITLE_IN + sum(heights_in) + GAP_IN * (len(heights_in) - 1) + AXIS_IN
            figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white")
            FigureCanvasAgg(figure)
            axes = _stacked_axes(figure, heights_in, height_in, duration_s)
            left, top = LEFT_IN / WIDTH_IN, 1 - 0.2 / height_in
            shown = shown_path(title)
            figure.text(left, top, shown, size=13, weight="bold", color=INK, va="top", parse_math=False)
            right = 1 - RIGHT_IN / WIDTH_IN
            figure.text(right, top, facts, size=9.5, color=INK, va="top", ha="right")
            yield figure, axes
            figure.savefig(picture, format="png", metadata={"Software": None})
    _write(path, target, picture.getvalue(), overwrite)


def _stacked_axes(figure: "Figure", heights_in: Sequence[float], height_in: float, duration_s: float) -> list["Axes"]:
    axes: list[Axes] = []
    top_in = height_in - TITLE_IN
    for own_in in heights_in:
        box = (
            LEFT_IN / WIDTH_IN,
            (top_in - own_in) / height_in,
            1 - (LEFT_IN + RIGHT_IN) / WIDTH_IN,
            own_in / height_in,
        )
        axis = figure.add_axes(box, sharex=axes[0] if axes else None)
        axis.tick_params(labelbottom=False, bottom=False, labelsize=8, colors=INK)
        axis.yaxis.label.set(color=INK, size=9)
        axis.yaxis.set_label_coords(-0.066, 0.5)
        axis.spines[:].set_color(GRID)
        axis.set_axisbelow(True)
        axes.append(axis)
        top_in -= own_in + GAP_IN
    last = axes[-1]
    last.tick_params(labelbottom=True, bottom=True)
    last.set_xlim(0.0, max(duration_s, 1e-3))
    last.xaxis.set_major_formatter(lambda at_s, _: clock(at_s) if duration_s > 90 else f"{at_s:g}")
    last.xaxis.set_major_locator(_time_ticks(duration_s))
    last.set_xlabel("minutes : seconds" if duration_s > 90 else "seconds", color=INK, size=9)
    return axes


def _time_ticks(duration_s: float) -> Any:
    """Ticks at round times, at most a dozen and a half of them."""
    from matplotlib.ticker import MultipleLocator

    steps_s = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    return MultipleLocator(next((step_s for step_s in steps_s if duration_s / step_s <= 16), duration_s / 10))


def clock(at_s: float) -> str:
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

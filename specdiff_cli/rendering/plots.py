"""Pictures of a render: piano roll, spectrogram and waveform on one page, as PNG.

Memory does not grow with the song: what is drawn is reduced as it arrives.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.pooling import Pool
from specdiff_cli.constants import FRAMES_PER_SECOND, LOG_MEL_MAX, LOG_MEL_MIN, MEL_MAX_HZ, N_MELS
from specdiff_cli.rendering.piano_roll import draw_bars, draw_notes, facts, roll_heights
from specdiff_cli.rendering.sheet import GRID, INK, MAX_COLUMNS, page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from specdiff_cli.midi.bars import BarMap
    from specdiff_cli.midi.notes import MidiSong, Note

DECIBELS_PER_NEPER = 20 / np.log(10)
RANGE_DB = 80.0

MEL_IN, WAVE_IN = 3.0, 0.9
_WAVE = "#3d5a80"
_TICKS_HZ = (100, 250, 500, 1000, 2000, 4000, 8000)


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
        heights = [*roll_heights(notes), MEL_IN, *[WAVE_IN] * self._n_channels]
        with page(path, overwrite, title, facts(notes, duration_s), heights, duration_s) as (figure, axes):
            n_rolls = len(axes) - 1 - self._n_channels
            draw_notes(axes[:n_rolls], notes, duration_s)
            draw_bars(axes[:n_rolls], bars, duration_s)
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
            axis.axhline(0, color=GRID, linewidth=0.6, zorder=0)
            if limit > 0.9:
                axis.set_yticks([-1, 0, 1])
            axis.set_ylabel("waveform" if len(axes) == 1 else ("left", "right")[channel])


def piano_roll_page(path: Path, song: "MidiSong", title: str, overwrite: bool = False) -> None:
    """Draw the notes of a song; the file appears complete or not at all. Raises as ``check_plot``, and OutputError."""
    heights = [1.3 * height for height in roll_heights(song.notes)]
    with page(path, overwrite, title, facts(song.notes, song.end_s), heights, song.end_s) as (_, axes):
        draw_notes(axes, song.notes, song.end_s)
        draw_bars(axes, song.bars, song.end_s)


def spectrogram_picture(path: Path, mel: npt.NDArray[np.float32], title: str, overwrite: bool = False) -> None:
    """Draw a short piece of log-mel, (n, 128) in feature range, which is also the range of the colours: pictures
    can be compared. The file appears complete or not at all. Raises as ``check_plot``, and OutputError."""
    duration_s = len(mel) / FRAMES_PER_SECOND
    with page(path, overwrite, title, "", [1.4 * MEL_IN], duration_s) as (figure, axes):
        _draw_mel(figure, axes[0], mel, 1 / FRAMES_PER_SECOND, (LOG_MEL_MIN, LOG_MEL_MAX))


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
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.set_label("dB", color=INK, fontsize=8)
    bar.outline.set_visible(False)

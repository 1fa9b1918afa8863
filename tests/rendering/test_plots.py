"""Pictures: what is drawn where, in bounded memory, and nothing but files and errors of ours."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from file_limits import largest_file
from midi_files import midi_bytes, note

from specdiff_cli.constants import LOG_MEL_MIN
from specdiff_cli.errors import OutputError, UsageError
from specdiff_cli.midi.notes import Note, parse_midi
from specdiff_cli.rendering import piano_roll, plots, sheet
from specdiff_cli.rendering.plots import PagePlot, piano_roll_page, spectrogram_picture
from specdiff_cli.rendering.sheet import check_plot

image = pytest.importorskip("matplotlib.image")

FIRST_COLOUR = (0x33, 0x66, 0xCC)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few pixels, which are drawn sooner."""
    monkeypatch.setattr(sheet, "DPI", 40)


def notes(*spans: tuple[float, float], program: int = 0, is_drum: bool = False, pitch: int = 60) -> list[Note]:
    return [Note(start_s, end_s, pitch, 127, program, is_drum) for start_s, end_s in spans]


def pixels(path: Path) -> np.ndarray:
    """(height, width, 3) bytes."""
    return np.asarray(np.round(image.imread(path)[..., :3] * 255), dtype=int)


def columns_of(picture: np.ndarray, colour: tuple[int, int, int], most_left: float = 0.84) -> np.ndarray:
    """Columns left of the legend in which the colour occurs."""
    width = int(picture.shape[1] * most_left)
    return np.flatnonzero((picture[:, :width] == colour).all(axis=2).any(axis=0))


def axes_columns(picture: np.ndarray) -> tuple[float, float]:
    """Where the time axis begins and ends."""
    left, right = sheet.LEFT_IN * sheet.DPI, (sheet.WIDTH_IN - sheet.RIGHT_IN) * sheet.DPI
    assert picture.shape[1] == sheet.WIDTH_IN * sheet.DPI
    return left, right


def test_notes_are_drawn_where_they_sound(tmp_path: Path) -> None:
    plot = PagePlot()
    plot.write(tmp_path / "a.png", notes((2.0, 5.0)), 10.0, "song.mid")
    picture = pixels(tmp_path / "a.png")
    left, right = axes_columns(picture)
    found = columns_of(picture, FIRST_COLOUR)
    assert found[0] == pytest.approx(left + 0.2 * (right - left), abs=2)
    assert found[-1] == pytest.approx(left + 0.5 * (right - left), abs=2)
    assert len(found) == found[-1] - found[0] + 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_louder_is_brighter_and_stands_at_its_time_and_pitch(tmp_path: Path) -> None:
    mel = np.full((500, 128), LOG_MEL_MIN, np.float32)
    mel[250:, 64:] = 0.0  # the second half, the upper half of the bands
    plot = PagePlot()
    for piece in np.array_split(mel, 7):
        plot.add_mel(piece)
    plot.write(tmp_path / "a.png", [], 10.0, "")
    picture = pixels(tmp_path / "a.png")
    left, right = axes_columns(picture)
    bottom = picture.shape[0] - sheet.AXIS_IN * sheet.DPI - sheet.GAP_IN * sheet.DPI - plots.WAVE_IN * sheet.DPI
    top = bottom - plots.MEL_IN * sheet.DPI
    rows, columns = np.linspace(top, bottom, 9).astype(int), np.linspace(left, right, 9).astype(int)
    brightness = picture.sum(axis=2)
    assert brightness[rows[2], columns[6]] > 500
    for row, column in ((2, 2), (6, 2), (6, 6)):
        assert brightness[rows[row], columns[column]] < 60


def test_drums_and_channels_have_their_own_place(tmp_path: Path) -> None:
    sizes = {}
    for name, n_channels, played in (
        ("plain", 1, notes((0, 1))),
        ("stereo", 2, notes((0, 1))),
        ("drums", 1, notes((0, 1)) + notes((0, 1), is_drum=True, pitch=38)),
        ("only drums", 1, notes((0, 1), is_drum=True, pitch=36)),
    ):
        plot = PagePlot(n_channels)
        plot.add_audio(np.zeros((100, n_channels)) if n_channels > 1 else np.zeros(100))
        plot.write(tmp_path / f"{name}.png", played, 1.0, name)
        sizes[name] = pixels(tmp_path / f"{name}.png").shape[0]
    gap = sheet.GAP_IN
    assert sizes["stereo"] - sizes["plain"] == pytest.approx((plots.WAVE_IN + gap) * sheet.DPI, abs=2)
    assert sizes["drums"] - sizes["plain"] == pytest.approx((piano_roll.DRUMS_IN + gap) * sheet.DPI, abs=2)
    assert sizes["only drums"] == pytest.approx(sizes["drums"] - (piano_roll.ROLL_IN + gap) * sheet.DPI, abs=2)


def test_no_hit_of_a_drum_falls_between_two_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "DPI", 150)
    monkeypatch.setattr(piano_roll, "DRUM_COLOUR", "#3366cc")
    hits = notes(*((0.2 + 0.251 * k, 0.2 + 0.251 * k) for k in range(36)), is_drum=True, pitch=38)
    PagePlot().write(tmp_path / "a.png", hits, 10.0, "drums")
    found = columns_of(pixels(tmp_path / "a.png"), FIRST_COLOUR)
    assert 1 + np.count_nonzero(np.diff(found) > 1) == 36


def test_equal_content_gives_equal_bytes_whatever_style_the_user_has(tmp_path: Path) -> None:
    import matplotlib

    for name, colour in (("a", "white"), ("b", "red")):
        with matplotlib.rc_context({"axes.facecolor": colour}):
            plot = PagePlot()
            plot.add_mel(np.zeros((100, 128), np.float32))
            plot.add_audio(np.sin(np.arange(32_000)))
            plot.write(tmp_path / f"{name}.png", notes((0, 1)), 2.0, "x")
            assert matplotlib.rcParams["axes.facecolor"] == colour
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_memory_does_not_grow_with_the_song(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (plots, piano_roll):
        monkeypatch.setattr(module, "MAX_COLUMNS", 64)
    plot = PagePlot(n_channels=2)
    for _ in range(40):
        plot.add_mel(np.zeros((256, 128), np.float32))
        plot.add_audio(np.zeros((40_960, 2), np.float32))
        for pool in (plot._power, plot._lowest, plot._highest):
            assert len(pool.columns()) <= 64
    many = notes(*((k / 1000, k / 1000 + 0.1) for k in range(20_000)))
    assert len(piano_roll._roll(many, [60] * 20_000, [0] * 20_000).thinned(20.0).lane) <= 3 * 64
    plot.write(tmp_path / "a.png", many, 204.8, "long")


def test_many_instruments_and_odd_names(tmp_path: Path) -> None:
    played = [note for program in range(60) for note in notes((program, program + 1), program=program, pitch=program)]
    PagePlot().write(tmp_path / "a.png", played, 60.0, "a\n\udcff $x_ 日本 " + 300 * "long ")
    assert len(columns_of(pixels(tmp_path / "a.png"), FIRST_COLOUR)) > 15


def test_a_piano_roll_alone(tmp_path: Path) -> None:
    song = parse_midi(midi_bytes(note(0, 480, 0, 60)), "song.mid")
    piano_roll_page(tmp_path / "a.png", song, "song.mid")
    assert len(columns_of(pixels(tmp_path / "a.png"), FIRST_COLOUR)) == 0  # velocity 64 or so: paler
    with pytest.raises(OutputError, match="exists already"):
        piano_roll_page(tmp_path / "a.png", song, "song.mid")
    piano_roll_page(tmp_path / "a.png", song, "song.mid", overwrite=True)


def test_a_spectrogram_that_is_noise_and_beyond_all_limits(tmp_path: Path) -> None:
    mel = np.random.default_rng(0).normal(0, 30, (256, 128)).astype(np.float32)
    mel[0, 0], mel[1, 1] = np.nan, np.inf
    spectrogram_picture(tmp_path / "a.png", mel, "noise")
    plot = PagePlot()
    plot.add_mel(mel)
    plot.add_audio(np.array([np.nan, np.inf, 1.0]))
    plot.write(tmp_path / "b.png", [], 5.12, "noise")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("a.pdf", UsageError, "pictures are PNG files"),
        ("a", UsageError, "pictures are PNG files"),
        ("there.png", OutputError, "exists already"),
        ("nowhere/a.png", OutputError, "does not exist"),
    ],
)
def test_refusals_come_before_any_work(tmp_path: Path, name: str, error: type[Exception], words: str) -> None:
    (tmp_path / "there.png").write_text("mine")
    for attempt in (check_plot, lambda path, _: PagePlot().write(path, [], 1.0, "x")):
        with pytest.raises(error, match=words):
            attempt(tmp_path / name, False)
    assert (tmp_path / "there.png").read_text() == "mine"
    assert check_plot(tmp_path / "there.png", True) == tmp_path / "there.png"


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[plot\]'"):
        check_plot(tmp_path / "a.png", False)
    assert logging.getLogger("matplotlib").level == logging.NOTSET


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(OutputError, match="File too large"):
        PagePlot().write(tmp_path / "a.png", notes((0, 1)), 1.0, "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # fonts are looked for anew
def test_it_says_nothing_and_needs_no_pyplot(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from specdiff_cli.rendering.plots import PagePlot
assert "matplotlib" not in sys.modules
PagePlot().write(Path({str(tmp_path / "a.png")!r}), [], 1.0, "日本")
assert "matplotlib.pyplot" not in sys.modules
"""
    # a folder for caches that cannot be made: matplotlib would speak of it, and of the fonts that it has to find
    environment = {**os.environ, "MPLCONFIGDIR": f"{os.devnull}/none"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_bar_lines_stand_where_bars_begin_and_never_crowd() -> None:
    from matplotlib.figure import Figure

    from specdiff_cli.rendering.piano_roll import MAX_BAR_LINES, draw_bars

    def lines(n_bars: int) -> list[float]:
        axis = Figure().add_subplot()
        song = parse_midi(midi_bytes(note(0, 1920 * n_bars, 0, 60)), "a.mid")
        draw_bars([axis], song.bars, song.end_s)
        return [float(np.asarray(path.vertices)[0, 0]) for path in axis.collections[0].get_paths()]

    assert lines(3) == [0.0, 2.0, 4.0]  # 4/4 at 120 beats a minute
    many = lines(1000)
    assert len(many) <= MAX_BAR_LINES + 1
    assert set(np.diff(many)) == {32.0}

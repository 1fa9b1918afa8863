"""A render begins and ends without a click, whatever it is made of: song, stems, windows that overlap."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from midi_files import midi_bytes, note, program

from specdiff_cli import render_files
from specdiff_cli.rendering.events import Done

RATE_HZ = 16_000
BEGINNING, END = round(0.015 * RATE_HZ), round(0.05 * RATE_HZ)
#: Three instruments that play from the first sample on; the strings are heard to the end of the file.
SONG = midi_bytes(
    [*note(0, 960, 0, 60), *note(0, 960, 0, 67)],
    [program(0, 1, 56), *note(0, 480, 1, 72), *note(480, 480, 1, 74)],
    [program(0, 2, 48), *note(0, 1200, 2, 55)],
)


@pytest.mark.parametrize("vocoder", ["partials", "spectral", "griffin-lim"])
def test_songs_and_stems_begin_and_end_without_a_click(tmp_path: Path, vocoder: str) -> None:
    (tmp_path / "song.mid").write_bytes(SONG)
    rendered = tmp_path / "song.wav"
    *_, end = render_files(
        str(tmp_path / "song.mid"), output=str(rendered), vocoder=vocoder, sample_rate=RATE_HZ, stereo=False, stems=True
    )
    assert isinstance(end, Done)
    stems = sorted((tmp_path / "song.stems").glob("*.wav"))
    assert len(stems) == 3
    for path in (rendered, *stems):
        level = np.abs(soundfile.read(path)[0])
        assert level[:BEGINNING].max() < level[BEGINNING:].max(), path.name
        assert level[-END:].max() < 0.02 * level.max(), path.name

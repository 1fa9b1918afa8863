"""The table of single sounds as it is printed."""

import json

import pytest

from specdiff_cli.cli.tables import print_sounds
from specdiff_cli.evaluation.sounds import SoundRow, described

ROWS = [
    SoundRow("0 Acoustic Grand Piano", 0, None, -0.4, 6.0, 5.5, 710.0, 702.0, -70.0, -71.0),
    SoundRow("drum 56", 0, 56, 8.1, 14.0, 3.0, 3950.0, 1040.0, -13.0, -60.0),
    SoundRow("drum 75", 0, 75, -60.0, None, 2.0, None, 2500.0, None, -60.0),
]


def test_what_misses_a_target_is_marked_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    print_sounds({"tiny": ROWS})
    lines = capsys.readouterr().out.splitlines()
    piano, cowbell, claves = (next(line for line in lines if row.name in line) for row in ROWS)
    assert piano.split()[-7:] == ["-0.4", "6.0", "5.5", "710", "702", "-70", "-71"]
    assert cowbell.split()[-7:] == ["+8.1!", "14.0!", "3.0", "3950", "1040", "-13", "-60"]
    assert claves.split()[-7:] == ["-60.0!", "–!", "2.0", "–", "2500", "–", "-60"]
    assert "1 of 3 within 1.5 dB, 1 within 5 ms of the soundfont's attack" in lines


def test_json_holds_the_same() -> None:
    found = json.loads(json.dumps(described(ROWS)))
    assert (found["n_level_met"], found["n_attack_met"]) == (1, 1)
    assert found["sounds"][1]["teacher_centroid_hz"] == 1040.0
    assert found["sounds"][1]["meets"] == {"level": False, "attack": False}

"""The demo song is right on paper, and a valid MIDI file that our reader understands."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from specdiff_cli.midi.notes import parse_midi

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "demo_song.py"
G_MAJOR = {7, 9, 11, 0, 2, 4, 6}


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_song", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_song"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("hand", ["MELODY", "BASS"])
def test_each_bar_is_full_in_both_hands(demo: ModuleType, hand: str) -> None:
    bars = getattr(demo, hand)
    assert len(bars) == demo.N_BARS == 16
    for number, bar in enumerate(bars, 1):
        assert sum(length for _, length in demo.parse_bar(bar)) == 3, f"bar {number}"


@pytest.mark.parametrize(("hand", "low", "high"), [("MELODY", 66, 79), ("BASS", 43, 62)])
def test_notes_are_in_key_and_range(demo: ModuleType, hand: str, low: int, high: int) -> None:
    pitches = [note.pitch for note in demo.score_notes(getattr(demo, hand))]
    assert {pitch % 12 for pitch in pitches} <= G_MAJOR
    assert (min(pitches), max(pitches)) == (low, high)


def test_known_notes_of_the_score(demo: ModuleType) -> None:
    opening = [note.pitch for note in demo.score_notes(demo.MELODY)[:8]]
    assert opening == [74, 67, 69, 71, 72, 74, 67, 67]
    assert demo.MELODY[:6] == demo.MELODY[8:14]  # the second phrase begins as the first
    assert [note.pitch for note in demo.score_notes(demo.BASS)[:3]] == [55, 59, 62]
    assert [note.pitch for note in demo.score_notes(demo.BASS)[-5:]] == [60, 62, 50, 55, 43]  # IV V V I I


def test_our_reader_reads_it_in_full(demo: ModuleType) -> None:
    song = parse_midi(demo.demo_song(), "demo.mid")
    written = len(demo.score_notes(demo.MELODY)) + len(demo.score_notes(demo.BASS))
    assert len(song.notes) == written
    assert song.n_unclosed_notes == song.n_zero_length_notes == 0
    assert song.ignored == {}
    assert song.tempo_tracks == [0]
    assert {note.program for note in song.notes} == {0}
    assert not any(note.is_drum for note in song.notes)
    assert 25 < song.end_s < 40


def test_last_bar_is_slower_than_the_first(demo: ModuleType) -> None:
    song = parse_midi(demo.demo_song(), "demo.mid")
    starts_s = sorted({note.start_s for note in song.notes if note.channel == 0})
    first_bar_s = 3 * 60 / 108
    assert song.end_s - starts_s[-1] > 1.2 * first_bar_s
    tempi = [bpm for _, bpm in song.tempo_changes]
    assert tempi == sorted(tempi, reverse=True)


def test_dynamics_are_phrased(demo: ModuleType) -> None:
    song = parse_midi(demo.demo_song(), "demo.mid")
    melody = [note.velocity for note in song.notes if note.channel == 0]
    bass = [note.velocity for note in song.notes if note.channel == 1]
    assert len(set(melody)) > 8
    assert sum(melody) / len(melody) > sum(bass) / len(bass) + 10
    assert min(bass) >= 40 and max(melody) <= 100


def test_same_bytes_every_time(tmp_path: Path, demo: ModuleType) -> None:
    target = tmp_path / "demo.mid"
    result = run_script(str(target))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert target.read_bytes() == demo.demo_song()


def test_unwritable_output_is_one_clear_line(tmp_path: Path) -> None:
    target = tmp_path / "no such folder" / "demo.mid"
    result = run_script(str(target))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert str(target) in result.stderr and "Traceback" not in result.stderr
    assert not target.parent.exists()


def test_missing_argument_is_a_usage_error() -> None:
    assert run_script().returncode == 2

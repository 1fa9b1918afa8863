"""``specdiff inspect-midi``: what it reports, on which stream, with which exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mido
import pytest
from command_line import specdiff
from midi_files import Timed, control, midi_bytes, midi_header, midi_track, note, program, tempo
from typer.testing import Result

from specdiff_cli.midi.notes import read_midi
from specdiff_cli.midi.windows import tokenize

SCREEN_COLUMNS = 80


@pytest.fixture(autouse=True)
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(SCREEN_COLUMNS))


def run(*arguments: str | Path) -> Result:
    return specdiff("inspect-midi", *arguments)


def song(path: Path) -> Path:
    """Two tracks with a piano that becomes strings, drums, a late tempo change, and things the models ignore."""
    name = mido.MetaMessage("track_name", name="Klavier für [bold]zwei")
    lead: list[Timed] = [
        (0, name),
        (0, mido.Message("pitchwheel", pitch=500)),
        control(0, 0, 7, 100),
        control(0, 0, 7, 80),
        *note(0, 480, 0, 60),
        *note(0, 960, 0, 64),
        program(1000, 0, 49),
        *note(1000, 7000, 0, 50),
        *note(2000, 2000, 0, 70),
        note(1500, 0, 0, 72)[0],
    ]
    drums = [tempo(960, 1_000_000), *note(0, 100, 9, 36), *note(480, 580, 9, 38)]
    path.write_bytes(midi_bytes(lead, drums))
    return path


def report_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    report: dict[str, Any] = json.loads(line)
    return report


def test_json_tells_everything(tmp_path: Path) -> None:
    path = song(tmp_path / "song.mid")
    report = report_of(run("--json", path))
    length_s = 1.0 + (7000 - 960) / 480
    assert report["file"] == str(path)
    assert report["duration_s"] == pytest.approx(length_s)
    assert (report["format"], report["n_tracks"], report["ticks_per_beat"]) == (1, 2, 480)
    assert report["ticks_per_second"] is None
    assert report["tempo_map"] == [
        {"start_s": 0.0, "beats_per_minute": 120.0},
        {"start_s": pytest.approx(1.0), "beats_per_minute": 60.0},
    ]
    assert report["tempo_tracks"] == [2]
    assert report["time_signatures"] == [{"bar": 1, "start_s": 0.0, "numerator": 4, "denominator": 4}]
    assert (report["n_bars"], report["track"]) == (4, None)  # 7000 ticks of 480 to a beat
    assert report["channels"] == [1, 10]
    assert report["n_notes"] == 6
    assert report["n_drum_notes"] == 2
    assert report["n_unclosed_notes"] == 1
    assert report["n_zero_length_notes"] == 1
    assert (report["lowest_pitch"], report["highest_pitch"], report["polyphony"]) == (50, 72, 3)
    assert report["ignored"] == {"pitch bend": 1, "channel volume": 2}
    assert report["n_dropped_events"] == 0
    assert [(item["name"], item["model_class"], item["n_notes"]) for item in report["instruments"]] == [
        ("Acoustic Grand Piano", "acoustic piano", 2),
        ("String Ensemble 2", "string ensemble", 2),
        ("Drums", "drums", 2),
    ]
    assert report["instruments"][2]["channel"] == 10
    assert report["instruments"][2]["is_drum"] is True
    assert [(item["track"], item["n_notes"], item["channels"]) for item in report["tracks"]] == [
        (1, 4, [1]),
        (2, 2, [10]),
    ]
    assert report["tracks"][0]["name"] == "Klavier für [bold]zwei"
    assert report["n_windows"] == len(report["windows"]) == 3
    assert [window["start_s"] for window in report["windows"]] == [0.0, 5.12, 10.24]
    assert "tokens" not in report["windows"][0]


def test_json_tokens_are_those_of_the_windows(tmp_path: Path) -> None:
    path = song(tmp_path / "song.mid")
    report = report_of(run("--json", "--tokens", path))
    expected = [window.tokens.tolist() for window in tokenize(read_midi(path).notes)]
    assert [window["tokens"] for window in report["windows"]] == expected
    assert [window["n_tokens"] for window in report["windows"]] == [len(tokens) for tokens in expected]
    assert all(window["tokens"][-1] == 1 and 0 not in window["tokens"] for window in report["windows"])


def test_the_table_is_readable_at_80_columns(tmp_path: Path) -> None:
    result = run(song(tmp_path / "song.mid"), "--tokens")
    assert result.exit_code == 0
    assert result.stderr == ""
    text = result.stdout
    assert max(map(len, text.splitlines()[1:])) <= SCREEN_COLUMNS
    assert "\x1b" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())
    for expected in (
        "0:13.58 (3 windows)",
        "120 bpm at 0:00.00, 60 bpm at 0:01.00",
        "49 String Ensemble 2",
        "string ensemble",
        "50-72 (D3 to C5",
        "channel volume (2), pitch bend (1)",
        "Klavier für [bold]zwei",
        "1 note never closed",
        "1 note of no length",
        "tempo changes stand on track 2",
        "Window at 0:05.12:",
        "program 0, velocity 1, pitch 60, pitch 64",
    ):
        assert expected in text, expected


@pytest.mark.parametrize("columns", [40, 60])
def test_narrow_screens_get_sentences_instead_of_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = run(song(tmp_path / "song.mid"), "--tokens").stdout.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("  Length"))  # behind the file's name
    assert max(map(len, lines[start:])) <= columns
    text = " ".join(" ".join(lines).split())
    for expected in (
        "Track 1, Ch 1, Program 49 String Ensemble 2, Played as string ensemble, Notes 2, Pitches 50-72, At once 2",
        "Track 1, Name Klavier für [bold]zwei, Channels 1, Messages",
        "120 bpm at 0:00.00, 60 bpm at 0:01.00",
        "0:10.24",
        "program 0, velocity 1, pitch 60, pitch 64",
    ):
        assert expected in text, expected


def test_time_signatures_and_bars(tmp_path: Path) -> None:
    meters: list[Timed] = [
        (480 * 4 * bar, mido.MetaMessage("time_signature", numerator=3 + bar % 2, denominator=4)) for bar in range(12)
    ]
    (tmp_path / "x.mid").write_bytes(midi_bytes(meters, note(0, 480 * 60, 0, 60)))
    text = " ".join(run(tmp_path / "x.mid").stdout.split())
    # bars of 3/4 in places for 4/4: what is left over is a bar of its own
    assert "in 3/4, 4/4 from bar 3, 3/4 from bar 4, 4/4 from bar 6" in text
    assert "and 4 more changes (--json lists them)" in text
    report = report_of(run("--json", tmp_path / "x.mid"))
    assert [item["bar"] for item in report["time_signatures"][:4]] == [1, 3, 4, 6]
    assert report["time_signatures"][1]["start_s"] == 2.0


def test_only_signatures_that_music_has_are_told(tmp_path: Path) -> None:
    late = (480 * 40, mido.MetaMessage("time_signature", numerator=3, denominator=4))
    (tmp_path / "x.mid").write_bytes(midi_bytes([late], note(0, 480 * 8, 0, 60)))
    assert "Bars 2 in 4/4 Channels" in " ".join(run(tmp_path / "x.mid").stdout.split())


def test_one_track(tmp_path: Path) -> None:
    path = song(tmp_path / "song.mid")
    report = report_of(run("--json", "--track", "2", path))
    assert (report["n_notes"], report["track"], report["n_tracks"]) == (2, 2, 2)
    assert [(item["track"], item["n_notes"]) for item in report["tracks"]] == [(2, 2)]
    assert [item["is_drum"] for item in report["instruments"]] == [True]
    assert run("--track", "3", path).exit_code == 3
    assert run("--track", "0", path).exit_code == 2
    (tmp_path / "two.mid").write_bytes(midi_bytes(note(0, 480, 0, 60), note(0, 960, 0, 62), kind=2))
    assert "choose one with --track (1 to 2)" in run(tmp_path / "two.mid").stderr
    assert report_of(run("--json", "--track", "2", tmp_path / "two.mid"))["duration_s"] == 1.0


def test_pan_is_said_to_be_used_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.mid").write_bytes(midi_bytes([control(0, 0, 10, 20), *note(0, 480, 0, 60)]))
    text = " ".join(run(tmp_path / "x.mid").stdout.split())
    assert "the models ignore pan (1)" in text
    assert "render --stereo places each instrument where its pan says" in text


def test_a_file_named_twice_is_shown_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    song(tmp_path / "song.mid")
    report_of(run("--json", "song.mid", "./song.mid", tmp_path / "song.mid"))
    (line,) = run("none.mid", "./none.mid").stderr.splitlines()
    assert line == "error: none.mid: no such file; check the path"
    assert run("none.mid", "./none.mid").exit_code == 3


def test_a_piano_roll_of_one_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = song(tmp_path / "song.mid")
    plot = tmp_path / "roll.png"
    assert report_of(run("--json", path, "--plot", plot))["n_notes"] == 6
    assert plot.read_bytes().startswith(b"\x89PNG")
    refused = run(path, "--plot", plot)
    assert (refused.exit_code, refused.stdout) == (5, "")
    assert run(path, "--plot", plot, "--overwrite").exit_code == 0
    two = run(path, song(tmp_path / "other.mid"), "--plot", tmp_path / "more.png")
    assert two.exit_code == 2
    assert "draws one file, 2 are given" in two.stderr
    assert not (tmp_path / "more.png").exists()


def test_token_lines_tell_every_token_in_order(tmp_path: Path) -> None:
    path = song(tmp_path / "song.mid")
    names = run(path, "--tokens").stdout.partition("Window at")[2]
    n_tokens = sum(window["n_tokens"] for window in report_of(run("--json", path))["windows"])
    rows = [line.strip(" ,") for line in names.splitlines() if line.startswith("  ")]
    assert sum(row.count(",") + 1 for row in rows) == n_tokens
    assert rows[0].startswith("tie, ")
    assert rows[-1] == "end"


def test_long_names_and_counts_still_fit(tmp_path: Path) -> None:
    name = mido.MetaMessage("track_name", name="A very long name " * 12)
    many: list[Timed] = [(0, name)]
    for channel in range(16):
        many += [program(0, channel, 54 + channel), *note(0, 480, channel, 60)]
    many += [event for index in range(3000) for event in note(index, index + 1, 0, 60 + index % 12)]
    many += [control(index, 0, number, 99) for index in range(2000) for number in (1, 7, 10, 11, 91, 93)]
    (tmp_path / "full.mid").write_bytes(midi_bytes(many))
    result = run(tmp_path / "full.mid")
    assert max(map(len, result.stdout.splitlines()[1:])) <= SCREEN_COLUMNS
    assert "too full" in result.stdout
    report = report_of(run("--json", tmp_path / "full.mid"))
    assert report["n_dropped_events"] == report["windows"][0]["n_dropped_events"] > 0
    assert f"its last {report['n_dropped_events']} note events" in " ".join(result.stdout.split())


def test_drums_alone_and_smpte_time(tmp_path: Path) -> None:
    data = midi_bytes(note(0, 500, 9, 36))
    (tmp_path / "x.mid").write_bytes(data[:12] + (0xE728).to_bytes(2, "big") + data[14:])
    result = run(tmp_path / "x.mid")
    assert result.exit_code == 0
    assert "1000 ticks per second (SMPTE)" in result.stdout
    assert "fixed by the SMPTE clock" in result.stdout
    report = report_of(run("--json", tmp_path / "x.mid"))
    assert (report["ticks_per_beat"], report["ticks_per_second"], report["tempo_map"]) == (None, 1000.0, [])
    assert (report["lowest_pitch"], report["highest_pitch"]) == (None, None)
    assert report["duration_s"] == pytest.approx(0.5)


def test_a_name_cannot_give_the_screen_orders(tmp_path: Path) -> None:
    name = mido.MetaMessage("track_name", name="\x1b[2Jgone\nnext")
    path = tmp_path / "new\nline.mid"
    path.write_bytes(midi_bytes([(0, name), *note(0, 480, 0, 60)]))
    text = run(path).stdout
    assert "\x1b" not in text
    assert "\\x1b[2Jgone\\nnext" in text
    assert "new\\nline.mid" in text


def test_a_bad_file_alone_keeps_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "bad.mid").write_bytes(b"not music")
    for arguments in ([tmp_path / "bad.mid"], ["--json", tmp_path / "bad.mid"], [tmp_path / "missing.mid"]):
        result = run(*arguments)
        assert result.exit_code == 3
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {tmp_path}")


def test_of_several_files_the_good_ones_are_shown(tmp_path: Path) -> None:
    good = [song(tmp_path / f"{name}.mid") for name in "ac"]
    (tmp_path / "b.mid").write_bytes(midi_header(2, 2, 96) + midi_track(b"\0\x90\x3c\x40\x60\x80\x3c\0") * 2)
    result = run("--json", good[0], tmp_path / "b.mid", tmp_path / "nowhere", good[1])
    assert result.exit_code == 1
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == [str(path) for path in good]
    errors = result.stderr.splitlines()
    assert len(errors) == 3
    assert "type 2" in errors[0]
    assert "nowhere: no such file" in errors[1]
    assert "2 of 4" in errors[2]


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "songs").mkdir()
    for name in "ba":
        song(tmp_path / "songs" / f"{name}.mid")
    result = run("--json", tmp_path / "songs")
    assert result.exit_code == 0
    assert [Path(json.loads(line)["file"]).name for line in result.stdout.splitlines()] == ["a.mid", "b.mid"]
    assert run(tmp_path / "empty").exit_code == 3
    mixed = run("--json", tmp_path / "empty", tmp_path / "songs")
    assert mixed.exit_code == 1
    assert len(mixed.stdout.splitlines()) == 2
    assert "holds no MIDI file" in mixed.stderr


def test_a_blank_line_parts_the_tables_of_two_songs(tmp_path: Path) -> None:
    first, second = song(tmp_path / "a.mid"), song(tmp_path / "b.mid")
    lines = run(tmp_path / "none.mid", first, second).stdout.splitlines()
    assert lines[0] == str(first)
    assert lines[lines.index(str(second)) - 1] == ""


def test_max_duration(tmp_path: Path) -> None:
    path = song(tmp_path / "song.mid")
    refused = run("--max-duration", "10", path)
    assert refused.exit_code == 3
    assert "--max-duration" in refused.stderr
    assert run("--max-duration", "14", path).exit_code == 0
    for nonsense in ("0", "-1", "nan"):
        assert run("--max-duration", nonsense, path).exit_code == 2


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    assert "Traceback" in run("--debug", tmp_path / "missing.mid").stderr
    assert "Traceback" in run("--debug", tmp_path / "missing.mid", tmp_path / "missing too.mid").stderr
    assert "Traceback" not in run(tmp_path / "missing.mid", tmp_path / "missing too.mid").stderr


def test_without_files_the_usage_is_shown() -> None:
    assert run().exit_code == 2


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    storm = [event for index in range(4000) for event in note(index * 9, index * 9 + 5, 0, 60 + index % 12)]
    (tmp_path / "long.mid").write_bytes(midi_bytes(storm))
    command = [sys.executable, "-m", "specdiff_cli", "inspect-midi", "--tokens", str(tmp_path / "long.mid")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "specdiff_cli", "inspect-midi", str(song(tmp_path / "song.mid"))]
    with open("/dev/full", "wb") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 5
    assert result.stderr == b"error: cannot write to standard output: No space left on device\n"


def test_an_empty_name_is_not_the_current_folder() -> None:
    result = run("")
    assert result.exit_code == 2
    assert "empty name" in result.stderr


def test_an_ascii_terminal_gets_replacements_not_a_crash(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "specdiff_cli", "inspect-midi", str(song(tmp_path / "song.mid"))]
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "", "COLUMNS": "80"}
    result = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert b"Klavier f?r" in result.stdout
    assert result.stdout.isascii()

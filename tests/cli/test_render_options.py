"""Options of ``render`` that change score, rate, loudness and windows: heard, recorded, compared."""

import json
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from command_line import specdiff
from midi_files import midi_bytes, note, program
from typer.testing import Result

from specdiff_cli.audio.record import read_record
from specdiff_cli.errors import OutputError
from specdiff_cli.rendering.snapshots import SnapshotWriter

OLD_OPTIONS = {
    "steps", "sampler", "schedule", "guidance", "seed", "vocoder", "tail_s", "subtype", "device", "dtype",
}  # fmt: skip


@pytest.fixture
def folder(folder: Path) -> Path:
    notes = [*note(0, 960, 0, 60), *note(5760, 6720, 0, 64), *note(0, 480, 9, 38)]
    Path("a.mid").write_bytes(midi_bytes([program(0, 0, 0), *notes]))
    return folder


def run(*arguments: str | Path) -> Result:
    return specdiff("render", "a.mid", "--tail", "0.1", *arguments)


def recorded() -> dict[str, object]:
    record = read_record(Path("a.wav"))
    assert record is not None
    options: dict[str, object] = record["options"]
    return options


def test_a_plain_render_is_recorded_as_it_always_was(folder: Path) -> None:
    assert run().exit_code == 0
    assert set(recorded()) == OLD_OPTIONS


def test_edits_are_recorded_and_another_edit_renders_again(folder: Path) -> None:
    edits = ("--transpose", "2", "--program", "piano:cello", "--end", "bar:2", "--mute", "drums")
    assert run(*edits).exit_code == 0
    told = recorded()
    assert {key: told[key] for key in set(told) - OLD_OPTIONS} == {
        "transpose": 2, "programs": ["piano:cello"], "end": "bar:2", "mute": ["drums"],
    }  # fmt: skip
    assert "skipped" in run(*edits, "--skip-existing").stderr
    result = run(*edits[2:], "--skip-existing")
    assert "rendered again: transpose was 2, now 0" in result.stderr
    result = run("--skip-existing")
    assert "program was piano:cello, now none; mute was drums, now none; end was bar:2, now none" in result.stderr


def test_a_section_is_as_long_as_it_is(folder: Path) -> None:
    assert run("--start", "0.5", "--end", "bar:4").exit_code == 0  # bars of 2 s: 0.5 s to 6 s
    assert soundfile.info("a.wav").frames == 16_000 * 5.6
    result = run("--start", "100", "-f")
    assert result.exit_code == 3
    assert "past its end" in result.stderr and len(result.stderr.splitlines()) == 1


def test_faster_is_shorter(folder: Path) -> None:
    assert run("--tempo-scale", "2").exit_code == 0
    assert soundfile.info("a.wav").duration == pytest.approx(3.6)  # 7 s at double speed, and the tail


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_other_rates_hold_the_same_sound(folder: Path, rate_hz: int) -> None:
    assert run("-o", "plain.wav", "--subtype", "float").exit_code == 0
    assert run("--sample-rate", str(rate_hz), "--subtype", "float").exit_code == 0
    info = soundfile.info("a.wav")
    assert (info.samplerate, info.frames) == (rate_hz, round(soundfile.info("plain.wav").frames * rate_hz / 16_000))
    plain, resampled = soundfile.read("plain.wav")[0], soundfile.read("a.wav")[0]
    assert np.sqrt(np.mean(resampled**2)) == pytest.approx(np.sqrt(np.mean(plain**2)), rel=0.05)
    assert recorded()["sample_rate_hz"] == rate_hz


def fading(n: int) -> np.ndarray:
    return np.cos((np.arange(n) + 0.5) / max(n, 1) * np.pi / 2) ** 2


def test_the_end_fades_and_nothing_else_changes(folder: Path) -> None:
    assert run("-o", "plain.wav", "--subtype", "float").exit_code == 0
    assert run("--fade-out", "1.5", "--subtype", "float", "--end", "bar:9").exit_code == 0
    assert recorded()["fade_out_s"] == 1.5
    plain, faded = soundfile.read("plain.wav")[0], soundfile.read("a.wav")[0]
    assert len(faded) == len(plain)
    n = round(1.5 * 16_000)
    np.testing.assert_array_equal(faded[:-n], plain[:-n])
    tail = np.concatenate([np.ones(n - 1_600), fading(1_600)])  # the tail of 0.1 s fades by itself
    np.testing.assert_allclose(faded[-n:] * tail, plain[-n:] * fading(n), atol=1e-6)
    assert (
        "rendered again: fade-out was 1.5, now 0"
        in run("--subtype", "float", "--skip-existing", "--end", "bar:9").stderr
    )


@pytest.mark.parametrize(("tail", "n_faded"), [("1", 3_200), ("0.15", 2_400), ("0", 0)])
def test_what_rings_at_the_end_of_the_tail_fades(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tail: str, n_faded: int
) -> None:
    """Random weights ring for ever."""
    assert run("--subtype", "float", "--tail", tail).exit_code == 0
    monkeypatch.setattr("specdiff_cli.rendering.output.ENDING_S", 0.0)
    assert run("-o", "whole.wav", "--subtype", "float", "--tail", tail).exit_code == 0
    faded, whole = soundfile.read("a.wav")[0], soundfile.read("whole.wav")[0]
    gains = np.concatenate([np.ones(len(whole) - n_faded), fading(n_faded)])
    np.testing.assert_allclose(faded, whole * gains, atol=1e-6)
    assert np.abs(whole[-100:]).max() > 1e-3


def test_a_peak_that_was_asked_for(folder: Path) -> None:
    result = run("--normalize", "-6dBFS", "--subtype", "float")
    assert result.exit_code == 0
    assert np.abs(soundfile.read("a.wav")[0]).max() == pytest.approx(10 ** (-6 / 20), rel=1e-3)
    assert "-6 dBFS" in result.stderr
    assert recorded()["normalize"] == "-6dBFS"


def test_what_clips_is_told_with_the_remedies_which_help(folder: Path) -> None:
    """Random weights are loud."""
    result = run("--json")
    told = json.loads(result.stdout)["clipped_samples"]
    assert run("-o", "loud.wav", "--subtype", "float").exit_code == 0
    loud = np.abs(soundfile.read("loud.wav")[0])
    assert told == np.count_nonzero(loud > 1) > 0
    above = f"{told} samples clipped, peaks reach {20 * np.log10(loud.max()):.1f} dB above full scale: use --normalize"
    assert f"a.mid: {above} -16LUFS, or --subtype float, which keeps them" in result.stderr
    result = run("--json", "-f", "--normalize", "-16LUFS")
    assert json.loads(result.stdout)["clipped_samples"] == 0
    assert "clipped" not in result.stderr and "normalised to -16 LUFS (" in result.stderr
    assert run("-f", "--quiet").stderr == ""


def test_a_normalised_stream_goes_to_standard_output(folder: Path) -> None:
    result = run("-o", "-", "--normalize", "-6dBFS")
    assert result.exit_code == 0
    assert result.stdout_bytes[:4] == b"RIFF" and len(result.stdout_bytes) > 100_000


def test_overlapping_windows_are_as_long_and_resume(folder: Path) -> None:
    assert run("--overlap-frames", "64", "--resume").exit_code == 0
    assert soundfile.info("a.wav").frames == round(16_000 * 7.1)
    assert recorded()["overlap_frames"] == 64
    result = run("-n", "--overlap-frames", "128", "--json", "-f")
    assert json.loads(result.stdout)["windows"] == 2  # 355 frames: 256, then 128 at a time


def test_snapshots_and_a_plot_beside_the_audio(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run("--steps", "4", "--snapshots", "4,0", "--snapshot-window", "2", "--plot", "page.png")
    assert result.exit_code == 0, result.stderr
    made = {path.name for path in Path().iterdir()} - {"a.mid", "a.wav", "page.png"}
    assert made == {f"a.step-000{step}.{suffix}" for step in (4, 0) for suffix in ("png", "npy", "wav")}
    assert Path("page.png").read_bytes()[:4] == b"\x89PNG"
    assert run("--plot", "page.png", "-o", "b.wav").exit_code == 5  # it exists
    Path("a.step-0004.npy").unlink()
    again = ["--steps", "4", "--snapshots", "4,0", "--snapshot-window", "2", "--skip-existing"]
    assert "a.step-0004.npy is missing" in run(*again).stderr
    assert Path("a.step-0004.npy").is_file()
    assert "skipped" in run(*again).stderr


def test_snapshots_of_a_song_that_fails_do_not_appear(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")

    write = SnapshotWriter._write

    def full_at_the_second(self: SnapshotWriter, number: int, mel: np.ndarray) -> None:
        write(self, number, mel)
        if number == 0:
            raise OutputError("no space left")

    monkeypatch.setattr(SnapshotWriter, "_write", full_at_the_second)
    assert run("--snapshots", "1,0", "--steps", "1").exit_code == 5
    assert {path.name for path in Path().iterdir()} == {"a.mid"}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--sample-rate", "11025"], 2, "--sample-rate 11025"),
        (["--normalize", "loud"], 2, "--normalize loud"),
        (["--guidance-interval", "0.8-0.2"], 2, "--guidance-interval 0.8-0.2"),
        (["--overlap-frames", "200"], 2, "--overlap-frames 200: must be between 0 and 128"),
        (["--snapshots", "1000"], 2, "1000"),
        (["--snapshots", "1", "--snapshot-window", "9"], 2, "window"),
        (["--snapshot-window", "2"], 2, "--snapshot-window: says which window"),
        (["--snapshots", "0", "--resume"], 2, "--snapshots: does not go with --resume"),
        (["--snapshot-window", "0"], 2, "--snapshot-window 0: windows count from 1"),
        (["--fade-out", "-1"], 2, "--fade-out -1: must be between 0 and 600 seconds"),
        (["--fade-out", "2", "--loop"], 2, "--fade-out: does not go with --loop, which has no end"),
        (["--swap", "piano"], 2, "--swap piano"),
        (["--swap", "piano=flugelbone"], 2, "flugelbone"),
        (["--only", "oboe"], 3, "no instrument called 'oboe'"),
        (["--transpose", "200"], 2, "--transpose 200"),
        (["--tempo-scale", "0.1", "--max-duration", "60"], 3, "a.mid: would last 70 s"),
        (["--tempo-scale", "0"], 2, "--tempo-scale 0"),
        (["--track", "9"], 3, "track"),
        (["--start", "10", "--end", "2"], 2, "--end"),
        (["--plot", "page.jpg"], 2, "page.jpg"),
        (["--plot", "a.wav", "-o", "a.wav"], 2, "different names"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder: Path, options: list[str], code: int, message: str) -> None:
    result = run(*options)
    assert result.exit_code == code, result.stderr
    *_, last = result.stderr.splitlines()
    assert last.startswith("error: ") and message in last
    assert {path.name for path in Path().iterdir()} == {"a.mid"}


def test_the_reference_reader_is_recorded_and_another_reader_renders_again(folder: Path) -> None:
    assert run("--reader", "reference").exit_code == 0
    assert recorded()["reader"] == "reference"
    assert "skipped" in run("--reader", "reference", "--skip-existing").stderr
    assert "rendered again: reader was reference, now music" in run("--skip-existing").stderr
    assert run("--reader", "mine").exit_code == 2


def test_the_files_own_length_is_kept_when_asked_for(folder: Path) -> None:
    Path("a.mid").write_bytes(midi_bytes(note(0, 480, 0, 60), end_tick=480 * 8))
    assert run("-o", "notes.wav").exit_code == 0
    assert run("-o", "file.wav", "--length", "file").exit_code == 0
    assert [soundfile.info(f"{name}.wav").duration for name in ("notes", "file")] == [0.6, 4.0]
    refused = run("-o", "long.wav", "--length", "file", "--max-duration", "2")
    assert refused.exit_code == 3
    assert "lasts 4 s with the silence at its end; leave out --length file" in refused.stderr
    assert run("-o", "short.wav", "--max-duration", "2").exit_code == 0  # silence costs nothing


def test_what_is_not_followed_is_said_once_and_is_data(folder: Path) -> None:
    bend = [(0, mido.Message("pitchwheel", pitch=4096))]
    body = [*bend, program(0, 0, 45), *note(0, 960, 0, 60), *note(0, 0, 0, 64)]
    Path("a.mid").write_bytes(midi_bytes(body))
    result = run("--json")
    assert result.exit_code == 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("a.mid: ")]
    assert "a.mid: 1 note of no length left out" in lines
    assert "a.mid: 1 note bent or tuned: not followed" in lines
    told = json.loads(result.stdout)["remarks"]
    assert [(item["kind"], item["count"], item["needs"]) for item in told] == [
        ("zero_length", 1, None),
        ("pitch", 1, "pitch_bend"),
    ]
    assert run("-f", "-q").stderr == ""


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("render a.mid --gain 3", "--normalize sets the level"),
        ("render a.mid --reverb 3", "adds no effects"),
        ("render a.mid --instrument violin", "--program piano:trumpet"),
        ("render a.mid --normalize -14", "-14LUFS is a loudness"),
        ("models tiny", "specdiff models show tiny"),
    ],
)
def test_what_other_programs_call_it_is_understood(
    folder: Path, line: str, hint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from specdiff_cli.__main__ import main

    monkeypatch.setattr("sys.argv", ["specdiff", *line.split()])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert hint in said
    assert len(said.splitlines()) == 1


def test_voice_means_model(folder: Path, voice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPECDIFF_MODEL")
    assert run("--voice", voice).exit_code == 0
    record = read_record(Path("a.wav"))
    assert record is not None and record["model"]["name"] == "random"


def test_pictures_of_several_songs_go_into_a_folder(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    Path("b.mid").write_bytes(Path("a.mid").read_bytes())
    result = run("b.mid", "-o", "out", "--plot", "pictures", "--end", "0.5")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in Path("pictures").iterdir()) == ["a.png", "b.png"]
    result = run("b.mid", "-o", "out", "-f", "--plot", "one.png")
    assert (result.exit_code, result.stderr) == (2, "error: --plot takes a folder for several inputs, not a file\n")
    Path("there").mkdir()
    assert run("-f", "--plot", "there", "--end", "0.5").exit_code == 0
    assert [path.name for path in Path("there").iterdir()] == ["a.png"]

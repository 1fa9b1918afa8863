"""Files from Python: what the command line does, without it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from midi_files import midi_bytes, note

from specdiff_cli import Request, find_voice, render_files, save_audio
from specdiff_cli.audio.record import read_record
from specdiff_cli.errors import OutputError, UsageError
from specdiff_cli.rendering.events import Done, Failed, Heard, Loading, Opened, Skipped, Step


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a.mid").write_bytes(midi_bytes(note(0, 480, 0, 60)))
    Path("in/b.mid").write_bytes(b"MThd")
    Path("in/c.mid").write_bytes(midi_bytes(note(0, 240, 0, 64)))
    return tmp_path


def test_a_folder_becomes_files_and_a_bad_one_stops_nothing(folder: Path, voice: str) -> None:
    events = list(render_files("in", voice, output="out", tail=0.1))
    assert isinstance(events[0], Loading)
    ends = [event for event in events if isinstance(event, Done | Failed | Skipped)]
    assert [type(end) for end in ends] == [Done, Failed, Done]
    assert [path.name for path in sorted(Path("out").iterdir())] == ["a.wav", "c.wav"]
    assert pickle.loads(pickle.dumps(events[1:])) is not None
    record = read_record(Path("out/a.wav"))
    assert record is not None and record["options"]["tail_s"] == 0.1
    again = [event for event in render_files("in", voice, output="out", tail=0.1, skip_existing=True)]
    assert [type(event) for event in again] == [Skipped, Failed, Skipped], "nothing is loaded for what is there"


def test_the_samples_are_those_of_the_file(folder: Path, voice: str) -> None:
    events = list(render_files(Path("in/a.mid"), voice, with_audio=True, output="a.wav", sample_rate=44_100))
    heard = np.concatenate([event.audio for event in events if isinstance(event, Heard)])
    written, rate_hz = soundfile.read("a.wav", dtype="float32")
    assert rate_hz == 44_100
    # What a resampler holds back comes only with the end of the file.
    assert abs(len(heard) - len(written)) < 4410
    n = min(len(heard), len(written))
    assert (
        np.abs(np.clip(heard[:n], -1, 1) - written[:n]).max() <= 2 / 32767
    )  # 16 bits, whose full scale differs by one between writer and reader


def test_steps_are_told_while_a_window_is_sampled(folder: Path, voice: str) -> None:
    events = list(render_files("in/a.mid", voice, output="a.wav", steps=5, sampler="ddim"))
    opened = next(event for event in events if isinstance(event, Opened))
    steps = [event for event in events if isinstance(event, Step)]
    assert len(steps) == opened.n_windows * 5
    assert [event.done_s for event in steps] == sorted(event.done_s for event in steps)


def test_a_render_that_is_closed_leaves_nothing(folder: Path, voice: str) -> None:
    events = render_files("in/a.mid", voice, output="a.wav", steps=50)
    for event in events:
        if isinstance(event, Step):
            break
    events.close()
    assert not Path("a.wav").exists()
    assert [path.name for path in folder.iterdir()] == ["in"]


def test_what_cannot_be_is_said_at_once(folder: Path, voice: str) -> None:
    with pytest.raises(UsageError, match="unknown option sampel_rate; did you mean sample_rate"):
        render_files("in", voice, sampel_rate=44_100)
    with pytest.raises(UsageError, match="does not go with"):
        render_files("in", voice, output="-", stems=True)
    with pytest.raises(UsageError):
        render_files("in", voice, steps=0)


def test_a_request_is_one_thing_that_travels(folder: Path, voice: str) -> None:
    Path("request.toml").write_text(f'model = "{voice}"\nseed = 3\noutput = "x.wav"\nswap = ["piano=cello"]\n')
    request = Request.read(Path("request.toml"))
    assert pickle.loads(pickle.dumps(request)) == request
    assert (request.sampling.seed, request.score.edits.swaps) == (3, ("piano=cello",))
    assert request.changed({"seed": 4}).sampling.seed == 4
    assert find_voice(voice).model == voice


@pytest.mark.parametrize("shape", [(100,), (100, 2)])
def test_samples_are_saved_completely_or_not_at_all(folder: Path, shape: tuple[int, ...]) -> None:
    audio = np.linspace(-0.5, 0.5, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    save_audio("a.wav", audio, 44_100, subtype="float")
    written, rate_hz = soundfile.read("a.wav", dtype="float32")
    assert rate_hz == 44_100 and np.array_equal(written, audio)
    with pytest.raises(OutputError, match="exists already"):
        save_audio("a.wav", audio)
    with pytest.raises(ValueError, match="shape"):
        save_audio("b.wav", np.zeros((2, 2, 2)))
    assert not Path("b.wav").exists()


def test_one_bad_name_among_several_stops_nothing(folder: Path, voice: str) -> None:
    names = ["in/a.mid", "nothing*.mid", "x" * 300 + ".mid", "in/c.mid"]
    ends = [event for event in render_files(names, voice, output="out") if isinstance(event, Done | Failed)]
    assert [type(end) for end in ends] == [Done, Failed, Failed, Done]
    assert all("internal error" not in str(end.error) for end in ends if isinstance(end, Failed))


def test_who_may_read_a_file_stays_when_it_is_replaced(folder: Path) -> None:
    save_audio("a.wav", np.zeros(10))
    Path("a.wav").chmod(0o600)
    save_audio("a.wav", np.ones(10), overwrite=True)
    assert Path("a.wav").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("is_same", [True, False])
def test_what_another_process_made_meanwhile_is_skipped_if_it_is_the_same(
    folder: Path, voice: str, is_same: bool
) -> None:
    """Two runs with ``skip_existing`` over one folder: the slower one of each song has nothing to complain about."""
    events = render_files("in/a.mid", voice, output="a.wav", tail=0.1, skip_existing=True)
    seen = [next(event for event in events if isinstance(event, Opened))]
    list(render_files("in/a.mid", voice, output="a.wav", tail=0.1 if is_same else 0.2))
    made = Path("a.wav").read_bytes()
    end = [*seen, *events][-1]
    assert isinstance(end, Skipped if is_same else Failed)
    assert not isinstance(end, Failed) or "appeared while" in str(end.error)
    assert Path("a.wav").read_bytes() == made and not list(folder.glob(".specdiff*"))

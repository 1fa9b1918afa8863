"""Music that repeats: where loops lie, what is played twice, and that the ends of what is written meet."""

from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from command_line import specdiff
from midi_files import midi_bytes, note

from specdiff_cli.audio.looping import LoopingWriter, LoopPlan
from specdiff_cli.audio.record import read_loop
from specdiff_cli.audio.tags import Loop
from specdiff_cli.audio.wav import AtomicWriter
from specdiff_cli.errors import MidiError
from specdiff_cli.midi.expression import Curve
from specdiff_cli.midi.loops import LoopSpan, find_loop, play_twice, written_loop
from specdiff_cli.midi.notes import parse_midi


def song_with(*markers: mido.Message | mido.MetaMessage) -> mido.MidiFile:
    """One note a beat for eight beats of half a second, 480 ticks each; the markers' times are absolute ticks."""
    events = [mido.Message("note_on", note=60 + i, velocity=64, time=480 * i) for i in range(8)]
    events += [mido.Message("note_off", note=60 + i, time=480 * i + 600) for i in range(8)]
    track, now = mido.MidiTrack(), 0
    for event in sorted([*events, *markers], key=lambda event: event.time):
        track.append(event.copy(time=event.time - now))
        now = event.time
    return mido.MidiFile(tracks=[track])


def data_of(midi: mido.MidiFile, path: Path) -> bytes:
    midi.save(path)
    return path.read_bytes()


def test_loop_points_of_files() -> None:
    assert written_loop(song_with()) == (None, None, "")
    controller = mido.Message("control_change", control=111, value=0, time=960)
    assert written_loop(song_with(controller)) == (1.0, None, "its controller 111")
    markers = [
        mido.MetaMessage("marker", text=text, time=time) for text, time in (("loopStart", 480), ("LoopEnd", 2880))
    ]
    assert written_loop(song_with(*markers)) == (0.5, 3.0, "its markers")


def test_the_loop_of_a_file_that_says_nothing_is_all_of_its_bars(tmp_path: Path) -> None:
    midi = song_with()
    song = parse_midi(data_of(midi, tmp_path / "a.mid"), "a.mid")
    span = find_loop(song, midi, "a.mid")
    assert (span.start_s, span.end_s) == (0.0, 6.0)  # the last note rings into the third bar
    assert find_loop(song, None, "a.mid").end_s == pytest.approx(song.end_s)
    near = [mido.MetaMessage("marker", text=text, time=time) for text, time in (("loopStart", 480), ("loopEnd", 500))]
    with pytest.raises(MidiError, match="shorter than half a second"):
        find_loop(song, song_with(*near), "a.mid")
    late = (
        mido.MetaMessage("marker", text="loopStart", time=4000),
        mido.MetaMessage("marker", text="loopEnd", time=5000),
    )
    with pytest.raises(MidiError, match="holds no note"):
        find_loop(song, song_with(*late), "a.mid")


def test_the_loop_is_played_twice_and_notes_end_with_it(tmp_path: Path) -> None:
    song = parse_midi(data_of(song_with(), tmp_path / "a.mid"), "a.mid")
    twice = play_twice(song, LoopSpan(1.0, 3.0, "test"))
    times = [(note.start_s, round(note.end_s, 3), note.pitch) for note in twice.notes]
    first = [(0.5 * i, min(0.5 * i + 0.625, 3.0), 60 + i) for i in range(6)]
    again = [(start + 2.0, min(end + 2.0, 5.0), pitch) for start, end, pitch in first if start >= 1.0]
    assert times == [*first, *again]
    assert twice.end_s == 5.0


def test_curves_repeat_with_the_loop() -> None:
    curve = Curve((0.0, 1.0, 2.5, 4.0), (0.0, 1.0, 2.0, 3.0))
    twice = curve.repeated(2.0, 3.0)  # 1 until 2.5, then 2; and the same a second later
    assert [twice.at(time_s) for time_s in (0.5, 1.5, 2.7, 3.2, 3.7, 4.5)] == [0.0, 1.0, 2.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("intro_s", [0.0, 0.25])
def test_the_ends_meet(tmp_path: Path, intro_s: float, n_channels: int) -> None:
    plan, rate_hz = LoopPlan(intro_s, 1.0), 16_000
    rng = np.random.default_rng(0)
    # A slow wave that does not fit into the loop: cut plainly, its ends would be far apart.
    t = np.arange(round((intro_s + 2 * plan.length_s + 0.1) * rate_hz)) / rate_hz
    rendered = (0.5 * np.sin(2 * np.pi * 1.37 * t) + 0.001 * rng.standard_normal(len(t))).astype(np.float32)
    rendered = rendered if n_channels == 1 else np.stack([rendered, -rendered], 1)
    path = tmp_path / "a.wav"
    loop = plan.loop(rate_hz)
    inner = AtomicWriter(path, subtype="float", loop=loop, n_channels=n_channels)
    with LoopingWriter(inner, plan) as writer:
        for start in range(0, len(rendered), 777):
            writer.write(rendered[start : start + 777])
    audio = soundfile.read(path, dtype="float32")[0]
    assert read_loop(path) == loop
    assert len(audio) == loop.end
    assert loop == (Loop(20_000, 36_000) if intro_s else Loop(0, 16_000))
    n_skipped = writer.n_skipped
    np.testing.assert_array_equal(audio[: loop.end - 800], rendered[n_skipped : n_skipped + loop.end - 800])
    # Once round and on: the last samples are those that led into the first ones.
    before = rendered[n_skipped + loop.start - 4 : n_skipped + loop.start]
    np.testing.assert_allclose(audio[loop.end - 4 : loop.end], before, atol=2e-3)
    plain = np.abs(rendered[n_skipped + loop.end - 1] - rendered[n_skipped + loop.start]).max()
    joined = np.abs(audio[loop.end - 1] - audio[loop.start]).max()
    assert plain > 0.1
    assert joined < 0.01


@pytest.mark.parametrize("name", ["song.wav", "song.flac", "song.ogg"])
def test_loops_are_rendered(tmp_path: Path, voice: str, name: str) -> None:
    (tmp_path / "song.mid").write_bytes(midi_bytes(note(0, 1900, 0, 60), note(960, 1900, 0, 64)))
    base = ["render", str(tmp_path / "song.mid"), "-m", voice, "--device", "cpu", "--loop"]
    done = specdiff(*base, "-o", tmp_path / name)
    assert done.exit_code == 0, done.stderr
    assert "loops from 0.00 to 2.00 s" in done.stderr
    assert read_loop(tmp_path / name) == Loop(0, 32_000)
    assert soundfile.info(tmp_path / name).frames == 32_000


def test_what_does_not_go_with_loops(tmp_path: Path, voice: str) -> None:
    (tmp_path / "song.mid").write_bytes(midi_bytes(note(0, 1900, 0, 60)))
    base = ["render", str(tmp_path / "song.mid"), "-m", voice, "--device", "cpu", "--loop"]
    for options in (
        ["-o", str(tmp_path / "a.mp3")],
        ["--save-mel", str(tmp_path / "a.npy")],
        ["-o", "-", "--format", "ogg"],
    ):
        done = specdiff(*base, *options)
        assert done.exit_code == 2, options
    assert sorted(path.name for path in tmp_path.iterdir()) == ["song.mid"]

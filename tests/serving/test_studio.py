from pathlib import Path

import pytest
import soundfile
from command_line import specdiff
from midi_files import midi_bytes, note

from specdiff_cli.errors import MidiError, SpecdiffError, UsageError
from specdiff_cli.midi.notes import parse_midi
from specdiff_cli.serving import results as results_module
from specdiff_cli.serving.limits import Limits
from specdiff_cli.serving.results import Moment, Rendered
from specdiff_cli.serving.studio import Studio
from specdiff_cli.serving.uploads import shown_name
from specdiff_cli.serving.wishes import ComposeWishes, Wishes

VOICE = "random"  # what the folder of the voice is called; its path is nobody's business


@pytest.fixture
def studio(tmp_path: Path, voice: str) -> Studio:
    (tmp_path / "work").mkdir()
    return Studio([voice], Limits(max_duration_s=20.0, max_bytes=10_000, max_notes=50), tmp_path / "work")


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "a <b>song & more.mid"
    path.write_bytes(midi_bytes(note(0, 480, 0, 60), note(480, 960, 0, 64)))
    return path


def _folders(studio: Studio) -> list[Path]:
    return list(studio._folder.iterdir())


def test_a_render_gives_sound_in_three_formats_and_the_notes_that_were_played(
    studio: Studio, song: Path, voice: str
) -> None:
    opened = studio.open(song)
    assert opened.name == "a <b>song & more.mid"
    *moments, done = studio.render(opened, Wishes(model=VOICE, transpose=2, sample_rate_hz=44_100))
    assert isinstance(done, Rendered)
    assert [path.suffix for path in done.files] == [".wav", ".flac", ".ogg"]
    lengths = {path.suffix: soundfile.info(path).frames for path in done.files}
    assert len(set(lengths.values())) == 1
    assert soundfile.info(done.path).samplerate == 44_100
    assert [n.pitch for n in parse_midi(done.midi.read_bytes(), "x").notes] == [62, 66]
    urls = [moment.live_url for moment in moments if isinstance(moment, Moment) and moment.live_url]
    assert len(urls) == 1, "the sound's address is told once"


def test_the_same_song_is_the_same_sound_as_from_the_command_line(studio: Studio, song: Path, voice: str) -> None:

    done = list(studio.render(studio.open(song), Wishes(model=VOICE, seed=3)))[-1]
    assert isinstance(done, Rendered)
    target = song.with_name("cli.wav")
    result = specdiff("render", song, "-o", target, "--model", voice, "--seed", "3")
    assert result.exit_code == 0, result.stderr
    ours, theirs = soundfile.read(done.path)[0], soundfile.read(target)[0]
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= 1e-4


def test_a_render_that_nobody_waits_for_leaves_nothing(studio: Studio, song: Path, voice: str) -> None:
    render = studio.render(studio.open(song), Wishes(model=VOICE))
    next(render)
    assert len(_folders(studio)) == 1
    render.close()  # type: ignore[attr-defined]
    assert _folders(studio) == []


def test_old_renders_make_room_for_new_ones(
    studio: Studio, song: Path, voice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_module, "MAX_RENDERS_KEPT", 2)
    opened = studio.open(song)
    for seed in range(4):
        list(studio.render(opened, Wishes(model=VOICE, seed=seed)))
    assert len(_folders(studio)) == 2


def test_stems_come_as_one_file(studio: Studio, tmp_path: Path, voice: str) -> None:
    import zipfile

    path = tmp_path / "two.mid"
    path.write_bytes(midi_bytes(note(0, 480, 0, 60), note(480, 960, 0, 64)))
    *_, archive = studio.stems(studio.open(path), Wishes(model=VOICE))
    assert isinstance(archive, Path)
    names = zipfile.ZipFile(archive).namelist()
    assert sorted(names) == ["acoustic-grand-piano.wav", "render.wav"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"RIFF not midi at all", "up.mid"),
        (b"not a MIDI file at all", "not a standard MIDI file"),
        (b"MThd" + bytes(20_000), "the most this page takes"),
        (midi_bytes(*(note(i * 10, i * 10 + 5, 0, 60) for i in range(60))), "60 notes"),
        (midi_bytes(note(0, 480 * 2 * 30, 0, 60)), "more than the limit"),
    ],
)
def test_what_cannot_be_rendered_is_one_line_without_a_path(
    studio: Studio, tmp_path: Path, data: bytes, words: str
) -> None:
    path = tmp_path / "work" / "up.mid"
    path.write_bytes(data)
    with pytest.raises(MidiError) as caught:
        studio.open(path)
    line = str(caught.value)
    assert words in line
    assert str(tmp_path) not in line and "\n" not in line


@pytest.mark.parametrize("wrong", [{"start": "bar:99"}, {"start": "x"}, {"programs": ("0:999",)}, {"model": "nobody"}])
def test_wishes_that_cannot_be_are_one_line_and_leave_nothing(
    studio: Studio, song: Path, voice: str, wrong: dict[str, object]
) -> None:
    with pytest.raises(SpecdiffError) as caught:
        list(studio.render(studio.open(song), Wishes(**{"model": VOICE, **wrong})))  # type: ignore[arg-type]
    assert str(studio._folder) not in str(caught.value)
    assert _folders(studio) == []


def test_programs_may_ask_for_sound_and_for_nothing_else(studio: Studio, song: Path, voice: str) -> None:
    path = studio.render_api(str(song), {"model": VOICE, "seed": 1, "end": "1"})
    assert soundfile.info(path).samplerate == 16_000
    for option in ("output", "save_mel", "overwrite", "threads", "inputs"):
        with pytest.raises(UsageError, match="unknown option"):
            studio.render_api(str(song), {option: "x"})
    for options in ("x", 5, ["seed"]):
        with pytest.raises(UsageError, match="must be an object"):
            studio.render_api(str(song), options)
    with pytest.raises(UsageError, match="no MIDI file"):
        studio.render_api(None, {})


def test_what_a_voice_lacks_is_told_without_its_folder(tmp_path: Path, song: Path) -> None:
    (tmp_path / "work").mkdir()
    studio = Studio(["tiny"], Limits(), tmp_path / "work")
    with pytest.raises(SpecdiffError, match=r"^tiny/melgan/model\.onnx: the SoundStream decoder is missing"):
        studio.render_api(str(song), {"vocoder": "soundstream"})


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\song.mid", "song.mid"),
        ("a\x1b[31m\nb.mid", "a[31mb.mid"),
        ("x" * 500, "x" * 79 + "…"),
    ],
)
def test_names_lose_folders_control_characters_and_length(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_pieces_are_composed_and_songs_are_gone_on_with(studio: Studio, song: Path) -> None:
    *_, pieces = studio.compose(ComposeWishes(n=2, n_notes=16, seed=1, program=73))
    assert isinstance(pieces, tuple)
    assert [len(piece.song.notes) for piece in pieces] == [16, 16]
    assert {n.program for piece in pieces for n in piece.song.notes} == {73}
    *_, more = studio.compose(ComposeWishes(n=1, n_notes=16, task="continue", upload=studio.open(song)))
    assert isinstance(more, tuple)
    assert [n.pitch for n in more[0].song.notes[:2]] == [60, 64]
    for wrong in (ComposeWishes(n=0), ComposeWishes(n_notes=1000), ComposeWishes(task="fill")):
        with pytest.raises(SpecdiffError):
            list(studio.compose(wrong))

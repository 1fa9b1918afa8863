"""Files, folders, patterns and lists named on the command line."""

import glob
import io
import os
import sys
from pathlib import Path

import pytest

from specdiff_cli.errors import MidiError, UsageError
from specdiff_cli.rendering.inputs import Source, expand, gather
from specdiff_cli.rendering.request import Inputs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def gathered(*items: str, files_from: str | None = None, null: bool = False, recursive: bool = False) -> list[str]:
    sources, _ = gather(Inputs(tuple(items), files_from, null, recursive))
    return [str(source.path) for source in sources]


def test_a_file_stands_for_itself_even_if_it_is_missing(tmp_path: Path) -> None:
    assert expand(tmp_path / "none.mid") == [Source(tmp_path / "none.mid")]


def test_a_folder_stands_for_its_midi_files(tmp_path: Path) -> None:
    for name in ("b.mid", "a.MIDI", "c.kar", "d.smf", "notes.txt", "e.midx"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mid").mkdir()
    assert [source.path.name for source in expand(tmp_path)] == ["a.MIDI", "b.mid", "c.kar", "d.smf"]


def test_a_folder_without_midi_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(MidiError, match="holds no MIDI file.*recursive looks") as caught:
        expand(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_recursive_keeps_where_files_lay(folder: Path) -> None:
    touch("in/b.mid", "in/x/a.mid", "in/x/y/c.mid", "in/x/notes.txt")
    (folder / "in" / "x" / "round").symlink_to(folder / "in")  # a circle
    sources, left_out = gather(Inputs(("in",), recursive=True))
    assert sources == [
        Source(Path("in/b.mid"), Path()),
        Source(Path("in/x/a.mid"), Path("x")),
        Source(Path("in/x/y/c.mid"), Path("x/y")),
    ]
    assert left_out.remarks() == []
    assert gathered("in") == ["in/b.mid"]


def test_only_a_file_named_by_itself_counts_as_single(folder: Path) -> None:
    touch("in/a.mid")
    for items, is_named in ((["in/a.mid"], True), (["in"], False), (["in/*.mid"], False)):
        sources, _ = gather(Inputs(tuple(items)))
        assert [source.is_named for source in sources] == [is_named]


def test_patterns_that_the_shell_left_alone(folder: Path) -> None:
    touch("b.mid", "a.mid", "x/c.mid", "d[1].mid", "sub/e.mid")
    assert gathered("?.mid") == ["a.mid", "b.mid"]
    assert gathered("**/c.mid") == ["x/c.mid"]
    assert gathered("d[1].mid") == ["d[1].mid"]  # a file of that very name is no pattern
    assert gathered("s*b") == ["sub/e.mid"]  # a folder that matches
    with pytest.raises(MidiError, match="nothing matches"):
        gathered("*.kar")


def test_two_stars_stand_for_any_folders_and_follow_no_links(folder: Path) -> None:
    """glob.glob would go round 2 to the power of 40 ways."""
    touch("a.mid", "x/b.mid", "x/y/c.mid", "x/.hidden/d.mid", "x/[z]/e.mid", "x/.f.mid")
    everything = ["a.mid", "x/[z]/e.mid", "x/b.mid", "x/y/c.mid"]
    assert gathered("**/*.mid") == sorted(glob.glob("**/*.mid", recursive=True)) == everything
    for name in ("x/round", "x/y/and_round"):
        os.symlink(folder / "x", name)
    assert gathered("**/*.mid") == everything
    assert gathered("x/**/**/[bc].mid") == ["x/b.mid", "x/y/c.mid"]
    assert gathered(f"{folder}/?/**/c.*") == [f"{folder}/x/y/c.mid"]
    assert gathered("x**/*.mid") == ["x/b.mid"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_a_pipe_is_no_song_unless_it_is_named_itself(folder: Path) -> None:
    """Reading one that nobody writes to would never end."""
    touch("in/a.mid")
    os.mkfifo("in/b.mid")
    assert gathered("in") == gathered("in/*.mid") == gathered("**/*.mid") == ["in/a.mid"]
    assert gathered("in/b.mid") == ["in/b.mid"]
    with pytest.raises(MidiError, match="nothing matches"):
        gathered("in/b.m*")


def test_a_file_named_twice_is_taken_once(folder: Path) -> None:
    touch("a.mid", "in/b.mid")
    (folder / "link.mid").symlink_to("a.mid")
    (folder / "again").symlink_to("in")
    sources, left_out = gather(Inputs(("a.mid", "./a.mid", str(folder / "a.mid"), "link.mid", "in", "again/b.mid")))
    assert [str(source.path) for source in sources] == ["a.mid", "link.mid", "in/b.mid"]
    assert left_out.remarks() == ["3 inputs named more than once: rendered once"]


@pytest.mark.parametrize(
    ("content", "null"),
    [
        (b"a.mid\nb c.mid\n\nin\n", False),
        (b"a.mid\r\nb c.mid\r\nin", False),
        (b"a.mid\0b c.mid\0in\0", True),
        (b"\xef\xbb\xbfa.mid\n  \nb c.mid\nin", False),
    ],
)
def test_lists(folder: Path, content: bytes, null: bool) -> None:
    touch("in/d.mid")
    (folder / "list").write_bytes(content)
    assert gathered("z.mid", files_from="list", null=null) == ["z.mid", "a.mid", "b c.mid", "in/d.mid"]


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX")
def test_a_list_on_standard_input_with_names_of_any_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [b"bad\xff.mid", b"new\nline.mid"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\0".join(names))))
    assert [os.fsencode(name) for name in gathered(files_from="-", null=True)] == names


@pytest.mark.parametrize(
    ("items", "files_from", "message"),
    [
        ([], None, "inputs: is missing; name MIDI files"),
        (["a.mid", ""], None, "empty name"),
        ([], "missing.txt", "missing.txt: cannot be read"),
        ([], "empty.txt", "holds no names"),
        ([], "nul.txt", "use null for lists"),
        ([], "powershell.txt", "is a text in UTF-16"),
    ],
)
def test_what_names_nothing_is_refused(folder: Path, items: list[str], files_from: str | None, message: str) -> None:
    (folder / "empty.txt").write_bytes(b"\n\n")
    (folder / "nul.txt").write_bytes(b"a.mid\0b.mid\0")
    (folder / "powershell.txt").write_bytes(b"\xff\xfe" + "a.mid\r\n".encode("utf-16-le"))
    with pytest.raises(UsageError, match=message):
        gathered(*items, files_from=files_from)


def test_links_to_nothing_and_to_themselves_are_told_and_stop_nothing(folder: Path) -> None:
    touch("in/a.mid", "in/x/b.mid")
    for name, target in (("lost.mid", "nowhere.mid"), ("loop.mid", "loop.mid"), ("x/far.mid", "../../c.mid")):
        (folder / "in" / name).symlink_to(target)
    (folder / "in" / "loop").symlink_to("loop")  # neither a file of music nor a folder
    (folder / "in" / "folder.mid").mkdir()
    sources, _ = gather(Inputs(("in",), recursive=True))
    problems = {str(source.path): source.problem for source in sources}
    assert problems["in/a.mid"] is None and problems["in/x/b.mid"] is None
    assert problems["in/lost.mid"] == "in/lost.mid: is a link to nothing (nowhere.mid)"
    assert problems["in/x/far.mid"] == "in/x/far.mid: is a link to nothing (../../c.mid)"
    assert (problems["in/loop.mid"] or "").startswith("in/loop.mid: cannot be read (")
    assert len(problems) == 5
    assert {source.path: source.problem for source in gather(Inputs(("in/*.mid",)))[0]}[Path("in/lost.mid")]


def test_files_of_macos_are_passed_over_and_counted(folder: Path) -> None:
    touch("in/._a.mid", "in/a.mid", "in/x/._b.MID", "in/x/b.MID")
    sources, left_out = gather(Inputs(("in",), recursive=True))
    assert [source.path.name for source in sources] == ["a.mid", "b.MID"]
    assert left_out.remarks() == ["2 files of macOS (._*.mid) passed over: no music is in them"]
    assert gathered("in/._a.mid") == ["in/._a.mid"]  # whoever names it, means it


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_subfolder_is_told_and_stops_nothing(folder: Path) -> None:
    touch("in/a.mid", "in/x/b.mid", "in/y/c.mid")
    (folder / "in" / "x").chmod(0)
    try:
        sources, _ = gather(Inputs(("in",), recursive=True))
        with pytest.raises(MidiError, match="in/x: cannot be listed"):
            gather(Inputs(("in/x",)))
        beside, _ = gather(Inputs(("in/x", "in/a.mid")))
    finally:
        (folder / "in" / "x").chmod(0o700)
    assert [(str(source.path), source.problem) for source in sources] == [
        ("in/a.mid", None),
        ("in/x", "in/x: cannot be listed (Permission denied)"),
        ("in/y/c.mid", None),
    ]
    assert [source.problem for source in beside] == ["in/x: cannot be listed (Permission denied)", None]


def test_folders_that_cannot_be_listed_stop_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above needs another user for."""
    touch("in/a.mid", "in/x/b.mid")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if str(path) == "in/x":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    sources, _ = gather(Inputs(("in",), recursive=True))
    assert [(source.path.name, source.problem) for source in sources] == [
        ("a.mid", None),
        ("x", "in/x: cannot be listed (Permission denied)"),
    ]


def test_standard_input_is_one_input_and_not_the_list_too(folder: Path) -> None:
    assert gathered("-", "-") == ["/dev/stdin"]
    with pytest.raises(UsageError, match="standard input is the list"):
        gathered("-", files_from="-")

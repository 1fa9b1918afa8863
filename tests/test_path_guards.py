"""No path is asked for what may be a crash: names too long, links in circles, folders without permission.

``Path.exists`` and its like raise for some of these, and Python 3.11, 3.12 and 3.13 differ in which; those of
``os.path`` answer "no". What opens, lists or makes something stands where its ``OSError`` is caught, or in a function
whose docstring says that it raises it.
"""

import ast
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import specdiff_cli
from specdiff_cli.composing.dataset import midi_files
from specdiff_cli.corpus.recordings import find_recordings
from specdiff_cli.errors import OutputError, SpecdiffError, UsageError
from specdiff_cli.evaluation.report import ReportFolder
from specdiff_cli.files import files_below, files_in, hidden_by, make_folder, size_bytes
from specdiff_cli.rendering.defaults import read_defaults
from specdiff_cli.train.batches import CorpusFiles
from specdiff_cli.train.run_folder import RunFolder
from specdiff_cli.weights.voices import find_voice

PACKAGE = Path(specdiff_cli.__file__).parent
#: Never: ``resolve`` raises RuntimeError for links in circles, ``rglob`` passes over what cannot be listed.
NEVER = {"resolve", "rglob", "glob", "expanduser"}
ASKING = {"exists", "is_dir", "is_file", "is_symlink", "samefile", "stat", "lstat", "iterdir", "readlink", "scandir"}
DOING = {"mkdir", "rmdir", "touch", "unlink", "chmod", "symlink_to", "hardlink_to", "listdir", "makedirs", "open"}
DOING |= {"read_text", "read_bytes", "write_text", "write_bytes", "replace", "rename"}
CATCHING = {"OSError", "Exception", "BaseException"}
#: Not of the file system, or of what is always there.
ALLOWED = {
    "rendering/inputs.py:_matches: glob",  # glob.glob, which passes over what it cannot list
    "rendering/prepare.py:prepare: read_bytes",  # of midi.notes, which raises MidiError
    "streams.py:replace_closed: open",  # the null device
}


def names(node: ast.AST | None) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)} if node is not None else set()


def is_guard(node: ast.AST, child: ast.AST) -> bool:
    """Does ``node`` catch an OSError of its part ``child``?"""
    if isinstance(node, ast.Try):
        caught = set().union(*(names(handler.type) or CATCHING for handler in node.handlers))
        return bool(caught & CATCHING) and child in node.body
    if isinstance(node, ast.With):
        calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
        return any("suppress" in ast.dump(call.func) and names(call) & CATCHING for call in calls)
    return False


def operation(node: ast.AST) -> str | None:
    """The name of a path operation, where one is called."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name):
        return node.func.id if node.func.id == "open" else None
    if not isinstance(node.func, ast.Attribute) or ast.unparse(node.func.value) == "os.path":
        return None
    name, given, is_of_os = node.func.attr, [*node.args, *node.keywords], ast.unparse(node.func.value) == "os"
    if name in {"replace", "rename"} and not is_of_os and (len(given) != 1 or node.keywords):  # of texts, of records
        return None
    if name == "open" and not is_of_os and given and not isinstance(given[0], ast.Constant):  # of archives, vocoders
        return None
    return name if name in NEVER | ASKING | DOING else None


def operations(tree: ast.AST) -> Iterator[tuple[str, str, bool]]:
    """(function, operation, is it guarded) of every path operation in a module."""

    def walk(node: ast.AST, function: str, is_guarded: bool) -> Iterator[tuple[str, str, bool]]:
        for child in ast.iter_child_nodes(node):
            guarded, inner = is_guarded or is_guard(node, child), function
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{function}.{child.name}".lstrip(".")
                guarded = "OSError" in (ast.get_docstring(child) or "")
            name = operation(child)
            if name is not None:
                yield function, name, guarded and name not in NEVER
            yield from walk(child, inner, guarded)

    yield from walk(tree, "", False)


def unguarded() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        for function, name, is_guarded in operations(ast.parse(path.read_text(encoding="utf-8"))):
            if not is_guarded:
                yield f"{place}:{function}: {name}"


def test_every_path_operation_is_guarded() -> None:
    assert set(unguarded()) == ALLOWED


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("def f(p):\n    return p.exists()", True),
        ("def f(p):\n    return os.path.exists(p)", False),
        ("def f(p):\n    try:\n        p.stat()\n    except FileNotFoundError:\n        pass", True),
        ("def f(p):\n    try:\n        p.stat()\n    except (OSError, ValueError):\n        pass", False),
        ("def f(p):\n    try:\n        pass\n    except OSError:\n        p.unlink()", True),
        ("def f(p):\n    with suppress(OSError):\n        p.unlink()", False),
        ("def f(p):\n    '''Raises OSError.'''\n    p.mkdir()", False),
        ("def f(p):\n    '''Raises OSError.'''\n    p.resolve()", True),
        ("def f(p):\n    with open(p) as file:\n        pass", True),
        ("def f(text):\n    return text.replace('a', 'b')", False),
        ("def f(p, q):\n    p.replace(q)", True),
    ],
)
def test_what_is_found(code: str, is_found: bool) -> None:
    found = [name for _, name, is_guarded in operations(ast.parse(code)) if not is_guarded]
    assert bool(found) == is_found


@pytest.fixture(params=["long", "circle", "below a file", "below a circle"])
def impossible(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path that is nothing, and cannot become anything."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "circle").symlink_to("circle")
    name = {"long": "x" * 300, "circle": "circle", "below a file": "file/x", "below a circle": "circle/x"}
    return tmp_path / name[request.param]


def test_places_that_cannot_be_are_one_line_each(impossible: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="cannot make the folder"):
        make_folder(impossible)
    with pytest.raises(OutputError, match="cannot make the folder"):
        RunFolder(impossible).create()
    assert size_bytes(impossible) == 0
    for ask in (files_below, files_in, find_recordings, midi_files, CorpusFiles.find):
        with pytest.raises(UsageError):
            ask(impossible)
    with pytest.raises(OutputError):
        ReportFolder(impossible)
    with pytest.raises(SpecdiffError):
        find_voice(str(impossible))
    assert RunFolder(impossible).load_state() is None
    monkeypatch.setenv("SPECDIFF_CONFIG", str(impossible))
    with pytest.raises(UsageError, match="SPECDIFF_CONFIG: .*correct or unset it"):
        read_defaults()


def test_names_with_nul_characters_are_told() -> None:
    for ask in (files_below, files_in, make_folder):
        with pytest.raises(SpecdiffError, match="null"):
            ask(Path("a\0b"))


def test_why_a_path_is_hidden(tmp_path: Path) -> None:
    assert hidden_by(tmp_path) is None
    assert hidden_by(tmp_path / "nothing") is None
    assert hidden_by(tmp_path / ("x" * 300)) == "File name too long"
    (tmp_path / "circle").symlink_to("circle")
    assert hidden_by(tmp_path / "circle") == "Too many levels of symbolic links"
    assert hidden_by(Path("a\0b")) is not None


def test_files_below_a_folder(tmp_path: Path) -> None:
    for name in ("b.mid", "a.MID", "._a.mid", "sub/c.mid", "sub/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "lost.mid").symlink_to("nowhere.mid")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "folder.mid").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path, (".mid",))]
    assert found == ["a.MID", "b.mid", "sub/c.mid"]
    assert [path.name for path in files_in(tmp_path, "*.mid")] == ["._a.mid", "b.mid"]
    assert files_in(tmp_path / "nothing") == []


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not passed over, as ``rglob`` does: nobody would know that its songs are missing."""
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.mid").write_bytes(b"")
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if Path(folder).name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UsageError, match=r"locked: cannot be listed \(Permission denied\)"):
        midi_files(tmp_path)

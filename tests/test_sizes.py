"""Functions stay short and take few parameters."""

import ast
from collections.abc import Iterator
from pathlib import Path

import specdiff_cli

PACKAGE = Path(specdiff_cli.__file__).parent
MAX_LINES = 60  # docstrings aside
MAX_PARAMETERS = 8
#: Which take more, and why that reads better than a record made for the one call.
MORE_PARAMETERS = {
    "audio/wav.py:AtomicWriter.__init__",  # keywords, each with a default: what a file is asked for, one by one
    "engine/songs.py:ActiveSong.__init__",  # made in one place; six keywords with defaults
    "engine/synthesizer.py:Synthesizer.stream",  # public: one keyword for each part of a song
    "model/network.py:SpectrogramDiffusion.forward",  # scripted, and wrapped for training: tensors one by one
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST, name: str = "") -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            inner = f"{name}.{child.name}" if name else child.name
            if not isinstance(child, ast.ClassDef):
                yield inner, child
            yield from functions(child, inner)
        else:
            yield from functions(child, name)


def of_the_library() -> Iterator[tuple[str, Function]]:
    """Every function outside ``cli/``, where signatures are the commands' options."""
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if not place.startswith("cli/"):
            for name, function in functions(ast.parse(path.read_text(encoding="utf-8"))):
                yield f"{place}:{name}", function


def n_lines(function: Function) -> int:
    first = function.body[0]
    is_documented = ast.get_docstring(function, clean=False) is not None
    documented = (first.end_lineno or 0) - first.lineno + 1 if is_documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - documented


def n_parameters(function: Function) -> int:
    names = [item.arg for item in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_functions_are_short() -> None:
    found = dict(of_the_library())
    assert len(found) > 1000
    assert [name for name, function in found.items() if n_lines(function) > MAX_LINES] == []


def test_functions_take_few_parameters() -> None:
    many = {name for name, function in of_the_library() if n_parameters(function) > MAX_PARAMETERS}
    assert many == MORE_PARAMETERS

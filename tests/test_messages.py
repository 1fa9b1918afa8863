"""What the library says to its users names options as data, never as flags of one of its users, the command line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import specdiff_cli

PACKAGE = Path(specdiff_cli.__file__).parent
FLAG = re.compile(r"(?<![\w(-])--[a-z]")
#: Command lines that a user is to run, and the colours of a page (``--name`` is a variable of CSS, too).
COMMANDS = re.compile(r'"ray start --head"|pip install --no-deps|specdiff web --max-duration|var\(--')
WHOLE_COMMANDS = {("weights/cache.py", "download_command")}


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each string of a module that is no docstring, whole commands left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    name = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (name, node.name) in WHOLE_COMMANDS:
            left_out |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node.lineno, node.value


def test_no_message_outside_the_command_line_names_a_flag() -> None:
    modules = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "cli"]
    assert len(modules) > 100
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in modules
        for line, text in literals(path)
        if FLAG.search(COMMANDS.sub("", text))
    ]
    assert found == []


def test_flags_would_be_found() -> None:
    assert FLAG.search("give another --out")
    assert FLAG.search("'--seed'")
    assert not FLAG.search("a --- b, x--y")

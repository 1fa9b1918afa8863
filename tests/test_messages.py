"""What the library says to its users names options as data, never as flags of one of its users, the command line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import specdiff_cli
from specdiff_cli.cli.app import app
from specdiff_cli.cli.help import OPTION_HINTS
from specdiff_cli.cli.progress import flag_of

PACKAGE = Path(specdiff_cli.__file__).parent
WHOLE_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
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


def flags_of_commands() -> set[str]:
    """Every flag and argument that some command takes."""

    def walk(command: Any) -> Iterator[str]:
        for parameter in command.params:
            yield from (*parameter.opts, *parameter.secondary_opts, str(parameter.metavar))
        for inner in getattr(command, "commands", {}).values():
            yield from walk(inner)

    return set(walk(typer.main.get_command(app))) | {"--help"}


def named_as_data(path: Path) -> Iterator[str]:
    """Options in ``Option("name")``, ``UsageError.of("name", …)``, ``check_range("name", …)`` and ``option="name"``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        takes_name = called in ("Option", "check_range", "check_choice") or called.endswith("Error.of")
        given = [
            *(node.args[:1] if takes_name else ()),
            *(word.value for word in node.keywords if word.arg == "option"),
        ]
        yield from (part.value for part in given if isinstance(part, ast.Constant) and isinstance(part.value, str))


def test_every_option_that_a_message_names_exists() -> None:
    named = {name for path in PACKAGE.rglob("*.py") for name in named_as_data(path)}
    assert len(named) > 80
    assert {name for name in named if flag_of(name) not in flags_of_commands()} == set()


def test_every_flag_in_words_of_the_command_line_exists() -> None:
    asked_for = set(OPTION_HINTS)  # what people know from other programs
    known = flags_of_commands()
    texts = [text for path in sorted((PACKAGE / "cli").glob("*.py")) for _, text in literals(path)]
    named = {match for text in texts for match in WHOLE_FLAG.findall(text)} - asked_for
    assert len(named) > 50
    assert named - known == set()


def test_flags_would_be_found() -> None:
    assert FLAG.search("give another --out")
    assert FLAG.search("'--seed'")
    assert not FLAG.search("a --- b, x--y")

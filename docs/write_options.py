"""Writes the tables of options in docs/cli.md anew, from the commands themselves.

A table stands between ``<!-- options of COMMAND -->`` and ``<!-- end of options -->``.

    python docs/write_options.py
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from specdiff_cli.cli.app import app

PAGE = Path(__file__).with_name("cli.md")
TABLES = re.compile(r"(<!-- options of ([a-z -]+) -->\n).*?(<!-- end of options -->)", re.DOTALL)
PLAIN_PANEL = "option"


def command_named(words: str) -> Any:
    """The command that these words lead to."""
    command: Any = typer.main.get_command(app)
    for word in words.split():
        command = command.commands[word]
    return command


def option_tables(command: Any) -> str:
    """The command's options as Markdown, a table for each group of ``--help``."""
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or PLAIN_PANEL, []).append(parameter)
    return "".join("\n" + "\n".join(_table(panel, options)) + "\n" for panel, options in panels.items()) + "\n"


def _table(panel: str, options: list[Any]) -> Iterator[str]:
    yield f"| {panel[0].lower()}{panel[1:]} | default | meaning |"
    yield "|---|---|---|"
    for option in options:
        takes = "" if option.is_flag or not option.metavar else f" {option.metavar}"
        first, *others = sorted(option.opts, key=len, reverse=True)
        names = ", ".join([f"`{first}{takes}`", *(f"`{name}`" for name in others)])
        cells = (names + (" *" if option.envvar else ""), _default(option), str(option.help or ""))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag or option.default is None or option.show_default is False or option.default == ():
        return ""
    return f"{option.default:g}" if isinstance(option.default, float) else f"`{option.default}`"


def with_tables(page: str) -> str:
    """The page with every table as the commands have it."""
    return TABLES.sub(lambda found: found[1] + option_tables(command_named(found[2])) + found[3], page)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

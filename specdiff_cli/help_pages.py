"""Help as plain text, from a command's parameters: names, what they take, what they do. Needs no other library."""

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

OTHERS = "Options"  # the panel of options without one
_NAME_COLUMNS = 30


def beginning(command: Any, ctx: Any, width: int) -> Iterator[str]:
    """How it is called, what it does, and what its arguments are."""
    arguments = [param for param in command.get_params(ctx) if param.param_type_name == "argument"]
    pieces = [name if param.required else f"[{name}]" for param in arguments for name in (_argument_name(param),)]
    pieces += ["COMMAND", "[ARGS]..."] if hasattr(command, "commands") else []
    yield from wrapped(" ".join([f"Usage: {ctx.command_path} [OPTIONS]", *pieces]), width, subsequent_indent="  ")
    yield ""
    yield from _filled(about(command), width)
    if arguments:
        yield from ("", "Arguments:")
    for param in arguments:
        yield from entry(f"  {_argument_name(param)}", param.help or "", width)


def about(command: Any) -> str:
    """What a command's docstring says of it, also where Python has left docstrings out (``-OO``)."""
    function = inspect.unwrap(command.callback) if command.callback is not None else None
    if command.help or function is None:
        return str(command.help or "")
    import ast

    try:
        source = inspect.getsource(function)
    except OSError:  # an installation of compiled files alone
        return ""
    return ast.get_docstring(ast.parse(source).body[0]) or ""  # type: ignore[arg-type]


def _argument_name(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def by_panel(params: Sequence[Any]) -> dict[str, list[Any]]:
    """Options that are not hidden, by the title of their panel."""
    panels: dict[str, list[Any]] = {}
    for param in params:
        if param.param_type_name == "option" and not param.hidden:
            panels.setdefault(getattr(param, "rich_help_panel", None) or OTHERS, []).append(param)
    return panels


def panels(params: Sequence[Any], width: int, *, with_variables: bool) -> Iterator[str]:
    """All options, by panel."""
    for title, options in by_panel(params).items():
        yield from ("", f"{title}:")
        for param in options:
            yield from option_lines(param, width, with_variables)


def _filled(text: str, width: int) -> Iterator[str]:
    """A docstring: paragraphs filled, those behind a backspace kept line by line, unless they are one sentence."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ""
        lines = paragraph.strip("\n").splitlines()
        is_kept = bool(lines) and lines[0].strip() == "\b"
        if is_kept and lines[1].startswith("Exit codes:"):
            is_kept, lines = False, lines[1:]
        if is_kept:
            for line in lines[1:]:
                indent = " " * (len(line) - len(line.lstrip()) + 4)
                yield from wrapped(line, width, subsequent_indent=indent) or [""]
        else:
            yield from wrapped(" ".join(line.strip() for line in lines), width)


def option_lines(param: Any, width: int, is_full: bool) -> Iterator[str]:
    """``-o, --output FILE``, and beside or below it what it does."""
    names = ", ".join([*sorted(param.opts, key=len), *sorted(param.secondary_opts, key=len)])
    metavar = "" if param.is_flag else f" {param.metavar or param.name.upper()}"
    told = param.help or ""
    default = param.show_default if isinstance(param.show_default, str) else param.default
    is_shown = bool(param.show_default) and default not in (None, ()) and not callable(default)
    if not param.is_flag and is_shown and not param.required:
        shown = f"{default:g}" if isinstance(default, float) else default
        told = f"{told if told.endswith('...') else told.removesuffix('.')} ({shown})."
    if param.required:
        told += " Must be given."
    if is_full and param.envvar:
        told += f" Variable: {param.envvar}."
    yield from entry(f"  {names}{metavar}", told, width)


def entry(head: str, told: str, width: int) -> Iterator[str]:
    """A name, and beside it, or below it on a narrow screen, what it is."""
    beside = _NAME_COLUMNS + 2
    if width < 2 * _NAME_COLUMNS:
        yield from wrapped(head, width, subsequent_indent="      ")
        yield from wrapped(told, width, initial_indent="      ", subsequent_indent="      ")
        return
    lines = wrapped(told, width - beside) or [""]
    if len(head) > _NAME_COLUMNS:
        yield from wrapped(head, width, subsequent_indent="      ")
    else:
        yield f"{head:<{beside}}{lines.pop(0)}"
    yield from (" " * beside + line for line in lines)


def wrapped(text: str, width: int, **options: str) -> list[str]:
    """Lines of at most ``width``; options as of :func:`textwrap.wrap`."""
    return textwrap.wrap(text, width, break_on_hyphens=False, **options)  # type: ignore[arg-type]

"""Settings of a training run: a TOML file whose tables are frozen dataclasses, read strictly."""

import difflib
import math
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from specdiff_cli.errors import UsageError


def read_settings(
    path: Path, sections: Mapping[str, type[Any]], retired: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Read a settings file.

    Args:
        path: the TOML file.
        sections: name of each table -> the dataclass whose fields are its keys. Fields may be int, float, bool, str,
            Literal, tuples of those and None beside any of them (TOML has no null: the key is left out). A missing
            key takes the dataclass's default. A ValueError of ``__post_init__``, worded "key …: what is wrong", is
            reported as the file's.
        retired: keys of earlier versions -> what is said of them.

    Returns:
        Name of each table -> an instance of its dataclass; tables that are not in the file give default instances.

    Raises:
        UsageError: missing or unreadable file, no TOML, unknown table or key, missing key, wrong type or value.
    """
    data = read_toml(path)
    for name in data:
        if name not in sections:
            what = "table" if isinstance(data[name], dict) else "key"
            tables = ", ".join(f"[{section}]" for section in sections)
            guess = _nearest(name, sections)
            hint = f"did you mean [{guess}]?" if guess else f"it may have {tables}"
            raise UsageError(f"{path}: [{name}]: is an unknown {what}; {hint}")
    built = {}
    for name, kind in sections.items():
        table = data.get(name, {})
        if not isinstance(table, dict):
            raise UsageError(f"{path}: [{name}]: must be a table; write its keys below a line [{name}]")
        built[name] = _build(f"{path}: [{name}]", table, kind, retired)
    return built


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a settings file. Raises UsageError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: does not exist; check the name of the settings file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}); give a TOML file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        detail = " ".join(str(error).split())
        raise UsageError(f"{path}: is not valid TOML ({detail}); correct it there") from None


def _build(where: str, table: Mapping[str, Any], kind: type[Any], retired: Mapping[str, str]) -> Any:
    known = {field.name: field for field in fields(kind)}
    types_ = get_type_hints(kind)
    values = {}
    for key, value in table.items():
        if key in retired:
            raise UsageError(f"{where} {key}: {retired[key]}")
        if key not in known:
            guess = _nearest(key, known)
            hint = f"did you mean {guess}?" if guess else f"known keys are {', '.join(known)}"
            raise UsageError(f"{where} {key}: is an unknown key; {hint}")
        try:
            values[key] = _convert(value, types_[key])
        except ValueError as error:
            raise UsageError(f"{where} {key} = {_shown(value)}: {error}") from None
    for key, field in known.items():
        if key not in values and _is_required(field):
            raise UsageError(f"{where} {key}: is missing; add it (it has no default)")
    try:
        return kind(**values)
    except ValueError as error:
        raise UsageError(f"{where} {error}") from None


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _convert(value: Any, kind: Any) -> Any:
    """A TOML value as a field's type; raises ValueError with what is wanted instead."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _convert_any(value, [item for item in arguments if item is not type(None)])
    if origin is Literal:
        # The type counts, too: 1 equals true and 1.0 in Python.
        if any(value == item and type(value) is type(item) for item in arguments):
            return value
        raise ValueError(f"is not one of {', '.join(_shown(item) for item in arguments)}; take one of these")
    if origin is tuple:
        return _convert_tuple(value, arguments)
    if kind is float:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError("must be a number; write one such as 0.001")
        return float(value)
    wanted = {int: "a whole number", bool: "true or false", str: 'a text; put it in "quotes"'}
    if kind not in wanted:
        raise TypeError(f"settings cannot hold fields of type {kind}")
    if type(value) is not kind:
        raise ValueError(f"must be {wanted[kind]}")
    return value


def _convert_any(value: Any, kinds: list[Any]) -> Any:
    problem = ValueError("fits no type")
    for kind in kinds:
        try:
            return _convert(value, kind)
        except ValueError as error:
            problem = error
    raise problem


def _convert_tuple(value: Any, items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list; put its items in [brackets]")
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(value) != len(items):
        raise ValueError(f"must be a list of {len(items)} items; it has {len(value)}")
    return tuple(_convert(item, kind) for item, kind in zip(value, items, strict=True))


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), None)


def _shown(value: Any) -> str:
    """A value as TOML writes it, near enough for a message."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Options as the fields of nested records: their names outside, the types they take, and records changed by them."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

from specdiff_cli.errors import Option, UsageError

Record = TypeVar("Record")
#: Options whose name outside is not the field's.
_NAMES = {"swaps": "swap", "programs": "program", "file_format": "format"}


def option_name(field_name: str) -> str:
    """A field's name as an option: ``sample_rate_hz`` -> ``sample-rate``."""
    plain = field_name.removesuffix("_s").removesuffix("_hz").removesuffix("_kbps")
    return _NAMES.get(plain, plain).replace("_", "-")


@dataclass(frozen=True, slots=True)
class OptionField:
    """Where an option stands in a request, and what it may be."""

    path: tuple[str, ...]
    kind: Any

    def taken(self, value: object) -> object:
        """The value as the field has it: lists as tuples, texts as paths. Raises UsageError for a wrong type."""
        kinds = get_args(self.kind) if isinstance(self.kind, UnionType) else (self.kind,)
        kind = next(kind for kind in kinds if kind is not NoneType)
        is_bool = isinstance(value, bool)  # which is an int to Python, not to people
        if get_origin(kind) is tuple:
            if isinstance(value, str):
                return (value,) if str in get_args(kind) else _parsed(self.path[-1], value)
            if isinstance(value, Iterable):
                return tuple(map(str, value) if str in get_args(kind) else value)
        elif kind in (str, Path) and isinstance(value, str | Path):
            return kind(value)
        elif kind is float and isinstance(value, int | float) and not is_bool:
            return float(value)
        elif isinstance(value, kind) and is_bool == (kind is bool):
            return value
        in_words = _IN_WORDS.get(kind, "a list")
        name = option_name(self.path[-1]).replace("-", "_")
        raise UsageError(Option(name), f" is {value!r}, expected {in_words}", option=name, value=value)


_IN_WORDS: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
}


def _parsed(field_name: str, text: str) -> tuple[float, ...]:
    """Numbers in an option's own notation. Raises UsageError."""
    if field_name == "snapshots":
        from specdiff_cli.rendering.snapshots import parse_snapshots

        return parse_snapshots(text)
    from specdiff_cli.diffusion.sampling import parse_guidance_interval

    return parse_guidance_interval(text)


def option_fields(kind: Any, path: tuple[str, ...] = ()) -> dict[str, OptionField]:
    """The options of a record of records: name (with ``_``) -> where it stands."""
    found: dict[str, OptionField] = {}
    for item in fields(kind):
        if isinstance(item.type, type) and is_dataclass(item.type):
            found |= option_fields(item.type, (*path, item.name))
        else:
            found[option_name(item.name).replace("-", "_")] = OptionField((*path, item.name), item.type)
    return found


def with_options(record: Record, given: Mapping[tuple[str, ...], object], at: tuple[str, ...] = ()) -> Record:
    """The record with other values at some paths; every record on the way checks itself anew."""
    changes: dict[str, object] = {}
    for item in fields(record):  # type: ignore[arg-type]
        path = (*at, item.name)
        if path in given:
            changes[item.name] = given[path]
        elif any(other[: len(path)] == path for other in given):
            changes[item.name] = with_options(getattr(record, item.name), given, path)
    return replace(record, **changes)  # type: ignore[type-var]


def hint(name: str, known: Iterable[str]) -> str:
    """What else a name that is none may have meant."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"

"""Numbers and choices as sentences have them."""

import re
from collections.abc import Container, Iterable


def count(number: int, noun: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def either(names: Iterable[str]) -> str:
    """``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def exact_clock(seconds: float) -> str:
    """m:ss.cc or h:mm:ss.cc."""
    minutes, hundredths = divmod(round(seconds * 100), 6000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{hundredths / 100:05.2f}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"


def about(seconds: float) -> str:
    """A rough time: 5 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def one_line(text: str) -> str:
    """Control characters (a file may be named with newlines or escape codes) shown instead of obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


#: What parsers of command lines say, and what we say.
_REFUSALS = (
    ("Input should be a valid integer, unable to parse string as an integer", "must be a whole number"),
    ("Input should be a valid number, unable to parse string as a number", "must be a number"),
    ("Input should be greater than or equal to", "must be at least"),
    ("Input should be less than or equal to", "must be at most"),
)


def plain_refusal(said: str, variables: Container[str]) -> str:
    """``--steps: must be a whole number`` for a parser's words; the option's variable is named where it is set."""
    refused = re.match(r"Invalid value for '([^']+)'(?: / '[^']+')*(?: \(env var: '([^']+)'\))?: (.*)", said, re.DOTALL)
    if refused is None:
        return said
    option, variable, rule = refused.groups()
    for theirs, ours in _REFUSALS:
        rule = rule.replace(theirs, ours)
    return f"{option} ({variable}): {rule}" if variable and variable in variables else f"{option}: {rule}"

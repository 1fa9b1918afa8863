"""Small pieces of the page as HTML. What comes from visitors is escaped here."""

from collections.abc import Iterable
from html import escape


def progress(text: str, share: float | None) -> str:
    """A line and a bar, 0 to 1; None: of something that waits, without the bar."""
    if share is None:
        return f'<p class="waiting" role="status">{escape(text)}</p>'
    percent = round(100 * share)
    return (
        f'<p class="facts">{escape(text)}</p><div class="progress" role="progressbar" aria-valuenow="{percent}" '
        f'aria-valuemin="0" aria-valuemax="100"><div style="width:{percent}%"></div></div>'
    )


def line(text: str) -> str:
    """A plain line."""
    return f'<p class="facts">{escape(text)}</p>'


def problem(text: str) -> str:
    """What went wrong, so that it is seen and read aloud. A file's name, which ends with a colon, stays as it is."""
    begins_with_name = text.partition(" ")[0].endswith(":")
    shown = text if begins_with_name else text[:1].upper() + text[1:]
    return f'<p class="problem" role="alert">{escape(shown)}</p>'


def listed(texts: Iterable[str]) -> str:
    """A plain list; nothing of none."""
    items = "".join(f"<li>{escape(text[:1].upper() + text[1:])}</li>" for text in texts)
    return f'<ul class="remarks">{items}</ul>' if items else ""

"""Small pieces of the page as HTML. What comes from visitors is escaped here."""

from html import escape


def progress(text: str, share: float) -> str:
    """A line and a bar, 0 to 1."""
    percent = round(100 * share)
    return (
        f'<p class="facts">{escape(text)}</p><div class="progress" role="progressbar" aria-valuenow="{percent}" '
        f'aria-valuemin="0" aria-valuemax="100"><div style="width:{percent}%"></div></div>'
    )


def line(text: str) -> str:
    """A plain line."""
    return f'<p class="facts">{escape(text)}</p>'


def problem(text: str) -> str:
    """What went wrong, so that it is seen and read aloud."""
    return f'<p class="problem" role="alert">{escape(text[:1].upper() + text[1:])}</p>'

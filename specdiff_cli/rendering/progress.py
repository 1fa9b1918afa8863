"""How far a render is, shown from Python: as a bar in a notebook, as a line on a terminal."""

import html
import sys
import time
from collections.abc import Callable, Generator, Iterable

from specdiff_cli.rendering.events import Done, Event, Failed, Loading, Opened, Skipped, Step
from specdiff_cli.wording import count, exact_clock

INTERVAL_S = 0.2  # between two looks at it; a notebook's page is slower than a render
_Show = Callable[[str, float | None], None]


def show_progress(events: Iterable[Event]) -> Generator[Event, None, None]:
    """Pass on what :func:`~specdiff_cli.rendering.public.render_files` yields, and show meanwhile how far it is.

    In a Jupyter notebook that is a bar below the cell, on a terminal a line on standard error, elsewhere nothing. What
    stays at the end is how many songs were rendered, skipped and failed. Closing this closes ``events``, too.

        for event in show_progress(render_files("album/", output="out/")):
            ...
    """
    show = _notebook() or _terminal()
    ends: dict[str, int] = {"rendered": 0, "skipped": 0, "failed": 0}
    told_s = 0.0
    try:
        for event in events:
            if isinstance(event, Done | Skipped | Failed):
                ends[{Done: "rendered", Skipped: "skipped", Failed: "failed"}[type(event)]] += 1
            elif (moment := _moment(event)) is not None:
                now_s = time.perf_counter()
                if now_s - told_s >= INTERVAL_S or not isinstance(event, Step):
                    show(*moment)
                    told_s = now_s
            yield event
    finally:
        if callable(close := getattr(events, "close", None)):
            close()
        show(_sum(ends), None)


def _moment(event: Event) -> tuple[str, float | None] | None:
    if isinstance(event, Loading):
        return f"loading {event.model}", 0.0
    if isinstance(event, Opened):
        return f"{event.job.source.name}: {count(event.n_windows, 'window')}", 0.0
    if isinstance(event, Step):
        share = min(event.done_s / max(event.duration_s, 1e-9), 1.0)
        clock = f"{exact_clock(event.done_s)} of {exact_clock(event.duration_s)}"
        return f"{event.job.source.name}: {clock}, window {event.window + 1} of {event.n_windows}", share
    return None


def _sum(ends: dict[str, int]) -> str:
    return ", ".join(f"{count(n, 'song')} {how}" for how, n in ends.items() if n) or "no songs rendered"


def _notebook() -> _Show | None:
    """A display below the cell that runs; None outside of notebooks. IPython is asked only where it runs already."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)

    def show(text: str, share: float | None) -> None:
        bar = "" if share is None else f'<progress max="1" value="{share:.3f}" style="width: 16em"></progress> '
        handle.update(HTML(f"<div>{bar}{html.escape(text)}</div>"))

    return show


def _terminal() -> _Show:
    stream = sys.stderr
    if stream is None or not stream.isatty():
        return lambda text, share: None

    def show(text: str, share: float | None) -> None:
        plain = "".join(c if c.isprintable() else "?" for c in text)
        line = plain if share is None else f"{share:4.0%} {plain}"
        stream.write(f"\r\x1b[K{line[:100]}" + ("\n" if share is None else ""))
        stream.flush()

    return show

"""``specdiff web``: a page to drop MIDI files on."""

import os
import threading
from typing import Annotated

import typer

from specdiff_cli.cli.progress import say


def web(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; others reach 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="The port to listen on.")] = 7860,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="VOICE", help="A voice to offer; repeat it, the first is the default."),
    ] = None,
    max_duration: Annotated[float, typer.Option(metavar="SECONDS", help="Refuse songs longer than this.")] = 600.0,
    max_size: Annotated[float, typer.Option(metavar="MB", help="Refuse larger files.")] = 2.0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Serve a page where MIDI files can be dropped, seen and heard.

    It works offline and only on this machine, unless --host says otherwise.
    Whoever lets others in sets SPECDIFF_WEB_AUTH=USER:PASS, which visitors
    must then give. Ctrl-C stops it.

    \b
    Examples:
      specdiff web
      specdiff web --port 8000 --no-browser
      SPECDIFF_WEB_AUTH=anna:secret specdiff web --host 0.0.0.0

    \b
    Exit codes: 0 stopped, 2 usage, 4 weights, 6 device or memory.
    """
    from specdiff_cli.serving.limits import BYTES_PER_MIB, Limits
    from specdiff_cli.serving.server import (
        AUTH_VARIABLE,
        Address,
        be_quiet,
        check_installed,
        read_auth,
        serving,
        temporary_folder,
    )

    address = Address(host, port)
    auth = read_auth(address, os.environ.get(AUTH_VARIABLE))
    limits = Limits(max_duration_s=max_duration, max_bytes=int(max_size * BYTES_PER_MIB))
    check_installed()
    address.check_free()
    be_quiet()
    with temporary_folder() as folder:
        from specdiff_cli.serving.studio import Studio

        studio = Studio(model or ["tiny"], limits, folder)
        studio.check_voices()
        try:
            with serving(studio, address, auth, opens_browser=browser) as url:
                say(f"specdiff is at {url} (Ctrl-C stops it)")
                threading.Event().wait()
        except KeyboardInterrupt:
            say("stopped")

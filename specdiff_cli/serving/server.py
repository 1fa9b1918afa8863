"""The page on a port, until somebody stops it."""

import contextlib
import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specdiff_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from specdiff_cli.serving.studio import Studio

AUTH_VARIABLE = "SPECDIFF_WEB_AUTH"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page is served. Raises UsageError for a port that cannot be."""

    host: str = "127.0.0.1"
    port: int = 7860

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise UsageError.of("port", self.port, "must be from 1 to 65535")

    @property
    def is_loopback(self) -> bool:
        """Can only this machine reach it?"""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def check_free(self) -> None:
        """Raises UsageError where nothing can listen there."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            if os.name == "posix":  # there it means: despite connections that are closing; elsewhere it means sharing
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except PermissionError:
                raise UsageError.of("port", self.port, "needs more rights; choose one from 1024 on") from None
            except socket.gaierror:
                raise UsageError.of("host", self.host, "is no address of this machine") from None
            except OSError as error:
                if error.errno in (98, 48, 10048):  # EADDRINUSE of Linux, macOS, Windows
                    rule = "is taken; choose another one, or stop what uses it"
                    raise UsageError.of("port", self.port, rule) from None
                raise UsageError.of("host", self.host, "is no address of this machine") from None


def read_auth(address: Address, text: str | None) -> tuple[str, str] | None:
    """The user and the password that a visitor must give; None: none are needed, on loopback.

    Raises:
        UsageError: not of the form USER:PASS, or missing for a host that others can reach.
    """
    if not text:
        if address.is_loopback:
            return None
        rule = f"others can reach it; set {AUTH_VARIABLE}=USER:PASS in the environment, which visitors must then give"
        raise UsageError.of("host", address.host, rule)
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise UsageError(f"{AUTH_VARIABLE}: must be USER:PASS")
    return user, password


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for uploads and renders, deleted at the end whatever happens. Gradio keeps its files there, too."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="specdiff-web-"))
    except OSError as error:
        raise OutputError(f"cannot make a temporary folder: {error.strerror}; set TMPDIR to another place") from None
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    try:
        yield folder
    finally:
        if before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


def be_quiet() -> None:
    """Before Gradio is imported: no reports to anybody, nothing fetched from elsewhere."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"


def check_installed() -> None:
    """Raises UsageError where Gradio is missing."""
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise UsageError("the page needs Gradio: run \"pip install 'specdiff[web]'\"")


@contextlib.contextmanager
def serving(
    studio: "Studio", address: Address, auth: tuple[str, str] | None = None, *, opens_browser: bool = False
) -> Iterator[str]:
    """The page is up inside the block; yields its address. Raises UsageError where it cannot be."""
    address.check_free()
    from specdiff_cli.serving.page import build_page
    from specdiff_cli.serving.style import STYLE, theme

    page = build_page(studio)
    try:
        _, url, _ = page.launch(
            server_name=address.host,
            server_port=address.port,
            inbrowser=opens_browser,
            auth=auth,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            pwa=False,
            run_history=False,
            footer_links=[],
            max_file_size=studio.limits.max_bytes,
            allowed_paths=[],
            app_kwargs={"routes": studio.live.routes()},
            theme=theme(),
            css=STYLE,
        )
        yield url
    finally:
        page.close(verbose=False)

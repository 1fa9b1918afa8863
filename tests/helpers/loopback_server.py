"""An HTTP server on loopback that misbehaves in every way servers do, for tests of downloads."""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from specdiff_cli.weights.progress import Action, SilentProgress

Answer = Callable[["Handler", bytes], None]


@dataclass
class Seen:
    """One request as the server saw it."""

    path: str
    range: str | None
    if_range: str | None
    sent_bytes: int = 0


@dataclass
class Site:
    """What the server offers and how it answers; the last answer of a path's plan repeats."""

    content: dict[str, bytes]
    plan: dict[str, list[Answer]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    def ranges(self) -> list[str | None]:
        return [request.range for request in self.seen]

    def sent(self) -> list[int]:
        return [request.sent_bytes for request in self.seen]


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:  # the name that http.server asks for
        self.seen = Seen(self.path, self.headers["Range"], self.headers["If-Range"])
        self.site.seen.append(self.seen)
        plan = self.site.plan.get(self.path, [])
        answer = (plan.pop(0) if len(plan) > 1 else plan[0]) if plan else proper()
        answer(self, self.site.content.get(self.path, b""))

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, content: bytes) -> None:
        try:
            self.wfile.write(content)
            self.wfile.flush()
        except OSError:
            return
        self.seen.sent_bytes += len(content)


def etag_of(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def proper(stop_after: int | None = None, etag: bool = True, stall_s: float = 0.0) -> Answer:
    """Range, If-Range, 206, 416 as they should be; optionally the body ends early, or after a silence."""

    def answer(handler: Handler, content: bytes) -> None:
        headers = {"ETag": etag_of(content)} if etag else {}
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", handler.seen.range or "")
        if match and handler.seen.if_range in (None, etag_of(content)):
            start = int(match[1])
            if start >= len(content):
                handler.head(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206 if start else 200, Content_Length=len(content) - start, **headers)
        end = len(content) if stop_after is None else min(len(content), start + stop_after)
        handler.body(content[start:end])
        if stall_s:
            time.sleep(stall_s)

    return answer


def ignoring_range(stop_after: int | None = None, content: bytes | None = None) -> Answer:
    def answer(handler: Handler, offered: bytes) -> None:
        body = offered if content is None else content
        handler.head(200, Content_Length=len(body))
        handler.body(body[:stop_after])

    return answer


def status(code: int, **headers: object) -> Answer:
    def answer(handler: Handler, _: bytes) -> None:
        handler.head(code, Content_Length=0, **headers)

    return answer


def page(content_type: str = "text/html; charset=utf-8") -> Answer:
    def answer(handler: Handler, _: bytes) -> None:
        text = b"\n<!DOCTYPE html><title>Log in to the hotel network</title>"
        handler.head(200, Content_Type=content_type, Content_Length=len(text))
        handler.body(text)

    return answer


def chunked(stop_after: int | None = None) -> Answer:
    def answer(handler: Handler, content: bytes) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.close_connection = True
        handler.head(200, Transfer_Encoding="chunked", Connection="close")
        for start in range(0, len(content), 100_000):
            piece = content[start : start + 100_000]
            handler.body(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if stop_after is not None and start >= stop_after:
                return
        handler.body(b"0\r\n\r\n")

    return answer


@contextmanager
def serving(site: Site) -> Iterator[None]:
    """Answer requests for what a site offers, at ``site.url``."""
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Recorder(SilentProgress):
    """A listener that remembers what it heard."""

    def __init__(self) -> None:
        self.starts: list[tuple[Action, int, int | None]] = []
        self.outcomes: list[str] = []
        self.notes: list[str] = []

    def start(self, label: str, action: Action, done_bytes: int, total_bytes: int | None) -> None:
        self.starts.append((action, done_bytes, total_bytes))

    def finish(self, label: str, outcome: str) -> None:
        self.outcomes.append(f"{label}: {outcome}")

    def note(self, line: str) -> None:
        self.notes.append(line)

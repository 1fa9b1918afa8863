"""One file over HTTP: streamed to a temporary name, resumed, retried a bounded number of times.

Knows nothing of models or of the cache's layout, and decides nothing about trust: it answers only "are these all the
bytes that the server has", never "are they the right ones".
"""

import email.utils
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from specdiff_cli.errors import WeightsError
from specdiff_cli.files import reason
from specdiff_cli.weights.cache import PART_SUFFIX, raise_cannot_write
from specdiff_cli.weights.progress import Action, Progress, format_bytes

CHUNK_BYTES = 1 << 18
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
CONTENT_RANGE_PATTERN = re.compile(r"bytes\s+(\d+)-\d+/(\d+|\*)")
RESUME_HINT = "run the same command again to resume"


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """How patient a transfer is."""

    timeout_s: float = 30.0  # longest silence on an open connection
    max_failures: int = 5  # attempts in a row that bring not one new byte
    max_attempts: int = 50  # attempts in all, so that a server that trickles cannot hold us for ever
    backoff_s: float = 1.0  # first wait between attempts; doubles with every failure
    max_wait_s: float = 120.0  # a server that asks for a longer wait is given up on


DEFAULT_OPTIONS = TransferOptions()


@dataclass(frozen=True, slots=True)
class Source:
    """What to fetch. ``label`` is the name users see; size and hash are None where they are not known."""

    label: str
    url: str
    revision: str
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class _PartNote:
    """What a part file is a part of; kept beside it, so that a later run knows whether it may continue."""

    url: str
    revision: str
    sha256: str | None
    etag: str | None = None
    total_bytes: int | None = None


class _RetryError(Exception):
    """An attempt failed in a way that another one may not."""

    def __init__(self, message: str, *, wait_s: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.unreachable = unreachable


class PartFile:
    """A download in progress: ``<target>.part`` holds the bytes, ``<target>.part.json`` says what they are of."""

    def __init__(self, target: Path, source: Source) -> None:
        """Adopt what an earlier run left for this very source; throw away what it left for another one."""
        self.path = target.with_name(target.name + PART_SUFFIX)
        self._note_path = target.with_name(target.name + PART_SUFFIX + ".json")
        self.note = _PartNote(source.url, source.revision, source.sha256, total_bytes=source.size_bytes)
        self._fresh_note = self.note
        left = self._read_note()
        same = left is not None and (left.url, left.revision, left.sha256) == (
            source.url,
            source.revision,
            source.sha256,
        )
        if left is not None and same and source.size_bytes in (None, left.total_bytes):
            self.note = left
        else:
            self.discard()
        total_bytes = self.note.total_bytes
        if total_bytes is not None and self.size_bytes() > total_bytes:
            self.discard()

    def size_bytes(self) -> int:
        """How many bytes are there already."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise_cannot_write(self.path, error)

    def is_complete(self) -> bool:
        """Whether every byte is there, as far as the length is known."""
        return (
            self.note.total_bytes is not None
            and self.size_bytes() == self.note.total_bytes
            and os.path.exists(self.path)
        )

    def discard(self) -> None:
        """Start over: no bytes, nothing known."""
        try:
            self.path.unlink(missing_ok=True)
            self._note_path.unlink(missing_ok=True)
        except OSError as error:
            raise_cannot_write(self.path, error)
        self.note = self._fresh_note

    def forget_note(self) -> None:
        """Remove the note once the part has been given its final name."""
        try:
            self._note_path.unlink(missing_ok=True)
        except OSError as error:
            raise_cannot_write(self._note_path, error)

    def describe(self, etag: str | None, total_bytes: int | None) -> None:
        """Remember what the server says about the file, before the first of its bytes is written."""
        self.note = replace(self.note, etag=etag, total_bytes=total_bytes)
        try:
            self._note_path.write_text(json.dumps(asdict(self.note)) + "\n", encoding="utf-8")
        except OSError as error:
            raise_cannot_write(self._note_path, error)

    def _read_note(self) -> _PartNote | None:
        try:
            note = _PartNote(**json.loads(self._note_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return note if isinstance(note.total_bytes, int | None) and isinstance(note.etag, str | None) else None


def fetch(source: Source, part: PartFile, options: TransferOptions, progress: Progress) -> None:
    """Bring the part file to its full length.

    Raises WeightsError, with the bytes received so far kept for a later run, when the server refuses, keeps failing
    or offers something that cannot be the file.
    """
    most_bytes = part.size_bytes()
    n_failures = 0
    reached = False
    problem = _RetryError("too many attempts")
    for n_attempts in range(1, options.max_attempts + 1):
        if part.is_complete():
            return
        try:
            _attempt(source, part, options, progress)
            return
        except _RetryError as error:
            problem = error
        if problem.unreachable and not reached:
            # The very first contact failed: no name, no route, nobody listening. Waiting would only hide the reason.
            host = urlsplit(source.url).netloc
            raise WeightsError(
                f"{source.label}: cannot reach {host} ({problem}): check the network, proxy and HF_ENDPOINT"
            )
        reached = True
        size_bytes = part.size_bytes()
        n_failures = 0 if size_bytes > most_bytes else n_failures + 1
        most_bytes = max(most_bytes, size_bytes)
        if n_failures >= options.max_failures or n_attempts >= options.max_attempts:
            break
        wait_s = max(problem.wait_s, options.backoff_s * 2 ** max(n_failures - 1, 0))
        if wait_s > options.max_wait_s:
            raise _given_up(source, part, f"{problem}, and asks to wait {wait_s:.0f} s")
        progress.note(f"{source.label}: {problem}; trying again in {wait_s:.3g} s")
        time.sleep(wait_s)
    raise _given_up(source, part, str(problem))


def _given_up(source: Source, part: PartFile, problem: str) -> WeightsError:
    got_bytes, total_bytes = part.size_bytes(), part.note.total_bytes
    if got_bytes == 0 and total_bytes is None:
        return WeightsError(f"{source.label}: {problem}: try again later")
    total = "an unknown number of" if total_bytes is None else str(total_bytes)
    return WeightsError(f"{source.label}: incomplete: got {got_bytes} of {total} bytes ({problem}): {RESUME_HINT}")


def _attempt(source: Source, part: PartFile, options: TransferOptions, progress: Progress) -> None:
    """One request for whatever is still missing."""
    have_bytes = part.size_bytes()
    # The address comes from the lock and HF_ENDPOINT, both checked to be http(s).
    request = urllib.request.Request(source.url)  # noqa: S310
    request.add_header("User-Agent", "specdiff")
    request.add_header("Accept-Encoding", "identity")
    etag = part.note.etag
    if have_bytes:
        request.add_header("Range", f"bytes={have_bytes}-")
        if etag is not None and not etag.startswith("W/"):  # a weak tag says nothing about single bytes
            request.add_header("If-Range", etag)
    opener = urllib.request.build_opener(_SafeRedirects(source))
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=options.timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            _refused(source, part, error)
        return
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a name that cannot be a host's
        raise _connection_error(source, error, options) from error
    with response:
        _receive(source, part, response, have_bytes, options, progress)


def _refused(source: Source, part: PartFile, error: urllib.error.HTTPError) -> None:
    """Judge a status that is no success; returns only if the part turns out to be complete."""
    status = " ".join(f"HTTP {error.code} {error.reason}".split())
    host = urlsplit(source.url).netloc
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.size_bytes():
        # Nothing lies beyond our last byte: either that was all of it, or the file is another one by now.
        match = re.fullmatch(r"bytes\s+\*/(\d+)", error.headers.get("Content-Range", "").strip())
        if match and int(match[1]) == part.size_bytes() and source.size_bytes in (None, part.size_bytes()):
            part.describe(part.note.etag, part.size_bytes())
            return
        part.discard()
        raise _RetryError("the server no longer has the file that was begun, starting over")
    if error.code in RETRIED_STATUSES:
        raise _RetryError(f"{host} answers {status}", wait_s=_retry_after_s(error.headers))
    raise WeightsError(f"{source.label}: {source.url} answers {status}: check HF_ENDPOINT, or try again later")


def _receive(
    source: Source,
    part: PartFile,
    response: http.client.HTTPResponse,
    have_bytes: int,
    options: TransferOptions,
    progress: Progress,
) -> None:
    """Append (206) or write anew (200) the body of a successful answer."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise WeightsError(f"{source.label}: the server sends it {encoding}-encoded: check the proxy and HF_ENDPOINT")
    resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
    total_bytes = _resumed_total(part, response, have_bytes) if resumed else _content_length(response)
    if source.size_bytes is not None and total_bytes not in (None, source.size_bytes):
        verdict = "incomplete" if total_bytes is not None and total_bytes < source.size_bytes else "wrong content"
        offer = f"the server offers {total_bytes} bytes, expected {source.size_bytes}"
        raise WeightsError(f"{source.label}: {verdict}: {offer}: check HF_ENDPOINT, or try again later")
    if total_bytes is None:
        total_bytes = source.size_bytes
    if total_bytes is None and source.sha256 is None and not response.chunked:
        # The end of such an answer looks like a broken connection, and there is no hash to tell them apart.
        raise WeightsError(f"{source.label}: the server does not say how long it is: check the proxy and HF_ENDPOINT")
    start_bytes = have_bytes if resumed else 0
    remaining_bytes = None if total_bytes is None else total_bytes - start_bytes
    # Read before anything is thrown away: a login page must not replace the bytes of an interrupted download.
    chunk = _read(response, remaining_bytes, options)
    if not resumed and _is_web_page(chunk, response.headers):
        raise WeightsError(
            f"{source.label}: wrong content: got a web page in place of the file: check the network's login page, "
            "the proxy and HF_ENDPOINT"
        )
    _require_space(source, part, remaining_bytes if resumed else (remaining_bytes or 0) - have_bytes)
    progress.start(source.label, Action.RESUMING if resumed else Action.DOWNLOADING, start_bytes, total_bytes)
    done_bytes = start_bytes
    try:
        with part.path.open("ab" if resumed else "wb") as out:
            part.describe(response.headers.get("ETag") or (part.note.etag if resumed else None), total_bytes)
            while chunk:
                out.write(chunk)
                done_bytes += len(chunk)
                progress.advance(done_bytes)
                chunk = _read(response, None if total_bytes is None else total_bytes - done_bytes, options)
    except OSError as error:  # only the disk's: those of the connection are turned into _RetryError by _read
        raise_cannot_write(part.path, error)
    if total_bytes is not None and done_bytes < total_bytes:
        raise _RetryError("the connection was closed early")
    part.describe(part.note.etag, done_bytes)


def _read(response: http.client.HTTPResponse, remaining_bytes: int | None, options: TransferOptions) -> bytes:
    """What has arrived, at most one chunk; empty at the end. Never waits for more once something is there."""
    try:
        return response.read1(CHUNK_BYTES if remaining_bytes is None else min(CHUNK_BYTES, remaining_bytes))
    except TimeoutError as error:
        raise _RetryError(f"nothing received for {options.timeout_s:.3g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise _RetryError("the connection was closed early") from error


def _resumed_total(part: PartFile, response: http.client.HTTPResponse, have_bytes: int) -> int | None:
    """The whole file's length according to a 206 answer, once it is sure to continue what we have."""
    match = CONTENT_RANGE_PATTERN.fullmatch(response.headers.get("Content-Range", "").strip())
    total_bytes = int(match[2]) if match and match[2] != "*" else part.note.total_bytes
    etag = response.headers.get("ETag")
    changed = part.note.etag is not None and etag is not None and etag != part.note.etag
    changed |= part.note.total_bytes is not None and total_bytes != part.note.total_bytes
    if match is None or int(match[1]) != have_bytes or changed:
        part.discard()
        raise _RetryError("the file has changed on the server since it was begun, starting over")
    return total_bytes


def _content_length(response: http.client.HTTPResponse) -> int | None:
    value = response.headers.get("Content-Length", "").strip()
    return int(value) if value.isdecimal() and not response.chunked else None


def _is_web_page(start: bytes, headers: Message) -> bool:
    """Whether a body is HTML: hotel networks and broken mirrors answer every request with 200 and a page."""
    text = start.lstrip()[:64].lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return True
    return headers.get_content_type() in ("text/html", "application/xhtml+xml") and text.startswith(b"<")


def _require_space(source: Source, part: PartFile, needed_bytes: int | None) -> None:
    """Fail before the transfer rather than near its end when the disk is plainly too small."""
    try:
        free_bytes = shutil.disk_usage(part.path.parent).free
    except OSError:
        return
    if needed_bytes is not None and needed_bytes > free_bytes:
        sizes = f"{format_bytes(needed_bytes)} needed, {format_bytes(free_bytes)} free in {part.path.parent}"
        raise WeightsError(f"{source.label}: not enough space ({sizes}): free some, or set SPECDIFF_CACHE elsewhere")


def _retry_after_s(headers: Message) -> float:
    """The wait a server asks for, as seconds or as a date; 0 where it asks for none."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _connection_error(source: Source, error: Exception, options: TransferOptions) -> Exception:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        host = urlsplit(source.url).netloc
        return WeightsError(f"{source.label}: the certificate of {host} is not valid ({cause.verify_message})")
    if isinstance(cause, TimeoutError):
        return _RetryError(f"no answer for {options.timeout_s:.3g} s")
    words = reason(cause) if isinstance(cause, OSError) else " ".join(str(cause).split())
    # Dropped connections are worth another try; anything else on this level means that nobody is there.
    dropped = isinstance(cause, ConnectionResetError | ConnectionAbortedError | BrokenPipeError)
    dropped |= isinstance(cause, http.client.HTTPException)
    return _RetryError(words or type(cause).__name__, unreachable=not dropped)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects (headers, Range among them, are kept) but never from https down to anything else."""

    def __init__(self, source: Source) -> None:
        self._label = source.label
        self._schemes = ("http", "https") if urlsplit(source.url).scheme == "http" else ("https",)

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        parts = urlsplit(newurl)
        if parts.scheme not in self._schemes:
            fp.close()
            raise WeightsError(f"{self._label}: redirected to {parts.scheme}://{parts.netloc}, which is not secure")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

"""``weights.lock``: which files belong to a model, where they come from and which bytes are trusted.

The lock is the root of trust of everything that is downloaded or bundled, so it is read strictly: an unknown key, a
hash of the wrong shape or a path that could leave its folder is an error, never a guess.
"""

import hashlib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

from specdiff_cli.errors import UsageError, WeightsError
from specdiff_cli.model.config import REFERENCE_CONFIGS

LOCK_NAME = "weights.lock"
LOCK_VERSION = 1
DEFAULT_ENDPOINT = "https://huggingface.co"
READ_BYTES = 1 << 20
DEFAULT_SOURCE = "huggingface"
CHECKPOINT_SUFFIX = ".zip"

#: What a download is: a folder that is loaded as it is, or an original checkpoint that is converted to a voice.
Layout = Literal["diffusers", "t5x"]

# One folder or file name. A leading dot is refused, which rules out "..", "." and the cache's own bookkeeping at once.
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?"
_NAME_PATTERN = re.compile(_NAME)
PATH_PATTERN = re.compile(rf"{_NAME}(?:/{_NAME})*")
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
_PLACEHOLDER_PATTERN = re.compile(r"\{[^}]*\}?|\}")
_RESERVED_SUFFIXES = (".part", ".part.json", ".lock")  # names that the cache uses beside the files themselves


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One downloadable file.

    ``url`` is a template over ``{endpoint}``; ``sha256`` is None where the right content is not known (unpinned).
    ``size_bytes`` is exact; ``about_bytes`` is an estimate for display.
    """

    path: str
    url: str
    revision: str
    size_bytes: int | None = None
    about_bytes: int | None = None
    sha256: str | None = None
    note: str = ""

    def resolved_url(self, endpoint_url: str) -> str:
        """The address to fetch, given :func:`endpoint`'s answer."""
        return self.url.replace("{endpoint}", endpoint_url)


@dataclass(frozen=True, slots=True)
class LockedModel:
    """A model that can be downloaded from one place.

    ``revision`` names what is there, and its folder in the cache. ``architecture`` is a key of
    :data:`~specdiff_cli.model.config.REFERENCE_CONFIGS`, None where it is not known beforehand. ``others``: the same
    model at other places, by their names; those are no first choice.
    """

    name: str
    description: str
    license: str
    revision: str
    files: tuple[LockedFile, ...]
    source: str = DEFAULT_SOURCE
    layout: Layout = "diffusers"
    architecture: str | None = None
    others: Mapping[str, "LockedModel"] = field(default_factory=dict)
    is_first_choice: bool = True

    @property
    def places(self) -> "tuple[LockedModel, ...]":
        """This model at every place that has it, the first choice first."""
        return (self, *self.others.values())

    @property
    def checkpoint(self) -> LockedFile | None:
        """The file that is converted to a voice, of layouts that cannot be loaded as they are."""
        if self.layout == "diffusers":
            return None
        return next(file for file in self.files if file.path.endswith(CHECKPOINT_SUFFIX))


@dataclass(frozen=True, slots=True)
class BundledFile:
    """One file of a voice inside the package; ``path`` is relative to the voice's folder."""

    path: str
    sha256: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BundledVoice:
    """A voice that ships inside the package."""

    name: str
    description: str
    license: str
    files: tuple[BundledFile, ...]


@dataclass(frozen=True, slots=True)
class Lock:
    """Everything ``weights.lock`` knows, by name."""

    models: Mapping[str, LockedModel]
    bundled: Mapping[str, BundledVoice]
    composers: Mapping[str, BundledVoice] = field(default_factory=dict)

    def model(self, name: str, source: str | None = None) -> LockedModel:
        """The downloadable model of that name, at its first choice of a place or at ``source``.

        Raises WeightsError naming the known ones.
        """
        if name not in self.models:
            known = ", ".join(sorted(self.models)) or "none"
            raise WeightsError(f'unknown model "{name}": models that can be downloaded are: {known}')
        places = {place.source: place for place in self.models[name].places}
        if source is None:
            return self.models[name]
        if source not in places:
            raise WeightsError(f'{name}: is not to be had from "{source}", only from {" or ".join(places)}')
        return places[source]

    def voice(self, name: str) -> BundledVoice:
        """The bundled voice of that name; raises WeightsError naming the known ones."""
        if name in self.bundled:
            return self.bundled[name]
        known = ", ".join(sorted(self.bundled)) or "none"
        raise WeightsError(f'unknown voice "{name}": voices inside this package are: {known}')


def lock_path() -> Path:
    """The lock beside this module (an installed wheel) or at the top of the checkout (an editable install)."""
    here = Path(os.path.realpath(__file__))
    for candidate in (here.with_name(LOCK_NAME), here.parents[2] / LOCK_NAME):
        if os.path.isfile(candidate):
            return candidate
    raise WeightsError(f"{LOCK_NAME} is missing from this installation: reinstall specdiff")


def load_lock(path: Path | None = None) -> Lock:
    """Read and validate the lock (the shipped one unless ``path`` is given); raises WeightsError."""
    path = lock_path() if path is None else path
    try:
        return parse_lock(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}): reinstall specdiff") from error


def parse_lock(text: str) -> Lock:
    """Turn the text of a lock into a :class:`Lock`; raises WeightsError saying which entry is wrong, and how."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WeightsError(f"{LOCK_NAME}: not valid TOML: {error}") from error
    top = _Table(LOCK_NAME, document, "lock_version", "models", "bundled", "composers")
    version = top.integer("lock_version")
    if version != LOCK_VERSION:
        raise top.error(f"lock_version is {version}, this specdiff reads {LOCK_VERSION}: update specdiff")
    models = {name: _model(name, where, value) for name, where, value in top.named("models")}
    bundled = {name: _bundled(name, where, value) for name, where, value in top.named("bundled")}
    composers = {name: _bundled(name, where, value) for name, where, value in top.named("composers")}
    for name in sorted(models.keys() & bundled.keys()):
        raise top.error(f'"{name}" is both a model and a bundled voice')
    return Lock(MappingProxyType(models), MappingProxyType(bundled), MappingProxyType(composers))


def endpoint() -> str:
    """The host that ``{endpoint}`` stands for, without a trailing slash: ``HF_ENDPOINT``, else Hugging Face.

    Raises UsageError when the variable is set to something that is no http(s) address.
    """
    address = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or DEFAULT_ENDPOINT
    remedy = "it must be an address like https://huggingface.co: correct or unset it"
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or re.search(r"[^\x21-\x7e]|[{}?#]", address):
        raise UsageError(f"HF_ENDPOINT is {address!r}: {remedy}")
    return address


def file_sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Hash a file in constant memory; ``on_bytes`` hears how many bytes are done so far. Raises OSError."""
    digest = hashlib.sha256()
    done_bytes = 0
    with path.open("rb") as stream:
        while chunk := stream.read(READ_BYTES):
            digest.update(chunk)
            done_bytes += len(chunk)
            if on_bytes is not None:
                on_bytes(done_bytes)
    return digest.hexdigest()


def verify_bundled(name: str, *, lock: Lock | None = None, voices_folder: Path | None = None) -> Path:
    """Hash every file of a bundled voice and return the voice's folder.

    Always hashes: the files are small, and site-packages may be shared or read-only.
    Raises WeightsError when the voice is unknown or a file is missing, incomplete or of other content.
    """
    voice = (load_lock() if lock is None else lock).voice(name)
    folder = bundled_folder(name) if voices_folder is None else voices_folder / name
    if not voice.files:
        raise WeightsError(f'{LOCK_NAME} lists no files for the bundled voice "{name}": reinstall specdiff')
    for file in voice.files:
        problem = check_bundled_file(folder, file)
        if problem is not None:
            raise WeightsError(f"{folder / file.path}: {problem}: reinstall specdiff")
    return folder


def bundled_folder(name: str) -> Path:
    """Where a bundled voice lies inside the package."""
    return Path(os.path.realpath(__file__)).parents[1] / "voices" / name


def check_bundled_file(folder: Path, file: BundledFile) -> str | None:
    """What is wrong with a file of a bundled voice, as a phrase; None when it is right."""
    path = folder / file.path
    try:
        size_bytes = path.stat().st_size
        if file.size_bytes is not None and size_bytes < file.size_bytes:
            return f"incomplete: got {size_bytes} of {file.size_bytes} bytes"
        found = file_sha256(path)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None if found == file.sha256 else f"wrong content: sha256 is {found}, expected {file.sha256}"


class _Table:
    """A TOML table under strict reading: each key is known, and each value has the one type it may have."""

    def __init__(self, where: str, value: object, *allowed: str) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise self.error("must be a table")
        self._values: dict[str, Any] = value
        for key in sorted(value.keys() - set(allowed)):
            raise self.error(f'unknown key "{key}" (known: {", ".join(allowed)})')

    def error(self, message: str) -> WeightsError:
        return WeightsError(f"{self.where}: {message}")

    def text(self, key: str, pattern: re.Pattern[str] | None = None, expected: str = "a text") -> str:
        if key not in self._values:
            raise self.error(f'the key "{key}" is missing')
        value = self._values[key]
        # Newlines are refused because these texts end up in one-line messages.
        valid = isinstance(value, str) and bool(value) and value.isprintable()
        if not valid or (pattern is not None and not pattern.fullmatch(value)):
            raise self.error(f"{key} is {value!r}: expected {expected}")
        return str(value)

    def optional_text(self, key: str, pattern: re.Pattern[str] | None = None, expected: str = "a text") -> str | None:
        return self.text(key, pattern, expected) if key in self._values else None

    def integer(self, key: str) -> int:
        value = self._values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(f"{key} is {value!r}: expected a whole number above 0")
        return value

    def optional_integer(self, key: str) -> int | None:
        return self.integer(key) if key in self._values else None

    def named(self, key: str) -> list[tuple[str, str, object]]:
        """(name, where, value) for each table below ``key``."""
        section = self._values.get(key, {})
        if not isinstance(section, dict):
            raise self.error(f"{key} must be a table")
        for name in section:
            if not _NAME_PATTERN.fullmatch(name):
                raise self.error(f"{key}: {name!r} is no plain name")
        where = f"{LOCK_NAME}: {key}" if self.where == LOCK_NAME else f"{self.where}.{key}"
        return [(name, f"{where}.{name}", value) for name, value in section.items()]

    def files(self) -> list[tuple[str, object]]:
        """(where, value) for each entry of ``files``."""
        entries = self._values.get("files")
        if not isinstance(entries, list):
            raise self.error("files must be a list of tables")
        return [(f"{self.where}.files[{index}]", entry) for index, entry in enumerate(entries)]

    def path(self) -> str:
        path = self.text("path", PATH_PATTERN, 'a relative path of plain names, such as "decoder/config.json"')
        if path.casefold().endswith(_RESERVED_SUFFIXES):
            raise self.error(f"path {path!r} ends like one of the cache's own files")
        return path

    def require_distinct(self, paths: list[str]) -> None:
        # Compared without case: two such names are one file on macOS and Windows.
        folded = [path.casefold() for path in paths]
        for path, key in zip(paths, folded, strict=True):
            if folded.count(key) > 1:
                raise self.error(f"path {path!r} appears twice")


def _model(name: str, where: str, value: object) -> LockedModel:
    table = _Table(where, value, "description", "license", "architecture", "source", "sources", *_PLACE_KEYS)
    description, license_name = table.text("description"), table.text("license")
    source = table.optional_text("source", _NAME_PATTERN, "a plain name") or DEFAULT_SOURCE
    architecture = table.optional_text("architecture")
    if architecture is not None and architecture not in REFERENCE_CONFIGS:
        raise table.error(f"architecture is {architecture!r}: expected one of {', '.join(REFERENCE_CONFIGS)}")
    others = {}
    for other, at, entry in table.named("sources"):
        revision, layout, files = _place(_Table(at, entry, *_PLACE_KEYS))
        others[other] = LockedModel(
            name, description, license_name, revision, files, other, layout, architecture, is_first_choice=False
        )
    revision, layout, files = _place(table)
    model = LockedModel(
        name, description, license_name, revision, files, source, layout, architecture, MappingProxyType(others)
    )
    if source in others:
        raise table.error(f'"{source}" is its source and one of its other sources, too')
    revisions = {place.revision.casefold() for place in model.places}
    if len(revisions) < len(model.places):
        raise table.error("two of its sources have the same revision, which names their folders in the cache")
    return model


_PLACE_KEYS = ("revision", "layout", "files")


def _place(table: "_Table") -> tuple[str, Layout, tuple[LockedFile, ...]]:
    """What a model is made of at one place: revision, layout and files."""
    revision = table.text("revision", _NAME_PATTERN, "a commit or tag of plain characters")
    layout = table.optional_text("layout") or "diffusers"
    if layout not in get_args(Layout):
        raise table.error(f"layout is {layout!r}: expected one of {', '.join(get_args(Layout))}")
    files = tuple(_file(where, entry, revision) for where, entry in table.files())
    if not files:
        raise table.error("lists no files")
    table.require_distinct([file.path for file in files])
    if layout != "diffusers" and sum(file.path.endswith(CHECKPOINT_SUFFIX) for file in files) != 1:
        raise table.error(f"layout {layout} needs one file that ends in {CHECKPOINT_SUFFIX}")
    return revision, cast(Layout, layout), files


def _file(where: str, value: object, revision: str) -> LockedFile:
    table = _Table(where, value, "path", "url", "size_bytes", "about_bytes", "sha256", "note")
    return LockedFile(
        path=table.path(),
        url=_url(table, revision),
        revision=revision,
        size_bytes=table.optional_integer("size_bytes"),
        about_bytes=table.optional_integer("about_bytes"),
        sha256=table.optional_text("sha256", SHA256_PATTERN, "64 lower-case hexadecimal digits"),
        note=table.optional_text("note") or "",
    )


def _url(table: _Table, revision: str) -> str:
    template = table.text("url").replace("{revision}", revision)
    if not template.startswith(("{endpoint}/", "https://")):
        raise table.error(f"url {template!r} must start with {{endpoint}}/ or https://")
    for placeholder in _PLACEHOLDER_PATTERN.findall(template.removeprefix("{endpoint}")):
        raise table.error(f"url: unknown placeholder {placeholder} (known: {{endpoint}} at the start, {{revision}})")
    if not template.isascii() or " " in template:
        raise table.error(f"url {template!r} holds characters that must be percent-encoded")
    return template


def _bundled(name: str, where: str, value: object) -> BundledVoice:
    table = _Table(where, value, "description", "license", "files")
    entries = [_Table(entry_where, entry, "path", "size_bytes", "sha256") for entry_where, entry in table.files()]
    files = tuple(
        BundledFile(
            path=entry.path(),
            sha256=entry.text("sha256", SHA256_PATTERN, "64 lower-case hexadecimal digits"),
            size_bytes=entry.optional_integer("size_bytes"),
        )
        for entry in entries
    )
    table.require_distinct([file.path for file in files])
    return BundledVoice(name, table.text("description"), table.text("license"), files)

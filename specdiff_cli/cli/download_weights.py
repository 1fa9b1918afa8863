"""``specdiff download-weights``: fetch, list and verify published weights.

PyTorch is loaded only to convert an original checkpoint.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specdiff_cli.cli import completion as complete
from specdiff_cli.cli.models import print_columns, shown_size
from specdiff_cli.cli.progress import can_draw
from specdiff_cli.errors import UsageError
from specdiff_cli.weights import cache
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.inventory import FileEntry, ModelEntry, list_entries
from specdiff_cli.weights.lock import Lock, load_lock, verify_bundled
from specdiff_cli.weights.progress import SILENT, Action, Progress, format_bytes
from specdiff_cli.weights.transfer import DEFAULT_OPTIONS, TransferOptions

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

DEFAULT_MODEL = "base"
SHORT_SHA256_DIGITS = 12
LISTING_HEADER = ("MODEL", "SOURCE", "FILE", "SIZE", "SHA256", "STATE")


def download_weights(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help=f"Which model; see --list.  (default: {DEFAULT_MODEL})",
            show_default=False,
            autocompletion=complete.models,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            autocompletion=complete.one_of("huggingface", "gcs"),
            help="huggingface or gcs (the reference's own checkpoints, which are converted).",
            show_default="the model's first",
        ),
    ] = None,
    list_models: Annotated[
        bool, typer.Option("--list", help="List models, files, sizes, hashes and what is in the cache; fetch nothing.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every byte that is in the cache; fetch nothing.")
    ] = False,
    allow_unpinned: Annotated[
        bool,
        typer.Option(
            "--allow-unpinned",
            help="Also accept files whose sha256 is not in weights.lock: the hash seen the first time is recorded, "
            "and nothing else is accepted later.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is already there.")] = False,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", min=1.0, metavar="SECONDS", help="Give a silent connection up after this long."),
    ] = DEFAULT_OPTIONS.timeout_s,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: machine-readable, on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something fails.")] = False,
) -> None:
    """Download published weights, resuming where an interrupted download stopped.

    Every file is checked against its sha256 before it is used. Ctrl-C stops;
    the same command again fetches only the bytes that are still missing.
    What exists is listed by `specdiff models`, file by file by --list.

    \b
    Examples:
      specdiff download-weights --list
      specdiff download-weights base
      specdiff download-weights small --source gcs --allow-unpinned
      specdiff download-weights base --verify
      HF_ENDPOINT=https://hf-mirror.example specdiff download-weights --list

    \b
    Environment:
      SPECDIFF_CACHE    where files are kept
      HF_ENDPOINT       a mirror to use in place of https://huggingface.co
      HF_HUB_OFFLINE=1  never use the network
      HTTPS_PROXY       a proxy

    Exit codes: 0 done, 2 usage, 4 weights missing, incomplete, of wrong content
    or unavailable, 130 interrupted, 143 terminated.
    """
    _require_combination(list_models, verify, force, allow_unpinned, as_json)
    lock = load_lock()
    if list_models:
        _show_list(lock, model, source, as_json)
        return
    name = DEFAULT_MODEL if model is None else model
    if name in lock.bundled:
        if source is not None:
            raise UsageError(f"--source {source}: {name} ships with specdiff, there is nothing to download")
        folder = verify_bundled(name, lock=lock)
        if not quiet:
            _say(f"{name}: ships with specdiff, nothing to download; verified in {folder}")
        return
    options = TransferOptions(timeout_s=timeout_s)
    with _listener(quiet) as progress:
        try:
            if verify:
                folder = cache.verify_model(name, source=source, lock=lock, progress=progress)
            else:
                folder = download_model(
                    name,
                    source=source,
                    lock=lock,
                    allow_unpinned=allow_unpinned,
                    force=force,
                    options=options,
                    progress=progress,
                )
        except KeyboardInterrupt:
            progress.note(f"{name}: interrupted; what has arrived is kept, run the same command again to resume")
            raise
    if not quiet:
        _say(f"{name}: verified in {folder}")


def _require_combination(list_models: bool, verify: bool, force: bool, allow_unpinned: bool, as_json: bool) -> None:
    """Refuse options that contradict each other or would silently do nothing."""
    fetching = [name for name, given in (("--force", force), ("--allow-unpinned", allow_unpinned)) if given]
    if list_models and verify:
        raise UsageError("--list and --verify cannot be combined: give one of them")
    if fetching and (list_models or verify):
        raise UsageError(f"{fetching[0]} has no effect with --list or --verify, which fetch nothing: leave it out")
    if as_json and not list_models:
        raise UsageError("--json belongs to --list: add --list")


def _say(line: str) -> None:
    typer.echo(line, err=True)


# --- listing ---------------------------------------------------------------------------------------------------------


def _show_list(lock: Lock, only: str | None, source: str | None, as_json: bool) -> None:
    if only is not None and only not in lock.bundled:
        lock.model(only, source)  # raises for a name that is neither
    entries = [entry for entry in list_entries(lock) if only in (None, entry.model) and source in (None, entry.source)]
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    print_columns(LISTING_HEADER, [_row(entry, file) for entry in entries for file in entry.files])


def _row(entry: ModelEntry, file: FileEntry) -> tuple[str, ...]:
    size = shown_size(file.size_bytes or file.about_bytes, is_estimate=file.size_bytes is None)
    if file.sha256 is not None:
        sha256 = file.sha256[:SHORT_SHA256_DIGITS] + "…"
    else:
        recorded = file.recorded_sha256
        sha256 = "not pinned" if recorded is None else f"recorded {recorded[:SHORT_SHA256_DIGITS]}…"
    state = file.state if entry.kind == "download" else f"{file.state} (bundled)"
    return (entry.model, entry.source, file.path, size, sha256, state)


# --- progress on standard error --------------------------------------------------------------------------------------


@contextmanager
def _listener(quiet: bool) -> Iterator[Progress]:
    """A bar on a terminal, plain lines elsewhere, nothing when quiet."""
    if quiet:
        yield SILENT
    elif not can_draw():
        yield _LineProgress()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        def column(**options: Any) -> Column:
            return Column(no_wrap=True, **options)  # a bar that breaks into two lines flickers

        columns = (
            TextColumn("{task.description}", markup=False, table_column=column(overflow="ellipsis")),
            BarColumn(bar_width=16),
            DownloadColumn(table_column=column()),
            TransferSpeedColumn(table_column=column()),
            TimeRemainingColumn(table_column=column()),
        )
        with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:
            yield _BarProgress(bars)


class _LineProgress:
    """One line when a file begins and one when it ends: right for log files."""

    def start(self, label: str, action: Action, done_bytes: int, total_bytes: int | None) -> None:
        if action is Action.VERIFYING:
            return
        if action is Action.CONVERTING:
            _say(f"{label}: converting to a voice")
            return
        size = "of unknown size" if total_bytes is None else format_bytes(total_bytes)
        already = f" after {format_bytes(done_bytes)}" if done_bytes else ""
        _say(f"{label}: {action} {size}{already}")

    def advance(self, done_bytes: int) -> None:
        pass

    def finish(self, label: str, outcome: str) -> None:
        _say(f"{label}: {outcome}")

    def note(self, line: str) -> None:
        _say(line)


class _BarProgress:
    """One bar for the file at hand; finished files scroll away above it."""

    def __init__(self, bars: "RichProgress") -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def start(self, label: str, action: Action, done_bytes: int, total_bytes: int | None) -> None:
        self._drop()
        self._task = self._bars.add_task(f"{action} {label}", completed=done_bytes, total=total_bytes)

    def advance(self, done_bytes: int) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=done_bytes)

    def finish(self, label: str, outcome: str) -> None:
        self._drop()
        self.note(f"{label}: {outcome}")

    def note(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False)

    def _drop(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None

"""``specdiff models``, ``download-weights`` and ``convert``: what there is to render with, and how to get more.

PyTorch is loaded only to convert a checkpoint.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from specdiff_cli.choices import SOURCES
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.guard import guarded
from specdiff_cli.cli.progress import download_display, say, teller
from specdiff_cli.cli.shared_options import argument, option, record_of
from specdiff_cli.cli.tables import print_columns, print_facts
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.weights import cache
from specdiff_cli.weights.checkpoints.conversion import ConvertRequest, convert_checkpoint
from specdiff_cli.weights.description import described, facts_of, file_cells, model_cells, summary_of
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.inventory import find_details, list_entries
from specdiff_cli.weights.lock import Lock, load_lock, verify_bundled
from specdiff_cli.weights.transfer import DEFAULT_OPTIONS, TransferOptions

MODELS_HEADER = ("NAME", "STATE", "SOURCE", "SIZE", "HASHES", "LICENCE", "INSTRUMENTS")
FILES_HEADER = ("MODEL", "SOURCE", "FILE", "SIZE", "SHA256", "STATE")
DEFAULT_MODEL = "base"

AsJson = Annotated[bool, option("Machine-readable, on standard output.", "--json")]


def list_models(context: typer.Context, as_json: AsJson = False, debug: shared.Debug = False) -> None:
    """List models: bundled, downloaded, or available for download.

    NAME is what `render --model` takes. A model that is to be had at several
    places has a line for each.

    \b
    Examples:
      specdiff models
      specdiff models --json
      specdiff models show tiny
      specdiff models show voices/mine --json

    Exit codes: 0 done, 2 usage, 4 weights.lock cannot be read.
    """
    if context.invoked_subcommand is not None:
        return
    entries = list_entries(load_lock())
    if as_json:
        typer.echo(json.dumps([summary_of(entry) for entry in entries], indent=2))
        return
    print_columns(MODELS_HEADER, [model_cells(entry) for entry in entries])


def show_model(
    name: Annotated[
        str, argument("A model's name, or a folder of weights.", metavar="NAME|DIR", offer=complete.models)
    ],
    as_json: AsJson = False,
    debug: shared.Debug = False,
) -> None:
    """Show one model: architecture, sampling, presets, vocoder, instruments, files.

    The files of the package and of folders that you name are hashed now; of
    downloads, `download-weights NAME --verify` hashes every byte.

    \b
    Examples:
      specdiff models show base
      specdiff models show voices/mine --json

    Exit codes: 0 done, 2 usage, 4 neither a known model nor a folder of weights.
    """
    details = find_details(name, load_lock())
    if as_json:
        typer.echo(json.dumps(described(details), indent=2))
        return
    print_facts(facts_of(details))


def list_instruments(as_json: AsJson = False, debug: shared.Debug = False) -> None:
    """List the instruments: what --only, --mute, --program and --swap call them.

    Numbers, as MIDI files have them, and beginnings of names do as well;
    `drums` are channel 10.

    \b
    Examples:
      specdiff models instruments | grep -i guitar
      specdiff render duo.mid --swap piano=cello

    Exit codes: 0 done, 2 usage.
    """
    from specdiff_cli.midi.instruments import FAMILIES
    from specdiff_cli.midi.programs import all_programs

    rows = all_programs()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    print_columns(("PROGRAM", "NAME", "PLAYED BY 34-CLASS VOICES AS"), [[*map(str, row.values())] for row in rows])
    typer.echo(f"\nfamilies: {', '.join(FAMILIES)}; drums")


def download_weights(
    model: Annotated[
        str | None,
        argument(f"Which model; see --list.  (default: {DEFAULT_MODEL})", metavar="MODEL", offer=complete.models),
    ] = None,
    source: Annotated[
        str | None,
        option(
            "huggingface or gcs (the reference's own checkpoints, which are converted).",
            metavar="PLACE",
            default="the model's first",
            offer=complete.one_of(*SOURCES),
        ),
    ] = None,
    list_models: Annotated[
        bool, option("List models, files, sizes, hashes and what is in the cache; fetch nothing.", "--list")
    ] = False,
    verify: Annotated[bool, option("Hash every byte that is in the cache; fetch nothing.", "--verify")] = False,
    allow_unpinned: Annotated[
        bool,
        option(
            "Also accept files whose sha256 is not in weights.lock: the hash seen the first time is recorded, "
            "and nothing else is accepted later.",
            "--allow-unpinned",
        ),
    ] = False,
    force: Annotated[bool, option("Fetch again what is already there.", "--force")] = False,
    timeout_s: Annotated[
        float, option("Give a silent connection up after this long.", "--timeout", metavar="SECONDS", min=1.0)
    ] = DEFAULT_OPTIONS.timeout_s,
    as_json: Annotated[bool, option("With --list: machine-readable, on standard output.", "--json")] = False,
    quiet: Annotated[bool, option("Say nothing unless something fails.", "--quiet", "-q")] = False,
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
    lock, tell = load_lock(), teller(quiet)
    if list_models:
        _show_list(lock, model, source, as_json)
        return
    name = DEFAULT_MODEL if model is None else model
    if name in lock.bundled:
        if source is not None:
            raise UsageError.of("source", source, f"{name} ships with specdiff, there is nothing to download")
        folder = verify_bundled(name, lock=lock)
        tell(f"{name}: ships with specdiff, nothing to download; verified in {folder}")
        return
    options = TransferOptions(timeout_s=timeout_s)
    with download_display(quiet) as progress:
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
    tell(f"{name}: verified in {folder}")


def _require_combination(list_models: bool, verify: bool, force: bool, allow_unpinned: bool, as_json: bool) -> None:
    """Refuse options that contradict each other or would silently do nothing."""
    fetching = [name for name, given in (("force", force), ("allow_unpinned", allow_unpinned)) if given]
    if list_models and verify:
        raise UsageError.of("list", None, "cannot be combined with ", Option("verify"), ": give one of them")
    listing = Option("list" if list_models else "verify")
    if fetching and (list_models or verify):
        raise UsageError.of(fetching[0], None, "has no effect with ", listing, ", which fetches nothing: leave it out")
    if as_json and not list_models:
        raise UsageError.of("json", None, "belongs to ", Option("list"), ", which is missing")


def _show_list(lock: Lock, only: str | None, source: str | None, as_json: bool) -> None:
    if only is not None and only not in lock.bundled:
        lock.model(only, source)  # raises for a name that is neither
    entries = [entry for entry in list_entries(lock) if only in (None, entry.model) and source in (None, entry.source)]
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    print_columns(FILES_HEADER, [file_cells(entry, file) for entry in entries for file in entry.files])


def convert(
    source: Annotated[str, argument("Checkpoint: a folder, zip or file, or a downloaded model's name.", metavar="SRC")],
    target: Annotated[Path, argument("Folder to write.", metavar="DST")],
    to: Annotated[str, option("voice or diffusers.", "--to", metavar="LAYOUT")] = "voice",
    name: Annotated[str | None, option("Name of the voice; by default the folder's.")] = None,
    licence: Annotated[
        str | None, option("Licence of the weights, where you know it.", "--licence", "--license")
    ] = None,
    origin: Annotated[str | None, option("Where the weights come from, in a few words.", "--source")] = None,
    overwrite: Annotated[bool, option("Replace a voice that is there.", "--overwrite", "-f")] = False,
    as_json: Annotated[bool, option("What was read and written, as one line of JSON.", "--json")] = False,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Convert a checkpoint to a voice, or a voice to the Diffusers layout.

    Reads T5X checkpoints (MessagePack or Zarr; from the zip or the folder),
    Diffusers folders, PyTorch Lightning checkpoints of
    music-spectrogram-diffusion-pytorch, and voices. Every array must have its
    place and its shape. The folder is there when it is complete, and not before.

    \b
    Examples:
      specdiff convert base_with_context.zip voices/base
      specdiff render song.mid --model voices/base
      specdiff convert voices/base base-diffusers --to diffusers

    \b
    Exit codes: 0 done, 2 usage, 4 weights, 5 output.
    """
    request = record_of(ConvertRequest, locals())
    done = convert_checkpoint(request, teller(quiet))
    if not quiet:
        for line in done.lines():
            say(line)
    if as_json:
        typer.echo(json.dumps(done.to_json()))


models_app = typer.Typer(name="models")
models_app.callback(invoke_without_command=True)(guarded(list_models))
models_app.command("show")(guarded(show_model))
models_app.command("instruments")(guarded(list_instruments))

"""``specdiff inspect-midi`` and ``inspect-wav``: what a file holds. Never imports torch."""

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar, cast

import typer

from specdiff_cli.choices import DEFAULT_MAX_DURATION_S, READERS, check_choice, check_max_duration
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.guard import shown
from specdiff_cli.cli.progress import fail, say
from specdiff_cli.cli.shared_options import argument, option
from specdiff_cli.cli.tables import facts, print_song, print_tables, screen_width
from specdiff_cli.errors import ExitCode, MidiError, SpecdiffError, UsageError
from specdiff_cli.rendering.inputs import each_once, named
from specdiff_cli.wording import one_line

Item = TypeVar("Item")


def inspect_midi(
    files: Annotated[list[str], argument("MIDI files, or folders of them; - is standard input.", metavar="FILE...")],
    as_json: Annotated[bool, option("One JSON object per file, on one line.", "--json")] = False,
    tokens: Annotated[bool, option("Also show the tokens of every window.", "--tokens")] = False,
    track: Annotated[
        int | None, option("Only this track, or sequence of a type 2 file.", "--track", metavar="N", min=1)
    ] = None,
    reader: Annotated[str, option("music or reference, as in render.", offer=complete.readers)] = "music",
    plot: Annotated[
        Path | None, option("Also draw a piano roll; of one file only.", "--plot", metavar="OUT.png")
    ] = None,
    overwrite: Annotated[bool, option("Replace an existing OUT.png.", "--overwrite", "-f")] = False,
    max_duration: Annotated[
        float, option("Refuse songs longer than this.", metavar="SECONDS")
    ] = DEFAULT_MAX_DURATION_S,
    debug: shared.Debug = False,
) -> None:
    """Show what a MIDI file holds and what the models make of it.

    Length, bars, tempo map, tracks, instruments and the model class each is
    played as, tokens per window of 5.12 s, what the models will ignore (pitch
    bends, volume, ...) and what does not fit. Nothing is rendered, no weights
    needed.

    \b
    Examples:
      specdiff inspect-midi song.mid
      specdiff inspect-midi song.mid --plot roll.png
      specdiff inspect-midi folder/ --json | jq .duration_s
      specdiff inspect-midi song.mid --json --tokens

    \b
    Exit codes: 0 done, 1 some of several files failed, 2 usage, 3 bad MIDI,
    5 output that cannot be written.
    """
    check_max_duration(max_duration)
    check_choice("reader", reader, READERS)
    sources, left_out = each_once(named(files))
    for line in left_out.remarks():
        say(line)
    if plot is not None and len(sources) > 1:
        raise UsageError.of("plot", plot, f"draws one file, {len(sources)} are given; inspect them one by one")

    has_printed = False

    def inspect(source: Path | MidiError) -> None:
        nonlocal has_printed
        if isinstance(source, MidiError):
            raise source
        from specdiff_cli.midi.description import describe_song
        from specdiff_cli.midi.notes import Reader, read_midi

        song = read_midi(source, track=track, max_duration_s=max_duration, reader=cast(Reader, reader))
        if plot is not None:
            from specdiff_cli.rendering.plots import piano_roll_page

            piano_roll_page(plot, song, source.name, overwrite=overwrite)
        report = describe_song(str(source), song, with_tokens=tokens)
        if as_json:
            typer.echo(json.dumps(report))
            return
        if has_printed:
            typer.echo()
        print_song(report)
        has_printed = True

    _one_by_one(sources, inspect, "could not be inspected", debug)


def _one_by_one(items: Sequence[Item], inspect: Callable[[Item], None], problem: str, debug: bool) -> None:
    """Inspect all; of several a failure is told and the others follow."""
    if len(items) == 1:
        inspect(items[0])
        return
    n_failed = 0
    for item in items:
        try:
            inspect(item)
        except SpecdiffError as error:
            if debug:
                traceback.print_exc()
            fail(shown(error))
            n_failed += 1
    if n_failed:
        say(f"{n_failed} of {len(items)} files {problem}")
        raise typer.Exit(ExitCode.FAILURE)


def inspect_wav(
    files: Annotated[list[str], argument("Audio files; - is standard input.", metavar="FILE...")],
    as_json: Annotated[bool, option("One JSON object per file, on one line.", "--json")] = False,
    debug: shared.Debug = False,
) -> None:
    """Show how a WAV or FLAC file was made, and whether it is complete.

    Files that specdiff rendered carry a record: the input and its sha256,
    the voice and the sha256 of its weights, every option that changes the
    sound, device, precision and versions. Any audio file is accepted.

    \b
    Examples:
      specdiff inspect-wav song.wav
      specdiff inspect-wav rendered/*.flac --json | jq -r '.record.model.name'

    \b
    Exit codes: 0 done, 1 some of several files failed, 2 usage,
    3 a file that cannot be read, or is not complete.
    """

    has_printed = False

    def inspect(path: Path) -> None:
        nonlocal has_printed
        from rich.text import Text

        from specdiff_cli.audio.record import AudioFileError, inspect_input

        audio = inspect_input(path)
        if as_json:
            typer.echo(json.dumps({"file": str(path), **audio.to_json()}))
        else:
            if has_printed:
                typer.echo()
            has_printed = True
            rows = ((name, one_line(value)) for name, value in audio.facts())
            print_tables(Text(one_line(str(path)), style="bold", overflow="fold"), facts(screen_width(), rows))
        if audio.problem is not None:
            sys.stdout.flush()
            raise AudioFileError(f"{path}: is not what was rendered: {audio.problem}; render it again")

    _one_by_one(named(files), inspect, "are not complete audio files", debug)

"""``specdiff inspect-midi``: what a MIDI file holds and what the models will make of it. Never imports torch."""

import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from specdiff_cli.choices import DEFAULT_MAX_DURATION_S, READERS, check_choice
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.guard import shown
from specdiff_cli.cli.progress import fail, say
from specdiff_cli.errors import ExitCode, MidiError, SpecdiffError, UsageError
from specdiff_cli.rendering.inputs import LeftOut, expand, identity, named

if TYPE_CHECKING:
    from specdiff_cli.midi.notes import MidiSong, Reader


def inspect_midi(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="MIDI files, or folders of them; - is standard input.", show_default=False
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per file, on one line.")] = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also show the tokens of every window.")] = False,
    track: Annotated[
        int | None, typer.Option("--track", metavar="N", min=1, help="Only this track, or sequence of a type 2 file.")
    ] = None,
    reader: Annotated[
        str,
        typer.Option(help="music or reference, as in render.", autocompletion=complete.readers),
    ] = "music",
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="OUT.png", help="Also draw a piano roll; of one file only.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace an existing OUT.png.")] = False,
    max_duration: Annotated[
        float, typer.Option(metavar="SECONDS", help="Refuse songs longer than this.")
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
    if not max_duration > 0:
        raise UsageError(f"--max-duration {max_duration:g}: must be above 0 seconds")
    check_choice("reader", reader, READERS)
    sources = _sources(named(files))
    if plot is not None and len(sources) > 1:
        raise UsageError(f"--plot {plot}: draws one file, {len(sources)} are given; inspect them one by one")

    def inspect(source: Path | MidiError, is_first: bool) -> None:
        if isinstance(source, MidiError):
            raise source
        from specdiff_cli.midi.notes import read_midi

        song = read_midi(source, track=track, max_duration_s=max_duration, reader=cast("Reader", reader))
        if plot is not None:
            from specdiff_cli.rendering.plots import piano_roll_page

            piano_roll_page(plot, song, source.name, overwrite=overwrite)
        _show(describe_song(str(source), song, with_tokens=tokens), as_json, is_first)

    if len(sources) == 1:
        inspect(sources[0], is_first=True)
        return
    n_failed = 0
    for position, source in enumerate(sources):
        try:
            inspect(source, is_first=position == n_failed)
        except SpecdiffError as error:
            if debug:
                traceback.print_exc()
            fail(shown(error))
            n_failed += 1
    if n_failed:
        say(f"{n_failed} of {len(sources)} files could not be inspected")
        raise typer.Exit(ExitCode.FAILURE)


def _sources(items: list[Path]) -> list[Path | MidiError]:
    """Each file once, in the order given; a folder without any stands as its error, so that others get their turn."""
    sources: dict[Path, Path | MidiError] = {}
    left_out = LeftOut()
    for item in items:
        try:
            for found in expand(item, left_out):
                problem = None if found.problem is None else MidiError(found.problem)
                sources.setdefault(identity(found.path), problem or found.path)
        except MidiError as error:
            sources.setdefault(identity(item), error)
    for line in left_out.remarks():
        say(line)
    return list(sources.values())


def _show(report: dict[str, Any], as_json: bool, is_first: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps(report))
    else:
        from specdiff_cli.cli.song_tables import print_song

        if not is_first:
            typer.echo()
        print_song(report)


def describe_song(name: str, song: "MidiSong", *, with_tokens: bool) -> dict[str, Any]:
    """Everything the command reports, ready for JSON. Tracks and channels count from 1, as players show them.

    Windows are those of the published checkpoints' vocabulary and end with the last note: the release tail that
    rendering adds is not part of the file.
    """
    from specdiff_cli.midi.summary import max_polyphony, summarize_instruments
    from specdiff_cli.midi.tempo import ticks_per_second
    from specdiff_cli.midi.windows import tokenize

    instruments = summarize_instruments(song.notes)
    pitched = [item for item in instruments if not item.is_drum]
    windows = []
    for window in tokenize(song.notes, joins_keys=True):
        entry: dict[str, Any] = {
            "start_s": window.start_s,
            "n_frames": window.n_frames,
            "n_tokens": len(window.tokens),
            "n_dropped_events": window.n_dropped_events,
        }
        if with_tokens:
            entry["tokens"] = window.tokens.tolist()
        windows.append(entry)
    has_beats = song.ticks_per_beat > 0
    return {
        "file": name,
        "format": song.format,
        "duration_s": song.end_s,
        "file_duration_s": song.file_end_s,
        "reader": song.reader,
        "ticks_per_beat": song.ticks_per_beat if has_beats else None,
        "ticks_per_second": None if has_beats else ticks_per_second(song.ticks_per_beat),
        "tempo_map": [{"start_s": start_s, "beats_per_minute": round(bpm, 4)} for start_s, bpm in song.tempo_changes],
        "tempo_tracks": [track + 1 for track in song.tempo_tracks],
        "time_signatures": _describe_meters(song),
        "n_bars": None if song.bars is None else song.bars.count(song.end_s),
        "track": song.track,
        "n_tracks": len(song.tracks),
        "tracks": _describe_tracks(song),
        "channels": sorted({note.channel + 1 for note in song.notes}),
        "instruments": [
            {
                "track": item.track + 1,
                "channel": item.channel + 1,
                "program": item.program,
                "name": item.name,
                "model_class": item.class_name,
                "is_drum": item.is_drum,
                "n_notes": item.n_notes,
                "lowest_pitch": item.lowest_pitch,
                "highest_pitch": item.highest_pitch,
                "polyphony": item.polyphony,
            }
            for item in instruments
        ],
        "n_notes": len(song.notes),
        "n_drum_notes": sum(item.n_notes for item in instruments if item.is_drum),
        "n_unclosed_notes": song.n_unclosed_notes,
        "n_zero_length_notes": song.n_zero_length_notes,
        "lowest_pitch": min((item.lowest_pitch for item in pitched), default=None),
        "highest_pitch": max((item.highest_pitch for item in pitched), default=None),
        "polyphony": max_polyphony(song.notes),
        "ignored": song.ignored,
        "remarks": [asdict(remark) for remark in song.remarks],
        "n_windows": len(windows),
        "n_dropped_events": sum(entry["n_dropped_events"] for entry in windows),
        "windows": windows,
    }


def _describe_meters(song: "MidiSong") -> list[dict[str, Any]]:
    """Time signatures with the bars they begin at, as far as there are notes."""
    if song.bars is None:
        return []
    return [
        {
            "bar": meter.first_bar,
            "start_s": song.bars.start_s(meter.first_bar),
            "numerator": meter.numerator,
            "denominator": meter.denominator,
        }
        for meter in song.bars.meters
        if meter.first_bar <= song.bars.count(song.end_s)
    ]


def _describe_tracks(song: "MidiSong") -> list[dict[str, Any]]:
    """All tracks, or the one that was asked for."""
    channels: list[set[int]] = [set() for _ in song.tracks]
    n_notes = [0] * len(song.tracks)
    for note in song.notes:
        channels[note.track].add(note.channel + 1)
        n_notes[note.track] += 1
    return [
        {
            "track": index + 1,
            "name": track.name,
            "n_messages": track.n_messages,
            "n_notes": n_notes[index],
            "channels": sorted(channels[index]),
        }
        for index, track in enumerate(song.tracks)
        if song.track in (None, index + 1)
    ]

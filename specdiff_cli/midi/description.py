"""Everything there is to say about a song, ready for JSON, and what of it is worth knowing in words."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from specdiff_cli.errors import Message, Option
from specdiff_cli.midi.adapt import STAND_INS
from specdiff_cli.midi.notes import MidiSong
from specdiff_cli.midi.summary import max_polyphony, pitch_name, summarize_instruments
from specdiff_cli.midi.tempo import ticks_per_second
from specdiff_cli.midi.windows import tokenize
from specdiff_cli.wording import count, exact_clock

N_CHANGES_SHOWN = 8


def describe_song(name: str, song: MidiSong, *, with_tokens: bool) -> dict[str, Any]:
    """A report of the song, ready for JSON. Tracks and channels count from 1, as players show them.

    Windows are those of the published checkpoints' vocabulary and end with the last note: the release tail that
    rendering adds is not part of the file.
    """
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
                "stands_in": not item.is_drum and item.program in STAND_INS,
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


def _describe_meters(song: MidiSong) -> list[dict[str, Any]]:
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


def _describe_tracks(song: MidiSong) -> list[dict[str, Any]]:
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


def facts_of(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A song in words: names and what they stand for; ``report``: of :func:`describe_song`."""
    n_windows = report["n_windows"]
    yield "Length", f"{exact_clock(report['duration_s'])} ({count(n_windows, 'window')})"
    if report["ticks_per_beat"] is not None:
        clock = f"{report['ticks_per_beat']} ticks per beat"
    else:
        clock = f"{report['ticks_per_second']:g} ticks per second (SMPTE)"
    yield "Format", f"type {report['format']}, {count(report['n_tracks'], 'track')}, {clock}"
    yield "Tempo", _tempo(report)
    if report["n_bars"] is not None:
        yield "Bars", _bars(report)
    yield "Channels", ", ".join(map(str, report["channels"]))
    notes = str(report["n_notes"])
    if report["n_drum_notes"]:
        notes += f", of them {report['n_drum_notes']} drums"
    yield "Notes", f"{notes}; at most {report['polyphony']} at once"
    low, high = report["lowest_pitch"], report["highest_pitch"]
    if low is not None:
        yield "Pitches", f"{low}-{high} ({pitch_name(low)} to {pitch_name(high)}, drums apart)"


def _tempo(report: Mapping[str, Any]) -> str:
    changes = report["tempo_map"]
    if not changes:
        return "fixed by the SMPTE clock"
    if len(changes) == 1:
        return f"{changes[0]['beats_per_minute']:.5g} bpm throughout"
    return _first_few([f"{item['beats_per_minute']:.5g} bpm at {exact_clock(item['start_s'])}" for item in changes])


def _bars(report: Mapping[str, Any]) -> str:
    changes = report["time_signatures"]
    names = [f"{item['numerator']}/{item['denominator']}" for item in changes]
    if len(changes) == 1:
        return f"{report['n_bars']} in {names[0]}"
    shown = [names[0], *(f"{name} from bar {item['bar']}" for name, item in zip(names[1:], changes[1:], strict=True))]
    return f"{report['n_bars']} in {_first_few(shown)}"


def _first_few(changes: list[str]) -> str:
    if len(changes) > N_CHANGES_SHOWN:
        rest = f"and {len(changes) - N_CHANGES_SHOWN} more changes (--json lists them)"
        changes = [*changes[:N_CHANGES_SHOWN], rest]
    return ", ".join(changes)


def remarks_on(report: Mapping[str, Any]) -> Iterator[str]:
    """What is worth knowing of a song, sentence by sentence; ``report``: of :func:`describe_song`."""
    kinds = sorted(report["ignored"].items(), key=lambda item: (-item[1], item[0]))
    if kinds:
        yield "the models ignore " + ", ".join(f"{name} ({number})" for name, number in kinds)
    if {"channel volume", "expression"} & report["ignored"].keys():
        yield "voices that know loud from soft, as the bundled one, follow volume and expression at note starts"
    if "pan" in report["ignored"]:
        yield Message(
            "render ", Option("stereo"), " places each instrument where its pan says; pan changes nothing else"
        )
    for remark in report["remarks"]:
        yield remark["text"]
    for window in report["windows"]:
        if window["n_dropped_events"]:
            dropped = count(window["n_dropped_events"], "note event")
            yield f"the window at {exact_clock(window['start_s'])} is too full: its last {dropped} will be left out"
    if any(track > 1 for track in report["tempo_tracks"]):
        tracks = ", ".join(map(str, report["tempo_tracks"]))
        yield f"tempo changes stand on track {tracks}; some programs read track 1 only and play another tempo"

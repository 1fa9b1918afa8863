"""One song made ready, or refused, before any PyTorch is loaded."""

import io
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from specdiff_cli.errors import MidiError, Option, OutputError
from specdiff_cli.lengths import count_windows
from specdiff_cli.rendering.jobs import Job
from specdiff_cli.rendering.record import Settled, differences, source_facts
from specdiff_cli.rendering.request import Request
from specdiff_cli.streams import is_closed

LOOP_MARGIN_S = 0.1  # behind the loop, so that no rounding leaves it short

if TYPE_CHECKING:
    from specdiff_cli.audio.looping import LoopPlan
    from specdiff_cli.midi.notes import MidiSong, Note, Reader, Remark
    from specdiff_cli.midi.stems import Stem


@dataclass(frozen=True, slots=True)
class Prepared:
    """A song that is read and is to be rendered; ``why`` says why although there is a file already."""

    job: Job
    song: "MidiSong"
    notes: "list[Note]"
    messages: list[str]
    facts: dict[str, Any]
    duration_s: float
    n_windows: int
    overwrite: bool
    remarks: "tuple[Remark, ...]" = ()  # about what of the file is not heard as it asks
    stems: "list[Stem] | None" = None  # None: rendered as a whole
    why: str | None = None
    loop: "LoopPlan | None" = None

    @property
    def n_parts(self) -> int:
        """How many renders make up the song: one, or one for each instrument."""
        return 1 if self.stems is None else len(self.stems)

    def stem_targets(self, file_format: str) -> list[Path]:
        """Where ``--stems`` writes each instrument: in a folder beside the song."""
        if self.job.target is None or self.stems is None:
            return []
        folder = stems_folder(self.job.target)
        return [folder / f"{stem.slug}.{file_format}" for stem in self.stems]


def stems_folder(target: Path) -> Path:
    """``song.wav`` -> ``song.stems``."""
    return target.with_name(f"{target.stem}.stems")


def prepare(job: Job, settled: Settled) -> Prepared | None:
    """Read a song and decide about its output, all without PyTorch; None: its audio is there already.

    Raises:
        MidiError: the song cannot be read, holds nothing for this voice, or not what it is to be edited for.
        OutputError: the output cannot be written, or exists and is not ours to replace.
    """
    from specdiff_cli.midi import notes as midi
    from specdiff_cli.midi.adapt import fit_to_voice
    from specdiff_cli.midi.remarks import remaining

    if job.problem is not None:
        raise MidiError(job.problem)
    sound, voice, request = settled.sound, settled.voice, settled.request
    data = midi.read_bytes(job.source)
    facts = source_facts(job.source.name, data, voice, sound)
    why = None
    if job.target is not None and request.batching.skip_existing and os.path.exists(job.target):
        why = _why_again(job, job.target, facts, request)
        if why is None:
            return None
    overwrite = request.output.overwrite or why is not None
    _check_outputs(job, settled, overwrite)
    song, edited, loop = _arranged(data, str(job.source), settled)
    notes, fitted = fit_to_voice(
        song.notes, voice.programs, voice.plays_drums, voice.follows_velocity, voice.follows_gain
    )
    if not notes:
        what = f"{job.source}: holds only drums, which the voice {voice.name} does not play; use "
        raise MidiError(what, Option("model", "base"))
    duration_s = song.end_s + LOOP_MARGIN_S if loop is not None else _duration_s(song, job, settled)
    stems = None
    if sound.by_stems:
        from specdiff_cli.midi.stems import split_stems

        by: Literal["tracks", "instruments"] = "tracks" if sound.stems_by == "tracks" else "instruments"
        stems = split_stems(notes, by=by, track_names=[track.name for track in song.tracks])
    prepared = Prepared(
        job=job,
        song=song,
        notes=notes,
        messages=[*edited, *fitted],
        facts=facts,
        duration_s=duration_s,
        n_windows=count_windows(duration_s, sound.overlap_frames),
        overwrite=overwrite,
        remarks=tuple(remaining(song.remarks, settled.follows)),
        stems=stems,
        why=why,
        loop=loop,
    )
    if sound.stems:
        _check_stems(prepared, request.output.format)
    return prepared


def _arranged(data: bytes, name: str, settled: Settled) -> "tuple[MidiSong, list[str], LoopPlan | None]":
    """The song as it is to be played, with lines for the user, and where it loops. Raises MidiError."""
    import mido

    from specdiff_cli.audio.looping import LoopPlan
    from specdiff_cli.midi import notes as midi
    from specdiff_cli.midi.edits import apply_edits
    from specdiff_cli.midi.loops import find_loop, play_twice

    sound = settled.sound
    song = midi.parse_midi(
        data,
        name,
        max_duration_s=settled.request.score.max_duration_s,
        track=sound.track,
        reader=cast("Reader", sound.reader),
    )
    midi_file = None
    if sound.loop and sound.edits.start is None and sound.edits.end is None:
        midi_file = mido.MidiFile(file=io.BytesIO(data), clip=True)
    span = find_loop(song, midi_file, name) if midi_file is not None else None
    song, edited = apply_edits(song, sound.edits, name)
    loop = None
    if sound.loop:
        if span is None:
            span = find_loop(song, None, name)
        elif sound.edits.tempo_scale != 1:
            speed = sound.edits.tempo_scale
            span = replace(span, start_s=span.start_s / speed, end_s=span.end_s / speed)
        edited = [*edited, f"loops from {span.start_s:.2f} to {span.end_s:.2f} s, by {span.origin}"]
        loop = LoopPlan(span.start_s, span.length_s)
        song = play_twice(song, span)
    if song.end_s > settled.request.score.max_duration_s:
        what = f"{name}: would last {song.end_s:.0f} s; use a higher "
        raise MidiError(what, Option("tempo_scale"), " or ", Option("max_duration"))
    return song, edited, loop


def _duration_s(song: "MidiSong", job: Job, settled: Settled) -> float:
    """Of the audio. Raises MidiError: the file's own silence is longer than songs may be."""
    duration_s = song.end_s + settled.sound.tail_s
    if settled.sound.length != "file":
        return duration_s
    if song.file_end_s > settled.request.score.max_duration_s:
        what = f"{job.source}: lasts {song.file_end_s:.0f} s with the silence at its end; leave out "
        raise MidiError(what, Option("length", "file"), " or use a higher ", Option("max_duration"))
    return max(duration_s, song.file_end_s)


def _check_outputs(job: Job, settled: Settled, overwrite: bool) -> None:
    """Refuse an impossible output before any work is done for it."""
    request = settled.request
    from specdiff_cli.audio.wav import StreamWriter
    from specdiff_cli.files import check_target
    from specdiff_cli.rendering.snapshots import check_files

    if job.target is None:
        if is_closed():
            raise OutputError.of("output", "-", "standard output is closed; give a file name")
        StreamWriter(
            sys.stdout.buffer,
            file_format=request.output.format,
            subtype=request.output.subtype,
            sample_rate_hz=settled.sound.sample_rate_hz,
        )
    elif not (job.makes_folder and not os.path.exists(job.target.parent)):
        check_target(job.target, overwrite)
    for path in job.companions:
        if not (job.makes_folder and not os.path.exists(path.parent)):
            check_target(path, overwrite)
    if request.output.snapshots and job.target is not None and os.path.exists(job.target.parent):
        check_files(job.target.with_suffix(""), request.output.snapshots, overwrite)


def _check_stems(prepared: Prepared, file_format: str) -> None:
    from specdiff_cli.files import check_target

    for path in prepared.stem_targets(file_format):
        if os.path.exists(path.parent):
            check_target(path, prepared.overwrite)


def _why_again(job: Job, target: Path, facts: dict[str, Any], request: Request) -> str | None:
    """Why an existing file must be rendered again; None if it is complete and just what is asked for."""
    from specdiff_cli.audio.record import find_problem, format_inside, read_record
    from specdiff_cli.files import reason, shown_path
    from specdiff_cli.rendering.snapshots import snapshot_paths

    try:
        record = read_record(target)
        if record is None:
            if request.output.overwrite:
                return "it was not made by specdiff"
            what = f"{shown_path(target)} exists already and does not tell how it was made: use "
            raise OutputError(what, Option("overwrite"), " to replace it, or another name")
        found = format_inside(target)
        if found != request.output.format:
            return f"the format was {found}, now {request.output.format}"
        if problem := "; ".join(differences(record, facts)) or find_problem(target, record):
            return problem
        stems = [stems_folder(target) / name for name in record.get("stems", ())]
        stem = target.with_suffix("")
        snapshots = [path for number in request.output.snapshots for path in snapshot_paths(stem, number)]
        missing = [path for path in [*job.companions, *stems, *snapshots] if not os.path.exists(path)]
        return f"{missing[0]} is missing" if missing else None
    except OSError as error:
        raise OutputError(f"cannot read {shown_path(target)}: {reason(error)}") from None

"""What a voice can play of a song, and what the user should be told about the rest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import GM_NAMES, MODEL_CLASSES, model_class
from specdiff_cli.wording import count

#: Programs that sound like something else in their model class: a harpsichord on an electric piano, plucked and tremolo
#: strings on a bowed contrabass, a muted trumpet on a tuba, a piccolo on a clarinet; effects, world and percussive
#: instruments, all of them on a synth pad.
STAND_INS = frozenset((6, 7, 21, 22, 23, 44, 45, 59, 72, *range(96, 128)))


def fit_to_voice(
    notes: Sequence[Note],
    programs: tuple[int, ...] | None,
    plays_drums: bool,
    follows_velocity: bool = False,
    follows_gain: bool = False,
) -> tuple[list[Note], list[str]]:
    """Move notes onto the instruments a voice was trained on.

    Args:
        notes: of the song, unchanged on return.
        programs: model classes the voice knows, or programs of one that knows each by itself; None for all. Notes of
            other classes go to the first of them.
        plays_drums: whether drum notes are kept.
        follows_velocity: whether the voice knows loud from soft; channel volume and expression then change velocities,
            and a note that they open late begins there.
        follows_gain: whether the voice plays volume and expression by themselves (``MidiSong.expression``), so that
            notes stay as written.

    Returns:
        The notes to render, in the same order, and one sentence for each kind of change.
    """
    kept: list[Note] = []
    moved: Counter[str] = Counter()
    folded: dict[int, Counter[str]] = {}
    n_drums = 0
    for written in notes:
        note = _levelled(written) if follows_velocity and not follows_gain else written
        if note.is_drum:
            if plays_drums:
                kept.append(note)
            else:
                n_drums += 1
        elif programs is None or model_class(note.program) in programs:
            kept.append(note)
            if note.program in STAND_INS and note.program not in (programs or ()):
                folded.setdefault(model_class(note.program), Counter())[GM_NAMES[note.program]] += 1
        else:
            moved[MODEL_CLASSES[model_class(note.program)]] += 1
            kept.append(replace(note, program=programs[0]))
    messages = []
    if moved and programs:
        names = ", ".join(name for name, _ in moved.most_common())
        messages.append(
            f"{count(moved.total(), 'note')} played on {MODEL_CLASSES[programs[0]]}, "
            f"the voice was not trained on: {names}"
        )
    for stand_in, found in folded.items():
        names = ", ".join(name for name, _ in found.most_common())
        messages.append(f"{count(found.total(), 'note')} played on {MODEL_CLASSES[stand_in]}, standing in for: {names}")
    if n_drums:
        messages.append(f"{count(n_drums, 'drum note')} left out, the voice was not trained on drums")
    return kept, messages


def sounding_name(program: int, programs: tuple[int, ...] | None) -> str:
    """What a voice lets a program sound as; ``programs`` as for :func:`fit_to_voice`."""
    if programs is None:
        return MODEL_CLASSES[model_class(program)]
    played = program if model_class(program) in programs else programs[0]
    knows_each = any(known not in MODEL_CLASSES for known in programs)
    return GM_NAMES[played] if knows_each and played in programs else MODEL_CLASSES[model_class(played)]


def _levelled(note: Note) -> Note:
    velocity = min(max(round(note.velocity * note.level), 1), 127)
    start_s = note.start_s if note.audible_s is None else note.audible_s
    if velocity == note.velocity and start_s == note.start_s:
        return note
    return replace(note, velocity=velocity, start_s=start_s)

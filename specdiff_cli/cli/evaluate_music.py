"""``specdiff evaluate-music``: composed pieces against real ones, in numbers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specdiff_cli.choices import check_range
from specdiff_cli.cli.progress import print_tables, say, working
from specdiff_cli.cli.tables import screen_width, table
from specdiff_cli.errors import UsageError
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.composing.judgement import Judgement
    from specdiff_cli.composing.pieces import Collection

#: Name in the table -> attribute, and digits.
_ROWS = (
    ("pitch-class entropy, bits", "pitch_class_entropy_bits", 2),
    ("scale consistency", "scale_consistency", 3),
    ("distinct pitches", "distinct_pitches", 1),
    ("onsets on 1/12 beat", "on_grid_share", 3),
    ("groove consistency", "groove_consistency", 3),
    ("polyphony", "polyphony", 2),
    ("notes in chords", "chord_share", 3),
    ("bars with an earlier rhythm", "repeated_bar_share", 3),
    ("length, beats", "length_beats", 1),
)


def evaluate_music(
    generated: Annotated[
        Path, typer.Argument(metavar="GENERATED", help="Folder of composed pieces.", show_default=False)
    ],
    against: Annotated[Path, typer.Option("--against", metavar="REAL", help="Folder of real music.")],
    training: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="What the composer learnt from, to look for copies in.", show_default="not looked for"
        ),
    ] = None,
    notes: Annotated[int, typer.Option(metavar="N", help="Compare excerpts of so many notes.")] = 128,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the tables.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result and errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Measure composed pieces against real music.

    All files are cut into excerpts of as many notes; drums are left out. Means
    per excerpt, how the nine features of MGEval overlap, a Fréchet distance of
    these features, and the longest passages that also stand in the training
    songs. docs/composing.md says what each number means.

    \b
    Examples:
      specdiff evaluate-music pieces --against songs
      specdiff evaluate-music pieces --against songs --training songs --json

    \b
    Exit codes: 0 done, 2 usage, 3 bad MIDI, 130 interrupted, 143 terminated.
    """
    check_range("notes", notes, 4, 100_000)
    from specdiff_cli.composing.judgement import judge
    from specdiff_cli.composing.pieces import read_collection, read_whole

    with working("reading music", quiet):
        ours, theirs = read_collection(generated, notes), read_collection(against, notes)
        learnt = None if training is None else read_whole(training)
    for folder, found in ((generated, ours), (against, theirs)):
        if not quiet:
            _tell_left_out(folder, found)
    if len(theirs.pieces) < 2:
        raise UsageError(f"--against {against}: has one excerpt of {notes} notes; at least 2 are needed")
    with working("comparing", quiet):
        found_out = judge(ours.pieces, theirs.pieces, learnt)
    if as_json:
        typer.echo(json.dumps({"notes_per_excerpt": notes, **found_out.to_json()}, allow_nan=False))
    else:
        _print(found_out)


def _tell_left_out(folder: Path, found: "Collection") -> None:
    if found.n_unreadable or found.n_short:
        say(
            f"{folder}: of {count(found.n_files, 'MIDI file')}, {found.n_unreadable} cannot be read and "
            f"{found.n_short} have too few notes"
        )


def _print(judgement: "Judgement") -> None:
    width = screen_width()
    rows = [
        (name, f"{getattr(judgement.generated, key):.{digits}f}", f"{getattr(judgement.real, key):.{digits}f}")
        for name, key, digits in _ROWS
    ]
    headers = ("<Mean per excerpt", f"Generated ({judgement.n_generated})", f"Real ({judgement.n_real})")
    features = [
        (name, f"{likeness.overlap:.3f}", f"{likeness.divergence_nats:.3f}")
        for name, likeness in judgement.features.items()
    ]
    rest = [
        ("features that overlap by 0.8 or more", f"{judgement.n_features_alike} of {len(judgement.features)}"),
        ("note lengths, common share", f"{judgement.length_overlap:.3f}"),
        ("inter-onset intervals, common share", f"{judgement.inter_onset_overlap:.3f}"),
        ("Fréchet distance of the features", f"{judgement.frechet_distance:.1f}"),
    ]
    if judgement.novelty is not None:
        novelty = judgement.novelty
        rest += [
            ("longest passage shared with training, median", count(round(novelty.median_notes), "note")),
            ("the same, at most", count(novelty.largest_notes, "note")),
            ("excerpts that share at most 16 notes", f"{novelty.share_up_to_16:.3f}"),
        ]
    print_tables(
        table(width, headers, rows),
        table(width, ("<Distances, real to generated", "Overlap", "KL, nats"), features),
        table(width, ("<Of all excerpts", "Value"), rest),
    )

"""Pieces of single notes, and their place in a corpus."""

import io
import json
from dataclasses import asdict
from pathlib import Path

from specdiff_cli.corpus.alone import N_SOUNDS, sounds_alone
from specdiff_cli.corpus.compose import SOLO_PIANO, ComposeConfig
from specdiff_cli.corpus.pieces import CorpusConfig, _is_same, plan
from specdiff_cli.midi.notes import Note, parse_midi


def notes_of(seed: int, config: ComposeConfig) -> list[Note]:
    file = io.BytesIO()
    sounds_alone(seed, config).save(file=file)
    return list(parse_midi(file.getvalue(), "alone").notes)


def test_each_note_has_ended_before_the_next_begins() -> None:
    notes = sorted(notes_of(3, ComposeConfig()), key=lambda note: note.start_s)
    assert len(notes) == N_SOUNDS
    assert all(after.start_s - before.end_s > 0.65 for before, after in zip(notes, notes[1:], strict=False))


def test_all_programs_and_drum_keys_come_and_a_seed_says_which() -> None:
    notes = [note for seed in range(40) for note in notes_of(seed, ComposeConfig())]
    assert {note.program for note in notes if not note.is_drum} == set(range(128))
    assert {note.pitch for note in notes if note.is_drum} == set(range(35, 82))
    assert notes_of(5, ComposeConfig()) == notes_of(5, ComposeConfig())
    assert notes_of(5, ComposeConfig()) != notes_of(6, ComposeConfig())


def test_a_piano_is_alone_here_too() -> None:
    notes = notes_of(1, SOLO_PIANO)
    assert {(note.program, note.is_drum) for note in notes} == {(0, False)}


def test_a_share_of_the_composed_pieces_is_of_single_notes() -> None:
    pieces = plan(CorpusConfig(seed=0, soundfont="x.sf2", sounds_share=0.25), 400)
    assert 80 < sum(piece.is_of_sounds for piece in pieces) < 120
    assert not any(piece.is_of_sounds for piece in plan(CorpusConfig(seed=0, soundfont="x.sf2"), 400))


def test_a_corpus_begun_before_there_were_such_pieces_goes_on(tmp_path: Path) -> None:
    settings = asdict(CorpusConfig(seed=0, soundfont="x.sf2"))
    record = {"format": 1, "corpus": settings}
    begun = {"corpus": {name: value for name, value in settings.items() if name != "sounds_share"}}
    assert _is_same(json.dumps(begun), json.dumps(record))
    other = {"format": 1, "corpus": asdict(CorpusConfig(seed=0, soundfont="x.sf2", sounds_share=0.5))}
    assert not _is_same(json.dumps(begun), json.dumps(other))
    assert not _is_same(json.dumps({"format": 1}), json.dumps(record))

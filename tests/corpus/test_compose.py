"""The composer: a function of its seed, playable, and wide enough to teach from."""

import io
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest

from specdiff_cli.corpus.compose import SOLO_PIANO, ComposeConfig, arrange, compose, note_table
from specdiff_cli.corpus.drums import DRUMMING
from specdiff_cli.corpus.orchestra import INSTRUMENTS, draw_ensemble
from specdiff_cli.corpus.setting import MODES, Setting
from specdiff_cli.corpus.textures import TEXTURES, Texture
from specdiff_cli.errors import MidiError
from specdiff_cli.midi.programs import MODEL_CLASSES, model_class

TICKS_PER_BEAT = 480


def _bytes(midi: mido.MidiFile) -> bytes:
    buffer = io.BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue()


def _table(midi: mido.MidiFile, folder: Path) -> np.ndarray:
    midi.save(folder / "piece.mid")
    return note_table(folder / "piece.mid")


def _write_song(path: Path, n_notes: int = 400) -> None:
    """A rising and falling line with a pedal, half a second per note, and one note out of the piano's range."""
    track = mido.MidiTrack([mido.Message("program_change", program=68, time=0)])
    for k in range(n_notes):
        track.append(mido.Message("note_on", note=50 + k % 24, velocity=40 + k % 60, time=0))
        track.append(mido.Message("note_off", note=50 + k % 24, time=TICKS_PER_BEAT))
    track.append(mido.Message("note_on", note=127, velocity=90, time=0))
    track.append(mido.Message("note_off", note=127, time=TICKS_PER_BEAT))
    mido.MidiFile(tracks=[track], ticks_per_beat=TICKS_PER_BEAT).save(path)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    folder = tmp_path_factory.mktemp("pieces")
    return [_table(compose(seed, SOLO_PIANO), folder) for seed in range(24)]


def test_same_seed_same_piece() -> None:
    assert _bytes(compose(7)) == _bytes(compose(7))
    assert _bytes(compose(7)) != _bytes(compose(8))


def test_pieces_have_the_asked_length(tables: list[np.ndarray]) -> None:
    for table in tables:
        assert 50 < table[:, 1].max() < 165  # the last note may ring past the span, or a rest may come before its end


def test_config_length_and_programs_are_followed(tmp_path: Path) -> None:
    config = ComposeConfig(
        classes=(40, 73), solo_piano_share=0.0, n_parts=(2, 2), drum_share=0.0, length_s=(20.0, 22.0)
    )
    seen: set[float] = set()
    for seed in range(6):
        table = _table(compose(seed, config), tmp_path)
        assert table[:, 0].max() < 23
        seen |= set(table[:, 4])
    assert seen == {40.0, 73.0}


def test_tempo_stays_within_limits() -> None:
    for seed in range(8):
        tempi = [mido.tempo2bpm(m.tempo) for m in compose(seed).tracks[0] if m.type == "set_tempo"]
        assert tempi and min(tempi) > 39.9 and max(tempi) < 220.1


def test_one_note_per_key_at_a_time(tables: list[np.ndarray]) -> None:
    for table in tables:
        for pitch in np.unique(table[:, 2]):
            rows = table[table[:, 2] == pitch]
            assert (rows[1:, 0] >= rows[:-1, 1] - 1e-9).all()


def test_corpus_is_wide(tables: list[np.ndarray]) -> None:
    notes = np.concatenate(tables)
    assert notes[:, 2].min() >= 21 and notes[:, 2].max() <= 108
    assert len(np.unique(notes[:, 2])) == 88
    assert len(np.unique(notes[:, 3])) > 115 and notes[:, 3].min() >= 1
    lengths_s = notes[:, 1] - notes[:, 0]
    assert lengths_s.min() > 0.02 and (lengths_s < 0.06).any() and (lengths_s > 4).any()
    rates = [np.bincount(table[:, 0].astype(int)) for table in tables]
    assert max(rate.max() for rate in rates) > 30
    assert any((rate == 0).any() for rate in rates)  # seconds of rest
    assert max(rate.max() for rate in rates) <= 45


def test_pedal_in_a_share_of_the_pieces() -> None:
    config = replace(SOLO_PIANO, length_s=(10.0, 12.0))
    with_pedal = sum(
        any(message.type == "control_change" for message in compose(seed, config).tracks[1]) for seed in range(60)
    )
    assert 12 <= with_pedal <= 36  # 24 expected
    assert not any(
        message.type == "control_change"
        for seed in range(5)
        for message in compose(seed, replace(config, pedal_share=0.0)).tracks[1]
    )


@pytest.fixture(scope="module")
def ensembles(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    folder = tmp_path_factory.mktemp("ensembles")
    config = ComposeConfig(solo_piano_share=0.0, length_s=(20.0, 24.0))
    return [_table(compose(seed, config), folder) for seed in range(48)]


def test_ensembles_hold_every_class_and_drums(ensembles: list[np.ndarray]) -> None:
    notes = np.concatenate(ensembles)
    pitched = notes[notes[:, 5] == 0]
    assert {model_class(int(program)) for program in pitched[:, 4]} == set(MODEL_CLASSES)
    with_drums = sum(bool((table[:, 5] > 0).any()) for table in ensembles)
    assert 12 <= with_drums <= 32  # 45 % of 48 are expected
    drums = notes[notes[:, 5] > 0]
    assert drums[:, 2].min() >= 35 and drums[:, 2].max() <= 82
    sizes = {len({tuple(row) for row in table[:, 4:6]}) for table in ensembles}
    assert min(sizes) == 1 and max(sizes) >= 8


def test_instruments_stay_in_their_ranges(ensembles: list[np.ndarray]) -> None:
    for start_s, _, pitch, _, program, is_drum in np.concatenate(ensembles):
        instrument = INSTRUMENTS[model_class(int(program))]
        assert is_drum or instrument.low <= pitch <= instrument.high, (start_s, program, pitch)


def test_an_ensembles_parts_share_its_notes(ensembles: list[np.ndarray]) -> None:
    rates = [np.bincount(table[:, 0].astype(int)) for table in ensembles]
    assert max(rate.max() for rate in rates) <= 60
    assert max(rate.max() for rate in rates) > 25


def test_every_class_has_an_instrument_that_stands_for_it() -> None:
    assert {model_class(instrument.program) for instrument in INSTRUMENTS.values()} == set(MODEL_CLASSES)
    assert all(model_class(instrument.program) == name for name, instrument in INSTRUMENTS.items())
    assert all(instrument.high - instrument.low >= 12 for instrument in INSTRUMENTS.values())


def test_a_band_has_a_bass() -> None:
    with_bass = sum(
        bool({32, 33} & set(draw_ensemble(np.random.default_rng(seed), tuple(MODEL_CLASSES), 3, has_drums=True)))
        for seed in range(100)
    )
    assert 70 < with_bass < 100


PITCHED = {texture: weight for instrument in INSTRUMENTS.values() for texture, weight in instrument.repertoire}


@pytest.mark.parametrize(
    ("texture", "weight"),
    [*TEXTURES, *((t, w) for t, w in PITCHED.items() if t not in dict(TEXTURES)), *DRUMMING],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("seconds_per_beat", [0.27, 1.5])
def test_every_texture_writes_notes_inside_its_span(texture: Texture, weight: float, seconds_per_beat: float) -> None:
    assert weight > 0
    total = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        setting = Setting(rng, seed, MODES[seed % len(MODES)], 12.0, seconds_per_beat, 40, 75)
        notes = texture(setting)
        total += len(notes)
        assert all(0 <= note.onset_beats <= 12.6 and note.length_beats > 0 for note in notes)
    assert total > 10


def test_arrangement_is_a_new_performance_of_the_file(tmp_path: Path) -> None:
    song = tmp_path / "song.mid"
    _write_song(song)
    assert _bytes(arrange(song, 3)) == _bytes(arrange(song, 3))
    assert _bytes(arrange(song, 3)) != _bytes(arrange(song, 4))
    for seed in range(6):
        table = _table(arrange(song, seed, SOLO_PIANO), tmp_path)
        assert set(table[:, 4]) == {0.0}
        assert table[:, 2].min() >= 21 and table[:, 2].max() <= 108
        assert 40 < table[:, 0].max() < 320
        assert len(table) > 40


def test_arrangements_are_given_to_other_instruments_and_drummers(tmp_path: Path) -> None:
    song = tmp_path / "song.mid"
    _write_song(song)
    config = ComposeConfig(solo_piano_share=0.0, length_s=(20.0, 24.0))
    tables = [_table(arrange(song, seed, config), tmp_path) for seed in range(16)]
    assert len({program for table in tables for program in table[:, 4]}) > 6
    assert 2 <= sum(bool((table[:, 5] > 0).any()) for table in tables) <= 13


def test_arrangement_of_a_file_that_is_not_midi(tmp_path: Path) -> None:
    (tmp_path / "noise.mid").write_bytes(b"not music")
    with pytest.raises(MidiError, match="noise.mid"):
        arrange(tmp_path / "noise.mid", 0)

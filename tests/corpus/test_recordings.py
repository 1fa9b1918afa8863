"""Corpora of recordings: their layouts, how they lie against their notes, and that a training takes them."""

import csv
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import specdiff
from midi_files import midi_bytes, note
from small_corpora import RUN

from specdiff_cli.corpus.alignment import align, least_correlation
from specdiff_cli.corpus.compose import note_table
from specdiff_cli.corpus.recordings import find_recordings, is_validation, make_recorded_corpus, read_notes
from specdiff_cli.errors import ExitCode, MidiError, SpecdiffError, UsageError
from specdiff_cli.train.batches import CorpusFiles
from specdiff_cli.train.trainer import Trainer

RATE_HZ = 16_000


def melody(seed: int, n_notes: int = 60) -> list[tuple[float, float, int]]:
    """Random notes as (start_s, end_s, pitch), half a second apart or less."""
    rng = np.random.default_rng(seed)
    starts_s = 0.3 + np.cumsum(rng.choice([0.2, 0.3, 0.45], n_notes))
    return [(float(start), float(start) + 0.4, int(rng.integers(48, 80))) for start in starts_s]


def tones(notes: Sequence[tuple[float, float, float]], drift: float = 0.0, offset_s: float = 0.0) -> np.ndarray:
    """The notes as decaying tones with three partials, played late and slowly as told."""
    heard = [(start * (1 + drift) + offset_s, pitch) for start, _, pitch in notes]
    audio = np.zeros(int((heard[-1][0] + 1.5) * RATE_HZ))
    t = np.arange(int(0.6 * RATE_HZ)) / RATE_HZ
    for start_s, pitch in heard:
        hz = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * hz * k * t) / k for k in (1, 2, 3)) * np.exp(-5 * t)
        first = max(0, int(start_s * RATE_HZ))
        audio[first : first + len(t)] += 0.1 * tone[: len(audio) - first]
    return audio.astype(np.float32)


def write_midi(path: Path, notes: list[tuple[float, float, int]]) -> Path:
    played = [note(round(960 * start_s), round(960 * end_s), 0, pitch) for start_s, end_s, pitch in notes]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(midi_bytes(chain.from_iterable(played)))
    return path


def write_pair(audio: Path, midi: Path, seed: int, **lies: float) -> None:
    notes = melody(seed)
    write_midi(midi, notes)
    audio.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(audio, np.repeat(tones(notes, **lies)[:, None], 2, axis=1), RATE_HZ)


@pytest.mark.parametrize(("offset_s", "drift"), [(0.0, 0.0), (1.7, 0.0), (-0.2, 0.0), (0.4, 0.002)])
def test_offset_and_drift_are_found(tmp_path: Path, offset_s: float, drift: float) -> None:
    notes = melody(1, 200)
    table = note_table(write_midi(tmp_path / "a.mid", notes))
    found = align(tones(notes, drift, offset_s), table)
    assert found.is_same_piece
    middle_s = np.array([notes[100][0]])
    assert found.times(middle_s)[0] == pytest.approx(middle_s[0] * (1 + drift) + offset_s, abs=0.02)
    assert found.drift == pytest.approx(drift, abs=0.0005)


def test_other_pieces_and_noise_are_not_taken_for_this_one(tmp_path: Path) -> None:
    table = note_table(write_midi(tmp_path / "a.mid", melody(1)))
    for seed in (2, 3, 4):
        assert not align(tones(melody(seed)), table).is_same_piece
    noise = np.random.default_rng(0).standard_normal(RATE_HZ * 20).astype(np.float32)
    assert not align(noise, table).is_same_piece
    assert not align(np.zeros(RATE_HZ * 20, np.float32), table).is_same_piece


@pytest.mark.parametrize("n_notes", [14, 24, 90])  # 5, 8 and 30 s
def test_short_pairs_pass_without_a_drift_and_others_do_not(tmp_path: Path, n_notes: int) -> None:
    rng = np.random.default_rng(3)
    tables = [note_table(write_midi(tmp_path / f"{seed}.mid", melody(seed, n_notes))) for seed in range(5)]
    for seed, table in enumerate(tables):
        out_of_tune = [(start, end, pitch + 0.15) for start, end, pitch in melody(seed, n_notes)]
        audio = tones(out_of_tune, offset_s=0.1 * seed)
        audio = 0.1 * (audio + 0.003 * rng.standard_normal(len(audio)).astype(np.float32))
        found = align(audio, table)
        assert found.is_same_piece
        assert found.drift == 0
        assert found.offset_s == pytest.approx(0.1 * seed, abs=0.02)
        assert not align(audio, tables[seed - 1]).is_same_piece


def test_the_shorter_the_better_it_must_fit_and_no_drift_at_the_limit(tmp_path: Path) -> None:
    assert least_correlation(5) > least_correlation(8) > least_correlation(60) > 0.05
    notes = melody(1, 200)
    beyond = align(tones(notes, 0.0041), note_table(write_midi(tmp_path / "a.mid", notes)))
    assert beyond.is_at_limit
    assert not beyond.is_same_piece


def test_pairs_of_ones_own(tmp_path: Path) -> None:
    for name in ("a.wav", "deep/b.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        (tmp_path / name).with_suffix(".mid").touch()
    (tmp_path / "alone.wav").touch()
    (tmp_path / "alone.txt").touch()
    assert [found.name for found in find_recordings(tmp_path)] == ["a.wav", "deep/b.flac"]
    for folder in (tmp_path / "none", tmp_path / "alone.wav"):
        with pytest.raises(UsageError, match="is not a folder"):
            find_recordings(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no recording beside its notes"):
        find_recordings(tmp_path / "empty")


def test_maestro_has_a_table_and_a_split(tmp_path: Path) -> None:
    with open(tmp_path / "maestro-v3.0.0.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow("canonical_composer canonical_title split year midi_filename audio_filename duration".split())
        for split in ("train", "validation", "test"):
            writer.writerow(["A, B", "Prelude", split, 2004, f"2004/{split}.midi", f"2004/{split}.wav", 60.5])
    found = find_recordings(tmp_path)
    assert [is_validation(recording, 0.5) for recording in found] == [None, False, True]  # test, train, validation
    assert found[1].audio == tmp_path / "2004" / "train.wav"
    assert found[1].notes == (tmp_path / "2004" / "train.midi",)
    (tmp_path / "maestro-v3.0.0.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="has no column 'audio_filename'"):
        find_recordings(tmp_path)


def test_musicnet_counts_samples_and_programs_from_one(tmp_path: Path) -> None:
    for split in ("train", "test"):
        labels = tmp_path / f"{split}_labels" / "1727.csv"
        labels.parent.mkdir()
        labels.write_text(
            "start_time,end_time,instrument,note,start_beat,end_beat,note_value\n"
            "44100,88200,41,67,4.0,1.5,Dotted Quarter\n0,22050,1,60,0.0,1.0,Quarter\n"
        )
    test, train = find_recordings(tmp_path)
    assert is_validation(test, 0.5) is None
    assert is_validation(train, 0.000001) is False
    assert train.audio == tmp_path / "train_data" / "1727.wav"
    assert read_notes(train).tolist() == [[0, 0.5, 60, 80, 0, 0], [1, 2, 67, 80, 40, 0]]
    labels.write_text("start_time,end_time,instrument,note\nx,2,1,60\n")
    with pytest.raises(MidiError, match="not a table of MusicNet's"):
        read_notes(test)


def test_slakh_has_the_notes_of_the_parts_that_sound(tmp_path: Path) -> None:
    track = tmp_path / "validation" / "Track01876"
    for part, pitch in (("S00", 60), ("S01", 64), ("S02", 67)):
        write_midi(track / "MIDI" / f"{part}.mid", [(0.1, 0.5, pitch)])
        if part != "S01":
            (track / "stems").mkdir(exist_ok=True)
            (track / "stems" / f"{part}.flac").touch()
    (track / "mix.flac").touch()
    (found,) = find_recordings(tmp_path)
    assert is_validation(found, 0.000001) is True
    assert sorted(read_notes(found)[:, 2]) == [60, 67]


def make(out: Path, source: Path) -> list[tuple[str, str | None, bool]]:
    outcomes = [outcome for _, _, outcome in make_recorded_corpus(out, source, 0.3, -28.0, 1)]
    return [(outcome.name, outcome.problem, outcome.was_corrected) for outcome in outcomes]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three good pairs, one late, and one with the notes of another piece."""
    folder = tmp_path / "recordings"
    for seed, name in enumerate("abc"):
        write_pair(folder / f"{name}.wav", folder / f"{name}.mid", seed)
    write_pair(folder / "late.flac", folder / "late.mid", 7, offset_s=0.5)
    write_pair(folder / "wrong.wav", folder / "wrong.mid", 8)
    write_midi(folder / "wrong.mid", melody(9))
    return folder


def test_a_corpus_of_recordings_trains(tmp_path: Path, recordings: Path) -> None:
    out = tmp_path / "corpus"
    made = {name: (problem, corrected) for name, problem, corrected in make(out, recordings)}
    assert made["a.wav"] == (None, False)
    assert made["late.flac"] == (None, True)
    assert "does not sound like its notes" in str(made["wrong.wav"][0])
    settings = json.loads((out / "corpus.json").read_text())
    assert settings["format"] == 1
    files = CorpusFiles.find(out)
    assert len(files.training) + len(files.validation) == 4
    first_onsets = set()
    for path in (*files.training, *files.validation):
        with np.load(path) as piece:
            assert piece["audio"].dtype == np.int16
            first_onsets.add(round(float(piece["notes"][0, 0]), 2))
    late_s = melody(7)[0][0] + 0.5
    assert min(abs(onset - late_s) for onset in first_onsets) <= 0.03
    assert Trainer(out, tmp_path / "run", RUN).run()
    assert (tmp_path / "run" / "model.safetensors").exists()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    make(out, recordings)  # goes on: nothing is made twice
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")} == before
    with pytest.raises(UsageError, match="other settings or recordings"):
        list(make_recorded_corpus(out, recordings, 0.5, -28.0, 1))


def test_corpora_of_a_later_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text('{"format": 2}')
    with pytest.raises(SpecdiffError, match="a corpus of format 2, and this version reads 1"):
        CorpusFiles.find(tmp_path)


def test_the_command_names_what_it_leaves_out(tmp_path: Path, recordings: Path) -> None:
    out = tmp_path / "corpus"
    done = specdiff("train", "data", "-o", out, "--recordings", recordings, "--workers", "1")
    assert done.exit_code == ExitCode.FAILURE
    assert "left out:" in done.stderr
    assert "wrong.wav: does not sound like its notes" in done.stderr
    assert "4 recordings" in done.stderr
    assert "notes moved" in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "give either --soundfont FILE or --recordings DIR"),
        (["--soundfont", "a.sf2", "--recordings", "b"], 2, "give either"),
        (["--recordings", "missing"], 2, "is not a folder"),
    ],
)
def test_misuse(tmp_path: Path, options: list[str], code: int, message: str) -> None:
    done = specdiff("train", "data", "-o", tmp_path / "out", *options)
    assert done.exit_code == code
    assert message in done.stderr

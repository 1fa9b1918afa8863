"""The corpus: planned from a seed, split without overlap, rendered in time, resumable."""

import ctypes.util
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
from soundfonts import SOUNDFONTS, needs_soundfont

import specdiff_cli.corpus.pieces as corpus_module
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.corpus.compose import ComposeConfig, compose
from specdiff_cli.corpus.loudness import GAIN_STEP, calibrated_gain
from specdiff_cli.corpus.pieces import CorpusConfig, Piece, PieceWork, finished_s, is_validation_file, make_piece, plan
from specdiff_cli.corpus.soundfont import FluidSynth
from specdiff_cli.errors import MidiError, OutputError, UsageError

SHORT = ComposeConfig(length_s=(6.0, 7.0))


class ToneSynth:
    """Stands in for FluidSynth: a constant sample for as long as the file lasts."""

    def __init__(self, level: float = 0.5) -> None:
        self.level = level
        self.rendered = 0

    def render(self, midi: mido.MidiFile, tail_s: float = 1.5, has_reverb: bool = False) -> np.ndarray:
        self.rendered += 1
        self.had_reverb = has_reverb
        return np.full(round((midi.length + tail_s) * SAMPLE_RATE_HZ), self.level, dtype=np.float32)


def _midi_folder(folder: Path, n_files: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n_files):
        track = mido.MidiTrack(
            [mido.Message("note_on", note=60, velocity=80), mido.Message("note_off", note=60, time=480)]
        )
        mido.MidiFile(tracks=[track]).save(folder / f"song{k:03d}.mid")
    return folder


def _config(midi_folder: Path | None = None, /, **changes: float) -> CorpusConfig:
    folders = () if midi_folder is None else (str(midi_folder),)
    return CorpusConfig(seed=3, soundfont="none.sf2", midi_folders=folders, **changes)


def test_plan_is_deterministic_and_grows_at_its_end(tmp_path: Path) -> None:
    config = _config(_midi_folder(tmp_path, 30), validation_share=0.1)
    assert plan(config, 200) == plan(config, 200)
    assert plan(config, 50) == plan(config, 200)[:50]


def test_plan_has_the_asked_shares_and_interleaves(tmp_path: Path) -> None:
    pieces = plan(_config(_midi_folder(tmp_path, 40), midi_share=0.4, validation_share=0.1), 200)
    assert sum(piece.is_validation for piece in pieces) == 20
    arranged = [piece.source is not None for piece in pieces]
    assert abs(sum(arranged) - 80) <= 1
    for first in range(0, 200, 20):
        assert 6 <= sum(arranged[first : first + 20]) <= 10


def test_splits_never_share_a_source_or_a_seed(tmp_path: Path) -> None:
    pieces = plan(_config(_midi_folder(tmp_path, 60), validation_share=0.2), 400)
    for value in ("source", "seed"):
        train = {getattr(p, value) for p in pieces if not p.is_validation} - {None}
        validation = {getattr(p, value) for p in pieces if p.is_validation} - {None}
        assert train and validation and not train & validation


def test_a_file_keeps_its_split_when_others_come() -> None:
    names = [Path(f"/somewhere/{k}.mid") for k in range(2000)]
    share = sum(is_validation_file(path, 0.1) for path in names) / len(names)
    assert 0.07 < share < 0.13
    assert [is_validation_file(p, 0.1) for p in names[:50]] == [
        is_validation_file(Path("/elsewhere") / p.name, 0.1) for p in names[:50]
    ]


def test_reverb_falls_on_its_share_and_changes_nothing_else() -> None:
    dry, wet = plan(_config(), 300), plan(_config(reverb_share=0.3), 300)
    assert not any(piece.has_reverb for piece in dry)
    assert 60 < sum(piece.has_reverb for piece in wet) < 120
    assert [piece.seed for piece in dry] == [piece.seed for piece in wet]


@pytest.mark.parametrize(
    ("name", "value"), [("midi_share", 1.5), ("reverb_share", -0.1), ("validation_share", 0.0), ("loudness_lufs", 3.0)]
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name.split("_")[0]):
        _config(**{name: value})


def test_folder_without_midi_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no MIDI files"):
        plan(_config(tmp_path), 10)


def test_stored_piece(tmp_path: Path) -> None:
    piece = Piece(5, 11, False, None)
    length_s = make_piece(piece, ToneSynth(), tmp_path, SHORT)  # type: ignore[arg-type]
    path = tmp_path / "train" / "piece-000005.npz"
    with np.load(path) as stored:
        assert stored["audio"].dtype == np.int16 and np.all(stored["audio"] == round(0.5 * 32767))
        assert stored["notes"].dtype == np.float64 and stored["notes"].shape[1] == 6
        assert stored["notes"][:, 1].max() < length_s
        assert int(stored["clipped_samples"]) == 0
        assert not stored["has_reverb"]
    assert finished_s(path) == pytest.approx(length_s)
    assert sorted(p.name for p in path.parent.iterdir()) == ["piece-000005.mid", "piece-000005.npz"]


def test_clipped_samples_are_counted_not_wrapped(tmp_path: Path) -> None:
    piece = Piece(0, 1, True, None)
    make_piece(piece, ToneSynth(-1.5), tmp_path, SHORT)  # type: ignore[arg-type]
    with np.load(tmp_path / "validation" / "piece-000000.npz") as stored:
        assert np.all(stored["audio"] == -32767)
        assert int(stored["clipped_samples"]) == len(stored["audio"])
        assert float(stored["peak"]) == 1.5


def test_damaged_or_missing_piece_is_not_finished(tmp_path: Path) -> None:
    path = tmp_path / "piece-000000.npz"
    assert finished_s(path) is None
    make_piece(Piece(0, 1, False, None), ToneSynth(), tmp_path, SHORT)  # type: ignore[arg-type]
    whole = (tmp_path / "train" / "piece-000000.npz").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert finished_s(path) is None
    path.write_bytes(b"")
    assert finished_s(path) is None


def test_finished_pieces_are_skipped(tmp_path: Path) -> None:
    synth = ToneSynth()
    work = PieceWork(synth, tmp_path, SHORT)  # type: ignore[arg-type]
    pieces = plan(_config(), 2)
    first = [work.one(piece) for piece in pieces]
    again = [work.one(piece) for piece in pieces]
    assert first == again and synth.rendered == 2


def test_a_bad_source_is_reported_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "bad.mid").write_bytes(b"noise")
    work = PieceWork(ToneSynth(), tmp_path, SHORT)  # type: ignore[arg-type]
    result = work.one(Piece(0, 0, False, tmp_path / "bad.mid"))
    assert isinstance(result, MidiError) and "bad.mid" in str(result)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    def check(folder: str, gain: float = 0.8, /, **changes: float) -> None:
        soundfont = tmp_path / folder / "font.sf2"
        config = replace(_config(**changes), soundfont=str(soundfont))
        corpus_module._check_settings(tmp_path / "corpus", config, SHORT, gain)

    for folder, content in (("here", b"font"), ("there", b"font"), ("other", b"another font")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "font.sf2").write_bytes(content)
    check("here")
    check("there")  # the same soundfont, moved
    refused: list[tuple[str, float, dict[str, float]]] = [
        ("other", 0.8, {}),
        ("here", 0.7, {}),
        ("here", 0.8, {"midi_share": 0.1}),
    ]
    for folder, gain, changes in refused:
        with pytest.raises(UsageError, match="other settings"):
            check(folder, gain, **changes)


def test_a_corpus_that_is_begun_again_keeps_its_gain(tmp_path: Path) -> None:
    (tmp_path / "font.sf2").write_bytes(b"font")
    config = replace(_config(), soundfont=str(tmp_path / "font.sf2"))
    assert corpus_module._known_gain(tmp_path, config, SHORT) is None
    corpus_module._check_settings(tmp_path, config, SHORT, 0.65)
    assert corpus_module._known_gain(tmp_path, config, SHORT) == 0.65
    assert corpus_module._known_gain(tmp_path, replace(config, seed=9), SHORT) is None
    (tmp_path / "font.sf2").write_bytes(b"another font")
    assert corpus_module._known_gain(tmp_path, config, SHORT) is None


def test_two_makers_of_one_folder_are_refused(tmp_path: Path) -> None:
    with corpus_module.only_maker(tmp_path):
        with pytest.raises(UsageError, match="another process"), corpus_module.only_maker(tmp_path):
            pass
    with corpus_module.only_maker(tmp_path):
        pass


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        make_piece(Piece(0, 0, False, None), ToneSynth(), tmp_path / "file", SHORT)  # type: ignore[arg-type]


def test_missing_soundfont_is_one_clear_line(tmp_path: Path) -> None:
    if ctypes.util.find_library("fluidsynth") is None:
        pytest.skip("needs FluidSynth")
    with pytest.raises(UsageError, match="cannot read the soundfont"):
        FluidSynth(tmp_path / "missing.sf2")


@needs_soundfont
@pytest.mark.slow
def test_audio_is_repeatable_and_in_time() -> None:
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)])
    onsets_s, now_s = [], 0.0
    rng = np.random.default_rng(0)
    for _ in range(60):
        gap_ms = int(rng.integers(300, 500))
        now_s += gap_ms / 1000
        onsets_s.append(now_s)
        track.append(mido.Message("note_on", note=100, velocity=120, time=gap_ms))
        track.append(mido.Message("note_off", note=100, time=60))
        now_s += 0.06
    midi = mido.MidiFile(tracks=[track], ticks_per_beat=1000)
    synth = FluidSynth(SOUNDFONTS[0])
    audio = synth.render(midi)
    delays_s = []
    for onset_s in onsets_s:
        begin = round((onset_s - 0.01) * SAMPLE_RATE_HZ)
        around = np.abs(audio[begin : begin + SAMPLE_RATE_HZ // 5])
        level = max(0.05 * around.max(), 1.5 * around[:100].max())
        delays_s.append(float(np.argmax(around > level)) / SAMPLE_RATE_HZ - 0.01)
    assert abs(float(np.median(delays_s))) < 0.003
    assert np.abs(delays_s).max() < 0.008
    other = mido.MidiFile(tracks=[mido.MidiTrack([mido.Message("note_on", note=40, velocity=127)])])
    synth.render(other)
    assert np.array_equal(synth.render(midi), audio)
    synth.close()


@needs_soundfont
@pytest.mark.slow
def test_light_reverb_is_light_and_repeatable() -> None:
    synth = FluidSynth(SOUNDFONTS[0])
    midi = compose(3, ComposeConfig(length_s=(10.0, 11.0)))
    dry, wet = synth.render(midi), synth.render(midi, has_reverb=True)
    share = float(np.sqrt(((wet - dry) ** 2).mean() / (dry**2).mean()))
    assert 0.02 < share < 0.4
    assert np.array_equal(synth.render(midi), dry)  # one piece's reverb does not reach the next
    assert np.array_equal(synth.render(midi, has_reverb=True), wet)
    synth.close()


@needs_soundfont
@pytest.mark.slow
def test_a_corpus_is_the_same_whatever_the_workers(tmp_path: Path) -> None:
    pytest.importorskip("pyloudnorm")
    config = CorpusConfig(seed=1, soundfont=str(SOUNDFONTS[0]), validation_share=0.5)
    for name, workers in (("one", 1), ("two", 2)):
        reports = list(corpus_module.make_corpus(tmp_path / name, 0.11, config, workers, SHORT))
        assert reports[-1][:2] == (4, 4)
    pieces = sorted((tmp_path / "one").rglob("*.npz"))
    assert [path.parent.name for path in pieces].count("validation") == 2
    for path in pieces:
        twin = np.load(tmp_path / "two" / path.relative_to(tmp_path / "one"))
        for key, value in np.load(path).items():
            assert np.array_equal(value, twin[key])


@needs_soundfont
@pytest.mark.slow
def test_six_decibels_more_are_twice_the_gain() -> None:
    pytest.importorskip("pyloudnorm")
    quiet, loud = (calibrated_gain(SOUNDFONTS[0], lufs, SHORT) for lufs in (-26.0, -20.0))
    assert loud == pytest.approx(quiet * 10**0.3, abs=2 * GAIN_STEP)
    assert loud == pytest.approx(round(loud / GAIN_STEP) * GAIN_STEP)

"""Whole evaluations, with voices and a transcriber whose behaviour is known."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from midi_files import midi_bytes, note, program

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.vocoder import LEAD_FRAMES
from specdiff_cli.constants import LOG_MEL_MIN
from specdiff_cli.engine.synthesizer import Sampling
from specdiff_cli.errors import MidiError, OutputError, SpecdiffError, UsageError
from specdiff_cli.evaluation.evaluate import Evaluation, Judges, Subject, read_audio, read_pieces
from specdiff_cli.evaluation.measures import as_pcm16
from specdiff_cli.evaluation.opinion import OpinionScores
from specdiff_cli.evaluation.report import DATA_FILE, PAGE_FILE, ReportFolder, describe

RATE_HZ = 16_000
DURATION_S = 6.0
WRITTEN = [(0.0, 60), (1.0, 64), (2.0, 67)]


def music() -> np.ndarray:
    """Three decaying noises over a faint, steady one."""
    generator = np.random.default_rng(0)
    audio = (0.01 * generator.normal(size=round(DURATION_S * RATE_HZ))).astype(np.float32)
    for start_s, _ in WRITTEN:
        first = round(start_s * RATE_HZ)
        audio[first : first + RATE_HZ] += 0.3 * generator.normal(size=RATE_HZ) * np.exp(-np.arange(RATE_HZ) / 4000)
    return as_pcm16(audio, len(audio))


class PerfectVocoder:
    """Knows the music by heart."""

    name = "perfect"
    context_frames = 0

    def invert(self, mel: torch.Tensor, first_frame: int) -> torch.Tensor:
        return torch.from_numpy(music())[first_frame * 320 :][: len(mel) * 320]


class HummingVocoder(PerfectVocoder):
    """Adds a hum to it."""

    name = "humming"

    def invert(self, mel: torch.Tensor, first_frame: int) -> torch.Tensor:
        audio = super().invert(mel, first_frame)
        return audio + 0.01 * torch.sin(torch.arange(len(audio)) * 0.1)


class FakeSynthesizer:
    """Plays what it is told to, in the shape of a Synthesizer."""

    def __init__(self, audio: np.ndarray, vocoder: Any = None, programs: tuple[int, ...] | None = None) -> None:
        played = {"programs": programs, "plays_drums": False, "follows_velocity": True, "follows_gain": False}
        self.voice = SimpleNamespace(name="fake", **played)
        self.config = SimpleNamespace(denoises=True)
        self.vocoder = self.mel_vocoder = vocoder or PerfectVocoder()
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.n_dropped_events = 0
        self._audio = audio

    def stream(
        self,
        notes: Any,
        duration_s: float,
        sampling: Sampling,
        *,
        on_mel: Callable[[Any], None] | None = None,
        expression: Any = None,
    ) -> Iterator[np.ndarray]:
        n_samples = round(duration_s * RATE_HZ)
        audio = np.pad(self._audio, (0, max(0, n_samples - len(self._audio))))[:n_samples]
        if on_mel is not None:
            on_mel(log_mel(torch.from_numpy(audio)).numpy())
        yield audio


class FakeTranscriber:
    """Hears two of the three notes, and in silence nothing."""

    name = "fake ear"

    def onsets(self, audio: np.ndarray) -> list[tuple[float, int]]:
        return [(start_s + 0.02, pitch) for start_s, pitch in WRITTEN[:2]] if np.abs(audio).max() > 0.01 else []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One piece: a trumpet, a drum, and the reference audio beside it."""
    notes = note(0, 900, 0, 60) + note(960, 1900, 0, 64) + note(1920, 4800, 0, 67)  # ends at 5 s
    midi = midi_bytes([program(0, 0, 56), *notes, *note(0, 480, 9, 38)])
    (tmp_path / "piece.mid").write_bytes(midi)
    soundfile.write(tmp_path / "piece.wav", music(), RATE_HZ, subtype="PCM_16")
    return tmp_path


def evaluated(folder: Path, *synthesizers: FakeSynthesizer, steps: tuple[int, ...] = (2,)) -> Evaluation:
    samplings = tuple(Sampling(n, "ddim", "magenta") for n in steps)
    subjects = [Subject(f"voice {i}", voice, samplings) for i, voice in enumerate(synthesizers)]  # type: ignore[arg-type]
    pieces = read_pieces([folder / "piece.mid"], 100.0)
    evaluation = Evaluation(pieces, subjects, None, Judges(FakeTranscriber()), DURATION_S)
    evaluation.run()
    return evaluation


def test_a_perfect_copy_is_perfect(folder: Path) -> None:
    report = describe(evaluated(folder, FakeSynthesizer(music(), HummingVocoder())), {})
    reference, ceiling, render = (item["mean"] for item in report["recordings"])
    assert reference["log_mel_l1"] == render["log_mel_l1"] == 0.0
    assert render["log_mel_l1_model_range"] == render["spectral_convergence"] == render["log_spectrum"] == 0.0
    assert ceiling["log_mel_l1"] > 0.05
    assert render["log_mel_l1_of_ceiling"] == 0.0
    assert reference["onset_f1"] == render["onset_f1"] == pytest.approx(0.8)  # 2 of 3 heard, none invented
    assert render["onset_f1_of_reference"] == 1.0
    assert render["boundary_jump"] == reference["boundary_jump"]
    assert render["boundary_jump_of_reference"] == 1.0
    assert render["generated_mel_l1"] == 0.0


def test_a_vocoder_alone_hears_silence_before_the_first_frame_as_in_a_render(folder: Path) -> None:
    seen: list[tuple[int, torch.Tensor]] = []

    class WatchedVocoder(PerfectVocoder):
        context_frames = LEAD_FRAMES

        def invert(self, mel: torch.Tensor, first_frame: int) -> torch.Tensor:
            seen.append((first_frame, mel))
            before = torch.zeros(max(0, LEAD_FRAMES - first_frame) * 320)
            audio = super().invert(mel, max(0, first_frame - LEAD_FRAMES))
            return torch.cat([before, audio])[: len(mel) * 320]

    report = describe(evaluated(folder, FakeSynthesizer(music(), WatchedVocoder())), {})
    first_frame, mel = seen[0]
    assert first_frame == 0
    assert (mel[:LEAD_FRAMES] == LOG_MEL_MIN).all()
    assert mel[LEAD_FRAMES].max() > LOG_MEL_MIN + 1
    ceiling = report["recordings"][1]["mean"]
    assert ceiling["log_mel_l1"] < 1e-3  # the silence was cut: the music is where it was


def test_judges_hear_every_recording_but_the_reference_is_not_judged_by_itself(folder: Path) -> None:
    class Opinion:
        def scores(self, reference: np.ndarray, other: np.ndarray, rate_hz: int) -> OpinionScores:
            assert len(reference) == len(other) == DURATION_S * rate_hz
            return OpinionScores(zimtohrli=5.0 - 4.0 * float(np.abs(reference - other).max() > 0), visqol=None)

    class Features:
        n_features = 200

        def features(self, audio: np.ndarray) -> np.ndarray:
            return np.full((3, 200), float(np.abs(audio).max() > 0.1))

    judges = Judges(FakeTranscriber(), Opinion(), Features())  # type: ignore[arg-type]
    voices = [FakeSynthesizer(music()), FakeSynthesizer(np.zeros(1, np.float32))]
    subjects = [Subject(f"voice {i}", v, (Sampling(1, "ddim", "magenta"),)) for i, v in enumerate(voices)]  # type: ignore[arg-type]
    evaluation = Evaluation(read_pieces([folder / "piece.mid"], 100.0), subjects, None, judges, DURATION_S)
    evaluation.run()
    report = describe(evaluation, {})
    reference, _, copy, _, silence = (item["mean"] for item in report["recordings"])
    assert reference["zimtohrli"] is reference["frechet_distance"] is None
    assert copy["zimtohrli"] == 5.0 and copy["visqol"] is None and copy["frechet_distance"] == 0.0
    assert silence["zimtohrli"] == 1.0 and silence["frechet_distance"] == pytest.approx(200.0)
    assert silence["loudness_db"] < -20 and silence["loudness_error_db"] == -silence["loudness_db"]
    assert (
        report["recordings"][2]["meets"]["zimtohrli"] is True and report["recordings"][4]["meets"]["zimtohrli"] is False
    )
    assert report["recordings"][4]["pieces"][0]["frechet_distance"] is None


def test_silence_is_not(folder: Path) -> None:
    report = describe(evaluated(folder, FakeSynthesizer(np.zeros(1, np.float32))), {})
    render = report["recordings"][2]
    assert render["mean"]["log_mel_l1"] > 1.0
    assert render["mean"]["spectral_convergence"] == pytest.approx(1.0)
    assert render["mean"]["onset_f1"] == 0.0
    assert render["mean"]["onset_f1_of_reference"] == 0.0
    assert render["meets"]["onset_f1_of_reference"] is False


def test_nan_from_a_broken_voice_counts_as_silence(folder: Path) -> None:
    report = describe(evaluated(folder, FakeSynthesizer(np.full(96_000, np.nan, np.float32))), {})
    assert report["recordings"][2]["mean"]["generated_mel_l1"] > 1.0
    json.dumps(report, allow_nan=False)


def test_what_does_not_depend_on_the_voice_is_done_once(folder: Path) -> None:
    class Counting(PerfectVocoder):
        n_frames = 0

        def invert(self, mel: torch.Tensor, first_frame: int) -> torch.Tensor:
            Counting.n_frames += len(mel)
            return super().invert(mel, first_frame)

    vocoder = Counting()
    voices = FakeSynthesizer(music(), vocoder), FakeSynthesizer(music(), vocoder)
    labels = [column.label for column in evaluated(folder, *voices, steps=(1, 4)).columns]
    assert labels == [
        "reference",
        *("voice 0: vocoder only", "voice 0, 1 step", "voice 0, 4 steps"),
        *("voice 1: vocoder only", "voice 1, 1 step", "voice 1, 4 steps"),
    ]
    assert Counting.n_frames == 300  # 6 s


def test_true_and_substituted_instruments_are_both_stated(folder: Path) -> None:
    report = describe(evaluated(folder, FakeSynthesizer(music(), programs=(0,))), {})
    assert report["pieces"][0]["instruments"] == ["trumpet", "drums"]
    render = report["recordings"][2]["pieces"][0]
    assert render["instruments"] == ["acoustic piano"]
    assert any("trumpet" in change for change in render["changes"])


def test_pieces_without_a_reference_need_a_soundfont(folder: Path) -> None:
    (folder / "piece.wav").unlink()
    with pytest.raises(UsageError, match=r"piece\.wav.*soundfont"):
        evaluated(folder, FakeSynthesizer(music()))


def test_a_voice_that_plays_none_of_it_is_said_before_the_work(folder: Path) -> None:
    (folder / "piece.mid").write_bytes(midi_bytes(note(0, 480, 9, 38)))
    with pytest.raises(MidiError, match=r"piece\.mid: voice 0 plays nothing"):
        evaluated(folder, FakeSynthesizer(music()))


def test_pieces_of_one_name_are_refused(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "Piece.mid").write_bytes((folder / "piece.mid").read_bytes())
    with pytest.raises(UsageError, match="same name"):
        read_pieces([folder / "piece.mid", other / "Piece.mid"], 100.0)


def test_references_of_other_rates_and_channels_are_converted(tmp_path: Path) -> None:
    stereo = np.stack([np.full(44_100, 0.2), np.full(44_100, 0.4)], axis=1)
    soundfile.write(tmp_path / "a.flac", stereo, 44_100)
    audio = read_audio(tmp_path / "a.flac")
    assert audio.shape == (16_000,)
    assert audio[8_000] == pytest.approx(0.3, abs=1e-3)


def test_a_damaged_reference_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(SpecdiffError, match=r"a\.wav") as error:
        read_audio(tmp_path / "a.wav")
    assert "\n" not in str(error.value)


def written_report(folder: Path, target: Path, overwrite: bool = False) -> dict[str, Any]:
    samplings = (Sampling(1, "ddim", "magenta"), Sampling(2, "ddim", "magenta"))
    subject = Subject("voice <b>", FakeSynthesizer(music()), samplings)  # type: ignore[arg-type]
    evaluation = Evaluation(
        read_pieces([folder / "piece.mid"], 100.0), [subject], None, Judges(FakeTranscriber()), DURATION_S
    )
    with ReportFolder(target, overwrite) as report:
        evaluation.run(on_recording=report.keep)
        found = describe(evaluation, {"gain": 0.8, "voices": [{"voice": "voice <b>", "sha256": {"model": "00"}}]})
        report.finish(found)
    return found


def test_the_report_holds_all_that_its_page_refers_to_and_nothing_from_elsewhere(folder: Path) -> None:
    found = written_report(folder, folder / "report")
    assert json.loads((folder / "report" / DATA_FILE).read_text()) == json.loads(json.dumps(found))
    page = (folder / "report" / PAGE_FILE).read_text()
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(links) == 4 * 3  # reference, vocoder only, two renders: a picture, a link to it, a sound
    for link in links:
        assert re.fullmatch(r"(audio|images)/[a-z0-9-]+\.(flac|png)", link)
        assert (folder / "report" / link).stat().st_size > 100
    assert "//" not in page and "@import" not in page and "url(" not in page and "<script" not in page
    assert "voice &lt;b&gt;" in page and "voice <b>" not in page
    assert page.count("<svg") == 2  # onset F1 and speed; the perfect vocoder leaves no gap to compare with
    audio, rate_hz = soundfile.read(folder / "report" / next(link for link in links if link.endswith(".flac")))
    assert rate_hz == RATE_HZ
    assert np.abs(audio - music()).max() < 1e-4


def test_the_json_has_one_row_per_piece_and_a_mean(folder: Path) -> None:
    report = describe(evaluated(folder, FakeSynthesizer(music()), steps=(1, 2)), {"gain": 0.8})
    assert set(report) == {
        *("schema_version", "specdiff", "made_at", "circumstances", "targets", "pieces", "recordings"),
    }
    assert report["pieces"][0]["reference"] == "piece.wav"
    assert report["pieces"][0]["n_onsets"] == 3
    assert [item["kind"] for item in report["recordings"]] == ["reference", "vocoder-only", "render", "render"]
    assert [item["steps"] for item in report["recordings"][2:]] == [1, 2]
    for item in report["recordings"]:
        assert len(item["pieces"]) == 1
        assert item["pieces"][0]["piece"] == "piece"
        assert set(item["mean"]) < set(item["pieces"][0])


def test_an_existing_report_is_kept_unless_it_may_be_replaced(folder: Path) -> None:
    written_report(folder, folder / "report")
    with pytest.raises(OutputError, match="use overwrite"):
        ReportFolder(folder / "report")
    (folder / "report" / "old").write_text("")
    written_report(folder, folder / "report", overwrite=True)
    assert not (folder / "report" / "old").exists()
    assert not list(folder.glob(".specdiff-*"))


def test_a_folder_that_is_no_report_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="is not a report"):
        ReportFolder(tmp_path / "home", overwrite=True)
    with pytest.raises(OutputError, match="does not exist"):
        ReportFolder(tmp_path / "none" / "report")


def test_a_failure_leaves_nothing_behind(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ReportFolder(folder / "report"):
        raise KeyboardInterrupt
    assert sorted(path.name for path in folder.iterdir()) == ["piece.mid", "piece.wav"]

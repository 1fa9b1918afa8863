"""The benchmark's own arithmetic, and that what it measures is a render."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from random_voices import write_voice_folder
from step_vocoder import StepVocoder

from specdiff_cli.engine.synthesizer import Sampling, Synthesizer
from specdiff_cli.errors import UsageError
from specdiff_cli.evaluation.speed import (
    PARTS,
    decoder_flops,
    flops_of_step,
    matmul_flops_per_s,
    measure,
    peak_memory_bytes,
)
from specdiff_cli.evaluation.speed_work import dense_notes, piece_of, random_voice
from specdiff_cli.evaluation.stopwatch import Stopwatch, TimedNetwork, watched
from specdiff_cli.midi.windows import tokenize
from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.weights.load import load_voice

CPU = torch.device("cpu")
THREE_STEPS = Sampling(3, "ddim", "magenta")


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    folder = write_voice_folder(tmp_path_factory.mktemp("voices") / "ours")
    return Synthesizer(load_voice(str(folder)), StepVocoder(), CPU, torch.float32)


def test_operations_by_hand() -> None:
    """Two frames, three keys, width 4, one head of 2, hidden width 5, one layer."""
    config = ModelConfig(4, 1, 2, 5, 1, 1, 1)
    self_attention = 2 * (2 * 4 * 6) + 2 * (2 * 2 * 2) + 2 * (2 * 2 * 2) + 2 * (2 * 2 * 4)  # qkv, logits, sums, out
    cross_attention = 2 * (2 * 4 * 2) + 2 * (2 * 3 * 2) + 2 * (2 * 3 * 2) + 2 * (2 * 2 * 4)  # q, logits, sums, out
    mlp = 2 * (2 * 4 * 5) * 2 + 2 * (2 * 5 * 4)
    ends = 2 * (2 * 128 * 4) * 2
    assert decoder_flops(config, 3, n_frames=2) == self_attention + cross_attention + mlp + ends
    assert decoder_flops(config, None, n_frames=2) == self_attention + mlp + ends


def test_operations_of_the_published_base_model() -> None:
    """About 61 GFLOP with 856 keys."""
    base = REFERENCE_CONFIGS["base"]
    assert decoder_flops(base, 856) == pytest.approx(61.2e9, rel=0.01)
    assert flops_of_step(base, 856, 1.0) == decoder_flops(base, 856)
    assert flops_of_step(base, 856, 0.0) == decoder_flops(base, None)
    assert flops_of_step(base, 856, 2.0) == decoder_flops(base, 856) + decoder_flops(base, None)


def test_operations_agree_with_a_count_of_the_products() -> None:
    """PyTorch's own counter sees the matrix products of the plain modules."""
    from random_voices import REFERENCE_LIKE, random_network
    from torch.utils.flop_counter import FlopCounterMode

    decoder = random_network(REFERENCE_LIKE).decoder
    keys, values = decoder.memory(torch.randn(1, 20, REFERENCE_LIKE.d_model))
    film = decoder.film(torch.tensor([0.5]))
    with FlopCounterMode(display=False) as counter:
        decoder.train()(torch.randn(1, 256, 128), film, keys, values)
    assert counter.get_total_flops() == decoder_flops(REFERENCE_LIKE, 20)


def test_operations_of_an_autoregressive_frame() -> None:
    """A frame of the window sees itself and those before it: 128.5 in the mean."""
    config = ModelConfig(4, 1, 2, 5, 1, 0, 1, kind="autoregressive")
    windows = sum(decoder_flops(config, 3, n_frames=1, n_past=n) for n in range(1, 257))
    assert 256 * flops_of_step(config, 3, 1.0) == windows
    assert decoder_flops(config, 3, 2, n_past=2) == decoder_flops(config, 3, 2)


def test_the_dense_piece_is_as_dense_as_it_says() -> None:
    counts = [len(window.tokens) for window in tokenize(dense_notes(20.48), total_s=20.48)][:4]
    assert all(550 <= count <= 700 for count in counts), counts


def test_the_stopwatch_counts_and_adds() -> None:
    watch = Stopwatch(CPU)
    for _ in range(2):
        with watch.measure("a"):
            time.sleep(0.01)
    assert 0.02 <= watch.seconds["a"] < 1
    assert watch.calls["a"] == 2


def test_a_report_adds_up(synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specdiff_cli.evaluation.speed.MATMUL_S", 0.01)
    report = measure(lambda: (synthesizer, THREE_STEPS), lambda: dense_notes(6.0), 6.0, batch=2)
    assert report.audio_s == 12.0
    assert report.times_realtime == pytest.approx(12.0 / report.render_s)
    assert report.window_s == pytest.approx(report.render_s / 2)  # two windows
    assert set(report.share) == {*PARTS, "sampler"}
    assert sum(report.share.values()) == pytest.approx(1.0)
    assert 0 < report.load_s <= report.first_sound_s
    assert 6 * report.step_s == pytest.approx(report.share["decoder"] * report.render_s, rel=0.05)
    assert report.step_flops == 2 * decoder_flops(synthesizer.config, report.n_keys)
    assert report.as_json()["steps"] == 3
    # The timers are gone again, and the voice sounds as before.
    assert not isinstance(synthesizer.network, TimedNetwork)
    assert isinstance(synthesizer.vocoder, StepVocoder)


def test_the_bundled_voice_is_watched_song_by_song(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specdiff_cli.evaluation.speed.MATMUL_S", 0.01)
    tiny = Synthesizer(load_voice("tiny"))
    report = measure(lambda: (tiny, tiny.sampling), lambda: dense_notes(1.0), 1.0, batch=1)
    assert 0 < report.step_s < report.render_s
    assert report.share["decoder"] > 0 and report.share["vocoder"] > 0


def test_watching_changes_no_sample(synthesizer: Synthesizer) -> None:
    notes = dense_notes(6.0)
    plain = np.concatenate(list(synthesizer.stream(notes, 6.0, THREE_STEPS)))
    with watched(synthesizer, Stopwatch(CPU)) as network:
        heard = np.concatenate(list(synthesizer.stream(notes, 6.0, THREE_STEPS)))
    assert heard.tobytes() == plain.tobytes()
    assert len(network.key_counts) == 2


def test_random_voices_have_the_true_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    small = ModelConfig(32, 2, 16, 48, 1, 1, 2)
    monkeypatch.setitem(REFERENCE_CONFIGS, "small", small)
    voice = random_voice("small", lambda _prefers: torch.bfloat16)
    assert voice.network.config == small
    weights = voice.network.get_parameter("decoder.blocks.0.mlp.wi_0.weight")
    assert weights.dtype == torch.bfloat16
    assert float(weights.detach().float().std()) == pytest.approx(32**-0.5, rel=0.1)
    with pytest.raises(UsageError, match="known sizes are tiny, small-no-context, small, base"):
        random_voice("huge", lambda _prefers: torch.float32)


def test_the_reference_product_is_plausible() -> None:
    speed = matmul_flops_per_s(ModelConfig(64, 2, 16, 96, 1, 1, 1), 1, CPU, torch.float32)
    assert 1e7 < speed < 1e15


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_peak_memory_is_what_the_kernel_says() -> None:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert peak_memory_bytes() == pytest.approx(int(lines["VmHWM"].split()[0]) * 1024, rel=0.05)


def test_a_songs_first_seconds_can_be_measured(synthesizer: Synthesizer, tmp_path: Path) -> None:
    from midi_files import midi_bytes, note

    path = tmp_path / "song.mid"
    path.write_bytes(midi_bytes(note(0, 480, 0, 60)))
    read, duration_s = piece_of(path, 20.0)
    assert [item.pitch for item in read()] == [60]
    assert duration_s == pytest.approx(0.5)

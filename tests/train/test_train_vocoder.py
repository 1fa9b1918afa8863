"""A few steps on a made-up corpus, and losses checked against numbers worked out by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.melgan import MelGanConfig, load_melgan
from specdiff_cli.errors import UsageError
from specdiff_cli.train import vocoder
from specdiff_cli.train.vocoder import TrainConfig, Trainer
from specdiff_cli.train.vocoder_losses import (
    Discriminator,
    Guess,
    discriminator_loss,
    generator_losses,
    guess_of,
    quality,
    spectra,
    supervised_losses,
    truth_of,
)

SIZES = MelGanConfig(dim=16, n_blocks=1, kernel=3, expansion=2, n_iterations=2)
CONFIG = TrainConfig(batch_size=2, n_frames=8, warmup_steps=1, learning_rate=5e-3)


def make_corpus(folder: Path, n_train: int = 2) -> Path:
    rng = np.random.default_rng(0)
    t = np.arange(48000) / 16000
    for split, count in (("train", n_train), ("validation", 1)):
        (folder / split).mkdir(parents=True)
        for k in range(count):
            tones = sum(np.sin(2 * np.pi * f * t) / 8 for f in rng.uniform(100, 2000, 4)) * np.exp(-t)
            audio = np.round(tones * 20000).astype(np.int16)
            np.savez(folder / split / f"piece-{k}.npz", audio=audio)
    return folder


def tone(frequency_hz: float, n_frames: int = 6) -> torch.Tensor:
    t = torch.arange((n_frames + 2) * 320, dtype=torch.float64) / 16000
    return (0.5 * torch.sin(2 * math.pi * frequency_hz * t)).float()[None]


def test_truth_of_a_tone() -> None:
    # 1010 Hz turns by 20.2 cycles a frame; bin 64 (1000 Hz) by 20.0, so the difference is 0.2 cycles
    truth = truth_of(tone(1010.0))
    assert truth.log_magnitude.shape == (1, 6, 513)
    angle = truth.turn[0, :, 64].angle() / (2 * math.pi)
    torch.testing.assert_close(angle, torch.full((6,), 0.2), atol=2e-3, rtol=0)
    assert truth.weight[0, 0].argmax().item() in (64, 65)
    # |X[64]| is about 0.5 * 320 / 2 times the window's transform, 0.4 lines of the 640-sample window away
    line = np.sinc(0.4) / (1 - 0.4**2)
    assert truth.log_magnitude[0, 2, 64].exp().item() == pytest.approx(80 * line, rel=0.01)


def test_losses_are_zero_for_the_right_answer_and_as_worked_out_for_wrong_ones() -> None:
    truth = truth_of(tone(440.0))
    right = Guess(truth.log_magnitude, truth.turn)
    magnitude, advance = supervised_losses(right, truth)
    assert magnitude.item() == 0
    assert advance.item() == pytest.approx(0, abs=1e-5)
    turned = Guess(truth.log_magnitude, truth.turn * torch.polar(torch.tensor(1.0), torch.tensor(math.pi / 3)))
    assert supervised_losses(turned, truth)[1].item() == pytest.approx(1 - 0.5, abs=1e-5)
    louder = Guess(truth.log_magnitude + math.log(4), truth.turn)
    expected = math.log(4) + 2 * (truth.log_magnitude / 2).exp().mean().item()  # square root of 4 is 2: twice as loud
    assert supervised_losses(louder, truth)[0].item() == pytest.approx(expected, rel=1e-4)


def test_guess_adds_the_rotation_to_the_turn_of_the_peaks() -> None:
    shape = (1, 2, 513)
    quarter = (torch.zeros(shape), torch.zeros(shape), torch.ones(shape) * 7)  # any length, angle pi / 2
    guess = guess_of(quarter, torch.zeros(shape))
    bins = torch.arange(513) * 2 * math.pi * 320 / 1024
    expected = torch.polar(torch.ones(513), math.pi / 2 - bins)
    torch.testing.assert_close(guess.turn[0, 0], expected, atol=3e-4, rtol=0)


def test_adversarial_losses_by_hand() -> None:
    real = [[torch.ones(2, 3), torch.full((2, 1), 0.5)]]
    fake = [[torch.zeros(2, 3), torch.full((2, 1), 0.25)]]
    assert discriminator_loss(real, fake).item() == pytest.approx(0.25 + 0.0625)
    adversarial, matching = generator_losses(real, fake)
    assert adversarial.item() == pytest.approx(0.5625)
    assert matching.item() == pytest.approx(1.0)


def test_discriminator_can_tell_noise_from_tones() -> None:
    torch.manual_seed(0)
    judge = Discriminator(width=4)
    optimiser = torch.optim.Adam(judge.parameters(), lr=5e-3)
    real, fake = truth_of(tone(440.0)), truth_of(torch.randn(1, 8 * 320) * 0.1)
    losses = []
    for _ in range(15):
        loss = discriminator_loss(judge(real.log_magnitude, real.turn), judge(fake.log_magnitude, fake.turn))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_quality_is_zero_for_the_same_audio_and_grows() -> None:
    audio = tone(440.0, 60)[0]
    assert quality(audio, audio) == (0.0, 0.0, 0.0)
    noisy = audio + 0.01 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    noisier = audio + 0.1 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    assert all(0 < a < b for a, b in zip(quality(audio, noisy), quality(audio, noisier), strict=True))


def test_frames_of_the_example_line_up(tmp_path: Path) -> None:
    audio = torch.randn(2, (CONFIG.n_frames + 2) * 320, generator=torch.Generator().manual_seed(0)) * 0.1
    example = vocoder.make_example(audio, 0.0, CONFIG)
    torch.testing.assert_close(example.mel, log_mel(audio)[:, 1:9])
    spectrum = spectra(audio)[:, 1:].abs().log().clamp_min(math.log(1e-4))
    torch.testing.assert_close(example.truth.log_magnitude, spectrum)
    assert example.spread.shape == example.peak_turns.shape == (2, 8, 513)


def test_steps_lower_the_losses_and_the_run_resumes(tmp_path: Path) -> None:
    trainer = Trainer(make_corpus(tmp_path / "corpus"), tmp_path / "run", CONFIG, SIZES)
    losses = [trainer.train_step(1.0, adversarial=False) for _ in range(40)]
    for name in ("magnitude", "advance"):
        early, late = (np.mean([step[name] for step in part]) for part in (losses[:8], losses[-8:]))
        assert late < 0.95 * early
    before = [parameter.clone() for parameter in trainer.discriminator.parameters()]
    assert set(trainer.train_step(1.0, adversarial=True)) == {"magnitude", "advance", "judge", "fooling", "matching"}
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.discriminator.parameters(), strict=True))
    trainer.trained_s = 12.5
    trainer.save()

    weights = load_file(tmp_path / "run" / "vocoder.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert torch.isfinite(load_melgan(weights, SIZES).invert(torch.zeros(5, 128), 0)).all()
    assert set(json.loads((tmp_path / "run" / "quality.json").read_text())) == {"melgan", "griffin-lim"}
    assert not list((tmp_path / "run").glob("*.part"))

    resumed = Trainer(tmp_path / "corpus", tmp_path / "run", CONFIG, SIZES)
    assert (resumed.step, resumed.trained_s) == (41, 12.5)
    for a, b in zip(trainer.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UsageError, match="other sizes"):
        Trainer(tmp_path / "corpus", tmp_path / "run", CONFIG, MelGanConfig(dim=8, n_blocks=1))


def test_run_stops_in_time_and_goes_adversarial_at_the_end(tmp_path: Path) -> None:
    trainer = Trainer(make_corpus(tmp_path / "corpus"), tmp_path / "run", CONFIG, SIZES)
    trainer.run(minutes=1 / 60)
    assert 1 <= trainer.trained_s < 5
    assert trainer.adversarial
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "vocoder.safetensors",
        "supervised.safetensors",
        "vocoder.json",
        "quality.json",
        "state.pt",
    }


def test_corpus_without_pieces(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pieces"):
        Trainer(tmp_path, tmp_path / "run", CONFIG, SIZES)
    corpus = make_corpus(tmp_path / "corpus")
    (corpus / "train" / "piece-9.npz").write_bytes(b"damaged")
    with pytest.raises(UsageError, match="cannot read"):
        Trainer(corpus, tmp_path / "run", CONFIG, SIZES)

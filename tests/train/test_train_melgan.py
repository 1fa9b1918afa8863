"""The generator behind ``partials`` learns from pairs: a made-up corpus, a voice of random templates."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import specdiff
from file_limits import largest_file
from random_voices import write_notes_run
from safetensors.torch import load_file
from small_corpora import bells, write_bells

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.melgan import Generator, GeneratorConfig, ready_generator
from specdiff_cli.constants import LOG_MEL_MIN
from specdiff_cli.diffusion.sampling import TEMPLATES_SAMPLING
from specdiff_cli.engine.synthesizer import Synthesizer
from specdiff_cli.engine.vocoders import load_vocoder
from specdiff_cli.errors import OutputError, UsageError, WeightsError
from specdiff_cli.train.batches import notes_of
from specdiff_cli.train.export import export, update_lock
from specdiff_cli.train.vocoder import Trainer, read_vocoder_settings
from specdiff_cli.train.vocoder_melgan import MelGanRoute, MultiScaleDiscriminator, level_error
from specdiff_cli.train.vocoder_pairs import PairCorpus, pairs_folder
from specdiff_cli.train.vocoder_settings import MelGanTrainConfig, TrainConfig
from specdiff_cli.weights.load import load_voice_folder
from specdiff_cli.weights.lock import load_lock, verify_bundled
from specdiff_cli.weights.voice_file import read_voice_file

SIZES = GeneratorConfig(width=8, n_stacks=1, n_blocks=2)
NOTES = np.array([[0.1, 0.6, 60, 90, 0, 0], [0.7, 1.3, 67, 70, 40, 0], [0.2, 0.4, 38, 100, 0, 1]])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_notes_run(tmp_path_factory.mktemp("runs") / "notes")


@pytest.fixture(scope="module")
def corpus(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_bells(tmp_path_factory.mktemp("corpus"), notes=NOTES)
    export(run, run.parent / "mine", TEMPLATES_SAMPLING)
    kept = pairs_folder(folder, str(run.parent / "mine"))
    for path in folder.rglob("*.npz"):
        duller = torch.from_numpy(bells(int(path.stem[-1])).astype(np.float32) / 32767)
        duller[1:] += 0.7 * duller[:-1].clone()
        step, target = float(duller.abs().max()) / 32767, kept / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        pcm = (duller / step).round().to(torch.int16).numpy()
        np.savez(target, made=pcm, step=np.float64(step), mel=log_mel(duller).half().numpy())
    return folder


@pytest.fixture(scope="module")
def unheard(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without renderings."""
    folder = tmp_path_factory.mktemp("unheard")
    for split in ("train", "validation"):
        shutil.copytree(corpus / split, folder / split)
    return folder


@pytest.fixture
def config(run: Path, corpus: Path) -> MelGanTrainConfig:
    return MelGanTrainConfig(
        n_steps=4,
        batch_size=2,
        n_frames=32,
        warmup_steps=1,
        learning_rate=1e-2,
        adversarial_share=0.5,
        discriminator_width=4,
        save_every_steps=2,
        log_every_steps=2,
        validate_every_steps=4,
        voice=str(run.parent / "mine"),
    )


def test_pairs_are_rendered_once_and_excerpts_belong_together(unheard: Path, config: MelGanTrainConfig) -> None:
    told: list[tuple[int, int]] = []
    pairs = PairCorpus(unheard, "train", config.voice, 8, lambda *ready: told.append(ready))
    assert told == [(0, 2), (1, 2)]
    kept = sorted((pairs_folder(unheard, config.voice) / "train").iterdir())
    assert [path.name for path in kept] == ["piece-0.npz", "piece-1.npz"]
    made = kept[0].stat().st_mtime_ns
    kept[1].write_bytes(kept[1].read_bytes()[:100])  # damaged: made again
    again = PairCorpus(unheard, "train", config.voice, 8, lambda *_: None)
    assert kept[0].stat().st_mtime_ns == made
    assert again.fingerprint == pairs.fingerprint
    rendered = Synthesizer(load_voice_folder(Path(config.voice)), "partials", "cpu")
    (batch,) = again.middles(1, 75)
    whole = torch.from_numpy(rendered.render(notes_of(NOTES), 1.5))
    torch.testing.assert_close(batch.made[0], whole, atol=float(whole.abs().max()) / 30_000, rtol=0)
    torch.testing.assert_close(batch.real[0], torch.from_numpy(bells(0) / 32767).float())
    wanted = torch.from_numpy(rendered.spectrogram(notes_of(NOTES), 1.5))
    torch.testing.assert_close(batch.mel[0], wanted, atol=0.01, rtol=0)
    excerpts = again.sample(16, 20, np.random.default_rng(0))
    assert excerpts.made.shape == excerpts.real.shape == (16, 6400) and excerpts.mel.shape == (16, 20, 128)
    louder = excerpts.louder(torch.full((16, 1), 6.0))
    assert float(louder.real.abs().max() / excerpts.real.abs().max()) == pytest.approx(1.9953, abs=1e-3)
    loud = excerpts.mel > LOG_MEL_MIN + 0.1
    torch.testing.assert_close(
        (louder.mel - excerpts.mel)[loud], torch.full((int(loud.sum()),), 0.6908), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("adversarial_share", [0.0, 1.0], ids=["spectra", "adversarial"])
def test_steps_bring_the_sound_closer(
    corpus: Path, config: MelGanTrainConfig, tmp_path: Path, adversarial_share: float
) -> None:
    chosen = replace(config, n_steps=100, adversarial_share=adversarial_share)
    trainer = Trainer(corpus, tmp_path, chosen, SIZES)
    example = trainer.next_example()
    losses = [trainer.train_step(example) for _ in range(25)]
    judged = {"judge", "adversarial", "matching"} if adversarial_share else set()
    assert losses[0].keys() == {"stft", "mel", "level", "rate", *judged}
    assert losses[-1]["stft"] < 0.97 * losses[0]["stft"]
    assert losses[-1]["mel"] < 0.97 * losses[0]["mel"]
    if adversarial_share:
        assert losses[0]["judge"] == pytest.approx(6, abs=1)  # three scales that know nothing yet
        assert losses[-1]["judge"] < losses[0]["judge"]


def test_what_is_too_soft_in_one_octave_is_an_error_in_level() -> None:
    real = torch.randn(2, 50, 128, generator=torch.Generator().manual_seed(0)) - 3
    made = real.clone()
    made[:, :, :8] -= 0.5  # one of sixteen groups of bands
    assert float(level_error(made, real)) == pytest.approx(0.5 / 16, abs=1e-5)
    assert float(level_error(real.flip(1), real)) == pytest.approx(0.0, abs=1e-5)  # where in the excerpt is no matter


def test_the_hinge_is_satisfied_beyond_one() -> None:
    real = [[torch.full((2, 1, 5), 1.5)]]
    made = [[torch.full((2, 1, 5), -1.5)]]
    assert MelGanRoute.discriminator_loss(real, made) == 0
    assert MelGanRoute.discriminator_loss(made, real) == 5
    features = [[torch.zeros(1, 2, 3), torch.zeros(1, 1, 3)]]
    others = [[torch.ones(1, 2, 3), torch.full((1, 1, 3), 2.0)]]
    adversarial, matching = MelGanRoute.generator_losses(features, others)
    assert (float(adversarial), float(matching)) == (-2.0, 1.0)


def test_the_discriminators_hear_three_scales() -> None:
    judged = MultiScaleDiscriminator(4)(torch.randn(2, 6400))
    assert [layers[0].shape[-1] for layers in judged] == [6400, 3200, 1600]
    assert all(layers[-1].shape[:2] == (2, 1) and layers[-1].shape[2] > 20 for layers in judged)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    corpus: Path, config: MelGanTrainConfig, tmp_path: Path
) -> None:
    whole = Trainer(corpus, tmp_path / "whole", config, SIZES)
    assert whole.run()
    first = Trainer(corpus, tmp_path / "parts", config, SIZES)
    assert not first.run(should_stop=lambda: first.step == 3)
    second = Trainer(corpus, tmp_path / "parts", config, SIZES)
    assert second.run()
    weights = [load_file(tmp_path / name / "vocoder.safetensors") for name in ("whole", "parts")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    scores = json.loads((tmp_path / "whole" / "quality.json").read_text())
    assert scores.keys() == {"step", "melgan", "partials"}
    assert (tmp_path / "whole" / "supervised.safetensors").exists()
    with pytest.raises(UsageError, match="begun with"):
        Trainer(corpus, tmp_path / "whole", replace(config, n_steps=9), replace(SIZES, width=16))


def test_a_full_disk_leaves_no_half_pair(run: Path, tmp_path: Path, config: MelGanTrainConfig) -> None:
    (tmp_path / "train").mkdir()
    np.savez(tmp_path / "train" / "piece-0.npz", audio=bells(0), notes=NOTES)
    with largest_file(1000), pytest.raises(OutputError, match=r"piece-0.npz"):
        PairCorpus(tmp_path, "train", config.voice, 8, lambda *_: None)
    assert not [path for path in pairs_folder(tmp_path, config.voice).rglob("*") if path.is_file()]


def test_from_settings_to_a_voice_that_sounds_through_it(
    run: Path, corpus: Path, config: MelGanTrainConfig, tmp_path: Path
) -> None:
    settings = tmp_path / "melgan.toml"
    train = f'voice = "{config.voice}"\nn_steps = 3\nbatch_size = 2\nn_frames = 32\ndiscriminator_width = 4\n'
    sizes = '[vocoder]\nhead = "melgan"\nwidth = 8\nn_stacks = 1\nn_blocks = 2\n'
    settings.write_text(f"{sizes}[train]\nlearning_rate = 0.05\nwarmup_steps = 0\n{train}")
    out = tmp_path / "run"
    command = ["train", "vocoder", str(settings), "--corpus", str(corpus), "--out", str(out)]
    result = specdiff(*command)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert "head melgan, 2 pieces" in result.stderr
    voice = tmp_path / "voices" / "sung"
    export(run, voice, TEMPLATES_SAMPLING, vocoder_runs=[out])
    described = read_voice_file(voice / "voice.toml")
    assert described.vocoder.stages["melgan"] == {"width": 8, "n_stacks": 1, "n_blocks": 2}
    assert (described.vocoder.name, described.vocoder.best) == ("partials", "melgan")
    assert "melgan.safetensors" in described.hashes
    loaded = load_voice_folder(voice)
    synthesizer = Synthesizer(loaded, device="cpu")
    assert synthesizer.vocoder.name == "melgan"
    with_it, without = (
        Synthesizer(loaded, name, "cpu", sample_rate_hz=44_100, n_channels=2).render(notes_of(NOTES), 1.5)
        for name in ("melgan", "partials")
    )
    assert with_it.shape == without.shape == (66_150, 2)
    assert 0 < np.abs(with_it - without).max() < 0.2
    with pytest.raises(UsageError, match="needs notes"):
        load_vocoder(loaded, "melgan")
    plain = load_voice_folder(Path(config.voice))
    assert Synthesizer(plain, device="cpu").vocoder.name == "partials"
    with pytest.raises(WeightsError, match=r"no MelGAN stage; use vocoder partials"):
        Synthesizer(plain, "melgan", "cpu")
    lock = tmp_path / "weights.lock"
    lock.write_text('lock_version = 1\n\n[bundled.sung]\ndescription = "x"\nlicense = "x"\n')
    update_lock(lock, voice, "sung")
    assert "melgan.safetensors" in [file.path for file in load_lock(lock).bundled["sung"].files]
    (voice / "melgan.safetensors").write_bytes(b"another")
    with pytest.raises(WeightsError, match=r"melgan\.safetensors"):
        load_voice_folder(voice)
    with pytest.raises(WeightsError, match="sung"):
        verify_bundled("sung", lock=load_lock(lock), voices_folder=voice.parent)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[vocoder]\nhead = "melgan"\nwidth = 0', "[vocoder] the generator's width 0: must be between 1 and 1024"),
        ('[vocoder]\nhead = "melgan"\ndim = 3', "[vocoder] dim: is an unknown key"),
        ('[vocoder]\nhead = "melgan"\n[train]\nlargest_noise = 1', "[train] largest_noise: is an unknown key"),
        ('[vocoder]\nhead = "melgan"\n[train]\nstft_weight = -1.0', "[train] stft_weight = -1.0: must not be negative"),
        ('[vocoder]\nhead = "melgan"\n[train]\nvoice = 3', "[train] voice = 3: must be a text"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "melgan.toml"
    path.write_text(table)
    with pytest.raises(UsageError) as refused:
        read_vocoder_settings(path)
    assert said in str(refused.value)


def test_the_head_says_which_settings_there_are(tmp_path: Path) -> None:
    path = tmp_path / "melgan.toml"
    path.write_text('[vocoder]\nhead = "melgan"\n')
    config, sizes = read_vocoder_settings(path, 7)
    assert isinstance(config, MelGanTrainConfig) and isinstance(sizes, GeneratorConfig) and config.n_steps == 7
    path.write_text("")
    assert isinstance(read_vocoder_settings(path)[0], TrainConfig)


def test_an_unknown_voice_is_refused(corpus: Path, config: MelGanTrainConfig, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nobody"):
        Trainer(corpus, tmp_path, replace(config, voice="nobody"), SIZES)


def test_start_from_takes_the_weights(corpus: Path, config: MelGanTrainConfig, tmp_path: Path) -> None:
    first = Trainer(corpus, tmp_path / "first", config, SIZES)
    first.run()
    weights = load_file(tmp_path / "first" / "vocoder.safetensors")
    second = Trainer(corpus, tmp_path / "second", config, SIZES, start_from=tmp_path / "first" / "vocoder.safetensors")
    batch = second.next_example()
    network = second.network
    assert isinstance(network, Generator)
    with torch.no_grad():
        expected = ready_generator(weights, SIZES)(batch.made, batch.mel)
        torch.testing.assert_close(network(batch.made, batch.mel), expected, atol=1e-5, rtol=1e-4)

"""The gains of partials and noise learn from pairs, and a voice sounds through them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import specdiff
from random_voices import write_notes_run
from small_corpora import write_bells

from specdiff_cli.audio.gains import GainNetwork, GainsConfig
from specdiff_cli.diffusion.sampling import TEMPLATES_SAMPLING
from specdiff_cli.engine.synthesizer import Synthesizer
from specdiff_cli.errors import UsageError, WeightsError
from specdiff_cli.train.batches import notes_of
from specdiff_cli.train.export import export
from specdiff_cli.train.vocoder import Trainer, read_vocoder_settings
from specdiff_cli.train.vocoder_pairs import PairCorpus, pairs_folder
from specdiff_cli.train.vocoder_settings import GainsTrainConfig
from specdiff_cli.weights.load import load_voice_folder
from specdiff_cli.weights.voice_file import read_voice_file

NOTES = np.array([[0.1, 0.6, 60, 90, 0, 0], [0.7, 1.3, 67, 70, 40, 0], [0.2, 0.4, 38, 100, 0, 1]])


@pytest.fixture(scope="module")
def notes_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_notes_run(tmp_path_factory.mktemp("runs") / "notes", log_power=-4.0)
    export(folder, folder.parent / "mine", TEMPLATES_SAMPLING)
    return folder


@pytest.fixture(scope="module")
def corpus(notes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bells(tmp_path_factory.mktemp("corpus"), notes=NOTES)


@pytest.fixture
def config(notes_run: Path) -> GainsTrainConfig:
    voice = str(notes_run.parent / "mine")
    return GainsTrainConfig(n_steps=60, batch_size=2, n_frames=32, warmup_steps=1, voice=voice)


def test_parts_add_up_to_what_the_filter_is_given(corpus: Path, config: GainsTrainConfig) -> None:
    pairs = PairCorpus(corpus, "train", config.voice, 8, lambda *_: None, in_parts=True)
    (batch,) = pairs.middles(1, 75)
    assert batch.made.shape == (1, 2, 75 * 320)
    assert pairs_folder(corpus, config.voice, in_parts=True).is_dir()
    rendered = Synthesizer(load_voice_folder(Path(config.voice)), "partials", "cpu")
    whole = torch.from_numpy(rendered.render(notes_of(NOTES), 1.5))
    level = float(batch.made.sum(1).square().mean() / whole.square().mean())
    assert 0.2 < level < 5  # before the filter
    louder = batch.louder(torch.full((1, 1), 20.0))
    torch.testing.assert_close(louder.made, 10 * batch.made)


def test_steps_bring_the_sound_closer(corpus: Path, config: GainsTrainConfig, tmp_path: Path) -> None:
    trainer = Trainer(corpus, tmp_path, config, GainsConfig(width=16, n_blocks=2))
    example = trainer.next_example()
    losses = [trainer.train_step(example) for _ in range(40)]
    assert losses[0].keys() == {"stft", "mel", "level", "rate"}
    assert losses[-1]["stft"] < 0.97 * losses[0]["stft"]
    assert losses[-1]["level"] < 0.9 * losses[0]["level"]


def test_from_settings_to_a_voice_that_sounds_through_it(
    notes_run: Path, corpus: Path, config: GainsTrainConfig, tmp_path: Path
) -> None:
    settings, out, voice = tmp_path / "gains.toml", tmp_path / "run", tmp_path / "sung"
    settings.write_text(
        f'[vocoder]\nhead = "gains"\nwidth = 8\nn_blocks = 1\n[train]\nvoice = "{config.voice}"\n'
        "n_steps = 3\nbatch_size = 2\nn_frames = 32\nlearning_rate = 0.05\nwarmup_steps = 0\n"
    )
    result = specdiff("train", "vocoder", str(settings), "--corpus", str(corpus), "--out", str(out))
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert "head gains, 2 pieces" in result.stderr
    assert json.loads((out / "quality.json").read_text()).keys() == {"step", "gains", "partials"}
    export(notes_run, voice, TEMPLATES_SAMPLING, vocoder_runs=[out])
    described = read_voice_file(voice / "voice.toml")
    assert described.vocoder.stages == {"gains": {"width": 8, "n_blocks": 1}}
    assert (described.vocoder.best, "gains.safetensors" in described.hashes) == ("partials", True)
    synthesizer = Synthesizer(load_voice_folder(voice), device="cpu")
    assert isinstance(synthesizer.vocoder.gains, GainNetwork)  # type: ignore[union-attr]
    plain = Synthesizer(load_voice_folder(Path(config.voice)), device="cpu")
    with_it, without = (it.render(notes_of(NOTES), 1.5) for it in (synthesizer, plain))
    assert 0 < np.abs(with_it - without).max() < 0.5
    again = tmp_path / "again"
    started = specdiff(
        *("train", "vocoder", str(settings), "--corpus", str(corpus), "--out", str(again)),
        *("--start-from", str(out / "vocoder.safetensors")),
    )
    assert started.exit_code == 0, started.stderr
    with pytest.raises(UsageError, match="second vocoder of its kind"):
        export(notes_run, tmp_path / "both", TEMPLATES_SAMPLING, vocoder_runs=[out, again])
    (voice / "gains.safetensors").write_bytes(b"another")
    with pytest.raises(WeightsError, match=r"gains\.safetensors"):
        load_voice_folder(voice)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[vocoder]\nhead = "gains"\nwidth = 0', "[vocoder] the gain network's width 0: must be between 1 and 1024"),
        ('[vocoder]\nhead = ["gains"]', "[vocoder] head = ['gains']: must be a text"),
        ('[vocoder]\nhead = "gains"\nn_stacks = 3', "[vocoder] n_stacks: is an unknown key"),
        (
            '[vocoder]\nhead = "gains"\n[train]\nlevel_weight = -1.0',
            "[train] level_weight = -1.0: must not be negative",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "gains.toml"
    path.write_text(table)
    with pytest.raises(UsageError) as refused:
        read_vocoder_settings(path)
    assert said in str(refused.value)

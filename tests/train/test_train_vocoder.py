"""A few steps on a made-up corpus: what is learned, saved, gone on with and refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from file_limits import largest_file
from safetensors.torch import load_file, save_file
from small_corpora import write_bells

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.spectral import SpectralConfig, SpectralNetwork, load_spectral
from specdiff_cli.errors import OutputError, SpecdiffError, UsageError, WeightsError
from specdiff_cli.train.vocoder import Report, Trainer, read_vocoder_settings
from specdiff_cli.train.vocoder_settings import TrainConfig, lr_factor

ADVANCE = SpectralConfig(dim=16, n_blocks=1, kernel=3, expansion=2, n_iterations=2)
WIDER = replace(ADVANCE, dim=24)
CONFIG = TrainConfig(
    n_steps=4,
    batch_size=2,
    n_frames=8,
    warmup_steps=1,
    learning_rate=5e-3,
    adversarial_share=0.5,
    discriminator_width=2,
    save_every_steps=2,
    log_every_steps=2,
    validate_every_steps=4,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bells(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("adversarial_share", [0.0, 1.0], ids=["supervised", "adversarial"])
def test_steps_lower_the_losses_on_a_fixed_batch(corpus: Path, tmp_path: Path, adversarial_share: float) -> None:
    config = replace(CONFIG, adversarial_share=adversarial_share, n_steps=100)
    trainer = Trainer(corpus, tmp_path, config, ADVANCE)
    example = trainer.next_example()
    before = [parameter.clone() for parameter in trainer.discriminator.parameters()]
    losses = [trainer.train_step(example) for _ in range(12)]
    learned = {"magnitude", "advance"}
    judged = {"judge", "adversarial", "matching"} if adversarial_share else set()
    assert set(losses[0]) == learned | judged | {"rate"}
    early, late = (sum(step[name] for name in learned) for step in (losses[0], losses[-1]))
    assert late < 0.97 * early
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.discriminator.parameters(), strict=True)]
    assert any(moved) == bool(adversarial_share)


def test_a_resumed_run_equals_an_uninterrupted_one(corpus: Path, tmp_path: Path) -> None:
    whole = Trainer(corpus, tmp_path / "whole", CONFIG, ADVANCE)
    assert whole.run()
    first = Trainer(corpus, tmp_path / "parts", CONFIG, ADVANCE)
    assert not first.run(should_stop=lambda: first.step == 3)
    assert json.loads((tmp_path / "parts" / "quality.json").read_text())["step"] == 3
    second = Trainer(corpus, tmp_path / "parts", CONFIG, ADVANCE)
    assert second.step == 3
    assert second.run()
    for name in ("network", "averaged", "discriminator"):
        one, other = getattr(whole, name).state_dict(), getattr(second, name).state_dict()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    for name in ("vocoder.safetensors", "supervised.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_what_a_finished_run_leaves(corpus: Path, tmp_path: Path) -> None:
    reports: list[Report] = []
    trainer = Trainer(corpus, tmp_path / "run", CONFIG, ADVANCE)
    assert trainer.run(reports.append)
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert [bool(report.means) for report in reports] == [False, True, False, True]
    assert reports[-1].quality == trainer.measure()
    names = {path.name for path in (tmp_path / "run").iterdir()} - {"tensorboard"}
    files = {"vocoder.safetensors", "supervised.safetensors", "vocoder.json", "quality.json", "state.pt", "log.jsonl"}
    assert names == files
    weights = load_file(tmp_path / "run" / "vocoder.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    about = json.loads((tmp_path / "run" / "vocoder.json").read_text())
    sizes = SpectralConfig(**about["sizes"])
    assert torch.isfinite(load_spectral(weights, sizes).invert(torch.zeros(5, 128), 0)).all()
    assert set(json.loads((tmp_path / "run" / "quality.json").read_text())) == {"step", "spectral", "griffin-lim"}
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [2, 4, 4]
    assert "judge" not in log[0]  # the discriminator joined for the second half
    assert "judge" in log[1]
    assert log[2]["validation_log_mel"] == pytest.approx(trainer.measure().log_mel)


def test_a_finished_run_is_not_trained_over(corpus: Path, tmp_path: Path) -> None:
    Trainer(corpus, tmp_path / "run", CONFIG, ADVANCE).run()
    before = (tmp_path / "run" / "vocoder.safetensors").read_bytes()
    with pytest.raises(UsageError, match="is finished .4 steps."):
        Trainer(corpus, tmp_path / "run", CONFIG, ADVANCE)
    with pytest.raises(UsageError, match=r"begun with \[train\] batch_size = 2, not 3"):
        Trainer(corpus, tmp_path / "run", replace(CONFIG, batch_size=3), ADVANCE)
    with pytest.raises(UsageError, match=r"begun with \[vocoder\] dim = 16, not 24"):
        Trainer(corpus, tmp_path / "run", CONFIG, WIDER)
    other = write_bells(tmp_path / "other")
    (other / "train" / "piece-1.npz").unlink()
    with pytest.raises(UsageError, match="another corpus"):
        Trainer(other, tmp_path / "run", replace(CONFIG, n_steps=6), ADVANCE)
    (tmp_path / "run" / "state.pt").unlink()
    with pytest.raises(UsageError, match="holds a vocoder"):
        Trainer(corpus, tmp_path / "run", CONFIG, ADVANCE)
    assert (tmp_path / "run" / "vocoder.safetensors").read_bytes() == before


def test_damaged_states_are_told(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="state.pt: is damaged"):
        Trainer(corpus, tmp_path, CONFIG, ADVANCE)
    torch.save({"version": 99}, tmp_path / "state.pt")
    with pytest.raises(WeightsError, match="another version"):
        Trainer(corpus, tmp_path, CONFIG, ADVANCE)


def test_start_from_takes_the_weights_and_nothing_else(corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    weights = {name: torch.randn_like(tensor).half() for name, tensor in SpectralNetwork(ADVANCE).state_dict().items()}
    save_file(weights, tmp_path / "weights.safetensors")
    trainer = Trainer(corpus, tmp_path / "run", CONFIG, ADVANCE, start_from=tmp_path / "weights.safetensors")
    for network in (trainer.network, trainer.averaged):
        assert all(torch.equal(tensor, weights[name].float()) for name, tensor in network.state_dict().items())
    assert trainer.step == 0
    trainer.run(should_stop=lambda: True)
    going_on = Trainer(corpus, tmp_path / "run", CONFIG, ADVANCE, start_from=tmp_path / "weights.safetensors")
    assert going_on.step == 1
    assert not torch.equal(going_on.network.state_dict()["read.weight"], weights["read.weight"].float())
    with pytest.raises(WeightsError, match="do not fit"):
        Trainer(corpus, tmp_path / "other", CONFIG, WIDER, start_from=tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match="is missing"):
        Trainer(corpus, tmp_path / "other", CONFIG, ADVANCE, start_from=tmp_path / "nothing.safetensors")


def test_a_full_disk_leaves_the_last_state(corpus: Path, tmp_path: Path) -> None:
    trainer = Trainer(corpus, tmp_path / "run", CONFIG, ADVANCE)
    trainer.train_step()
    trainer.save()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    trainer.train_step()
    with largest_file(1000), pytest.raises(OutputError, match="cannot write .*state.pt") as caught:
        trainer.save()
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert Trainer(corpus, tmp_path / "run", CONFIG, ADVANCE).step == 1


def test_numbers_that_run_away_end_the_run_in_one_line(corpus: Path, tmp_path: Path) -> None:
    trainer = Trainer(corpus, tmp_path / "run", CONFIG, ADVANCE)
    trainer.run(should_stop=lambda: trainer.step == 2)
    saved = (tmp_path / "run" / "state.pt").read_bytes()
    assert isinstance(trainer.network, SpectralNetwork)
    bias = trainer.network.read.bias
    assert bias is not None
    with torch.no_grad():
        bias[0] = float("nan")
    with pytest.raises(SpecdiffError, match="not finite at step 2; lower learning_rate"):
        trainer.run()
    assert (tmp_path / "run" / "state.pt").read_bytes() == saved


@pytest.mark.parametrize(("splits", "words"), [(("train",), "validation"), (("validation",), "train"), ((), "train")])
def test_a_corpus_without_one_of_its_parts(tmp_path: Path, splits: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=f"no pieces of music in .*{words}; make them"):
        Trainer(write_bells(tmp_path / "corpus", splits), tmp_path / "run", CONFIG, ADVANCE)
    assert not (tmp_path / "run").exists()


def test_a_damaged_piece(tmp_path: Path) -> None:
    corpus = write_bells(tmp_path / "corpus")
    (corpus / "train" / "piece-9.npz").write_bytes(b"damaged")
    with pytest.raises(UsageError, match="cannot read .*piece-9"):
        Trainer(corpus, tmp_path / "run", CONFIG, ADVANCE)


def test_examples_are_random_excerpts_of_the_corpus_and_their_noised_mel(corpus: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, batch_size=64, largest_noise=0.5, level_range_db=(-6.0, 6.0))
    trainer = Trainer(corpus, tmp_path, config, ADVANCE)
    example = trainer.next_example()
    assert example.audio.shape == (64, 10 * 320)
    assert example.mel.shape == (64, 8, 128)
    clean = log_mel(example.audio)[:, 1:9]
    loud = clean > -8  # away from the floor, where noise is cut
    spread = torch.stack([(example.mel - clean)[i][loud[i]].std() for i in range(64)])
    assert spread.max() < 0.55
    assert spread.max() > 0.4
    assert spread.min() < 0.1
    quiet = Trainer(corpus, tmp_path, replace(config, largest_noise=0.0), ADVANCE).next_example()
    torch.testing.assert_close(quiet.mel, log_mel(quiet.audio)[:, 1:9])


def test_the_rate_is_a_function_of_the_step() -> None:
    config = TrainConfig(n_steps=1000, warmup_steps=10)
    assert lr_factor(0, config) == pytest.approx(0.1, rel=1e-4)
    assert lr_factor(500, config) == pytest.approx(0.51)  # half way from 1 to 0.02
    assert lr_factor(1000, config) == pytest.approx(0.02)
    assert lr_factor(250, config) == pytest.approx(0.02 + 0.98 * (1 + math.cos(math.pi / 4)) / 2)
    constant = replace(config, schedule="constant")
    assert [lr_factor(step, constant) for step in (4, 9, 10, 900)] == [0.5, 1.0, 1.0, 1.0]


def test_settings_files(tmp_path: Path) -> None:
    path = tmp_path / "vocoder.toml"
    path.write_text('[vocoder]\nhead = "advance"\ndim = 64\n[train]\nn_steps = 7\nlevel_range_db = [-3, 3]\n')
    config, sizes = read_vocoder_settings(path)
    assert (config, sizes) == (TrainConfig(n_steps=7, level_range_db=(-3.0, 3.0)), SpectralConfig(dim=64))
    assert read_vocoder_settings(path, 9)[0].n_steps == 9
    with pytest.raises(UsageError, match="steps: n_steps = 0: must be at least 1"):
        read_vocoder_settings(path, 0)
    for text, words in {
        "[train]\nlerning_rate = 1\n": "lerning_rate: is an unknown key; did you mean learning_rate",
        "[vocoder]\nkernel = 4\n": "vocoder.toml: .vocoder. .*kernel must be odd",
        "[train]\nlearning_rate = 0.0\n": "learning_rate = 0.0: must be above 0",
        "[train]\nlevel_range_db = [3.0, 1.0]\n": "level_range_db",
        '[vocoder]\nhead = "wave"\n': 'vocoder.toml: .vocoder. head = "wave": is not one of advance',
        '[vocoder]\nhead = "istft"\n': 'head = "istft": is no longer made; train one with head = "advance"',
        "[train]\nstft_weight = 1.0\n": 'stft_weight: served the head "istft", which is no longer made; leave it out',
    }.items():
        path.write_text(text)
        with pytest.raises(UsageError, match=words) as caught:
            read_vocoder_settings(path)
        assert "\n" not in str(caught.value)


def test_the_example_configuration_holds_every_key_with_its_default() -> None:
    path = Path(__file__).parents[2] / "examples" / "train" / "vocoder.toml"
    assert read_vocoder_settings(path) == (TrainConfig(), SpectralConfig())
    text = path.read_text(encoding="utf-8")
    for key in [*TrainConfig.__dataclass_fields__, *SpectralConfig.__dataclass_fields__]:
        assert f"\n{key} = " in text, key

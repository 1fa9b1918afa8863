"""Training the spectrogram network: it learns, goes on to the bit, and stops with one line when it cannot."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from file_limits import largest_file
from small_corpora import HASTY, NOTES, RUN, SMALLEST, write_corpus, write_piece

from specdiff_cli.diffusion.samplers import Objective
from specdiff_cli.errors import DeviceError, OutputError, UsageError, WeightsError
from specdiff_cli.train.batches import Corpus, CorpusFiles, collate
from specdiff_cli.train.listener import SilentListener
from specdiff_cli.train.run_folder import RunConfig
from specdiff_cli.train.trainer import DivergedError, Trainer, plays
from specdiff_cli.weights.load import read_tensors

pytestmark = pytest.mark.usefixtures("without_tensorboard")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


def with_train(**values: Any) -> RunConfig:
    return RunConfig(SMALLEST, replace(HASTY, **values))


def stop_after(n_steps: int) -> Callable[[], bool]:
    calls = iter(range(n_steps))
    return lambda: next(calls, None) == n_steps - 1


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assert_same_state(one: Any, other: Any, where: str = "state") -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            if key != "trained_s":
                assert_same_state(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same_state(a, b, where)
    else:
        assert one == other, where


@pytest.mark.parametrize(("objective", "share"), [("eps", 0.99), ("v", 0.95), ("x0", 0.9)])
def test_steps_lower_the_loss_of_a_fixed_batch(
    corpus: Path, tmp_path: Path, objective: Objective, share: float
) -> None:
    trainer = Trainer(corpus, tmp_path / "run", RunConfig(replace(SMALLEST, objective=objective), HASTY))
    batch = collate([(piece, 50) for piece in trainer.corpus.pieces]).to(trainer.device)
    losses = []
    for _ in range(12):
        trainer.step = 2  # past the warmup, and the same noise every time
        losses.append(trainer.train_step(batch)[0].item())
    # 16 channels cannot carry the noise of 128 bands through: there eps has little to win
    assert losses[-1] < share * losses[0]


STAGED = RunConfig(replace(SMALLEST, note_templates=True), replace(HASTY, n_template_steps=3))


def test_templates_learn_first_and_then_stay(corpus: Path, tmp_path: Path) -> None:
    trainer = Trainer(corpus, tmp_path / "run", STAGED)
    untrained = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    assert not trainer.run(stop_after(3))
    learned = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    for name, tensor in learned.items():
        # Biases may begin at zero and get no gradient from silence; the rest of the templates must have moved.
        if name.startswith("note_templates.") and name.endswith("weight"):
            assert not torch.equal(tensor, untrained[name]), name
        elif not name.startswith("note_templates."):
            assert torch.equal(tensor, untrained[name]), name
    resumed = Trainer(corpus, tmp_path / "run", STAGED)
    assert resumed.run()
    for name, tensor in resumed.model.state_dict().items():
        if name.startswith("note_templates."):
            assert torch.equal(tensor, learned[name]), name
            assert torch.equal(tensor, resumed.averaged.state_dict()[name]), name
    assert not torch.equal(
        resumed.model.state_dict()["decoder.output_projection.weight"], untrained["decoder.output_projection.weight"]
    )
    batch, samples = resumed.sample_validation()
    assert samples.shape == batch.target.shape
    assert samples.isfinite().all()


def test_template_steps_lower_the_loss_of_a_fixed_batch(corpus: Path, tmp_path: Path) -> None:
    config = RunConfig(STAGED.model, replace(HASTY, n_steps=100, n_template_steps=90, warmup_steps=0))
    trainer = Trainer(corpus, tmp_path / "run", config)
    batch = collate([(piece, 50) for piece in trainer.corpus.pieces]).to(trainer.device)
    losses = [trainer.train_step(batch)[0].item() for _ in range(25)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("n_first", [2, 3, 4])
def test_staged_runs_resume_to_the_bit_in_and_between_stages(corpus: Path, tmp_path: Path, n_first: int) -> None:
    assert Trainer(corpus, tmp_path / "whole", STAGED).run()
    assert not Trainer(corpus, tmp_path / "parts", STAGED).run(stop_after(n_first))
    assert Trainer(corpus, tmp_path / "parts", STAGED).run()
    assert_same_state(*(torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")))


def test_a_run_that_stopped_and_went_on_equals_one_that_did_not(corpus: Path, tmp_path: Path) -> None:
    assert Trainer(corpus, tmp_path / "whole", RUN).run()
    stopped = Trainer(corpus, tmp_path / "parts", RUN)
    assert not stopped.run(stop_after(3))
    assert json.loads((tmp_path / "parts" / "config.json").read_text())["is_finished"] is False
    resumed = Trainer(corpus, tmp_path / "parts", with_train(save_every_steps=2))  # how often is free to change
    assert resumed.step == 3
    assert resumed.run()
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts")]
    for state in states:
        state.pop("config")
    assert_same_state(*states)
    whole, parts = log_of(tmp_path / "whole"), log_of(tmp_path / "parts")
    assert [record["step"] for record in parts] == [1, 2, 3, 4, 5, 6]
    for key in ("loss", "gradient_norm", "validation_mel_l1"):
        assert [record.get(key) for record in whole] == [record.get(key) for record in parts]
    assert not list((tmp_path / "parts").glob("*.part"))


def test_other_seeds_give_other_runs(corpus: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        Trainer(corpus, tmp_path / name, with_train(n_steps=1, seed=seed)).run()
    a, b = (read_tensors(tmp_path / name / "model.safetensors") for name in "ab")
    assert not torch.equal(a["decoder.input_projection.weight"], b["decoder.input_projection.weight"])


def test_what_a_finished_run_leaves(corpus: Path, tmp_path: Path) -> None:
    write_piece(corpus / "train" / "piece-000003.npz", [(0.1, 0.2, 38, 90, 0, 1), (0.5, 0.7, 50, 70, 40, 0)])
    heard: list[tuple[str, bool]] = []
    notes: list[str] = []

    class Ears(SilentListener):
        def logged(self, line: str, *, is_measured: bool) -> None:
            heard.append((line, is_measured))

        def note(self, line: str) -> None:
            notes.append(line)

    trainer = Trainer(corpus, tmp_path / "run", with_train(n_steps=2, log_every_steps=1), listener=Ears())
    trainer.run()
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (about["step"], about["is_finished"]) == (2, True)
    assert about["plays"] == {"programs": [0, 40], "drums": True}
    assert about["corpus"]["n_pieces"] == 3
    weights = read_tensors(tmp_path / "run" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    for name, tensor in trainer.averaged.state_dict().items():
        torch.testing.assert_close(weights[name].float(), tensor, atol=2e-3, rtol=2e-3)
    assert [is_measured for _, is_measured in heard] == [False, True]
    assert f"validation mel L1 {log_of(tmp_path / 'run')[-1]['validation_mel_l1']:.4f}" in heard[1][0]
    assert notes == [
        f"tensorboard is not installed (the train extra has it): numbers go to {tmp_path / 'run' / 'log.jsonl'} alone"
    ]


def test_instruments_with_few_notes_are_not_listed(tmp_path: Path) -> None:
    many = [(0.01 * i, 0.01 * i + 0.1, 60, 80, 0, 0) for i in range(600)]
    write_piece(tmp_path / "train" / "a.npz", [*many, (0.5, 1.0, 60, 80, 40, 0)])
    write_piece(tmp_path / "validation" / "a.npz", [])
    corpus = Corpus.load(CorpusFiles.find(tmp_path).training, SMALLEST.vocabulary)
    assert plays(corpus) == {"programs": [0], "drums": False}  # 1 of 601 notes is below 0.2 %


def test_a_finished_run_is_left_alone_until_it_is_made_longer(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    Trainer(corpus, run, with_train(n_steps=1)).run()
    before = (run / "state.pt").read_bytes()
    with pytest.raises(UsageError, match=r"is finished \(1 steps\); raise n_steps to go on"):
        Trainer(corpus, run, with_train(n_steps=1))
    assert (run / "state.pt").read_bytes() == before
    longer = Trainer(corpus, run, with_train(n_steps=2))
    assert longer.step == 1
    longer.run()
    (run / "state.pt").unlink()
    with pytest.raises(UsageError, match=r"holds weights but no state\.pt"):
        Trainer(corpus, run, with_train(n_steps=2))


def test_a_run_goes_on_only_as_it_was_begun(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    Trainer(corpus, run, RUN).run(stop_after(1))
    with pytest.raises(UsageError, match=r"was begun with \[train\] batch_size = 2, not 3; set it back"):
        Trainer(corpus, run, with_train(batch_size=3))
    with pytest.raises(UsageError, match=r'was begun with \[model\] objective = "x0", not "v"'):
        Trainer(corpus, run, RunConfig(replace(SMALLEST, objective="v"), HASTY))
    write_piece(corpus / "train" / "piece-000009.npz", NOTES)
    with pytest.raises(UsageError, match=r"begun with other pieces .*\(3 then, 4 now\)"):
        Trainer(corpus, run, RUN)
    (run / "state.pt").write_bytes((run / "state.pt").read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"state\.pt: is damaged"):
        Trainer(corpus, run, RUN)


def test_records_after_the_last_checkpoint_are_dropped(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    Trainer(corpus, run, RUN).run(stop_after(2))
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 1}\n{"step": 4, "lo')
    Trainer(corpus, run, RUN).run(stop_after(1))
    assert [record["step"] for record in log_of(run)] == [1, 2, 3]
    assert log_of(run)[-1]["loss"] != 1


def test_a_run_starts_from_the_weights_of_another(corpus: Path, tmp_path: Path) -> None:
    first = Trainer(corpus, tmp_path / "first", with_train(n_steps=1))
    first.run()
    for name in ("state.pt", "model.safetensors"):
        second = Trainer(corpus, tmp_path / "second", RUN, start_from=tmp_path / "first" / name)
        assert second.step == 0
        source = first.model if name == "state.pt" else first.averaged
        torch.testing.assert_close(second.model.state_dict(), source.state_dict(), atol=2e-3, rtol=2e-3)
    other = RunConfig(replace(SMALLEST, d_model=32), HASTY)
    with pytest.raises(UsageError, match=r"start_from .*state\.pt: is not of this network"):
        Trainer(corpus, tmp_path / "third", other, start_from=tmp_path / "first" / "state.pt")
    with pytest.raises(WeightsError, match=r"none\.pt: is missing; check the name"):
        Trainer(corpus, tmp_path / "third", RUN, start_from=tmp_path / "none.pt")


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_checkpoint(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer = Trainer(corpus, run, with_train(matrix_lr=1e30, other_lr=1e30, save_every_steps=1))
    with pytest.raises(DivergedError, match=r"the loss is not finite at step 2; lower matrix_lr .*checkpoint stays"):
        trainer.run()
    assert torch.load(run / "state.pt", weights_only=True)["step"] == 1
    with pytest.raises(DivergedError, match="nothing was saved yet"):
        Trainer(corpus, tmp_path / "other", with_train(matrix_lr=1e30, other_lr=1e30)).run()


def test_a_full_disk_leaves_the_old_checkpoint(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer = Trainer(corpus, run, RUN)
    trainer.run(stop_after(1))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    full = pytest.raises(OutputError, match=r"cannot write .*state\.pt: .*; free some space")
    with largest_file(20_000), full as caught:
        trainer.save()
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.slow  # tensorboard takes its time
def test_tensorboard_gets_numbers_pictures_and_sound(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Trainer(corpus, tmp_path / "run", with_train(n_steps=3, validate_every_steps=2)).run(stop_after(2))
    Trainer(corpus, tmp_path / "run", with_train(n_steps=3, validate_every_steps=2)).run()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"loss", "learning_rate", "gradient_norm", "windows_per_s", "validation_mel_l1"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    shown = {f"window {i}/{name}" for i in (0, 1) for name in ("true", "sampled")}
    assert shown == set(tags["images"]) == set(tags["audio"])
    assert [event.step for event in events.Images("window 0/sampled")] == [2, 3]
    assert (events.Images("window 0/true")[0].width, events.Images("window 0/true")[0].height) == (256, 128)


@pytest.mark.parametrize(("is_fast", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_precision_auto_is_what_the_hardware_computes_in(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_fast: bool, expected: str
) -> None:
    monkeypatch.setattr("specdiff_cli.engine.devices._computes_in_bfloat16", lambda _: is_fast)
    assert Trainer(corpus, tmp_path / "run", with_train(precision="auto")).precision == expected
    assert Trainer(corpus, tmp_path / "plain", with_train(precision="float32")).precision == "float32"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_exhausted_memory_names_what_to_lower_on_every_device(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def train_step(*_: object) -> None:
        raise error

    trainer = Trainer(corpus, tmp_path / "run", RUN)
    monkeypatch.setattr(trainer, "train_step", train_step)
    with pytest.raises(DeviceError, match="out of memory at step 0 with batch_size 2; lower it"):
        trainer.run()

"""Two processes train as one."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from small_corpora import HASTY, SMALLEST, SMALLEST_TABLE, write_corpus

from specdiff_cli.errors import UsageError
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.train.batches import Batch, Corpus, CorpusFiles, collate
from specdiff_cli.train.distributed import Processes, processes_of_environment
from specdiff_cli.train.objective import Draws, draw, loss_on
from specdiff_cli.train.optimisers import make_optimisers

#: What both processes of the gradient test run; the second argument is where the first process leaves its gradients.
GRADIENTS = """
import sys
from pathlib import Path
import torch
sys.path[:0] = sys.argv[3:]
from small_corpora import HASTY, SMALLEST
from test_distributed import halves, network_of
from specdiff_cli.train.distributed import in_parallel, joined, processes_of_environment
from specdiff_cli.train.objective import loss_on
torch.set_num_threads(1)
processes, cpu = processes_of_environment(), torch.device("cpu")
with joined(processes, cpu):
    model = network_of()
    batch, draws = halves(Path(sys.argv[1]))[processes.rank]
    network = in_parallel(model, processes, cpu)
    loss_on(network, batch, draws, "x0", "float32").backward()
    if processes.is_first:
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        torch.save(gradients, sys.argv[2])
"""


def network_of() -> SpectrogramDiffusion:
    """The same network in every process; its output is not zero, so that all of it has gradients."""
    model = SpectrogramDiffusion(SMALLEST)
    model.initialise(0)
    make_optimisers(model, HASTY)  # freezes the position tables
    torch.nn.init.normal_(model.decoder.output_projection.weight, generator=torch.Generator().manual_seed(0))
    return model


def halves(corpus: Path) -> list[tuple[Batch, Draws]]:
    """Two batches of two windows, of equal shapes, with their draws; and both as one batch of four."""
    pieces = Corpus.load(CorpusFiles.find(corpus).training, SMALLEST.vocabulary).pieces
    batch = collate([(pieces[i % 2], 40 * i) for i in range(4)]).to(torch.device("cpu"))
    draws = draw(4, HASTY, torch.Generator().manual_seed(1))
    parts: list[tuple[Batch, Draws]] = []
    for rows in (slice(0, 2), slice(2, 4), slice(0, 4)):
        one = Batch(**{field.name: getattr(batch, field.name)[rows] for field in fields(Batch)})
        other = Draws(**{field.name: getattr(draws, field.name)[rows] for field in fields(Draws)})
        parts.append((one, other))
    return parts


def start_two(*arguments: str) -> list[subprocess.Popen[str]]:
    """Two processes in torchrun's environment, without its own process beside them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        processes.append(process)
    return processes


def wait_for(processes: list[subprocess.Popen[str]]) -> list[str]:
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    return outputs


def test_the_environment_says_who_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes_of_environment() == Processes(0, 1, 0)
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert processes_of_environment() == Processes(3, 4, 1)
    assert not processes_of_environment().is_first
    monkeypatch.delenv("RANK")
    with pytest.raises(UsageError, match="use torchrun"):
        processes_of_environment()


@pytest.mark.slow  # two processes that load torch
def test_gradients_are_those_of_one_process_with_all_windows(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    places = str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")
    wait_for(start_two("-c", GRADIENTS, str(corpus), str(tmp_path / "gradients.pt"), *places))
    averaged = torch.load(tmp_path / "gradients.pt", weights_only=True)
    model = network_of()
    batch, draws = halves(corpus)[2]
    loss_on(model, batch, draws, "x0", "float32").backward()  # type: ignore[no-untyped-call]
    alone = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert averaged.keys() == alone.keys()
    assert any(gradient.abs().max() > 1e-3 for gradient in alone.values())
    for name, gradient in alone.items():
        assert torch.allclose(averaged[name], gradient, atol=1e-6, rtol=1e-4), name


SETTINGS = f"""
{SMALLEST_TABLE}note_templates = true
[train]
n_steps = 4
n_template_steps = 1
batch_size = 2
precision = "float32"
log_every_steps = 1
save_every_steps = 2
schedule = "constant"
"""


@pytest.mark.slow  # two processes that load torch, three times over
def test_two_processes_train_and_go_on_to_the_bit(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    (tmp_path / "run.toml").write_text(SETTINGS)

    def train(out: str, *more: str) -> list[str]:
        command = ["-m", "specdiff_cli", "train", "model", str(tmp_path / "run.toml"), "--corpus", str(corpus)]
        return wait_for(start_two(*command, "--out", str(tmp_path / out), "--device", "cpu", *more))

    outputs = train("whole")
    assert "on cpu × 2" in outputs[0]
    assert "on cpu" not in outputs[1]  # the first process speaks for all
    train("parts", "--steps", "2")
    train("parts")
    whole, parts = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts"))
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, parts["model"][name]), name
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4

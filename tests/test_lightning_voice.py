"""Voices of the lightning dialect: their tokens, their features, and what their first window hears."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_checkpoints import HIGH, LOW, LightningReference, lightning_weights

from specdiff_cli.engine.synthesizer import Sampling, Synthesizer
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.vocabulary import Vocabulary
from specdiff_cli.midi.windows import tokenize
from specdiff_cli.model.compiled import CompiledNetwork, Memory
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.weights.checkpoints.source import read_source

TOKENS = Vocabulary(max_shift_steps=513, dialect="lightning")
TIE, OFF, ON = 644, 642, 643


def shift(step: int) -> int:
    return step


def pitch(number: int) -> int:
    return 514 + number


def program(number: int) -> int:
    return 645 + number


def drum(number: int) -> int:
    return 773 + number


def a_note(start_s: float, end_s: float, number: int, of: int = 0, *, is_drum: bool = False) -> Note:
    return Note(start_s=start_s, end_s=end_s, pitch=number, velocity=90, program=of, is_drum=is_drum)


def windows(*notes: Note) -> list[list[int]]:
    return [window.tokens.tolist() for window in tokenize(notes, TOKENS)]


def test_program_and_velocity_are_named_anew_after_every_shift() -> None:
    first, second = windows(
        a_note(0.0, 1.0, 60),
        a_note(0.5, 6.0, 64, 40),
        a_note(0.5, 0.5, 70, 100),  # no length: it lasts one step; its program stays what it is
        a_note(0.5, 0.6, 36, is_drum=True),
    )
    assert first == [
        *[TIE, program(0), ON, pitch(60)],
        *[shift(50), program(40), ON, pitch(64), program(100), ON, pitch(70), drum(36)],
        *[shift(51), program(100), OFF, pitch(70)],
        *[shift(100), program(0), OFF, pitch(60)],
    ]
    assert second == [program(40), pitch(64), TIE, shift(88), program(40), OFF, pitch(64)]


def test_within_a_step_a_program_ends_its_notes_before_it_begins_others() -> None:
    (tokens,) = windows(
        a_note(0.1, 0.3, 62, 5), a_note(0.3, 0.4, 62, 5), a_note(0.3, 0.4, 50, 5), a_note(0.3, 0.35, 61, 4)
    )
    at_30 = [program(4), ON, pitch(61), program(5), OFF, pitch(62), ON, pitch(50), pitch(62)]
    assert tokens[tokens.index(shift(30)) + 1 :][: len(at_30)] == at_30


def test_a_drum_alone_needs_its_velocity_and_the_next_note_its_program() -> None:
    (tokens,) = windows(
        a_note(0.0, 2.0, 60, 3),
        a_note(0.1, 0.2, 36, is_drum=True),
        a_note(0.1, 0.2, 38, is_drum=True),
        a_note(0.2, 2.0, 61, 3),
    )
    assert tokens[: tokens.index(shift(200))] == [
        *[TIE, program(3), ON, pitch(60), shift(10), ON, drum(36), drum(38), shift(20), program(3), ON, pitch(61)]
    ]


def test_the_other_dialect_is_the_default() -> None:
    config = ModelConfig(32, 1, 64, 24, 1, 0, 1)
    assert config.vocabulary == Vocabulary()
    assert (Vocabulary().n_ids, Vocabulary().end_ids, Vocabulary().n_special_ids) == (1391, (1,), 3)
    assert TOKENS.describe(0) == "shift 0"
    assert TOKENS.describe(900) == "drum 127"


@pytest.mark.parametrize(
    "values",
    [
        {"dialect": "german"},
        {"dialect": "lightning", "note_layout": True},
        {"dialect": "lightning", "kind": "autoregressive"},
        {"feature_range": (4.0, -11.0)},
    ],
)
def test_sizes_that_contradict_each_other(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="="):
        ModelConfig(32, 1, 64, 24, 1, 0, 1, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("context", [True, False])
def test_rendering_scales_features_and_begins_with_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: bool
) -> None:
    state = {key: torch.from_numpy(value) for key, value in lightning_weights(context=context).items()}
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    synthesizer = Synthesizer(read_source(str(tmp_path / "last.ckpt")).voice, "griffin-lim", "cpu", "float32")
    network = synthesizer.network
    assert isinstance(network, CompiledNetwork)
    remember = network.remember
    seen: list[torch.Tensor | None] = []

    def watch(
        tokens: Sequence[torch.Tensor], contexts: Sequence[torch.Tensor | None], layouts: Sequence[torch.Tensor]
    ) -> Memory:
        seen.extend(contexts)
        return remember(tokens, contexts, layouts)

    monkeypatch.setattr(network, "remember", watch)
    sampling = Sampling(steps=2, sampler="ddim", schedule="magenta", guidance=2.0)
    mel = synthesizer.spectrogram([a_note(0.0, 6.0, 60)], 7.0, sampling)
    assert LOW - 1e-3 <= mel.min() and mel.max() <= HIGH + 1e-3
    assert mel.max() > 4.5  # the reference's features end at 4.0
    if not context:
        assert seen[0] is None
        return
    silence, first = seen
    assert silence is not None and first is not None
    assert np.allclose(silence.numpy(), 2 * (math.log(1e-5) - LOW) / (HIGH - LOW) - 1, atol=1e-6)
    assert np.allclose(first[0].numpy(), 2 * (mel[:256] - LOW) / (HIGH - LOW) - 1, atol=1e-5)


def test_the_compiled_network_computes_what_theirs_does(tmp_path: Path) -> None:
    weights = lightning_weights()
    torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in weights.items()}}, tmp_path / "a.ckpt")
    network = read_source(str(tmp_path / "a.ckpt")).voice.network
    assert isinstance(network, SpectrogramDiffusion)
    compiled = CompiledNetwork(network, torch.device("cpu"), torch.float32)
    rng = np.random.default_rng(6)
    tokens, (context, noisy) = rng.integers(1, 901, 30), rng.uniform(-1, 1, (2, 256, 128))
    reference = LightningReference(weights)
    memory = np.concatenate([reference.encode_notes(tokens), reference.encode_context(context)])
    with torch.inference_mode():
        seen = compiled.remember(
            [torch.from_numpy(tokens)], [torch.from_numpy(context).float()[None]], [torch.zeros(0, 5)]
        )
        ours = compiled.decode(torch.from_numpy(noisy).float()[None], compiled.film([1 / 64]), seen)
    theirs = reference.decode(noisy, 1 / 64, memory)
    assert np.abs(ours[0].numpy() - theirs).max() < 5e-5 * np.abs(theirs).max()

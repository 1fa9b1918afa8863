"""Note templates: powers that add up, hand-worked envelopes, no trace of padding."""

import math
from dataclasses import replace

import pytest
import torch
from random_voices import OURS, random_network
from torch import Tensor

from specdiff_cli.constants import LOG_MEL_MAX, LOG_MEL_MIN
from specdiff_cli.model.compiled import CompiledNetwork
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.model.templates import HIDDEN, N_SHAPES, RELEASES_S, RESIDUAL_SCALE, NoteTemplates

CONFIG = replace(OURS, note_templates=True)
NOTE = [1200, 1300, 1140]


def templates(*, learned: bool = True) -> NoteTemplates:
    module = NoteTemplates(CONFIG)
    module.initialise(torch.Generator().manual_seed(0))
    if learned:
        torch.nn.init.normal_(module.out.weight, std=HIDDEN**-0.5, generator=torch.Generator().manual_seed(1))
    return module


def notes(*rows: tuple[list[int], float, float]) -> tuple[Tensor, Tensor]:
    return torch.tensor([[ids for ids, _, _ in rows]]), torch.tensor([[times for _, *times in rows]])


def nepers(base: Tensor) -> Tensor:
    """Model range -> natural log of mel magnitude."""
    return (base.detach() + 1) / 2 * (LOG_MEL_MAX - LOG_MEL_MIN) + LOG_MEL_MIN


def with_only(module: NoteTemplates, shape: int, log_power: float, release: int = 0) -> NoteTemplates:
    """One shape of known power and one release; everything else silent."""
    torch.nn.init.zeros_(module.out.weight)
    bias = torch.full((N_SHAPES + len(RELEASES_S), 128), -40.0)
    bias[shape] = log_power
    bias[N_SHAPES + release] = 40.0
    module.out.bias.data.copy_(bias.reshape(-1))
    return module


def test_no_notes_are_silence() -> None:
    base = templates()(torch.zeros(1, 3, 3, dtype=torch.int64), torch.zeros(1, 3, 2))
    torch.testing.assert_close(base, torch.full((1, 256, 128), -1.0), atol=1e-5, rtol=0)


def test_a_steady_note_has_its_power_while_it_sounds_and_fades_as_hand_worked() -> None:
    module = with_only(templates(), shape=0, log_power=2.0, release=1)
    levels = nepers(module(*notes((NOTE, 1.0, 2.0))))[0, :, 0]
    assert levels[40] == pytest.approx(math.log(1e-5), abs=1e-3)  # 0.8 s: not yet
    assert levels[75] == pytest.approx(1.0, abs=1e-4)  # 1.5 s: half the log-power, as it is a magnitude
    rest_s = 0.02 * 105 + 0.04 - 2.0 - 0.02  # from the note's end to the middle of frame 105
    assert levels[105] == pytest.approx((2.0 - rest_s / RELEASES_S[1]) / 2, abs=1e-3)


def test_a_decay_stops_where_the_note_ends() -> None:
    module = with_only(templates(), shape=N_SHAPES - 1, log_power=0.0, release=2)
    levels = nepers(module(*notes((NOTE, 0.0, 2.0))))[0, :, 0]
    middle_s = 0.02 * 50 + 0.02
    assert levels[50] == pytest.approx(-middle_s / 2.0 / 2, abs=1e-3)
    rest_s = 0.02 * 120 + 0.02 - 2.0
    assert levels[120] == pytest.approx((-(2.0 - 0.02) / 2.0 - rest_s / RELEASES_S[2]) / 2, abs=1e-3)


def test_powers_add() -> None:
    module = templates()
    one, two = (nepers(module(*notes(*[(NOTE, 0.5, 3.0)] * n))) for n in (1, 2))
    loud = one > -6  # far above the floor
    assert loud.any()
    torch.testing.assert_close((two - one)[loud], torch.full_like(one[loud], math.log(2) / 2), atol=1e-3, rtol=0)


def test_padding_changes_nothing() -> None:
    module = templates()
    tokens, times = notes((NOTE, 0.2, 0.9), ([1210, 1310, 1141], -1.0, 4.0))
    padded = module(
        torch.nn.functional.pad(tokens, (0, 0, 0, 5)), torch.nn.functional.pad(times, (0, 0, 0, 5), value=1.0)
    )
    torch.testing.assert_close(padded, module(tokens, times), atol=1e-5, rtol=0)


def test_scripted_equals_eager() -> None:
    module = templates().eval()
    inputs = notes((NOTE, 0.2, 0.9), ([1210, 1310, 1141], -1.0, 4.0))
    torch.testing.assert_close(torch.jit.script(module)(*inputs), module(*inputs), atol=1e-6, rtol=1e-6)


def test_the_network_draws_the_same_weights_from_the_same_seed() -> None:
    first, second = SpectrogramDiffusion(CONFIG), SpectrogramDiffusion(CONFIG)
    first.initialise(5)
    second.initialise(5)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert SpectrogramDiffusion(OURS).base(*notes((NOTE, 0.0, 1.0))) is None
    assert first.base(*notes((NOTE, 0.0, 1.0))) is not None


def window_of(n_notes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (K,), a context (1, 256, 128) and a layout (n_notes, 5) of one window."""
    generator = torch.Generator().manual_seed(n_notes)
    ids = torch.randint(3, 1300, (n_notes, 3), generator=generator).double()
    onset_s = torch.rand(n_notes, 1, generator=generator).double() * 4
    tokens = torch.randint(3, 1300, (9,), generator=generator)
    return tokens, torch.rand(1, 256, 128, generator=generator) * 2 - 1, torch.cat([ids, onset_s, onset_s + 0.5], 1)


def test_rendering_computes_what_training_trains() -> None:
    network = random_network(CONFIG)
    tokens, context, layout = window_of(4)
    noisy = torch.randn(1, 256, 128, generator=torch.Generator().manual_seed(9))
    yes = torch.ones(1, dtype=torch.bool)
    ids, times = layout[None, :, :3].long(), layout[None, :, 3:].float()
    with torch.inference_mode():
        base = network.base(ids, times)
        expected = network(noisy, torch.tensor([0.3]), tokens[None], context, yes, yes, ids, times, base)
        rendering = CompiledNetwork(network, torch.device("cpu"), torch.float32)
        memory = rendering.remember([tokens], [context], [layout])
        torch.testing.assert_close(rendering.decode(noisy, rendering.film([0.3]), memory), expected)
        assert base is not None and memory.base is not None
        torch.testing.assert_close(memory.spectrogram(noisy), base + RESIDUAL_SCALE * noisy)


def test_unconditioned_windows_see_no_templates() -> None:
    network = random_network(CONFIG)
    tokens, context, layout = window_of(4)
    noisy = torch.randn(1, 256, 128, generator=torch.Generator().manual_seed(9))
    no = torch.zeros(1, dtype=torch.bool)
    ids, times = layout[None, :, :3].long(), layout[None, :, 3:].float()
    with torch.inference_mode():
        base = network.base(ids, times)
        blind = network(noisy, torch.tensor([0.3]), tokens[None], context, no, no, ids, times, base)
        rendering = CompiledNetwork(network, torch.device("cpu"), torch.float32)
        torch.testing.assert_close(rendering.decode(noisy, rendering.film([0.3]), None), blind)


def test_a_silent_window_among_others_is_silent() -> None:
    rendering = CompiledNetwork(random_network(CONFIG), torch.device("cpu"), torch.float32)
    windows = [window_of(3), window_of(0)]
    with torch.inference_mode():
        both = rendering.remember(*map(list, zip(*windows, strict=True)))
        alone = rendering.remember(*([part] for part in windows[1]))
    assert both.base is not None and alone.base is not None and alone.laid is not None and both.laid is not None
    torch.testing.assert_close(alone.base, torch.full((1, 256, 128), -1.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(both.base[1:], alone.base, atol=1e-5, rtol=0)
    torch.testing.assert_close(both.laid[1:], alone.laid, atol=1e-5, rtol=1e-4)

"""A MelGAN-type generator that begins with a sound instead of with nothing.

Mel-conditioned convolutions with dilated residual stacks and weight normalisation, trained against multi-scale
discriminators (Kumar et al., "MelGAN", 2019). Where theirs has to invent pitch and phase, this one is given a sound
that has both, and says only what is to be added to it: timbre, roughness, attack. It works in 16 sub-bands, each
divided by its own level, so that 1000 steps a second are enough and loudness is no matter. Untrained, it adds nothing.

Sub-bands as residual: Mustafa et al., "StyleMelGAN", and Yang et al., "Multi-band MelGAN" (both 2020), have them for
speed, too. The filter bank is cosine-modulated (Vaidyanathan, "Multirate Systems and Filter Banks", 1993).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from specdiff_cli.audio.spectral import compiled, load_weights
from specdiff_cli.constants import HOP_SAMPLES, N_MELS
from specdiff_cli.errors import WeightsError

N_BANDS = 16
STEPS_PER_FRAME = HOP_SAMPLES // N_BANDS  # of the sub-bands
DILATION_BASE = 3  # dilations of a stack: 1, 3, 9 ...
LEVEL_STEPS = 21  # a sub-band's level is its power smoothed twice over so many of its steps: about 20 ms
QUIETEST = 1e-5  # sub-band levels below this are silence
_HALF_TAPS = 64  # of the filters: 4 ms
_CUTOFF, _KAISER_BETA = 0.0195, 8.0  # of the prototype; the cutoff in cycles per sample, for the flattest sum
_MEL_REACH_FRAMES = 2
_KERNEL = 7
_SLOPE = 0.2  # of the rectifiers


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of the network (they stand in ``voice.toml``). Raises WeightsError for sizes that cannot be."""

    head: Literal["melgan"] = "melgan"
    width: int = 48
    """Channels of the residual stacks."""
    n_stacks: int = 2
    n_blocks: int = 4
    """Residual blocks of a stack; their dilations are 1, 3, 9, 27 steps of a millisecond."""

    def __post_init__(self) -> None:
        most = {"width": 1024, "n_stacks": 16, "n_blocks": 6}
        for name, limit in most.items():
            if not 1 <= getattr(self, name) <= limit:
                raise WeightsError(f"the generator's {name} {getattr(self, name)}: must be between 1 and {limit}")

    @property
    def context_frames(self) -> int:
        """Frames to each side that the sound of a frame depends on."""
        stacks = self.n_stacks * sum(int(DILATION_BASE**i) for i in range(self.n_blocks))
        after = stacks + _KERNEL // 2 + _HALF_TAPS // N_BANDS  # steps from where the mel comes in to the sound
        before = LEVEL_STEPS - 1 + _KERNEL // 2 + _HALF_TAPS // N_BANDS
        by_mel = math.ceil(after / STEPS_PER_FRAME) + 1 + _MEL_REACH_FRAMES
        return max(by_mel, math.ceil((after + before) / STEPS_PER_FRAME))


class SubBands(nn.Module):
    """16 bands of 500 Hz at a sixteenth of the rate, and back, without delay."""

    analysis: Tensor
    synthesis: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stride, self.padding = N_BANDS, _HALF_TAPS
        time = torch.arange(-_HALF_TAPS, _HALF_TAPS + 1, dtype=torch.float64)
        window = torch.kaiser_window(len(time), periodic=False, beta=_KAISER_BETA, dtype=torch.float64)
        prototype = 2 * _CUTOFF * torch.sinc(2 * _CUTOFF * time) * window
        number = torch.arange(N_BANDS, dtype=torch.float64)[:, None]
        carrier = (2 * number + 1) * (math.pi / (2 * N_BANDS)) * time
        turn = torch.where(number % 2 == 0, math.pi / 4, -math.pi / 4)
        analysis = 2 * prototype * torch.cos(carrier + turn)
        synthesis = 2 * N_BANDS * prototype * torch.cos(carrier + turn)  # read the other way round
        self.register_buffer("analysis", analysis.float()[:, None], persistent=False)
        self.register_buffer("synthesis", synthesis.float()[:, None], persistent=False)

    @torch.jit.export
    def split(self, audio: Tensor) -> Tensor:
        """(B, n * 16) samples to (B, 16, n)."""
        return functional.conv1d(audio[:, None], self.analysis, stride=self.stride, padding=self.padding)

    @torch.jit.export
    def join(self, bands: Tensor) -> Tensor:
        """(B, 16, n) to (B, n * 16) samples: ``join(split(x))`` is nearly x."""
        stride, padding = self.stride, self.padding
        summed = functional.conv_transpose1d(bands, self.synthesis, None, stride, padding, stride - 1)
        return summed[:, 0]


class NormedConv1d(nn.Conv1d):
    """A convolution whose filters have lengths of their own, apart from their directions.

    Source: Salimans and Kingma, "Weight Normalization", 2016. For training: ``folded`` makes plain convolutions of it.
    """

    def __init__(self, n_inputs: int, n_outputs: int, kernel: int, **options: int) -> None:
        super().__init__(n_inputs, n_outputs, kernel, **options)  # type: ignore[arg-type]
        self.length = nn.Parameter(_lengths(self.weight.detach()))

    def normed(self) -> Tensor:
        """The filters."""
        filters: Tensor = self.weight * (self.length / _lengths(self.weight))
        return filters

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.normed(), self.bias)
        return y


def _lengths(filters: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(filters, dim=(1, 2), keepdim=True)
    return lengths


class ResidualBlock(nn.Module):
    """A dilated convolution whose result the mel scales and shifts, added to its input."""

    def __init__(self, width: int, dilation: int, conv: type[nn.Conv1d]) -> None:
        super().__init__()
        self.dilated = conv(width, width, 3, dilation=dilation, padding=dilation)
        self.mixed = conv(width, width, 1)
        self.bend = nn.LeakyReLU(_SLOPE)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """All (B, width, n)."""
        inner = self.dilated(self.bend(x)) * (1 + scale) + shift
        change: Tensor = self.mixed(self.bend(inner))
        return x + change


class Generator(nn.Module):
    """The network at 16 kHz. An untrained one adds nothing.

    ``conv``: ``NormedConv1d`` in training, plain ones afterwards.
    """

    def __init__(self, config: GeneratorConfig, conv: type[nn.Conv1d] = NormedConv1d) -> None:
        super().__init__()
        width = config.width
        self.bands = SubBands()
        self.smooth = nn.AvgPool1d(LEVEL_STEPS, 1, LEVEL_STEPS // 2)
        self.bend = nn.LeakyReLU(_SLOPE)
        self.quietest = QUIETEST
        self.hear = conv(N_MELS, width, 3, padding=1)
        self.understand = conv(width, width, 3, padding=1)
        self.steer = conv(width, 2 * width * config.n_stacks * config.n_blocks, 1)
        self.enter = conv(2 * N_BANDS, width, _KERNEL, padding=_KERNEL // 2)
        dilations = [DILATION_BASE**i for _ in range(config.n_stacks) for i in range(config.n_blocks)]
        self.blocks = nn.ModuleList(ResidualBlock(width, dilation, conv) for dilation in dilations)
        self.leave = conv(width, 2 * N_BANDS, _KERNEL, padding=_KERNEL // 2)
        # of filters with lengths, the directions stay: they could not be learned from zero
        nn.init.zeros_(self.leave.length if isinstance(self.leave, NormedConv1d) else self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(self, audio: Tensor, mel: Tensor) -> Tensor:
        """What is to be added to a sound.

        Args:
            audio: (B, n_frames * 320) float32 at 16 kHz.
            mel: (B, n_frames, 128) log-mel in feature range that is wanted of it; frame i is that of samples 320 i
                to 320 i + 640.

        Returns:
            (B, n_frames * 320) float32.
        """
        bands = self.bands.split(audio)  # (B, 16, n)
        power = self.smooth(self.smooth(bands.square()))
        level = power.sqrt()
        loudness = 0.2 * (level + self.quietest).log() + 1.0  # about within +-1
        whitened = bands / (level + self.quietest)
        x = self.enter(torch.cat([whitened, loudness], dim=1))
        wanted = self.bend(self.hear(0.25 * mel.transpose(1, 2) + 1.0))
        steering = self.steer(self.bend(self.understand(wanted)))
        # frame i stands in its middle, which is where frame i + 1 begins
        steering = torch.cat([steering[:, :, :1], steering], dim=2)
        n_steps = bands.shape[2]
        steering = functional.interpolate(steering, size=n_steps + 1, mode="linear", align_corners=True)[:, :, :n_steps]
        for i, block in enumerate(self.blocks):
            scale, shift = steering.chunk(len(self.blocks), dim=1)[i].chunk(2, dim=1)
            x = block(x, scale, shift)
        gain, more = self.leave(self.bend(x)).chunk(2, dim=1)
        added: Tensor = self.bands.join(bands * gain + level * more)
        return added


def folded(network: Generator) -> dict[str, Tensor]:
    """The weights as plain convolutions have them: what is shipped, and what ``load_generator`` takes."""
    state = network.state_dict()
    for name, module in network.named_modules():
        if isinstance(module, NormedConv1d):
            state[f"{name}.weight"] = module.normed().detach()
            del state[f"{name}.length"]
    return state


def load_generator(network: Generator, weights: Mapping[str, Tensor], config: GeneratorConfig) -> None:
    """Copy such weights (any float dtype) into a network in training. Raises WeightsError where they do not fit."""
    plain = Generator(config, nn.Conv1d)
    load_weights(plain, weights)
    state = plain.state_dict()
    for name, module in network.named_modules():
        if isinstance(module, NormedConv1d):
            weight = state[f"{name}.weight"]
            length = state[f"{name}.length"] = _lengths(weight)
            # a filter of zeros has no direction
            state[f"{name}.weight"] = torch.where(length > 0, weight, module.weight.detach().cpu())
    network.load_state_dict(state)


def ready_generator(weights: Mapping[str, Tensor], config: GeneratorConfig) -> nn.Module:
    """A network for inference, scripted and frozen. Raises WeightsError for weights that do not fit."""
    network = Generator(config, nn.Conv1d)
    load_weights(network, weights)
    ready: nn.Module = compiled(network)
    return ready

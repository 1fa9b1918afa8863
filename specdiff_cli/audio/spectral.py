"""Our own vocoder: a network reads magnitudes and phase advances off the mel, then a little Griffin-Lim.

A convolutional network that writes the waveform from the mel alone does the same at every frame, so on a steady
tone, whose frames are all alike, it can only repeat itself every hop: it sings in multiples of 50 Hz until it has
learned to read phases off tiny irregularities, which a sampled spectrogram does not have. Here the network says
instead what a frame does have: the 513 magnitudes behind its 128 bands, and how far each bin's phase turns from one
frame to the next. The phases are added up by rule. Both are trained on examples with known answers and sharpened by
a discriminator (``specdiff_cli.train.vocoder``), which a small computer does in an hour.

ConvNeXt blocks at frame rate are an idea of Vocos (Siuzdak, 2023); everything else follows from the framing.
"""

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from specdiff_cli.audio.griffin_lim import (
    ANCHOR_FRAMES,
    Peaks,
    fast_griffin_lim,
    find_peaks,
    follow_turns,
    meet_bands,
    spread_mel,
)
from specdiff_cli.audio.mel import N_BINS
from specdiff_cli.audio.vocoder import checked_mel
from specdiff_cli.constants import FFT_SAMPLES, HOP_SAMPLES, N_MELS
from specdiff_cli.errors import WeightsError

LOG_MAGNITUDE_MIN = math.log(1e-4)  # 513-bin magnitudes below this are silence to the network
LOG_MAGNITUDE_MAX = 9.0  # beyond full scale; keeps damaged weights from overflowing
HEADS = ("advance",)
N_MEETING_UPDATES = 10  # bring the network's magnitudes back to the mel they came from


@dataclass(frozen=True)
class SpectralConfig:
    """Sizes of the network and what it ends in (they stand in ``voice.toml``). Raises WeightsError."""

    head: str = "advance"
    """``advance``: magnitudes and phase advances, then Griffin-Lim."""
    dim: int = 256
    n_blocks: int = 6
    kernel: int = 5
    expansion: int = 3
    n_iterations: int = 16
    """Griffin-Lim iterations after the network."""

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            fault = "is no longer made" if self.head == "istft" else f"is not one of {', '.join(HEADS)}"
            raise WeightsError(f'head = {json.dumps(self.head)}: {fault}; train one with head = "advance"')
        small = [name for name, value in asdict(self).items() if name != "head" and value < 1]
        if small or self.kernel % 2 == 0:
            fault = f"{small[0]} must be at least 1" if small else "kernel must be odd"
            raise WeightsError(f"the vocoder's sizes cannot be: {fault}")

    @property
    def reach_frames(self) -> int:
        """Frames to each side that the network's output at a frame depends on."""
        return (self.n_blocks + 1) * (self.kernel // 2)

    @property
    def context_frames(self) -> int:
        """The same for the audio: the phases go back to an anchor, each iteration and the overlap-add add a frame."""
        return self.reach_frames + (ANCHOR_FRAMES - 1) + self.n_iterations + 1


class Block(nn.Module):
    """ConvNeXt block: depthwise convolution over time, then a perceptron over channels, added to the input."""

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.dim * config.expansion
        self.mix = nn.Conv1d(dim, dim, config.kernel, padding=config.kernel // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, n_frames, dim) to the same."""
        mixed = self.mix(x.transpose(1, 2)).transpose(1, 2)
        change: torch.Tensor = self.narrow(functional.gelu(self.widen(self.norm(mixed))))
        return x + self.scale * change


class SpectralNetwork(nn.Module):
    """The network. An untrained one changes nothing: then the vocoder is Griffin-Lim with followed peaks."""

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.read = nn.Conv1d(N_MELS, config.dim, config.kernel, padding=config.kernel // 2)
        self.read_norm = nn.LayerNorm(config.dim)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_blocks)])
        self.norm = nn.LayerNorm(config.dim)
        self.magnitude = nn.Linear(config.dim, N_BINS)
        self.rotation = nn.Linear(config.dim, 2 * N_BINS)
        for head in (self.magnitude, self.rotation):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, mel: torch.Tensor, spread: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Correct what can be said without a network.

        Args:
            mel: (B, n_frames, 128) log-mel in feature range.
            spread: (B, n_frames, 513) logarithms of the magnitudes of ``spread_mel``.

        Returns:
            Three times (B, n_frames, 513): log-magnitudes, and cosine and sine (up to a common factor) of what is to
            be added to the turns of the peaks.
        """
        x = 0.25 * mel + 1.0  # about within +-2
        x = self.read_norm(self.read(x.transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        cosine, sine = self.rotation(x).float().chunk(2, dim=-1)
        return spread + self.magnitude(x).float(), 1.0 + cosine, sine


def network_inputs(mel: torch.Tensor) -> tuple[torch.Tensor, Peaks]:
    """What goes into the network beside the (n_frames, 128) log-mel: log-magnitudes (n_frames, 513), and the peaks."""
    spread = spread_mel(mel.exp())
    return spread.float().log().clamp(LOG_MAGNITUDE_MIN, LOG_MAGNITUDE_MAX), find_peaks(spread)


class SpectralVocoder:
    """The compiled network; its phases are added up by rule, and Griffin-Lim finishes. See ``audio.vocoder.Vocoder``.

    The parameters of the network are frozen. All is computed on ``device``, which knows float64; see
    ``audio.vocoder.ResidentVocoder``.
    """

    name = "spectral"

    def __init__(self, network: SpectralNetwork, config: SpectralConfig, device: torch.device | None = None) -> None:
        self.config = config
        self.context_frames = config.context_frames
        self.device = device or torch.device("cpu")
        self._network = compiled(network.to(self.device))

    @torch.no_grad()
    def invert(self, mel: torch.Tensor, first_frame: int = 0) -> torch.Tensor:
        """(n_frames, 128) log-mel in feature range to (n_frames * 320,) audio, float32."""
        mel = checked_mel(mel)
        if mel.shape[0] == 0:
            return torch.empty(0)
        return self.invert_there(mel.to(self.device), first_frame).cpu()

    @torch.no_grad()
    def invert_there(self, mel: torch.Tensor, first_frame: int = 0) -> torch.Tensor:
        """As :meth:`invert`, from a checked mel on the device to sound on the device."""
        spread, peaks = network_inputs(mel)
        log_magnitude, cosine, sine = (output[0] for output in self._network(mel[None], spread[None]))
        magnitude = log_magnitude.clamp(2 * LOG_MAGNITUDE_MIN, LOG_MAGNITUDE_MAX).exp()
        magnitude = meet_bands(magnitude, mel.exp(), N_MEETING_UPDATES)
        phases = follow_turns(peaks, peaks.turns + torch.atan2(sine, cosine), first_frame)
        return fast_griffin_lim(magnitude, phases, self.config.n_iterations)


def bin_turns() -> torch.Tensor:
    """Phase advance over one hop of a partial in the middle of each bin, (513,) float32, radians."""
    return torch.arange(N_BINS) * (2 * math.pi * HOP_SAMPLES / FFT_SAMPLES)


def load_spectral(
    state_dict: Mapping[str, torch.Tensor], config: SpectralConfig, device: torch.device | None = None
) -> SpectralVocoder:
    """A vocoder with these weights (any float dtype). Raises WeightsError with one sorted line when they do not fit."""
    network = SpectralNetwork(config)
    load_weights(network, state_dict)
    return SpectralVocoder(network, config, device)


def load_weights(network: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Copy weights (any float dtype) into a network. Raises WeightsError with one sorted line when they do not fit."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    faults = [f"{name} is missing" for name in expected if name not in state_dict]
    faults += [f"{name} is unknown" for name in state_dict if name not in expected]
    for name, tensor in state_dict.items():
        if name not in expected:
            continue
        if tuple(tensor.shape) != expected[name]:
            faults.append(f"{name} is {tuple(tensor.shape)}, not {expected[name]}")
        elif not torch.isfinite(tensor).all():
            faults.append(f"{name} is not finite")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsError(
            f"the vocoder's weights do not fit: {'; '.join(sorted(faults)[:3])}{more}; install them again"
        )
    network.load_state_dict({name: tensor.float() for name, tensor in state_dict.items()})


def compiled(network: nn.Module) -> Any:
    """The network scripted and frozen, for inference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript's deprecation notice is not for users to act on
        scripted = torch.jit.script(network.eval().requires_grad_(False))
        return torch.jit.freeze(scripted)

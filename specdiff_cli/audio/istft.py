"""The other head of our vocoder: spectra for one inverse STFT, no Griffin-Lim.

A network that sees the mel alone answers alike frames alike, so a steady tone could only repeat itself every hop, as
a multiple of 50 Hz (see ``melgan.py``). So here, too, the phases are carried from frame to frame by the turns that the
network reads off the mel, and forgotten at anchors, which bounds their memory. What Griffin-Lim's iterations mend in
the other head, the jump at each anchor, is spread over the frames before it: a detuning of at most 0.8 Hz. On top of
these phases the network says a phase of its own, as cosine and sine, which training on waveforms finds
(``specdiff_cli.train.vocoder``).

Sources: Vocos (Siuzdak, 2023) for the head; McAulay and Quatieri (1986) for joining phases.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from specdiff_cli.audio.griffin_lim import ANCHOR_FRAMES, AnchorGrid, Peaks
from specdiff_cli.audio.mel import N_BINS, hann_window
from specdiff_cli.audio.spectral import MelGan, MelGanConfig, SpectralVocoder
from specdiff_cli.constants import FFT_SAMPLES, FRAME_SAMPLES, HOP_SAMPLES

_SMALLEST_ENVELOPE = 1e-2  # the first samples of a song lie under one rising window only: let them fade in, not blow up


class IstftMelGan(MelGan):
    """``MelGan`` with phases beside the magnitudes and turns. An untrained one changes nothing."""

    def __init__(self, config: MelGanConfig) -> None:
        super().__init__(config)
        self.phase = nn.Linear(config.dim, 2 * N_BINS)
        nn.init.zeros_(self.phase.weight)
        nn.init.zeros_(self.phase.bias)

    def forward(  # type: ignore[override]
        self, mel: torch.Tensor, spread: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """As ``MelGan.forward``, and cosine and sine (up to a common factor) of what is to be added to the phases."""
        x = self.refine(self.enter(mel))
        cosine, sine = self.rotation(x).float().chunk(2, dim=-1)
        phase_cosine, phase_sine = self.phase(x).float().chunk(2, dim=-1)
        return spread + self.magnitude(x).float(), 1.0 + cosine, sine, 1.0 + phase_cosine, phase_sine


def join_turns(peaks: Peaks, turns: torch.Tensor, first_frame: int) -> torch.Tensor:
    """Phases without jumps from the advance of every bin since the frame before; differentiable.

    Args:
        peaks: of (..., n_frames, 513) frames; they give the phases at the anchors.
        turns: (..., n_frames, 513) float64 radians.
        first_frame: song index of the first frame, which places the anchors.

    Returns:
        (..., n_frames, 513) float64 radians. They depend on frames from the last anchor to the next one only.
    """
    n_frames = turns.shape[-2]
    lead = first_frame % ANCHOR_FRAMES
    starts = AnchorGrid(first_frame, n_frames).start_phases().to(turns.device)  # (n_anchors, 513)
    n_anchors = len(starts)

    def lay_out(values: torch.Tensor) -> torch.Tensor:
        trail = n_anchors * ANCHOR_FRAMES - lead - n_frames
        padded = functional.pad(values, (0, 0, lead, trail))
        return padded.view(*values.shape[:-2], n_anchors, ANCHOR_FRAMES, N_BINS)

    # a piece that begins between anchors is taken to have one at its first frame
    firsts = torch.arange(n_anchors, device=turns.device).mul(ANCHOR_FRAMES).sub(lead).clamp_min(0)
    nearest, lobes = peaks.nearest[..., firsts, :], peaks.lobes[..., firsts, :]  # (..., n_anchors, 513)
    targets = starts.expand_as(lobes).gather(-1, nearest) - lobes
    steps = lay_out(torch.cat([torch.zeros_like(turns[..., :1, :]), turns[..., 1:, :]], dim=-2))
    phases = torch.cat([targets[..., None, :], steps[..., 1:, :]], dim=-2).cumsum(-2)
    arriving = phases[..., :-1, -1, :] + steps[..., 1:, 0, :]
    jump = (targets[..., 1:, :] - arriving + math.pi).remainder(2 * math.pi) - math.pi
    share = torch.arange(ANCHOR_FRAMES, dtype=turns.dtype, device=turns.device)[:, None] / ANCHOR_FRAMES
    joined = phases + functional.pad(jump, (0, 0, 0, 1))[..., None, :] * share
    return joined.flatten(-3, -2)[..., lead : lead + n_frames, :]


def overlap_add(spectrum: torch.Tensor) -> torch.Tensor:
    """Least-squares inverse of the framing of ``mel.py``, differentiable.

    (..., n_frames, 513) complex to (..., n_frames * 320); what would ring beyond the last hop is cut.
    """
    window = hann_window().to(spectrum.device)
    frames = torch.fft.irfft(spectrum, n=FFT_SAMPLES)[..., :FRAME_SAMPLES] * window
    return _add_halves(frames) / _add_halves(window.square().expand_as(frames)).clamp_min(_SMALLEST_ENVELOPE)


def _add_halves(frames: torch.Tensor) -> torch.Tensor:
    """(..., n_frames, 640) to (..., n_frames * 320): every frame's second half falls on the next one's first."""
    late = functional.pad(frames[..., :-1, HOP_SAMPLES:], (0, 0, 1, 0))
    return (frames[..., :HOP_SAMPLES] + late).flatten(-2)


class IstftVocoder(SpectralVocoder):
    """A phase of the network's own on top of the carried ones, and one inverse STFT."""

    def _sound(
        self, magnitude: torch.Tensor, peaks: Peaks, turns: torch.Tensor, more: list[torch.Tensor], first_frame: int
    ) -> torch.Tensor:
        phase_cosine, phase_sine = more
        carried = join_turns(peaks, turns, first_frame)
        return overlap_add(torch.polar(magnitude, carried.float() + torch.atan2(phase_sine, phase_cosine)))

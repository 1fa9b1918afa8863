"""Notes laid on their frames: our addition to the paper's network.

MIDI says exactly when each note sounds, so nothing has to learn it. Each note's own embedding is turned by a small
MLP into one vector per time profile (struck, decaying at several rates, released), and each profile says how much of
that vector every frame receives. Published checkpoints have no such path; a voice's configuration names it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specdiff_cli.constants import FRAME_SAMPLES, FRAMES_PER_SECOND, SAMPLE_RATE_HZ, WINDOW_FRAMES
from specdiff_cli.model.config import ModelConfig

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ  # 0.04 s
DECAYS_S = (0.03, 0.1, 0.3, 1.0, 3.0)  # while the note sounds
RELEASES_S = (0.05, 0.15, 0.5)  # after its end
N_PROFILES = 1 + len(DECAYS_S) + len(RELEASES_S) + 1


def reach(time_s: Tensor, frame_s: float = FRAME_S, two_pi: float = 2 * math.pi) -> Tensor:
    """Share (0-1) of a frame's Hann window that lies after an event ``time_s`` before the frame's end."""
    u = (time_s / frame_s).clamp(0.0, 1.0)
    return u - torch.sin(two_pi * u) / two_pi


class NoteLayout(nn.Module):
    """Lays notes on frames: tokens (B, N, 3) and times (B, N, 2) -> (B, 256, d_model).

    Tokens are (pitch or drum, program, velocity) ids, all 0 in padded rows; times are (onset_s, end_s).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.d_model = config.d_model
        # TorchScript sees attributes, not module constants.
        self.n_frames = WINDOW_FRAMES
        self.n_profiles = N_PROFILES
        self.hop_s = 1.0 / FRAMES_PER_SECOND
        self.frame_s = FRAME_S
        self.decays_s = list(DECAYS_S)
        self.releases_s = list(RELEASES_S)
        self.embedding = nn.Embedding(config.n_vocabulary_rows, config.d_model)
        self.wi = nn.Linear(config.d_model, 2 * config.d_model, bias=False)
        self.wo = nn.Linear(2 * config.d_model, N_PROFILES * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, tokens: Tensor, times: Tensor) -> Tensor:
        batch, n_notes = tokens.shape[0], tokens.shape[1]
        note = self.embedding(tokens).sum(2)  # (B, N, D)
        hidden = F.gelu(self.wi(note), approximate="tanh")
        parts = self.wo(hidden).view(batch, n_notes * self.n_profiles, self.d_model)
        weights = self.profiles(times[:, :, 0], times[:, :, 1])  # (B, frames, N, P)
        weights = weights * (tokens[:, None, :, :1] > 0)
        weights = weights.reshape(batch, self.n_frames, n_notes * self.n_profiles).to(parts.dtype)
        laid = torch.bmm(weights, parts).float()
        # A soft limit: faint releases pass as they are, but a dense chord must not drown the noisy spectrogram that
        # this is added to.
        laid = laid * torch.rsqrt(1.0 + laid.square().mean(-1, keepdim=True))
        return self.out(laid.to(parts.dtype))  # type: ignore[no-any-return]

    def profiles(self, onset_s: Tensor, end_s: Tensor) -> Tensor:
        """(B, N) onsets and ends -> (B, frames, N, profiles), float32.

        Profiles: sounding, sounding x decay at each rate, released x decay at each rate, and the struck frame itself.
        """
        starts_s = torch.arange(self.n_frames, device=onset_s.device, dtype=torch.float32) * self.hop_s
        frame_end_s = (starts_s + self.frame_s)[None, :, None]  # (1, frames, 1)
        since_onset_s = frame_end_s - onset_s[:, None, :].float()
        since_end_s = frame_end_s - end_s[:, None, :].float()
        begun = reach(since_onset_s)
        over = reach(since_end_s)
        sounding = begun * (1 - over)
        age_s = since_onset_s.clamp(min=0.0)
        rest_s = since_end_s.clamp(min=0.0)
        columns = [sounding]
        for tau_s in self.decays_s:
            columns.append(sounding * torch.exp(-age_s / tau_s))
        for tau_s in self.releases_s:
            columns.append(over * torch.exp(-rest_s / tau_s))
        columns.append(begun - reach(since_onset_s - self.hop_s))
        return torch.stack(columns, dim=-1)

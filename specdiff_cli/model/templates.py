"""A spectrogram added up from the notes alone: our second addition to the paper's network.

To a first approximation a note's sound does not depend on what else is played, and powers add. So every note gets a
template, how strong each mel band is and how it rises, decays and is released, which a small MLP reads off its own
embedding. The templates' sum is a complete, if plain, rendition of the score; it is learned in minutes, since nothing
has to be disentangled. Diffusion then paints only what differs: the decoder sees the sum and samples the residual.
Published checkpoints have no such path; a voice's configuration names it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specdiff_cli.constants import FRAMES_PER_SECOND, LOG_MEL_MAX, LOG_MEL_MIN, N_MELS, WINDOW_FRAMES
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.layout import FRAME_S, reach

# Time constants in seconds, of power: a note is a sum of these shapes while it sounds, and fades with a mixture of
# these releases after its end.
RISES_S = (0.03, 0.12)
DECAYS_S = (0.02, 0.06, 0.2, 0.6, 2.0)
RELEASES_S = (0.02, 0.08, 0.3)
N_SHAPES = 1 + len(RISES_S) + len(DECAYS_S)
WIDTH, HIDDEN = 192, 512
POWER_FLOOR = 1e-10  # silence: the square of the smallest mel value
LARGEST_LOG_POWER = 12.0
QUIET_LOG_POWER = -6.0  # what untrained templates hold
#: The decoder's target is the residual divided by this: about as wide as the spectrograms that diffusion expects.
RESIDUAL_SCALE = 0.5


class NoteTemplates(nn.Module):
    """Notes -> the spectrogram they add up to: tokens (B, N, 3), times (B, N, 2) -> (B, 256, 128) in model range.

    Tokens are (pitch or drum, program, velocity) ids, all 0 in padded rows; times are (onset_s, end_s).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # TorchScript sees attributes, not module constants.
        self.n_frames, self.n_mels = WINDOW_FRAMES, N_MELS
        self.n_shapes, self.n_releases = N_SHAPES, len(RELEASES_S)
        self.hop_s, self.frame_s = 1.0 / FRAMES_PER_SECOND, FRAME_S
        self.rises_s, self.decays_s, self.releases_s = list(RISES_S), list(DECAYS_S), list(RELEASES_S)
        self.low, self.high = LOG_MEL_MIN, LOG_MEL_MAX
        self.floor, self.largest = POWER_FLOOR, LARGEST_LOG_POWER
        self.embedding = nn.Embedding(config.n_vocabulary_rows, WIDTH)
        self.w1 = nn.Linear(WIDTH, HIDDEN)
        self.w2 = nn.Linear(HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, (self.n_shapes + self.n_releases) * N_MELS)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw weights; every template begins quiet."""
        nn.init.normal_(self.embedding.weight, std=0.5, generator=generator)
        for layer in (self.w1, self.w2):
            nn.init.normal_(layer.weight, std=(3 * layer.in_features) ** -0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.out.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.out.bias)
        nn.init.constant_(self.out.bias[: self.n_shapes * self.n_mels], QUIET_LOG_POWER)

    def forward(self, tokens: Tensor, times: Tensor) -> Tensor:
        batch, n_notes = tokens.shape[0], tokens.shape[1]
        hidden = F.gelu(self.w1(self.embedding(tokens).sum(2)), approximate="tanh")
        hidden = hidden + F.gelu(self.w2(hidden), approximate="tanh")
        # Powers span twenty orders of magnitude: float32 from here on.
        parts = self.out(hidden).float().view(batch, n_notes, self.n_shapes + self.n_releases, self.n_mels)
        power = torch.exp(parts[:, :, : self.n_shapes].clamp(max=self.largest))  # (B, N, S, M)
        share = torch.softmax(parts[:, :, self.n_shapes :], dim=2)  # (B, N, R, M)
        shapes, releases = self.envelopes(times[:, :, 0], times[:, :, 1])  # (B, frames, N, S), (B, frames, N, R)
        shapes = shapes * (tokens[:, None, :, :1] > 0)
        total = torch.zeros(batch, self.n_frames, self.n_mels, device=tokens.device)
        for r in range(self.n_releases):
            weights = (shapes * releases[:, :, :, r : r + 1]).reshape(batch, self.n_frames, -1)
            total = total + torch.bmm(weights, (power * share[:, :, r : r + 1]).reshape(batch, -1, self.n_mels))
        log_mel = 0.5 * torch.log(total + self.floor)
        return ((log_mel - self.low) / (self.high - self.low) * 2.0 - 1.0).clamp(max=1.0)

    def envelopes(self, onset_s: Tensor, end_s: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) onsets and ends -> powers of the shapes (B, frames, N, S) and of the releases (B, frames, N, R).

        A shape stops where the note ends; its release fades from there.
        """
        starts_s = torch.arange(self.n_frames, device=onset_s.device, dtype=torch.float32) * self.hop_s
        frame_end_s = (starts_s + self.frame_s)[None, :, None]  # (1, frames, 1)
        since_onset_s = frame_end_s - onset_s[:, None, :].float()
        since_end_s = frame_end_s - end_s[:, None, :].float()
        begun = reach(since_onset_s).square()
        middle_s = 0.5 * self.frame_s
        age_s = (torch.minimum(since_onset_s, (end_s - onset_s)[:, None, :].float()) - middle_s).clamp(min=0.0)
        rest_s = (since_end_s - middle_s).clamp(min=0.0)
        shapes = [begun]
        for tau_s in self.rises_s:
            shapes.append(begun * (1 - torch.exp(-age_s / tau_s)))
        for tau_s in self.decays_s:
            shapes.append(begun * torch.exp(-age_s / tau_s))
        releases = []
        for tau_s in self.releases_s:
            releases.append(torch.exp(-rest_s / tau_s))
        return torch.stack(shapes, dim=-1), torch.stack(releases, dim=-1)

"""A note's spectrogram told apart into partials and noise, on a fine grid of ages."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from specdiff_cli.audio.mel import N_BINS
from specdiff_cli.audio.partials.noise import noise_centres_hz, noise_shares
from specdiff_cli.audio.partials.responses import (
    BESIDE_HZ,
    BIN_HZ,
    HIGH_NOISE_POWER,
    PARTIAL_POWER,
    band_centres_hz,
    interpolation,
    lobe_powers,
    noise_response,
    to_mel,
)
from specdiff_cli.constants import FRAME_SAMPLES, MEL_MAX_HZ, N_MELS, SAMPLE_RATE_HZ

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
MAX_PARTIALS = 96
# Between 1.0, 1.3 and 2, whose opinion scores on three songs from exact notes were 3.86, 3.92 and 3.93.
NOISE_FROM = 1.5  # times what the partials explain, a band is partly noise
N_SPLIT_UPDATES = 6
N_SHARPENING_UPDATES = 24  # with 6 a burst of 10 ms is twice as long; 24 take half a millisecond more per distinct note
FAINTEST_SHARE = 1e-3  # partials that stay below this share of the strongest are left out
# What counts as a ringing tone: its height above bands a lobe away, and below the strongest band, in nepers.
STRUCK_S, LOBE_HZ, PEAK_HEIGHT, FAINTEST_TONE = 0.15, 75.0, 0.8, 4.0
# How near to a partial, as a share of its frequency: a tone seen in a mel, one that was measured, the partial itself.
NEAR_PARTIAL, AS_MEASURED, SAME_PARTIAL = 0.04, 0.0025, 1e-6
N_NEAREST = 6  # more bands than answer a partial by 0.3 of the one that answers most
_LEAST_RESPONSE = 1.0  # a band that answers noise of variance 1 less than this says nothing about it
_TINY = 1e-9


@dataclass(frozen=True)
class Sound:
    """How strong the partials and the noise bands of a held note are.

    On the CPU: ``ages_s`` (F,) float64, seconds since the onset, rising, the first 0; ``frequencies_hz`` (K,) float64.
    ``levels`` (F, K + B) float32: amplitudes of the partials, then standard deviations of white noise per noise band;
    ``columns`` (144, K + B) float32: reads a value of bands at each column's frequency.
    """

    ages_s: Tensor
    frequencies_hz: Tensor
    levels: Tensor
    columns: Tensor

    @property
    def n_partials(self) -> int:
        """K."""
        return len(self.frequencies_hz)


def reach(time_s: Tensor) -> Tensor:
    """Share (0-1) of a frame's Hann window that lies after an event ``time_s`` before the frame's end."""
    u = (time_s / FRAME_S).clamp(0.0, 1.0)
    return u - torch.sin(2 * math.pi * u) / (2 * math.pi)


class Splitter:
    """Tells spectrograms of notes apart for sound up to ``top_hz``, once per distinct note."""

    def __init__(self, top_hz: float, device: torch.device) -> None:
        self.top_hz = top_hz
        self._centres = noise_centres_hz(top_hz)
        bands = band_centres_hz()
        heard = (bands <= max(top_hz, MEL_MAX_HZ)).float()
        heard[:N_MELS] *= noise_response() > _LEAST_RESPONSE
        shares = noise_shares(bands.clamp(max=top_hz), top_hz) * heard[:, None]  # (144, B)
        unheard = shares.sum(0) == 0  # bands narrower than the noise bands' distance leave none out; the top may
        shares[:, unheard] = interpolation(self._centres)[:, unheard] * heard[:, None]
        self._to_noise = (shares / shares.sum(0).clamp(min=_TINY)).to(device)
        self._noise_power = noise_response().clamp(min=_TINY).square().to(device)

    def split(self, log_power: Tensor, begins_s: Tensor, frequencies_hz: Tensor) -> Sound:
        """A sound from the frames of one note by itself.

        Args:
            log_power: (R, 144) natural logarithms of squared mel values, then of the power in the bands above 8 kHz.
            begins_s: (R,) float64 on the CPU, rising: when these frames begin, in seconds after the onset; from -0.04
                on, 5 ms apart while it matters.
            frequencies_hz: (K,) float64 on the CPU, of the partials; noise stands for those above the last that is not
                too faint.
        """
        power = log_power.exp()
        frequencies_hz = frequencies_hz[frequencies_hz < self.top_hz][:MAX_PARTIALS].double()
        frequencies_hz = frequencies_hz[: _n_audible(power, frequencies_hz)]
        levels = self._measured(power, frequencies_hz)
        ages_s, levels = _sharpened(levels, begins_s.double(), len(frequencies_hz))
        columns = interpolation(torch.cat([frequencies_hz, self._centres])).to(levels.device)
        return Sound(ages_s, frequencies_hz, levels, columns)

    def extended(self, sound: Sound, log_power: Tensor, begins_s: Tensor) -> Sound:
        """The sound with later frames of the same note, for which nothing needs sharpening."""
        later = self._measured(log_power.exp(), sound.frequencies_hz)
        ages_s = torch.cat([sound.ages_s, begins_s.double() + FRAME_S / 2])
        return Sound(ages_s, sound.frequencies_hz, torch.cat([sound.levels, later]), sound.columns)

    def _measured(self, power: Tensor, frequencies_hz: Tensor) -> Tensor:
        """(R, 144) powers to (R, K + B) levels, frame by frame."""
        mel, high = power[:, :N_MELS].sqrt(), power[:, N_MELS:]
        is_low = frequencies_hz < MEL_MAX_HZ
        low = frequencies_hz[is_low]
        amplitudes, explained = fit_partials(mel, low)
        noise = (mel.square() - (NOISE_FROM * explained).square()).clamp(min=0.0)
        variance = noise / self._noise_power
        # Above 8 kHz a note is as tonal as at the top of the mel.
        top = slice(N_MELS - 24, N_MELS)
        tonal = explained[:, top].square().sum(1) / mel[:, top].square().sum(1).clamp(min=_TINY**2)
        tonal = tonal.clamp(max=1.0)[:, None] * (len(frequencies_hz) > len(low))
        above = interpolation(frequencies_hz[~is_low])[N_MELS:]  # (16, K')
        per_partial = (above / above.sum(1, keepdim=True).clamp(min=_TINY)).to(power.device)
        bright = (tonal * high @ per_partial / PARTIAL_POWER).sqrt()
        variance = torch.cat([variance, (1 - tonal) * high / HIGH_NOISE_POWER], dim=1)
        return torch.cat([amplitudes, bright, (variance @ self._to_noise).sqrt()], dim=1)


def find_tones(log_power: Tensor, begins_s: Tensor) -> Tensor:
    """Frequencies (K,) float64 of what rings in a struck sound: peaks of its mel that are as narrow as a partial's.

    Arguments as for ``Splitter.split``. Noise has none: neighbouring bands of it are about equally strong.
    """
    first, end = torch.searchsorted(begins_s, torch.tensor([0.0, STRUCK_S], dtype=begins_s.dtype)).tolist()
    log_mel = 0.5 * log_power[first:end, :N_MELS].logsumexp(0).double().cpu()
    centres_hz = band_centres_hz()[:N_MELS]
    found = []
    for band in range(2, N_MELS - 3):
        left, middle, right = log_mel[band - 1 : band + 2].tolist()
        if not (middle > left and middle >= right and middle > float(log_mel.max()) - FAINTEST_TONE):
            continue
        sides = torch.searchsorted(centres_hz, centres_hz[band] + torch.tensor([-LOBE_HZ, LOBE_HZ])).tolist()
        below, above = min(sides[0], band - 2), max(sides[1], band + 2)
        if below < 0 or above >= N_MELS or float(log_mel[[below, above]].max()) > middle - PEAK_HEIGHT:
            continue
        offset = 0.5 * (left - right) / (left - 2 * middle + right)
        step = centres_hz[band + 1] - centres_hz[band] if offset > 0 else centres_hz[band] - centres_hz[band - 1]
        found.append(float(centres_hz[band] + offset * step))
    return torch.tensor(found, dtype=torch.float64)


def snapped(tones_hz: Tensor, partials_hz: Tensor, near: float = NEAR_PARTIAL) -> Tensor:
    """Tones, of which those near a partial take its exact frequency: (K,), (N,) to (K,) float64, rising."""
    if not len(partials_hz) or not len(tones_hz):
        return tones_hz
    nearest = partials_hz[(tones_hz[:, None] / partials_hz).log().abs().argmin(1)]
    moved = torch.where((tones_hz / nearest).log().abs() < near, nearest, tones_hz)
    return torch.tensor(sorted(set(moved.tolist())), dtype=torch.float64)


def nearest(wanted_hz: Tensor, partials_hz: Tensor) -> Tensor:
    """Which of rising partials (K,) lies at each wanted frequency (N,), -1 where none does; (N,) int64."""
    if not len(partials_hz):
        return torch.full((len(wanted_hz),), -1, dtype=torch.int64)
    distances = (wanted_hz[:, None] / partials_hz).log().abs()
    closest = distances.min(1)
    return torch.where(closest.values < SAME_PARTIAL, closest.indices, -1)


def _n_audible(power: Tensor, frequencies_hz: Tensor) -> int:
    """How many of the partials to keep: up to the last whose mel comes near enough to the strongest one's."""
    if not len(frequencies_hz):
        return 0
    loudest = power.amax(0)
    low = frequencies_hz < MEL_MAX_HZ
    # amplitudes that would explain a band by themselves: at most these
    mel = (loudest[:N_MELS] @ interpolation(frequencies_hz[low])[:N_MELS].to(power.device)).sqrt()
    peaks = to_mel(torch.device("cpu")).product(lobe_powers(frequencies_hz[low]).sqrt()).amax(1).to(power.device)
    high = (loudest @ interpolation(frequencies_hz[~low]).to(power.device) / PARTIAL_POWER).sqrt()
    amplitudes = torch.cat([mel / peaks, high])
    audible = (amplitudes > FAINTEST_SHARE * amplitudes.max().clamp(min=_TINY)).nonzero()[:, 0]
    return int(audible[-1]) + 1 if len(audible) else 0


def fit_partials(mel: Tensor, frequencies_hz: Tensor) -> tuple[Tensor, Tensor]:
    """Amplitudes (R, K) whose mel is about the given one (R, 128), and the mel that they explain."""
    if not len(frequencies_hz):
        return mel[:, :0], torch.zeros_like(mel)
    n_bins = min(N_BINS, math.ceil((float(frequencies_hz[-1]) + BESIDE_HZ) / BIN_HZ))
    lobes, weights = lobe_powers(frequencies_hz)[:, :n_bins].to(mel.device), to_mel(mel.device)
    response = weights.product(lobes.sqrt())  # (K, 128)
    largest = response.amax(1, keepdim=True)
    votes = response.square()
    votes = (votes / votes.sum(1, keepdim=True).clamp(min=_TINY)).T.contiguous()
    # at first what the weakest of its bands allows
    ceiling = torch.where(response >= 0.3 * largest, 1.0 / response.clamp(min=_TINY), math.inf)
    bands = response.topk(min(N_NEAREST, N_MELS), dim=1).indices  # (K, n): none of its strong bands is missing
    amplitudes = (mel[:, bands] * ceiling.gather(1, bands)).nan_to_num(nan=math.inf).amin(2)
    for _ in range(N_SPLIT_UPDATES):
        explained = weights.product((amplitudes.square() @ lobes).sqrt_())
        amplitudes = amplitudes * ((mel / explained.clamp_(min=_TINY)).clamp_(max=10.0) @ votes)
    return amplitudes, weights.product((amplitudes.square() @ lobes).sqrt_())


def _sharpened(levels: Tensor, begins_s: Tensor, n_partials: int) -> tuple[Tensor, Tensor]:
    """Levels over age from levels of frames 40 ms long: Richardson-Lucy deconvolution, nothing before the onset.

    A frame hears what lies under its window: amplitudes of partials add up there, and powers of noise.
    """
    spans = _spans(tuple(begins_s[begins_s < 2 * FRAME_S].tolist()), levels.device)
    first, n_measured = spans.first_late, len(spans.amplitudes)
    late = begins_s[first:]
    parts = []
    for span, columns, exponent in (
        (spans.amplitudes, slice(0, n_partials), 1),
        (spans.powers, slice(n_partials, None), 2),
    ):
        share = reach(late + FRAME_S).float()[:, None].to(levels.device)
        heard = levels[spans.first_heard : spans.first_heard + n_measured, columns] ** exponent
        level = levels[first:, columns] ** exponent / share
        early, later = level[: span.shape[1]], level[span.shape[1] :]  # what lies further on is known well enough
        weight = span.sum(0)[:, None].clamp(min=1e-6)
        for _ in range(N_SHARPENING_UPDATES):
            early = early * (span.T @ (heard / (span @ early).clamp(min=1e-12)) / weight)
        level = torch.cat([early, later])
        parts.append(level if exponent == 1 else level.sqrt())
    return (late + FRAME_S / 2).clamp(min=0.0), torch.cat(parts, dim=1)


@dataclass(frozen=True)
class _Spans:
    """How much of a frame's window (``amplitudes``), and of its square (``powers``), falls on each age's hat: both
    (R, F). The frames begin at row ``first_heard``, those whose middles lie after the onset at ``first_late``."""

    amplitudes: Tensor
    powers: Tensor
    first_heard: int
    first_late: int


@lru_cache(maxsize=8)
def _spans(early_s: tuple[float, ...], device: torch.device) -> _Spans:
    """For the frames that begin near the onset; those further on hear a steady enough sound."""
    all_s = torch.tensor(early_s, dtype=torch.float64)
    first_heard = int((all_s <= -FRAME_S + 4e-3).sum())  # earlier ones hear too little
    first_late = int((all_s < -FRAME_S / 2 - 1e-6).sum())
    begins_s, ages_s = all_s[first_heard:], (all_s[first_late:] + FRAME_S / 2).clamp(min=0.0)
    n_points = 80
    u = (torch.arange(n_points, dtype=torch.float64) + 0.5) / n_points
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * u)
    times_s = begins_s[:, None] + u * FRAME_S
    above = torch.searchsorted(ages_s, times_s.clamp(min=0.0)).clamp(1, len(ages_s) - 1)
    low, high = ages_s[above - 1], ages_s[above]
    x = ((times_s - low) / (high - low)).clamp(0, 1)
    sounding = (times_s >= 0).double()
    spans = []
    for weights in (window / window.sum(), window.square() / window.square().sum()):
        span = torch.zeros(len(begins_s), len(ages_s), dtype=torch.float64)
        span.scatter_add_(1, above - 1, weights * sounding * (1 - x))
        span.scatter_add_(1, above, weights * sounding * x)
        spans.append(span.float().to(device))
    return _Spans(spans[0], spans[1], first_heard, first_late)

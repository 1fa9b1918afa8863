"""A gentle filter that brings sound to the mel that is wanted of it, and a network's gains behind it.

The ratio of the wanted mel and the sound's own is spread over the bins of an STFT and applied as a gain. The gains are
smooth in time and frequency, so transients stay where they are; phases are not touched.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from specdiff_cli.audio.gains import GainNetwork
from specdiff_cli.audio.mel import N_BINS
from specdiff_cli.audio.partials.responses import Banded, band_centres_hz, interpolation, mel_weights
from specdiff_cli.constants import (
    FFT_SAMPLES,
    FRAME_SAMPLES,
    FRAMES_PER_SECOND,
    LOG_MEL_MIN,
    MEL_CEILING,
    MEL_FLOOR,
    MEL_MAX_HZ,
    N_MELS,
    SAMPLE_RATE_HZ,
)

N_PASSES = 4
# A gain is smeared over time and bins, so a pass goes only part of its way. With 1.8 more is left in the end.
STEP = 1.6
MARGIN_FRAMES = 4 * N_PASSES  # what a pass hears to either side: its windows, and the frames that its gains lie between
LARGEST_GAIN = 1.5  # nepers, per pass
OVERLAPPING_SQUARES = 1.5  # of Hann windows, a quarter of a window apart
# A moment may gain in power by so much more than the 40 ms around it.
ECHO_RATIO, SILENT_POWER = 4.0, 1e-12
SMALLEST_MAGNITUDE = 1e-9
CELLS = {16_000: 10, 44_100: 9, 48_000: 10}  # moments in a frame's hop: 2 ms, and whole samples
_FADED_HZ = 10_000.0  # above 8 kHz nothing is wanted: the last band's gain goes on, and has faded here


@dataclass(frozen=True)
class Parts:
    """Spectra (C, n_half_frames, bins) of partials and noise, and what :class:`GainNetwork` is told of them: four
    log-mels (n_half_frames, 128)."""

    partials: Tensor
    noise: Tensor
    log_mels: tuple[Tensor, ...]


class MelCorrection:
    """The filter for one sampling rate, on one device."""

    def __init__(self, rate_hz: int, device: torch.device) -> None:
        self.hop_samples = rate_hz // FRAMES_PER_SECOND
        self._window = torch.hann_window(2 * self.hop_samples, dtype=torch.float64).float().to(device)
        self._n_fft = 1 << math.ceil(math.log2(2 * self.hop_samples))
        self._weights = Banded(mel_weights() * (FRAME_SAMPLES / (2 * self.hop_samples)), 4, device)
        self._analysis = _analysis(rate_hz, device)
        bins_hz = torch.arange(self._n_fft // 2 + 1, dtype=torch.float64) * (rate_hz / self._n_fft)
        highest = float(band_centres_hz()[N_MELS - 1])
        spread = interpolation(bins_hz.clamp(max=highest))[:N_MELS]
        fading = ((_FADED_HZ - bins_hz) / (_FADED_HZ - MEL_MAX_HZ)).clamp(0, 1).float()
        self._spread = Banded(spread * fading, 8, device)  # (128, bins)
        # magnitudes at the mel's bins lie between those of the filter's own
        fine = _between(bins_hz).T @ mel_weights() * (FRAME_SAMPLES / (2 * self.hop_samples))
        self._fine_weights = Banded(fine, 8, device)

    def log_mel(self, audio: Tensor) -> Tensor:
        """Log-mel of the mean of all channels, (C, n) to (ceil(n / hop), 128); the end is padded with silence.

        At 16 kHz that of ``audio.mel``; at other rates the same window in seconds and the same bins in hertz.
        """
        return self._log_mel_of(*self._spectra(audio.mean(0, keepdim=True)))

    def _log_mel_of(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """That of the mean of spectra, twice (C, n_frames, 513)."""
        mean = [part[0] if len(part) == 1 else part.mean(0) for part in (real, imaginary)]
        magnitudes = (mean[0].square() + mean[1].square()).sqrt_()
        return self._weights.product(magnitudes).clamp_(MEL_FLOOR, MEL_CEILING).log_()

    def _cancelled(self, real: Tensor, imaginary: Tensor, log_mel: Tensor) -> Tensor:
        """By how many nepers notes cancel in the mean of two channels, (n_frames, 128), 0 at least.

        A note in one channel alone is 3 dB weaker in the mean than in the power of both, and no note is weaker. Less
        than that is left of notes that happen to meet in opposite phases, and filling it up would blow up the channels.
        """
        least = self._weights.product(((real.square() + imaginary.square()).mean(0) / 2).sqrt())
        return (least.clamp(min=MEL_FLOOR).log() - log_mel).clamp(min=0.0)

    def _spectra(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts at the mel's bins, (C, n) to twice (C, ceil(n / hop), 513)."""
        hop, n_samples = self.hop_samples, audio.shape[1]
        n_frames = -(-n_samples // hop)
        padded = functional.pad(audio, (0, (n_frames + 1) * hop - n_samples))
        frames = padded.unfold(1, 2 * hop, hop) * self._window
        if self._analysis is None:
            n_fft = FFT_SAMPLES * hop * FRAMES_PER_SECOND // SAMPLE_RATE_HZ
            spectrum = torch.fft.rfft(frames, n=n_fft)[..., :N_BINS]
            return spectrum.real, spectrum.imag
        early, late = frames[..., :hop], frames[..., hop:].flip(-1)
        return (early + late) @ self._analysis[0], (early - late) @ self._analysis[1]

    def apply(self, sound: Tensor, wanted: Tensor, network: GainNetwork | None = None) -> Tensor:
        """Sound filtered towards the log-mel (n_frames, 128), as audio (C, n_frames * hop).

        ``sound`` (P, C, n_frames * hop) is of one or several parts that add up. A network's gains come on top: it takes
        partials and noise.
        """
        audio = sound.sum(0)
        if network is None:
            filtered, _ = self._met(audio, wanted.clamp(min=LOG_MEL_MIN))
        else:
            parts = self.parts(sound, wanted)
            gains = network(*(mel[None] for mel in parts.log_mels))[0]
            filtered = self.joined(parts, gains, sound.shape[2])
        return self._without_echoes(filtered, audio)

    def parts(self, sound: Tensor, wanted: Tensor) -> Parts:
        """Partials and noise (2, C, n), filtered, for a network; arguments as for :meth:`apply`.

        The sum is filtered, and the partials get in one go the gains that it took; the noise is the rest.
        """
        wanted = wanted.clamp(min=LOG_MEL_MIN)
        filtered, gains = self._met(sound.sum(0), wanted)
        whole = self._spectrum(filtered)
        partials = self._spectrum(sound[0]).mul_(self._per_bin(gains))
        # in an attack one go may overshoot what four steps came to: the noise would be what cancels that
        partials *= (whole.abs() / partials.abs().clamp(min=SMALLEST_MAGNITUDE)).clamp(max=1.0)
        noise = whole - partials
        mels = [self._fine_log_mel(spectrum) for spectrum in (partials, noise, whole)]
        return Parts(partials, noise, (*mels, _at_half_frames(wanted, whole.shape[1])))

    def joined(self, parts: Parts, gains: Tensor, n_samples: int) -> Tensor:
        """Audio (C, n_samples) of parts with gains (2, n_half_frames, 128) in nepers. Differentiable by these."""
        tonal, noisy = (self._spread.product(gain).exp() for gain in gains)
        return self._joined(parts.partials * tonal + parts.noise * noisy, n_samples)

    def _met(self, audio: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Audio (C, n) with about the log-mel that is wanted, and the gains (n_frames, 128) in nepers that it took."""
        filtered, total = audio, torch.zeros_like(wanted)
        for turn in range(N_PASSES):
            if turn or len(audio) == 1:
                missing = wanted - self.log_mel(filtered)
            else:
                spectra = self._spectra(audio)
                has = self._log_mel_of(*spectra)
                # of what is wanted may have been known that it cancels
                missing = torch.minimum(wanted - has, (wanted - has - self._cancelled(*spectra, has)).clamp(min=0.0))
                wanted = has + missing
            gains = (STEP * missing).clamp(-LARGEST_GAIN, LARGEST_GAIN)
            total += gains
            filtered = self._joined(self._spectrum(filtered).mul_(self._per_bin(gains)), audio.shape[1])
        return filtered, total

    def _per_bin(self, gains: Tensor) -> Tensor:
        """Factors (n_half_frames, bins) of gains (n_frames, 128) in nepers, each in force in its frame's middle."""
        n_half_frames = 2 * len(gains) + 5  # of the frames' samples: see _spectrum
        return self._spread.product(_at_half_frames(gains, n_half_frames)).exp_()

    def _fine_log_mel(self, spectrum: Tensor) -> Tensor:
        """Log-mel of half frames (n_half_frames, 128) of the mean of all channels, without what cancels in it."""
        power = spectrum.real.square() + spectrum.imag.square()
        if len(spectrum) == 1:
            power = power[0]
        else:
            mean = spectrum.mean(0)
            power = torch.maximum(mean.real.square() + mean.imag.square(), power.mean(0) / 2)
        return self._fine_weights.product(power.sqrt_()).clamp_(MEL_FLOOR, MEL_CEILING).log_()

    def _spectrum(self, audio: Tensor) -> Tensor:
        """(C, n) to (C, n_half_frames, bins), complex: frames of two hops, a quarter of that apart."""
        quarter = self.hop_samples // 2
        frames = functional.pad(audio, (4 * quarter, 4 * quarter)).unfold(1, 4 * quarter, quarter) * self._window
        spectrum: Tensor = torch.fft.rfft(frames, n=self._n_fft)
        return spectrum

    def _joined(self, spectrum: Tensor, n_samples: int) -> Tensor:
        """The inverse of :meth:`_spectrum`, (C, n_samples)."""
        quarter = self.hop_samples // 2
        frames = torch.fft.irfft(spectrum, n=self._n_fft)[:, :, : 4 * quarter] * (self._window / OVERLAPPING_SQUARES)
        quarters = frames.view(len(spectrum), -1, 4, quarter)
        n_hops = quarters.shape[1] - 3
        sums = [quarters[:, 3 - k : 3 - k + n_hops, k] for k in range(4)]
        joined: Tensor = (sums[0] + sums[1] + sums[2] + sums[3]).flatten(1)
        return joined[:, quarter : quarter + n_samples]

    def _without_echoes(self, filtered: Tensor, audio: Tensor) -> Tensor:
        """The filtered audio without what the filter's windows smear into moments in which hardly anything sounded."""
        n_cells = CELLS[self.hop_samples * FRAMES_PER_SECOND]  # per frame
        size = self.hop_samples // n_cells
        after, before = (functional.avg_pool1d(x.square(), size, ceil_mode=True) for x in (filtered, audio))
        around = {"kernel_size": 2 * n_cells + 1, "stride": 1, "padding": n_cells, "count_include_pad": False}
        usual, usual_before = (functional.avg_pool1d(x, **around) for x in (after, before))  # type: ignore[arg-type]
        allowed = ECHO_RATIO * before * usual / usual_before.clamp(min=SILENT_POWER)
        gain = (allowed / after.clamp(min=SILENT_POWER)).clamp(max=1.0).sqrt()
        n_samples = gain.shape[1] * size
        between = functional.interpolate(gain[None], size=n_samples, mode="linear", align_corners=False)[0]
        return filtered * between[:, : filtered.shape[1]]


def _at_half_frames(values: Tensor, n_half_frames: int) -> Tensor:
    """Values (n_frames, 128), each in force in the middle of its frame, in the middles of half frames."""
    place = torch.arange(n_half_frames, device=values.device) / 2.0 - 2.0  # in frames
    below = place.floor().clamp(0, len(values) - 1).long()
    above = (below + 1).clamp(max=len(values) - 1)
    return torch.lerp(values[below], values[above], (place - below).clamp(0, 1)[:, None])


def _between(bins_hz: Tensor) -> Tensor:
    """(513, n): reads values at evenly spaced frequencies from 0 Hz on at the mel's bins, linearly between them."""
    place = torch.arange(N_BINS, dtype=torch.float64) * (SAMPLE_RATE_HZ / FFT_SAMPLES / float(bins_hz[1]))
    distance = (place[:, None] - torch.arange(len(bins_hz))).abs()
    return (1 - distance).clamp(min=0.0).float()


def _analysis(rate_hz: int, device: torch.device) -> Tensor | None:
    """(2, hop, 513) cosines and sines at the reference's bins, where no FFT has bins there; else None.

    They count from the middle of a frame, about which cosines are even and sines odd: half a frame does.
    """
    if (FFT_SAMPLES * rate_hz) % SAMPLE_RATE_HZ == 0:
        return None
    return _bins_of(rate_hz).to(device)


@lru_cache(maxsize=2)
def _bins_of(rate_hz: int) -> Tensor:
    hop_samples = rate_hz // FRAMES_PER_SECOND
    offset = torch.arange(hop_samples, dtype=torch.float64) + 0.5 - hop_samples
    turns = offset[:, None] * torch.arange(N_BINS, dtype=torch.float64)
    angle = turns * (2 * math.pi * SAMPLE_RATE_HZ / FFT_SAMPLES / rate_hz)
    return torch.stack([angle.cos(), angle.sin()]).float()


@lru_cache(maxsize=4)
def mel_correction(rate_hz: int, device: torch.device) -> MelCorrection:
    """The filter, made once."""
    with torch.inference_mode(False):  # training may ask for it after a render has
        return MelCorrection(rate_hz, device)

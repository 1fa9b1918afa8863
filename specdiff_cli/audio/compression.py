"""How strongly lossy formats compress: one scale of quality for all of them, or a bit rate.

libsndfile takes one number from 0 (largest) to 1 (smallest) whatever the format; what that means is worked out here.
"""

from dataclasses import dataclass
from typing import Any

from specdiff_cli.choices import check_range
from specdiff_cli.errors import Option, UsageError

MIN_QUALITY, MAX_QUALITY = 0.0, 10.0
DEFAULT_QUALITY = 6.0

# Opus at quality 0 and 10. Every 2.5 of quality double the rate: 64 kbit/s a channel at 5, 84 at 6.
OPUS_LOWEST_KBPS, OPUS_HIGHEST_KBPS = 16.0, 256.0
OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
#: The rates of MPEG-1, 2 and 2.5, and the bit rates in kbit/s that layer III has there.
MP3_BIT_RATES = {
    (32000, 44100, 48000): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (16000, 22050, 24000): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (8000, 11025, 12000): (8, 16, 24, 32, 40, 48, 56, 64),
}
_LARGEST_LEVEL = 0.999  # libsndfile refuses 1 for MP3
_LIBSNDFILE_OPUS_KBPS = (6.0, 256.0)  # a channel, at levels 1 and 0


@dataclass(frozen=True, slots=True)
class Compression:
    """What was asked for; with neither, quality 6."""

    quality: float | None = None
    """0 (smallest) to 10 (best), at a bit rate that varies with the music."""
    bit_rate_kbps: float | None = None
    """All channels together. MP3 keeps it, Opus comes close, Vorbis knows no bit rates."""

    def __post_init__(self) -> None:
        if self.quality is not None and self.bit_rate_kbps is not None:
            quality, bit_rate = Option("quality"), Option("bit_rate")
            raise UsageError(quality, " and ", bit_rate, " say the same in two ways: give one of them")
        if self.quality is not None:
            check_range("quality", self.quality, MIN_QUALITY, MAX_QUALITY, " (best)")

    @property
    def is_default(self) -> bool:
        """Was nothing asked for?"""
        return self.quality is None and self.bit_rate_kbps is None


def libsndfile_options(file_format: str, compression: Compression, rate_hz: int, n_channels: int) -> dict[str, Any]:
    """Arguments of ``soundfile.SoundFile`` for a lossy format: ``ogg`` (Vorbis), ``opus`` or ``mp3``.

    Raises UsageError for rates that the format does not have.
    """
    quality = DEFAULT_QUALITY if compression.quality is None else compression.quality
    if file_format == "ogg":
        if compression.bit_rate_kbps is not None:
            what = "Ogg Vorbis has no fixed bit rate: use "
            raise UsageError(what, Option("quality"), ", or ", Option("format", "opus"), option="bit_rate")
        return {"format": "OGG", "subtype": "VORBIS", "compression_level": _level(1 - quality / MAX_QUALITY)}
    if file_format == "opus":
        if rate_hz not in OPUS_RATES_HZ:
            rule = f"Opus has no sample rate of {rate_hz} Hz: use "
            raise UsageError(rule, Option("sample_rate", OPUS_RATES_HZ[-1]), option="sample_rate", value=rate_hz)
        kbps = _opus_kbps(compression, quality, n_channels) / n_channels
        lowest, highest = _LIBSNDFILE_OPUS_KBPS
        return {
            "format": "OGG",
            "subtype": "OPUS",
            "compression_level": _level((highest - kbps) / (highest - lowest)),
        }
    rates = next((kbps for rates_hz, kbps in MP3_BIT_RATES.items() if rate_hz in rates_hz), None)
    if rates is None:
        rule = f"MP3 has no sample rate of {rate_hz} Hz: use "
        raise UsageError(rule, Option("sample_rate", 44_100), option="sample_rate", value=rate_hz)
    mp3 = {"format": "MP3", "subtype": "MPEG_LAYER_III"}
    if compression.bit_rate_kbps is None:
        return {**mp3, "bitrate_mode": "VARIABLE", "compression_level": _level(1 - quality / MAX_QUALITY)}
    if compression.bit_rate_kbps not in rates:
        shown = ", ".join(map(str, rates))
        raise UsageError(f"MP3 at {rate_hz} Hz has bit rates of {shown} kbit/s, not {compression.bit_rate_kbps:g}")
    level = (rates[-1] - compression.bit_rate_kbps) / (rates[-1] - rates[0])
    return {**mp3, "bitrate_mode": "CONSTANT", "compression_level": _level(level)}


def _opus_kbps(compression: Compression, quality: float, n_channels: int) -> float:
    if compression.bit_rate_kbps is None:
        span = OPUS_HIGHEST_KBPS / OPUS_LOWEST_KBPS
        return float(n_channels * OPUS_LOWEST_KBPS * span ** (quality / MAX_QUALITY))
    lowest, highest = (n_channels * kbps for kbps in _LIBSNDFILE_OPUS_KBPS)
    if not lowest <= compression.bit_rate_kbps <= highest:
        channels = "mono" if n_channels == 1 else "stereo" if n_channels == 2 else f"{n_channels} channels"
        raise UsageError(f"Opus in {channels} has {lowest:g} to {highest:g} kbit/s, not {compression.bit_rate_kbps:g}")
    return compression.bit_rate_kbps


def _level(level: float) -> float:
    return min(max(level, 0.0), _LARGEST_LEVEL)

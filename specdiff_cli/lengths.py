"""How long a render is: seconds in samples, frames and windows. No torch."""

from specdiff_cli.constants import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_FRAMES


def count_samples(duration_s: float) -> int:
    """Samples of a render of ``duration_s`` seconds; at least one."""
    return max(1, round(duration_s * SAMPLE_RATE_HZ))


def count_frames(duration_s: float) -> int:
    """Spectrogram frames of such a render."""
    return -(-count_samples(duration_s) // HOP_SAMPLES)


def count_windows(duration_s: float, overlap_frames: int = 0) -> int:
    """Windows of such a render, each of which begins with ``overlap_frames`` of the one before."""
    n_after_first = max(0, count_frames(duration_s) - WINDOW_FRAMES)
    return 1 - (-n_after_first // (WINDOW_FRAMES - overlap_frames))


def hop_s(overlap_frames: int) -> float:
    """Seconds from the start of a window to that of the next."""
    return (WINDOW_FRAMES - overlap_frames) * HOP_SAMPLES / SAMPLE_RATE_HZ

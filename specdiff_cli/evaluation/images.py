"""Spectrograms as PNG files, without an imaging library."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from specdiff_cli.audio.mel import to_model_range

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS_PER_BAND = 2
#: From silence to loud, evenly spaced, each lighter than the one before.
COLOURS = ((4, 4, 20), (52, 16, 100), (128, 36, 124), (208, 66, 98), (246, 140, 74), (252, 246, 180))


def palette() -> NDArray[np.uint8]:
    """256 colours between those above, (256, 3)."""
    anchors = np.linspace(0, 255, len(COLOURS))
    channels = [np.interp(np.arange(256), anchors, channel) for channel in np.array(COLOURS).T]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def spectrogram_png(mel: Tensor) -> bytes:
    """(n_frames, 128) log-mel as a picture: time to the right, one pixel per frame; high bands above."""
    levels = ((to_model_range(mel) + 1) * 127.5).round().numpy().astype(np.uint8)
    return png(np.repeat(levels.T[::-1], PIXELS_PER_BAND, axis=0), palette())


def png(indices: NDArray[np.uint8], colours: NDArray[np.uint8]) -> bytes:
    """A PNG file with a palette (PNG specification, third edition): (height, width) indices into (256, 3) colours."""
    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, palette, no filters, not interlaced
    rows = np.hstack([np.zeros((height, 1), np.uint8), indices])  # each row begins with its filter: none
    return SIGNATURE + b"".join(
        (
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", colours.tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

"""Soundfonts that this machine has."""

import ctypes.util
from pathlib import Path

import pytest

SOUNDFONTS = [
    path
    for pattern in ("sf3/MuseScore_General*.sf3", "sf2/FluidR3_GM.sf2")
    for path in sorted(Path("/usr/share/sounds").glob(pattern))
]
needs_soundfont = pytest.mark.skipif(
    not SOUNDFONTS or ctypes.util.find_library("fluidsynth") is None, reason="needs FluidSynth and a soundfont"
)

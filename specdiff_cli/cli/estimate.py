"""How long a render will take: from the last one with this voice and these settings, else a guess. No torch.

The speeds of this machine are remembered in ``speeds.json`` in the cache folder. The file is a convenience: when it
cannot be read or written, nothing is said and the guess is used.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from specdiff_cli.cli.provenance import SoundOptions
from specdiff_cli.constants import WINDOW_S
from specdiff_cli.weights.cache import cache_root
from specdiff_cli.weights.voices import VoiceCard

SPEEDS_NAME = "speeds.json"
MAX_SPEEDS = 200  # the oldest are forgotten
#: Seconds per window and denoising step for each byte of weights: the bundled voice (37 MB, 2 steps) at 39 × realtime
#: on two CPU cores.
GUESSED_S_PER_BYTE = WINDOW_S / 39 / 2 / 37e6
#: What a render's speed depends on, besides the voice and the machine.
_SPEED_OPTIONS = ("steps", "sampler", "vocoder", "device", "dtype")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of work per window; ``is_measured``: seen on this machine, not guessed."""

    window_s: float
    is_measured: bool

    def describe(self) -> str:
        """Where the number comes from."""
        if self.is_measured:
            return "from the last render with this voice and these settings"
        return "a guess for two CPU cores from the size of the voice; this machine has not rendered this way yet"


def estimate(voice: VoiceCard, sound: SoundOptions, threads: int | None) -> Estimate:
    """What a window will take."""
    measured = _read().get(_key(voice, sound, threads))
    if measured is not None:
        return Estimate(measured, is_measured=True)
    n_passes = sound.steps * (1 if sound.guidance == 1 else 2)
    return Estimate(voice.n_bytes * n_passes * GUESSED_S_PER_BYTE, is_measured=False)


def remember(voice: VoiceCard, sound: SoundOptions, threads: int | None, window_s: float) -> None:
    """Keep what a window took just now."""
    speeds = _read()
    key = _key(voice, sound, threads)
    speeds.pop(key, None)  # goes to the end, among the newest
    speeds[key] = round(window_s, 6)
    newest = dict(list(speeds.items())[-MAX_SPEEDS:])
    path = _path()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps(newest, indent=0) + "\n", encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _key(voice: VoiceCard, sound: SoundOptions, threads: int | None) -> str:
    options: Mapping[str, object] = asdict(sound)
    parts = [voice.name, voice.n_bytes, sound.guidance == 1, threads, *(options[name] for name in _SPEED_OPTIONS)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _path() -> Path:
    return cache_root() / SPEEDS_NAME


def _read() -> dict[str, float]:
    try:
        speeds = json.loads(_path().read_text(encoding="utf-8"))
        return {str(key): float(value) for key, value in speeds.items() if float(value) > 0}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}

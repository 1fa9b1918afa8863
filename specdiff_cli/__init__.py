"""specdiff: a neural MIDI synthesizer (spectrogram diffusion). Importing this package does not import torch."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from specdiff_cli.midi.notes import read_midi
    from specdiff_cli.synthesizer import Sampling, Synthesizer
    from specdiff_cli.vocoders import load_vocoder
    from specdiff_cli.weights.load import load_voice

_HOMES = {
    "Sampling": "specdiff_cli.synthesizer",
    "Synthesizer": "specdiff_cli.synthesizer",
    "load_vocoder": "specdiff_cli.vocoders",
    "load_voice": "specdiff_cli.weights.load",
    "read_midi": "specdiff_cli.midi.notes",
}
__all__ = ["Sampling", "Synthesizer", "__version__", "load_vocoder", "load_voice", "read_midi"]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that commands that need no network start without torch.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

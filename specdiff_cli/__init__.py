"""specdiff: a neural MIDI synthesizer (spectrogram diffusion). Importing this package does not import torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from specdiff_cli.audio.player import Player
    from specdiff_cli.engine.synthesizer import FinishedWindow, Piece, Progress, Sampling, Song, StepState, Synthesizer
    from specdiff_cli.engine.vocoders import load_vocoder
    from specdiff_cli.errors import SpecdiffError
    from specdiff_cli.midi.notes import Note, read_midi
    from specdiff_cli.rendering.progress import show_progress
    from specdiff_cli.rendering.public import render_files, save_audio
    from specdiff_cli.rendering.request import Request
    from specdiff_cli.weights.load import Voice, load_voice
    from specdiff_cli.weights.voices import VoiceCard, find_voice

_HOMES = {
    "FinishedWindow": "specdiff_cli.engine.synthesizer",
    "Note": "specdiff_cli.midi.notes",
    "Player": "specdiff_cli.audio.player",
    "Piece": "specdiff_cli.engine.synthesizer",
    "Progress": "specdiff_cli.engine.synthesizer",
    "Sampling": "specdiff_cli.engine.synthesizer",
    "Song": "specdiff_cli.engine.synthesizer",
    "Request": "specdiff_cli.rendering.request",
    "SpecdiffError": "specdiff_cli.errors",
    "StepState": "specdiff_cli.engine.synthesizer",
    "Synthesizer": "specdiff_cli.engine.synthesizer",
    "Voice": "specdiff_cli.weights.load",
    "VoiceCard": "specdiff_cli.weights.voices",
    "find_voice": "specdiff_cli.weights.voices",
    "load_vocoder": "specdiff_cli.engine.vocoders",
    "load_voice": "specdiff_cli.weights.load",
    "read_midi": "specdiff_cli.midi.notes",
    "render_files": "specdiff_cli.rendering.public",
    "save_audio": "specdiff_cli.rendering.public",
    "show_progress": "specdiff_cli.rendering.progress",
}
__all__ = [
    "FinishedWindow",
    "Note",
    "Piece",
    "Player",
    "Progress",
    "Request",
    "Sampling",
    "Song",
    "SpecdiffError",
    "StepState",
    "Synthesizer",
    "Voice",
    "VoiceCard",
    "__version__",
    "find_voice",
    "load_vocoder",
    "load_voice",
    "read_midi",
    "render_files",
    "save_audio",
    "show_progress",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that commands that need no network start without torch.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        return _find_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _find_version() -> str:
    """The version that the build wrote down, which it takes from the repository's last tag."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return str(__import__("specdiff_cli._version", fromlist=["version"]).version)
    except ImportError:
        pass
    try:
        return version("specdiff")
    except PackageNotFoundError:  # a checkout on the path that was never installed
        return "0+unknown"

"""From a voice's vocoder entry to a vocoder ready to run."""

import os
from typing import TYPE_CHECKING, TypeVar

import torch

from specdiff_cli.audio.vocoder import NoteVocoder, Vocoder
from specdiff_cli.choices import DEFAULT_VOICE, NOTE_VOCODERS, VOCODERS, check_choice
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import Option, UsageError, WeightsError
from specdiff_cli.model.note_function import NoteFunction
from specdiff_cli.weights.load import Voice, load_voice, read_tensors
from specdiff_cli.weights.voice_file import ONNX_VOCODER, STAGES, VOCODER_FILE, VOICE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from specdiff_cli.audio.gains import GainNetwork
    from specdiff_cli.audio.partials.vocoder import PartialVocoder

Sizes = TypeVar("Sizes")

PLAIN = Option("vocoder", "griffin-lim")  # which every voice can have
#: The bundled voice, whose note templates serve voices that have none.
TIMBRES_VOICE = DEFAULT_VOICE


def load_vocoder(
    voice: Voice, name: str | None = None, *, n_threads: int | None = None, device: torch.device | None = None
) -> Vocoder:
    """Load the vocoder of a voice that hears the mel alone, or another one by name.

    ``n_threads``: of the CPU; by default PyTorch's. ``device``: what the network computes on; a vocoder that cannot
    compute there does so on the CPU.

    Raises:
        UsageError: not the name of such a vocoder.
        WeightsError: the voice's folder does not hold the weights of that vocoder, or they are damaged.
    """
    name = _mel_vocoder_of(voice) if name is None else name
    check_choice("vocoder", name, VOCODERS)
    if name == "griffin-lim":
        from specdiff_cli.audio.griffin_lim import GriffinLim

        return GriffinLim()
    if name == "soundstream":
        path = voice.folder / ONNX_VOCODER
        if not os.path.isfile(path):
            raise WeightsError(f"{path}: the SoundStream decoder is missing; add it or use ", PLAIN)
        from specdiff_cli.audio.soundstream import SoundStream

        return SoundStream(path, n_threads=torch.get_num_threads() if n_threads is None else n_threads)
    if name == "spectral":
        path = voice.folder / VOCODER_FILE
        if not voice.vocoder.sizes or not os.path.isfile(path):
            raise WeightsError(f"{voice.folder}: the voice {voice.name} has no spectral vocoder; use ", PLAIN)
        from specdiff_cli.audio.spectral import SpectralConfig, load_spectral

        try:
            config = SpectralConfig(**voice.vocoder.sizes)
        except TypeError as error:
            raise WeightsError(f"{voice.folder / VOICE_FILE}: the sizes in [vocoder] do not fit ({error})") from None
        except WeightsError as error:
            raise WeightsError(f"{voice.folder / VOICE_FILE}: [vocoder] {error}, or use ", PLAIN) from None
        is_able = device is not None and device.type == "cuda"  # Metal knows no float64
        return load_spectral(read_tensors(path), config, device if is_able else None)
    if name in NOTE_VOCODERS:
        raise UsageError.of("vocoder", name, "needs notes, and here is the spectrogram alone; use ", PLAIN)
    raise ValueError(f"{name} has no loader")


def knows_notes(voice: Voice, name: str | None) -> bool:
    """Whether a vocoder, by default the voice's own, is told the notes."""
    return (voice.vocoder.name if name is None else name) in NOTE_VOCODERS


def load_note_vocoder(
    voice: Voice, name: str | None, device: torch.device, rate_hz: int = SAMPLE_RATE_HZ, n_channels: int = 1
) -> NoteVocoder:
    """A vocoder that is told the notes, with the voice's own note templates or else the bundled voice's.

    Args:
        name: ``partials``, or ``melgan`` for the voice's generator behind it; None: the better that the voice has.

    Raises:
        UsageError: the templates are in use on another device.
        WeightsError: there are none, or no generator, or its weights are damaged.
    """
    from specdiff_cli.audio.partials.vocoder import PartialVocoder
    from specdiff_cli.engine.timbres import NoteTimbres, note_frames

    network = voice.network
    if not isinstance(network, NoteFunction):
        network = load_voice(TIMBRES_VOICE).network
    if not isinstance(network, NoteFunction):
        what = f"the voice {TIMBRES_VOICE} has no note templates to lend; use "
        raise WeightsError.of("vocoder", "partials", what, PLAIN)
    partials = PartialVocoder(NoteTimbres(note_frames(network, device)), rate_hz, n_channels, device)
    if "gains" in voice.vocoder.stages:
        partials.gains = _gains(voice).to(device)
    return _with_melgan(voice, partials) if (name or voice.vocoder.best) == "melgan" else partials


def _gains(voice: Voice) -> "GainNetwork":
    """The voice's own network for the gains of partials and noise."""
    from specdiff_cli.audio.gains import GainsConfig, ready_gains

    return ready_gains(*_stage(voice, "gains", GainsConfig))


def _with_melgan(voice: Voice, partials: "PartialVocoder") -> NoteVocoder:
    """``partials`` with the voice's own generator behind it."""
    from specdiff_cli.audio.melgan import GeneratorConfig, ready_generator
    from specdiff_cli.audio.partials.melgan import MelGanVocoder

    if "melgan" not in voice.vocoder.stages:
        plain = Option("vocoder", "partials")
        raise WeightsError(f"{voice.folder}: the voice {voice.name} has no MelGAN stage; use ", plain)
    weights, sizes = _stage(voice, "melgan", GeneratorConfig)
    return MelGanVocoder(partials, ready_generator(weights, sizes), sizes.context_frames)


def _stage(voice: Voice, name: str, config: "Callable[..., Sizes]") -> "tuple[dict[str, torch.Tensor], Sizes]":
    """Weights and sizes of a stage that ``partials`` has in this voice. Raises WeightsError."""
    try:
        sizes = config(**voice.vocoder.stages[name])
    except TypeError as error:
        raise WeightsError(f"{voice.folder / VOICE_FILE}: the sizes in [vocoder.{name}] do not fit ({error})") from None
    return read_tensors(voice.folder / STAGES[name]), sizes


def _mel_vocoder_of(voice: Voice) -> str:
    """What turns a voice's spectrograms into sound where the notes are not known."""
    if voice.vocoder.name != "partials":
        return voice.vocoder.name
    return "spectral" if voice.vocoder.sizes else "griffin-lim"

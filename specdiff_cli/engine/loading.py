"""The one way to load a voice for work: threads, device, precision, memory and vocoder, as every command has them."""

from collections.abc import Callable

import torch

from specdiff_cli.audio.vocoder import NoteVocoder, Vocoder
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.engine.devices import resolve_device, resolve_dtype, set_threads
from specdiff_cli.engine.synthesizer import Synthesizer
from specdiff_cli.model.precision import floating
from specdiff_cli.weights.load import Precision, Voice, load_voice

#: A voice's name or folder, and its precision in memory, to the voice.
Loader = Callable[[str, Precision], Voice]


def load_synthesizer(
    model: str,
    *,
    vocoder: Vocoder | NoteVocoder | str | Callable[[Voice], Vocoder | str | None] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    n_channels: int = 1,
    load: Loader = load_voice,
) -> Synthesizer:
    """Load a voice, by name or from a folder, ready to render.

    The network is read in the precision in which it computes, piece by piece: two copies of a large one may not fit.

    Args:
        vocoder: a name, an object, or what makes one of these for the voice; by default the voice's.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``auto``, ``float32``, ``bfloat16``, ``float16`` or ``int8``.
        threads: of the CPU; by default one for each core that this process, and its container, may use.
        sample_rate_hz, n_channels: of the audio, where the vocoder can choose; see :class:`Synthesizer`.
        load: reads the weights.

    Raises:
        UsageError: no name of a device, precision or vocoder.
        DeviceError: the machine has no such device, or not this precision.
        WeightsError: the weights are missing, damaged or do not fit.
    """
    where = resolve_device(device)
    set_threads(threads)

    def in_memory(prefers_bfloat16: bool) -> torch.dtype:
        return floating(resolve_dtype(dtype, where, prefers_bfloat16=prefers_bfloat16))

    voice = load(model, in_memory)
    return Synthesizer(
        voice,
        vocoder(voice) if callable(vocoder) else vocoder,
        where,
        dtype,
        sample_rate_hz=sample_rate_hz,
        n_channels=n_channels,
    )

"""The one way to load a voice for work: threads, device, precision, memory and vocoder, as every command has them."""

from collections.abc import Callable

import torch

from specdiff_cli.audio.vocoder import Vocoder
from specdiff_cli.engine.devices import resolve_device, resolve_dtype, set_threads
from specdiff_cli.engine.synthesizer import Synthesizer
from specdiff_cli.engine.vocoders import load_vocoder
from specdiff_cli.model.precision import floating
from specdiff_cli.weights.load import Precision, Voice, load_voice

#: A voice's name or folder, and its precision in memory, to the voice.
Loader = Callable[[str, Precision], Voice]


def load_synthesizer(
    model: str,
    *,
    vocoder: Vocoder | str | Callable[[Voice], Vocoder] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    load: Loader = load_voice,
) -> Synthesizer:
    """Load a voice, by name or from a folder, ready to render.

    The network is read in the precision in which it computes, piece by piece: two copies of a large one may not fit.

    Args:
        vocoder: a name, an object, or what makes one for the voice; by default the voice's.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``auto``, ``float32``, ``bfloat16``, ``float16`` or ``int8``.
        threads: of the CPU; by default one for each core that this process, and its container, may use.
        load: reads the weights.

    Raises:
        UsageError: no name of a device, precision or vocoder.
        DeviceError: the machine has no such device, or not this precision.
        WeightsError: the weights are missing, damaged or do not fit.
    """
    where = resolve_device(device)
    set_threads(threads)

    def dtype_for(prefers_bfloat16: bool) -> torch.dtype:
        return resolve_dtype(dtype, where, prefers_bfloat16=prefers_bfloat16)

    voice = load(model, lambda prefers_bfloat16: floating(dtype_for(prefers_bfloat16)))
    if callable(vocoder):
        vocoder = vocoder(voice)
    elif vocoder is None or isinstance(vocoder, str):
        vocoder = load_vocoder(voice, vocoder)
    return Synthesizer(voice, vocoder, where, dtype_for(voice.prefers_bfloat16))

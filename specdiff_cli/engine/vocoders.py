"""From a voice's vocoder entry to a vocoder ready to run."""

import torch

from specdiff_cli.audio.vocoder import Vocoder
from specdiff_cli.choices import VOCODERS, check_choice
from specdiff_cli.errors import Option, WeightsError
from specdiff_cli.weights.load import Voice, read_tensors
from specdiff_cli.weights.voice_file import ONNX_VOCODER, current_vocoder_name

PLAIN = Option("vocoder", "griffin-lim")  # which every voice can have


def load_vocoder(voice: Voice, name: str | None = None, *, n_threads: int | None = None) -> Vocoder:
    """Load the vocoder of a voice, or another one by name.

    ``n_threads``: of the CPU; by default PyTorch's.

    Raises:
        UsageError: not the name of a vocoder.
        WeightsError: the voice's folder does not hold the weights of that vocoder, or they are damaged.
    """
    name = voice.vocoder.name if name is None else current_vocoder_name(name)
    check_choice("vocoder", name, VOCODERS)
    if name == "griffin-lim":
        from specdiff_cli.audio.griffin_lim import GriffinLim

        return GriffinLim()
    if name == "soundstream":
        path = voice.folder / ONNX_VOCODER
        if not path.is_file():
            raise WeightsError(
                f"{path}: the SoundStream decoder is missing; add it or use ", Option("vocoder", "griffin-lim")
            )
        from specdiff_cli.audio.soundstream import SoundStream

        return SoundStream(path, n_threads=torch.get_num_threads() if n_threads is None else n_threads)
    if name == "spectral":
        path = voice.folder / "vocoder.safetensors"
        if voice.vocoder.name != "spectral" or not path.is_file():
            raise WeightsError(
                f"{voice.folder}: the voice {voice.name} has no spectral vocoder; use ",
                Option("vocoder", "griffin-lim"),
            )
        from specdiff_cli.audio.spectral import MelGanConfig, load_melgan

        try:
            config = MelGanConfig(**voice.vocoder.sizes)
        except TypeError as error:
            raise WeightsError(f"{voice.folder / 'voice.toml'}: the sizes in [vocoder] do not fit ({error})") from None
        return load_melgan(read_tensors(path), config)
    raise ValueError(f"{name} has no loader")

"""A voice made ready to render, once for all songs."""

from functools import cached_property
from typing import TYPE_CHECKING

from specdiff_cli.cli.console import working
from specdiff_cli.cli.prepare import RenderOptions
from specdiff_cli.cli.provenance import VoiceIdentity

if TYPE_CHECKING:
    from specdiff_cli.engine.synthesizer import Sampling, Synthesizer

#: Songs rendered at once where nothing is said: a GPU is far from full with one.
BATCH_ON_CUDA = 16


class Engine:
    """A voice that is loaded when the first song needs it, and once."""

    def __init__(self, model: str, voice: VoiceIdentity, options: RenderOptions) -> None:
        self.voice = voice
        self._model = model
        self._options = options

    @cached_property
    def synthesizer(self) -> "Synthesizer":
        """The voice, ready to render.

        Raises:
            UsageError, WeightsError, DeviceError: what would make every song fail.
        """
        with working(f"loading {self._model}", self._options.quiet):
            synthesizer = self._load()
        for message in synthesizer.voice.messages:
            self._options.tell(message)
        return synthesizer

    @cached_property
    def sampling(self) -> "Sampling":
        """How to sample; valid once the voice is loaded."""
        from specdiff_cli.engine.synthesizer import Sampling

        sound = self._options.sound
        return Sampling(
            steps=sound.steps,
            sampler=sound.sampler,
            schedule=sound.schedule,
            guidance=sound.guidance,
            seed=sound.seed,
            guidance_interval=sound.guidance_interval,
            overlap_frames=sound.overlap_frames,
        )

    @property
    def batch(self) -> int:
        """How many songs are rendered at once."""
        if self._options.batch is not None:
            return self._options.batch
        return BATCH_ON_CUDA if self.synthesizer.device.type == "cuda" else 1

    def _load(self) -> "Synthesizer":
        import torch

        from specdiff_cli.diffusion.samplers import find_sampler
        from specdiff_cli.diffusion.schedules import find_schedule
        from specdiff_cli.engine.devices import resolve_device, resolve_dtype, set_threads
        from specdiff_cli.engine.synthesizer import Synthesizer
        from specdiff_cli.engine.vocoders import load_vocoder
        from specdiff_cli.model.precision import floating
        from specdiff_cli.weights.load import load_voice

        sound = self._options.sound
        if self.voice.kind == "diffusion":  # said before anything takes long
            find_sampler(sound.sampler)
            find_schedule(sound.schedule)(sound.steps)
        device = resolve_device(sound.device)
        set_threads(self._options.threads)

        def dtype_for(prefers_bfloat16: bool) -> torch.dtype:
            return resolve_dtype(sound.dtype, device, prefers_bfloat16=prefers_bfloat16)

        # Read in the precision that is wanted, part by part: two copies of a large voice may not fit.
        voice = load_voice(self._model, lambda prefers: floating(dtype_for(prefers)))
        vocoder = load_vocoder(voice, sound.vocoder, n_threads=torch.get_num_threads())
        return Synthesizer(voice, vocoder, device, dtype_for(voice.prefers_bfloat16))

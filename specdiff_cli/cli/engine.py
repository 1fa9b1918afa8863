"""A voice made ready to render, once for all songs."""

from functools import cached_property
from typing import TYPE_CHECKING

from specdiff_cli.cli.console import working
from specdiff_cli.cli.prepare import RenderOptions
from specdiff_cli.weights.voices import VoiceCard

if TYPE_CHECKING:
    from specdiff_cli.diffusion.sampling import Sampling
    from specdiff_cli.engine.synthesizer import Synthesizer

#: Songs rendered at once where nothing is said: a GPU is far from full with one.
BATCH_ON_CUDA = 16


class Engine:
    """A voice that is loaded when the first song needs it, and once."""

    def __init__(self, model: str, voice: VoiceCard, options: RenderOptions) -> None:
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
        from specdiff_cli.diffusion.sampling import Sampling

        sound = self._options.sound
        return Sampling(
            sound.steps,
            sound.sampler,
            sound.schedule,
            sound.guidance,
            sound.seed,
            sound.guidance_interval,
            sound.overlap_frames,
        )

    @property
    def batch(self) -> int:
        """How many songs are rendered at once."""
        if self._options.batch is not None:
            return self._options.batch
        return BATCH_ON_CUDA if self.synthesizer.device.type == "cuda" else 1

    def _load(self) -> "Synthesizer":
        from specdiff_cli.engine.loading import load_synthesizer

        sound = self._options.sound
        _ = self.sampling  # checked before anything takes long
        return load_synthesizer(
            self._model,
            vocoder=sound.vocoder,
            device=sound.device,
            dtype=sound.dtype,
            threads=self._options.threads,
        )

"""The one loop: windows of notes in, spectrogram out, the previous window as context, audio as it goes."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from specdiff_cli.audio.mel import from_model_range, to_model_range
from specdiff_cli.audio.vocoder import StreamingVocoder, Vocoder
from specdiff_cli.constants import HOP_SAMPLES, N_MELS, SAMPLE_RATE_HZ, WINDOW_FRAMES
from specdiff_cli.diffusion.guidance import guided
from specdiff_cli.diffusion.samplers import SAMPLERS, Denoiser
from specdiff_cli.diffusion.schedules import SCHEDULES, Step
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import TokenWindow, tokenize
from specdiff_cli.weights.load import Voice

FILM_CHUNK_STEPS = 128  # FiLM tables are computed this many steps at a time, to bound the intermediate memory


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; names are keys of ``SAMPLERS`` and ``SCHEDULES``."""

    steps: int
    sampler: str
    schedule: str
    guidance: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a render is: ``step`` of ``n_steps`` in ``window`` (from 0) of ``n_windows``."""

    window: int
    n_windows: int
    step: int
    n_steps: int


ProgressCallback = Callable[[Progress], None]
MelCallback = Callable[[npt.NDArray[np.float32]], None]


@dataclass(frozen=True, slots=True)
class _Memory:
    """What the decoder may attend to in one window, computed once per window."""

    keys: list[Tensor]
    values: list[Tensor]
    laid: Tensor | None


class Synthesizer:
    """A voice compiled for one device and precision, able to render any number of songs."""

    def __init__(self, voice: Voice, vocoder: Vocoder, device: torch.device, dtype: torch.dtype) -> None:
        self.voice = voice
        self.vocoder = vocoder
        self.device = device
        self.dtype = dtype
        self.config = voice.network.config
        network = voice.network.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self._note_encoder = _compile(network.note_encoder)
        self._decoder = _compile(network.decoder, "film", "memory")
        self._context_encoder = None if network.context_encoder is None else _compile(network.context_encoder)
        self._note_layout = None if network.note_layout is None else _compile(network.note_layout)
        self.n_dropped_events = 0  # of the song rendered last

    def describe(self) -> str:
        """Voice, vocoder, device and precision, for a summary line."""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.voice.name} + {self.vocoder.name} · {self.device} {dtype}"

    @staticmethod
    def count_samples(duration_s: float) -> int:
        """Samples of a render of ``duration_s`` seconds; at least one."""
        return max(1, round(duration_s * SAMPLE_RATE_HZ))

    @staticmethod
    def count_frames(duration_s: float) -> int:
        """Spectrogram frames of such a render."""
        return -(-Synthesizer.count_samples(duration_s) // HOP_SAMPLES)

    @staticmethod
    def count_windows(duration_s: float) -> int:
        """Windows of such a render."""
        return -(-Synthesizer.count_frames(duration_s) // WINDOW_FRAMES)

    def stream(
        self,
        notes: Sequence[Note],
        duration_s: float,
        sampling: Sampling,
        *,
        on_progress: ProgressCallback | None = None,
        on_mel: MelCallback | None = None,
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Render notes to audio, chunk by chunk; memory does not grow with the song.

        Args:
            notes: in the order of :func:`specdiff_cli.midi.notes.read_midi`.
            duration_s: length of the audio; later notes are cut.
            sampling: steps, sampler, schedule, guidance and seed. The same seed on the same device gives the same
                bytes.
            on_progress: called after every denoising step.
            on_mel: called with each window's spectrogram, (frames, 128) float32 log-mel in feature range.

        Yields:
            (n,) float32 at 16 kHz, nominally within [-1, 1]; ``round(16000 * duration_s)`` samples in all.
        """
        n_samples = self.count_samples(duration_s)
        n_frames = self.count_frames(duration_s)
        n_windows = self.count_windows(duration_s)
        windows = tokenize(notes, self.config.vocabulary, total_s=duration_s)
        streaming = StreamingVocoder(self.vocoder)
        n_written = 0
        for mel in self.spectrogram(windows, n_windows, sampling, on_progress=on_progress):
            kept = mel[:n_frames]
            n_frames -= len(kept)
            if on_mel is not None:
                on_mel(kept.numpy())
            audio = streaming.push(kept)
            if n_frames == 0:
                audio = torch.cat([audio, streaming.flush()])
            chunk = audio[: n_samples - n_written].numpy()
            n_written += len(chunk)
            if len(chunk):
                yield chunk
            if n_frames == 0:
                return

    @torch.inference_mode()
    def spectrogram(
        self,
        windows: Iterable[TokenWindow],
        n_windows: int,
        sampling: Sampling,
        *,
        on_progress: ProgressCallback | None = None,
    ) -> Iterator[Tensor]:
        """Sample window after window; yields (256, 128) float32 log-mel in feature range on the CPU, un-clipped."""
        steps = SCHEDULES[sampling.schedule](sampling.steps)
        sampler = SAMPLERS[sampling.sampler]
        film = self._film(steps)
        generator = torch.Generator("cpu").manual_seed(sampling.seed)
        shape = (1, WINDOW_FRAMES, N_MELS)

        def noise() -> Tensor:
            # Drawn on the CPU whatever the device, in the order of the Diffusers pipeline: a seed means one noise.
            return torch.randn(shape, generator=generator).to(self.device)

        context: Tensor | None = None
        self.n_dropped_events = 0
        for window in windows:
            self.n_dropped_events += window.n_dropped_events
            denoiser = self._denoiser(self._remember(window, context), film, sampling.guidance)
            report = _reporter(on_progress, window.index, n_windows, len(steps))
            x = sampler(denoiser, noise(), steps, noise, self.config.objective, report)
            mel = from_model_range(x)
            context = to_model_range(mel)
            yield mel[0].cpu()

    def _film(self, steps: Sequence[Step]) -> Tensor:
        """FiLM tables of all steps, (steps, layers, 2, 2 d_model): they depend on nothing but the time."""
        times = torch.tensor([step.time for step in steps], dtype=torch.float32, device=self.device)
        return torch.cat([self._decoder.film(chunk) for chunk in torch.split(times, FILM_CHUNK_STEPS)])

    def _remember(self, window: TokenWindow, context: Tensor | None) -> _Memory:
        """Encode the window's notes and the previous spectrogram, and project them to keys and values.

        Masked keys (padding, the first window's absent context) are left out instead of masked.
        """
        tokens = torch.from_numpy(window.tokens).to(self.device)[None]
        encodings = self._note_encoder(tokens)
        if self._context_encoder is not None and context is not None:
            encodings = torch.cat([encodings, self._context_encoder(context)], dim=1)
        keys, values = self._decoder.memory(encodings)
        laid = None
        if self._note_layout is not None and len(window.layout):
            layout = torch.from_numpy(window.layout).to(self.device, torch.float32)[None]
            laid = self._note_layout(layout[:, :, :3].long(), layout[:, :, 3:])
        return _Memory(keys, values, laid)

    def _denoiser(self, memory: _Memory, film: Tensor, weight: float) -> Denoiser:
        def conditional(x: Tensor, i: int) -> Tensor:
            out: Tensor = self._decoder(x, film[i : i + 1], memory.keys, memory.values, None, None, memory.laid)
            return out

        def unconditional(x: Tensor, i: int) -> Tensor:
            out: Tensor = self._decoder(x, film[i : i + 1], [], [], None, None, None)
            return out

        return guided(conditional, unconditional, weight)


def _reporter(
    on_progress: ProgressCallback | None, window: int, n_windows: int, n_steps: int
) -> Callable[[int], None] | None:
    if on_progress is None:
        return None
    return lambda step: on_progress(Progress(window, n_windows, step, n_steps))


def _compile(module: nn.Module, *methods: str) -> Any:
    """Script and freeze a module; ``methods`` stay callable beside ``forward``."""
    with warnings.catch_warnings():
        # TorchScript is what the renderer is built on; its deprecation notice is not for users to act on.
        warnings.simplefilter("ignore")
        for method in methods:
            torch.jit.export(getattr(type(module), method))
        scripted = torch.jit.script(module)
        return torch.jit.freeze(scripted, preserved_attrs=list(methods))

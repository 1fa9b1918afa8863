"""Many songs as one batch: the next windows of different songs, which are independent, take each step together."""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specdiff_cli.audio.mel import from_model_range, to_model_range
from specdiff_cli.background import Stopped
from specdiff_cli.constants import N_MELS, WINDOW_FRAMES
from specdiff_cli.diffusion.guidance import EVERYWHERE, guided, step_weights
from specdiff_cli.diffusion.samplers import SAMPLERS, Denoiser
from specdiff_cli.diffusion.schedules import SCHEDULES
from specdiff_cli.errors import DeviceError
from specdiff_cli.midi.windows import TokenWindow
from specdiff_cli.model.compiled import CompiledNetwork, Memory, sent
from specdiff_cli.model.config import ModelConfig

NOISE_SHAPE = (1, WINDOW_FRAMES, N_MELS)
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; names are keys of ``SAMPLERS`` and ``SCHEDULES``.

    ``guidance_interval``: the times (1 is noise, 0 the finished spectrogram) between which guidance is applied.
    """

    steps: int
    sampler: str
    schedule: str
    guidance: float = 1.0
    seed: int = 0
    guidance_interval: tuple[float, float] = EVERYWHERE


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a render is: ``step`` of ``n_steps`` in ``window`` (from 0) of ``n_windows``."""

    window: int
    n_windows: int
    step: int
    n_steps: int


@dataclass(frozen=True, slots=True)
class FinishedWindow:
    """A sampled window, and all that is needed to go on after it.

    ``mel``: (256, 128) float32 log-mel in feature range, un-clipped. ``noise_state``: the state of the song's noise
    generator after the window.
    """

    mel: npt.NDArray[np.float32]
    noise_state: bytes


class Track(Generic[Key]):
    """One song on its way: the window that is next, the noise to come, and the spectrogram before.

    Args:
        key: the caller's mark.
        windows: the song's windows in order; each is asked for when the one before it is done.
        n_windows: how many there are, for reports.
        seed: of the song's noise, which is drawn on the CPU whatever the device, in the order of the Diffusers
            pipeline: a seed means one noise.
        finished: windows at the start of the song that need not be sampled again.
        on_progress: called after every denoising step of this song.
    """

    def __init__(
        self,
        key: Key,
        windows: Iterable[TokenWindow],
        n_windows: int,
        seed: int,
        finished: Iterable[FinishedWindow] = (),
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.key = key
        self.n_windows = n_windows
        self.on_progress = on_progress
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.context: Tensor | None = None  # (1, 256, 128) in model range, on the device
        self.window: TokenWindow | None = None
        self.n_dropped_events = 0
        self._windows = iter(windows)
        self._finished: Iterator[FinishedWindow] = iter(finished)

    def has_window(self) -> bool:
        """Whether there is a window to do, which then is ``window``."""
        if self.window is None:
            self.window = next(self._windows, None)
            if self.window is not None:
                self.n_dropped_events += self.window.n_dropped_events
        return self.window is not None

    def noise(self) -> Tensor:
        """The next draw, (1, 256, 128) on the CPU."""
        return torch.randn(NOISE_SHAPE, generator=self.generator)

    def restore(self) -> Tensor | None:
        """The window's spectrogram (1, 256, 128) if it is one of the finished ones; the noise then goes on after it."""
        finished = next(self._finished, None)
        if finished is None:
            return None
        self.generator.set_state(torch.frombuffer(bytearray(finished.noise_state), dtype=torch.uint8))
        return torch.from_numpy(np.array(finished.mel, dtype=np.float32))[None]

    def finish(self, mel: Tensor, is_new: bool) -> "SampledWindow[Key]":
        """Make a spectrogram (1, 256, 128) in feature range the context of the window after."""
        self.context = to_model_range(mel)
        self.window = None
        state = self.generator.get_state().numpy().tobytes()
        return SampledWindow(self.key, mel[0].cpu(), state, is_new, self.n_dropped_events)


@dataclass(frozen=True, slots=True)
class SampledWindow(Generic[Key]):
    """The next window of a song: (256, 128) float32 log-mel in feature range on the CPU, un-clipped."""

    key: Key
    mel: Tensor
    noise_state: bytes
    is_new: bool  # not one of the finished windows that were handed in
    n_dropped_events: int  # of the song so far


@torch.inference_mode()
def sample_all(
    tracks: Iterable[Track[Key]],
    network: CompiledNetwork,
    config: ModelConfig,
    sampling: Sampling,
    *,
    batch: int = 1,
    on_note: Callable[[str], None] | None = None,
    stop: Event | None = None,
) -> Generator[list[SampledWindow[Key]], None, None]:
    """Sample window after window of up to ``batch`` songs at a time.

    A batch that does not fit into memory is halved, for good, and tried again; ``on_note`` is told.

    Yields:
        The windows that were sampled together, one per song.

    Raises:
        DeviceError: not even one song fits into memory.
        Stopped: ``stop`` was set.
    """
    sampler = _WindowSampler(network, config, sampling, stop)
    waiting = iter(tracks)
    active: list[Track[Key]] = []
    while True:
        active = [track for track in active if track.has_window()]
        active += islice((track for track in waiting if track.has_window()), max(0, batch - len(active)))
        if not active:
            return
        done = 0
        while done < len(active):
            group = active[done : done + batch]
            try:
                sampled = sampler.sample(group)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                batch = _smaller(len(group), network.device, error, on_note)
                continue
            done += len(group)
            yield sampled


class _WindowSampler:
    """One sampling setting on one network, with all that does not depend on the song."""

    def __init__(self, network: CompiledNetwork, config: ModelConfig, sampling: Sampling, stop: Event | None) -> None:
        self._network = network
        self._objective = config.objective
        self._sampler = SAMPLERS[sampling.sampler]
        self._steps = SCHEDULES[sampling.schedule](sampling.steps)
        self._weights = step_weights(self._steps, sampling.guidance, sampling.guidance_interval)
        self._film = network.film([step.time for step in self._steps])
        self._stop = stop

    def sample(self, tracks: Sequence[Track[Key]]) -> list[SampledWindow[Key]]:
        """The next window of each song. A failure leaves the songs as they were."""
        restored = [track.restore() for track in tracks]
        fresh = [track for track, mel in zip(tracks, restored, strict=True) if mel is None]
        states = [track.generator.get_state() for track in fresh]
        try:
            mels = iter(self._sample_fresh(fresh) if fresh else ())
        except BaseException:
            for track, state in zip(fresh, states, strict=True):
                track.generator.set_state(state)
            raise
        return [
            track.finish(next(mels)[None], True) if mel is None else track.finish(self._send(mel), False)
            for track, mel in zip(tracks, restored, strict=True)
        ]

    def _sample_fresh(self, tracks: Sequence[Track[Key]]) -> Tensor:
        """(B, 256, 128) log-mel in feature range."""

        def noise() -> Tensor:
            return self._send(torch.cat([track.noise() for track in tracks]))

        def report(step: int) -> None:
            if self._stop is not None and self._stop.is_set():
                raise Stopped
            for track in tracks:
                if track.on_progress is not None and track.window is not None:
                    track.on_progress(Progress(track.window.index, track.n_windows, step, len(self._steps)))

        windows = [track.window for track in tracks if track.window is not None]
        memory = self._network.remember(
            [torch.from_numpy(window.tokens) for window in windows],
            [track.context for track in tracks],
            [torch.from_numpy(window.layout) for window in windows],
        )
        x = self._sampler(self._denoiser(memory), noise(), self._steps, noise, self._objective, report)
        return from_model_range(memory.spectrogram(x))

    def _denoiser(self, memory: Memory) -> Denoiser:
        n_steps = len(self._steps)
        film = self._film
        decode = self._network.repeated(lambda x, row: self._network.decode(x, row, memory), n_steps)
        decode_both = self._network.repeated(lambda x, row: self._network.decode(x, row, memory), n_steps)
        decode_blind = self._network.repeated(self._network.decode_blind, n_steps)

        def both(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
            # The second half of the batch lies beyond the memory: it sees nothing, and skips cross-attention.
            seeing, blind = decode_both(torch.cat([x, x]), film[i : i + 1]).chunk(2)
            return seeing, blind

        return guided(
            lambda x, i: decode(x, film[i : i + 1]),
            lambda x, i: decode_blind(x, film[i : i + 1]),
            self._weights,
            both,
        )

    def _send(self, x: Tensor) -> Tensor:
        return sent(x, self._network.device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of whatever device, was not enough."""
    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "can't allocate memory" in text or "not enough memory" in text or "MPS backend out of memory" in text
    )


def _smaller(n_songs: int, device: torch.device, error: BaseException, on_note: Callable[[str], None] | None) -> int:
    """Half a batch that was too large. Raises DeviceError where there is nothing to halve."""
    if n_songs == 1:
        elsewhere = "" if device.type == "cpu" else " or --device cpu"
        raise DeviceError(f"out of memory on {device}; use --dtype bfloat16, a smaller --model{elsewhere}") from error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if on_note is not None:
        on_note(f"{n_songs} songs at once do not fit into the memory of {device}; going on with {n_songs // 2}")
    return n_songs // 2

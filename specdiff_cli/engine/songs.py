"""Many songs as one batch: the next windows of different songs, which are independent, are sampled together."""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from specdiff_cli.audio.mel import FEATURE_RANGE, to_model_range
from specdiff_cli.constants import LOG_MEL_MIN, N_MELS, WINDOW_FRAMES
from specdiff_cli.errors import DeviceError, Option, is_out_of_memory
from specdiff_cli.midi.windows import TokenWindow
from specdiff_cli.model.compiled import sent

NOISE_SHAPE = (1, WINDOW_FRAMES, N_MELS)
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a render is: ``step`` of ``n_steps`` in ``window`` (from 0) of ``n_windows``."""

    window: int
    n_windows: int
    step: int
    n_steps: int


class StepState:
    """What sampling has made of a window after ``step`` of ``n_steps`` steps; 0 is pure noise.

    ``window`` is counted from 0. The arrays are computed, and fetched from the device, when they are read.
    """

    def __init__(
        self, window: int, step: int, n_steps: int, state: Callable[[], Tensor], estimate: Callable[[], Tensor]
    ) -> None:
        self.window = window
        self.step = step
        self.n_steps = n_steps
        self._state = state
        self._estimate = estimate

    @property
    def state(self) -> npt.NDArray[np.float32]:
        """(256, 128) log-mel in feature range, not clipped: the spectrogram with its noise."""
        return _as_array(self._state())

    @property
    def estimate(self) -> npt.NDArray[np.float32]:
        """(256, 128) log-mel in feature range, not clipped: what the network takes it for without the noise."""
        return _as_array(self._estimate())


def _as_array(x: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = x.float().cpu().numpy()
    return array


@dataclass(frozen=True, slots=True)
class FinishedWindow:
    """A sampled window, and all that is needed to go on after it.

    ``mel``: (256, 128) float32 log-mel in feature range, un-clipped. ``noise_state``: the state of the song's noise
    generator after the window.
    """

    mel: npt.NDArray[np.float32]
    noise_state: bytes


class Score(Protocol):
    """The notes of a song, whose spectra add up."""

    def log_mel(self, first_frame: int, n_frames: int) -> Tensor:
        """(n_frames, 128) log-mel in feature range, ``first_frame`` counted from the start of the song."""
        ...


class ActiveSong(Generic[Key]):
    """One song on its way: the window that is next, the noise to come, and the spectrogram before.

    Args:
        key: the caller's mark.
        windows: the song's windows in order; each is asked for when the one before it is done.
        n_windows: how many there are, for reports.
        seed: of the song's noise, which is drawn on the CPU whatever the device, in the order of the Diffusers
            pipeline: a seed means one noise.
        overlap_frames: as in :class:`~specdiff_cli.diffusion.sampling.Sampling`; what ``windows`` were cut for.
        finished: windows at the start of the song that need not be sampled again.
        feature_range: the log-mel values that -1 and +1 stand for in the network.
        score: the song's notes, for voices that add up their spectra.
        on_progress: called after every denoising step of this song.
        on_step: called with the state before the first step and after each.
    """

    def __init__(
        self,
        key: Key,
        windows: Iterable[TokenWindow],
        n_windows: int,
        seed: int,
        *,
        overlap_frames: int = 0,
        finished: Iterable[FinishedWindow] = (),
        feature_range: tuple[float, float] = FEATURE_RANGE,
        score: Score | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_step: Callable[[StepState], None] | None = None,
    ) -> None:
        self.key = key
        self.n_windows = n_windows
        self.on_step = on_step
        self.score = score
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.context: Tensor | None = None  # (1, 256, 128) in model range, on the device: the frames before the window
        self.known: Tensor | None = None  # (1, overlap, 128) in feature range, on the device: the window's first frames
        self.restored: Tensor | None = None  # (1, 256, 128) in feature range, on the CPU: the window, done earlier
        self.n_dropped_events = 0
        self._window: TokenWindow | None = None
        self._windows = iter(windows)
        self._overlap_frames = overlap_frames
        self._feature_range = feature_range
        self._past: Tensor | None = None  # (1, up to 256 + overlap, 128): the song's last frames
        self._finished: Iterator[FinishedWindow] = iter(finished)
        self._on_progress = on_progress

    @property
    def window(self) -> TokenWindow:
        """The window to do, once ``has_window`` has said that there is one."""
        if self._window is None:
            raise ValueError("the song has ended")
        return self._window

    def has_window(self) -> bool:
        """Whether there is a window to do. One that was finished earlier is then in ``restored``."""
        if self._window is None:
            self._window = next(self._windows, None)
            if self._window is not None:
                self.n_dropped_events += self._window.n_dropped_events
                self._restore()
        return self._window is not None

    def noise(self) -> Tensor:
        """The next draw, (1, 256, 128) on the CPU."""
        return torch.randn(NOISE_SHAPE, generator=self.generator)

    def report(self, step: int, n_steps: int) -> None:
        """Tell whoever listens that a step of this window is done."""
        if self._on_progress is not None:
            self._on_progress(Progress(self.window.index, self.n_windows, step, n_steps))

    def _restore(self) -> None:
        finished = next(self._finished, None)
        if finished is None:
            self.restored = None
            return
        self.restored = torch.from_numpy(np.array(finished.mel, dtype=np.float32))[None]
        self.generator.set_state(torch.frombuffer(bytearray(finished.noise_state), dtype=torch.uint8))

    def finish(self, mel: Tensor) -> "SampledWindow[Key]":
        """Go on after a window: ``mel`` (1, 256, 128) in feature range on the device."""
        n_known = 0 if self.known is None else self.known.shape[1]
        overlap = self._overlap_frames
        past = mel if self._past is None else torch.cat([self._past, mel[:, n_known:]], dim=1)
        self._past = past[:, -(WINDOW_FRAMES + overlap) :]
        before = self._past[:, : self._past.shape[1] - overlap]
        # The second of overlapping windows has less than 256 frames before it: a song is preceded by silence.
        n_missing = WINDOW_FRAMES - before.shape[1]
        padded = functional.pad(before, (0, 0, n_missing, 0), value=LOG_MEL_MIN)
        self.context = to_model_range(padded, self._feature_range)
        self.known = self._past[:, before.shape[1] :] if overlap else None
        is_new, self.restored = self.restored is None, None
        self._window = None
        state = self.generator.get_state().numpy().tobytes()
        return SampledWindow(self.key, mel[0], n_known, state, is_new, self.n_dropped_events)


@dataclass(frozen=True, slots=True)
class SampledWindow(Generic[Key]):
    """The next window of a song: (256, 128) float32 log-mel in feature range on the sampler's device, un-clipped."""

    key: Key
    mel: Tensor
    n_known: int  # frames at its start that the window before had already
    noise_state: bytes
    is_new: bool  # not one of the finished windows that were handed in
    n_dropped_events: int  # of the song so far


@dataclass(frozen=True, slots=True)
class FailedSong(Generic[Key]):
    """A song whose next window, or whose finished windows, could not be read."""

    key: Key
    error: Exception
    n_dropped_events: int


class WindowSampler(Protocol):
    """What turns notes into spectrograms: one network with one way of sampling it."""

    device: torch.device

    def sample(self, songs: Sequence[ActiveSong[Key]]) -> Tensor:
        """The next window of each song, (B, 256, 128) float32 log-mel in feature range on the device.

        Raises:
            Stopped: nobody waits for it any more.
        """
        ...


@torch.inference_mode()
def sample_all(
    songs: Iterable[ActiveSong[Key]],
    sampler: WindowSampler,
    *,
    batch: int = 1,
    on_message: Callable[[str], None] | None = None,
    has_ended: Callable[[Key], bool] = lambda _: False,
) -> Generator[list[SampledWindow[Key] | FailedSong[Key]], None, None]:
    """Sample window after window of up to ``batch`` songs at a time.

    All songs that have begun advance window by window, even where a batch has become smaller than their number: one
    that does not fit into memory is halved, for good, and tried again; ``on_message`` is told.

    Args:
        has_ended: whether to go no further with a song; asked before each window.

    Yields:
        The windows that were sampled together, one per song; songs that failed, which end there.

    Raises:
        DeviceError: not even one song fits into memory.
        Stopped: raised by the sampler.
    """
    waiting = iter(songs)
    active: list[ActiveSong[Key]] = []
    failed: list[SampledWindow[Key] | FailedSong[Key]] = []

    def goes_on(song: ActiveSong[Key]) -> bool:
        try:
            return not has_ended(song.key) and song.has_window()
        except Exception as error:  # of this song: the others have nothing to do with it
            failed.append(FailedSong(song.key, error, song.n_dropped_events))
            return False

    while True:
        active = [song for song in active if goes_on(song)]
        active += islice(filter(goes_on, waiting), max(0, batch - len(active)))
        if failed:
            yield failed
            failed = []
        if not active:
            return
        fresh = [song for song in active if song.restored is None]
        for song in active:
            if song.restored is not None:
                yield [song.finish(sent(song.restored, sampler.device))]
        done = 0
        while done < len(fresh):
            group = fresh[done : done + batch]
            try:
                sampled = _sample_group(group, sampler)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                batch = _smaller(len(group), sampler.device, error, on_message)
                continue
            done += len(group)
            yield sampled


def _sample_group(
    songs: Sequence[ActiveSong[Key]], sampler: WindowSampler
) -> list[SampledWindow[Key] | FailedSong[Key]]:
    """The next window of each song. A failure leaves the songs as they were."""
    states = [song.generator.get_state() for song in songs]
    try:
        mels = sampler.sample(songs)
    except BaseException:
        for song, state in zip(songs, states, strict=True):
            song.generator.set_state(state)
        raise
    return [song.finish(mels[i : i + 1]) for i, song in enumerate(songs)]


def _smaller(n_songs: int, device: torch.device, error: BaseException, on_message: Callable[[str], None] | None) -> int:
    """Half a batch that was too large. Raises DeviceError where there is nothing to halve."""
    if n_songs == 1:
        elsewhere = () if device.type == "cpu" else (" or ", Option("device", "cpu"))
        raise DeviceError(
            f"out of memory on {device}; use ",
            Option("dtype", "bfloat16"),
            ", a smaller ",
            Option("model"),
            *elsewhere,
        ) from error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if on_message is not None:
        on_message(f"{n_songs} songs at once do not fit into the memory of {device}; going on with {n_songs // 2}")
    return n_songs // 2

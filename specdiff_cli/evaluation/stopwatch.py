"""The parts of a synthesizer with timers around them."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from specdiff_cli.audio.partials.score import PlayedNote
from specdiff_cli.audio.vocoder import NoteVocoder, SoundStream, Vocoder
from specdiff_cli.engine.synthesizer import Synthesizer
from specdiff_cli.model.autoregressive_compiled import CompiledAutoregressive, Decoding
from specdiff_cli.model.compiled import CompiledNetwork, Memory
from specdiff_cli.model.note_frames import FrameRows, NoteFrames
from specdiff_cli.model.note_rows import NoteRows


class Stopwatch:
    """Seconds and calls by name. On CUDA, work that was only queued is waited for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of a block."""
        start_s = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds[name] += time.perf_counter() - start_s
        self.calls[name] += 1


class TimedNetwork(CompiledNetwork):
    """The same compiled parts, watched."""

    def __init__(self, watched: CompiledNetwork, watch: Stopwatch) -> None:
        self.__dict__.update(watched.__dict__)
        self._watch = watch
        self.key_counts: list[int] = []

    def film(self, times: Sequence[float]) -> Tensor:
        """As in the class above; counted as part of the encoders."""
        with self._watch.measure("encoders"):
            return super().film(times)

    def remember(
        self, tokens: Sequence[Tensor], contexts: Sequence[Tensor | None], layouts: Sequence[Tensor]
    ) -> Memory:
        """As in the class above."""
        with self._watch.measure("encoders"):
            memory = super().remember(tokens, contexts, layouts)
        self.key_counts.append(memory.keys[0].shape[2])
        return memory

    def repeated(
        self, evaluate: Callable[[Tensor, Tensor], Tensor], n_times: int, *, reuses: bool = False
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """As in the class above."""
        ready = super().repeated(evaluate, n_times, reuses=reuses)

        def timed(x: Tensor, film: Tensor) -> Tensor:
            with self._watch.measure("decoder"):
                return ready(x, film)

        return timed


class TimedAutoregressive(CompiledAutoregressive):
    """The same compiled parts, watched; a step is a frame."""

    def __init__(self, watched: CompiledAutoregressive, watch: Stopwatch) -> None:
        self.__dict__.update(watched.__dict__)
        self._watch = watch
        self.key_counts: list[int] = []

    def begin(self, tokens: Sequence[Tensor]) -> Decoding:
        """As in the class above; counted as encoders."""
        with self._watch.measure("encoders"):
            window = super().begin(tokens)
        self.key_counts.append(window.keys[0].shape[2])
        return window

    def advance(self, window: Decoding, n_frames: int) -> None:
        """As in the class above."""
        n_before = window.n_done
        with self._watch.measure("decoder"):
            super().advance(window, n_frames)
        self._watch.calls["decoder"] += window.n_done - n_before - 1


class TimedTemplates(NoteFrames):
    """The same note templates, watched; a step is a window."""

    def __init__(self, watched: NoteFrames, watch: Stopwatch) -> None:
        self.__dict__.update(watched.__dict__)
        self._watch = watch
        self.key_counts = [0]  # nothing is attended to

    def frames(self, notes: NoteRows, first_frame: int, n_frames: int) -> FrameRows:
        """As in the class above; counted as decoder."""
        with self._watch.measure("decoder"):
            return super().frames(notes, first_frame, n_frames)


class TimedVocoder:
    """A vocoder, watched."""

    def __init__(self, watched: Vocoder, watch: Stopwatch) -> None:
        self._watched = watched
        self._watch = watch
        self.name = watched.name
        self.context_frames = watched.context_frames

    def invert(self, mel: Tensor, first_frame: int) -> Tensor:
        """As the vocoder does."""
        with self._watch.measure("vocoder"):
            return self._watched.invert(mel, first_frame)


class TimedNoteVocoder:
    """A vocoder that is told the notes, watched."""

    def __init__(self, watched: NoteVocoder, watch: Stopwatch) -> None:
        self._watched, self._watch = watched, watch
        self.name, self.rate_hz, self.n_channels = watched.name, watched.rate_hz, watched.n_channels
        self.timbres = getattr(watched, "timbres", None)  # how a synthesizer knows whose notes to ask for

    def open(
        self,
        notes: Sequence[PlayedNote],
        seed: int = 0,
        expected: Callable[[int, int], Tensor] | None = None,
        n_threads: int = 1,
    ) -> "TimedStream":
        """As the vocoder does."""
        with self._watch.measure("vocoder"):
            return TimedStream(self._watched.open(notes, seed, expected, n_threads), self._watch)


class TimedStream:
    """A song's sound, watched."""

    def __init__(self, watched: SoundStream, watch: Stopwatch) -> None:
        self._watched, self._watch = watched, watch

    def push(self, mel: Tensor) -> Tensor:
        """As the stream does."""
        with self._watch.measure("vocoder"):
            return self._watched.push(mel)

    def flush(self) -> Tensor:
        """As the stream does."""
        with self._watch.measure("vocoder"):
            return self._watched.flush()


@contextmanager
def watched(
    synthesizer: Synthesizer, watch: Stopwatch
) -> Iterator[TimedNetwork | TimedAutoregressive | TimedTemplates]:
    """Put timers around the parts of a synthesizer, which then work one after the other."""
    network, vocoder, overlap = synthesizer.network, synthesizer.vocoder, synthesizer.overlap
    timed: TimedNetwork | TimedAutoregressive | TimedTemplates
    if isinstance(network, CompiledNetwork):
        timed = TimedNetwork(network, watch)
    elif isinstance(network, NoteFrames):
        timed = TimedTemplates(network, watch)
    else:
        timed = TimedAutoregressive(network, watch)
    timed_vocoder: Vocoder | NoteVocoder
    if isinstance(vocoder, NoteVocoder):
        timed_vocoder = TimedNoteVocoder(vocoder, watch)
    else:
        timed_vocoder = TimedVocoder(vocoder, watch)
    synthesizer.network, synthesizer.vocoder, synthesizer.overlap = timed, timed_vocoder, False
    try:
        yield timed
    finally:
        synthesizer.network, synthesizer.vocoder, synthesizer.overlap = network, vocoder, overlap

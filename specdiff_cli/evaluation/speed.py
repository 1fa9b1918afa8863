"""How fast a voice renders on this machine, and where the time goes."""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from specdiff_cli.audio.partials.score import PlayedNote
from specdiff_cli.audio.vocoder import NoteVocoder, SoundStream, Vocoder
from specdiff_cli.audio.wav import AtomicWriter
from specdiff_cli.constants import N_MELS, WINDOW_FRAMES, WINDOW_S
from specdiff_cli.diffusion.guidance import step_weights
from specdiff_cli.diffusion.reuse import reusing_steps
from specdiff_cli.diffusion.sampling import FIXED_SAMPLING, Sampling
from specdiff_cli.diffusion.schedules import find_schedule
from specdiff_cli.engine.synthesizer import Song, Synthesizer
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.evaluation.processor import describe_processor
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import tokenize
from specdiff_cli.model.autoregressive_compiled import CompiledAutoregressive, Decoding
from specdiff_cli.model.compiled import CompiledNetwork, Memory
from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.model.network import Network, SpectrogramDiffusion, build_network
from specdiff_cli.model.note_frames import FrameRows, NoteFrames, NoteRows
from specdiff_cli.model.storage import without_storage
from specdiff_cli.weights.load import Precision, Voice, chosen_dtype, load_voice
from specdiff_cli.weights.voice_file import VocoderSpec

NOTES_PER_SECOND = 20  # about 600 tokens in a window of 5.12 s, a dense piece
MATMUL_S = 0.2  # how long each reference product is repeated
N_TOGETHER = 4  # products between two looks at the clock
PARTS = ("encoders", "decoder", "vocoder", "midi", "disk")
REST = "sampler"  # and all that is not counted elsewhere


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured; times are seconds of wall clock, sizes bytes."""

    voice: str
    vocoder: str
    device: str
    processor: str  # see describe_processor
    dtype: str
    n_threads: int
    batch: int
    steps: int
    sampler: str
    schedule: str
    guidance: float
    reuse_every: int
    audio_s: float  # of all songs together
    render_s: float
    times_realtime: float
    step_s: float  # the decoder in one denoising step of the whole batch, mean
    window_s: float  # one window of the whole batch, from notes to sound
    share: dict[str, float]  # of the render, by part; adds up to 1
    first_sound_s: float  # from reading the weights to the first samples of the first song
    load_s: float  # reading and compiling the weights
    peak_memory_bytes: int | None  # of the process
    peak_device_bytes: int | None
    n_keys: float  # what cross-attention sees, mean over windows
    step_flops: float  # operations of one step of the whole batch
    flops_per_s: float  # of the decoder
    matmul_flops_per_s: float  # of plain matrix products of the decoder's shapes, in the same run

    def as_json(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def decoder_flops(
    config: ModelConfig, n_keys: float | None, n_frames: int = WINDOW_FRAMES, n_past: float | None = None
) -> float:
    """Operations of one evaluation of one window: two per multiplication in every matrix product.

    With F frames that see P frames each (F where ``n_past`` is None), K keys, width D, attention width I (heads x
    d_kv), hidden width H, M bands and N layers::

        2FMD + N (2F D 3I + 4F P I + 2F I D  +  2F D I + 4F K I + 2F I D  +  3 2F D H) + 2F D M

    that is N layers of self-attention, cross-attention (its keys and values are kept; none at all where ``n_keys`` is
    None) and gated MLP between the two projections. Norms, softmax and FiLM are left out: they are below 2 %.
    """
    f, d, h, i = n_frames, config.d_model, config.d_ff, config.n_heads * config.d_kv
    self_attention = 2 * f * d * 3 * i + 4 * f * (f if n_past is None else n_past) * i + 2 * f * i * d
    cross_attention = 0.0 if n_keys is None else 2 * f * d * i + 4 * f * n_keys * i + 2 * f * i * d
    mlp = 3 * 2 * f * d * h
    return config.n_decoder_layers * (self_attention + cross_attention + mlp) + 2 * 2 * f * N_MELS * d


def flops_of_step(config: ModelConfig, n_keys: float, guidance: float) -> float:
    """Operations of one step of one window: one evaluation, or two with guidance. An autoregressive step is a frame.

    Of note templates 0: what a window costs depends on how many of its notes are new.
    """
    if config.is_templates:
        return 0.0
    if config.is_autoregressive:
        return decoder_flops(config, n_keys, 1, (WINDOW_FRAMES + 1) / 2)
    if guidance == 1.0:
        return decoder_flops(config, n_keys)
    blind = decoder_flops(config, None)
    return blind if guidance == 0.0 else blind + decoder_flops(config, n_keys)


def mean_flops_of_step(config: ModelConfig, n_keys: float, sampling: Sampling) -> float:
    """Operations of one step in the mean over all of them, some of which may be unguided or reuse inner features."""
    if not config.denoises:
        return flops_of_step(config, n_keys, sampling.guidance)
    steps = find_schedule(sampling.schedule)(sampling.steps)
    weights = step_weights(steps, sampling.guidance, sampling.guidance_interval)
    ends = replace(config, n_decoder_layers=min(2, config.n_decoder_layers))
    reuses = reusing_steps(weights, sampling.reuse_every)
    return statistics.fmean(
        flops_of_step(ends if is_reusing else config, n_keys, weight)
        for weight, is_reusing in zip(weights, reuses, strict=True)
    )


def random_voice(name: str, dtype: Precision) -> Voice:
    """A voice of a known size whose weights are random: as fast as the real one, and nothing to download.

    ``dtype``: of the weights in memory, as in :func:`~specdiff_cli.weights.load.load_voice`.

    Raises:
        UsageError: not the name of a known size.
    """
    if name == "tiny":
        tiny = load_voice("tiny")
        config, sampling, prefers_bfloat16 = tiny.network.config, tiny.sampling, tiny.prefers_bfloat16
    elif name in REFERENCE_CONFIGS:
        config = REFERENCE_CONFIGS[name]
        sampling, prefers_bfloat16 = Sampling(20, "dpm++2m", "magenta"), False
    else:
        known = ", ".join(["tiny", *REFERENCE_CONFIGS])
        what = Option("random_weights"), " ", Option("model", name)
        raise UsageError(*what, f": the known sizes are {known}", option="model", value=name)
    network: Network
    if not config.denoises:
        network, (sampling, _) = build_network(config), FIXED_SAMPLING[config.kind]
    else:
        with without_storage():
            network = SpectrogramDiffusion(config)
        # Made in the precision that is asked for: base in float32 would need 1.6 GB before anything begins.
        network = network.to(chosen_dtype(dtype, prefers_bfloat16)).to_empty(device="cpu")
    _fill_randomly(network.eval())
    return Voice(
        name=f"{name} (random weights)",
        folder=Path(),
        network=network,
        sampling=sampling,
        vocoder=VocoderSpec("griffin-lim"),
        prefers_bfloat16=prefers_bfloat16,
    )


def _fill_randomly(network: Network) -> None:
    """Normal values of each layer's proper size. One block of them is repeated: 400 million draws take long."""
    block = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))  # a prime: no two rows are alike
    for name, parameter in network.named_parameters():
        scale = parameter.shape[-1] ** -0.5
        if name.endswith("attention.q.weight"):
            scale *= network.config.d_kv**-0.5  # as in trained ones, since attention itself does not scale
        for piece in torch.split(parameter.data.view(-1), len(block)):
            piece.copy_(torch.ones(len(piece)) if parameter.ndim == 1 else scale * block[: len(piece)])


def dense_notes(duration_s: float) -> list[Note]:
    """A piece for measuring: an even stream of overlapping piano notes."""
    return [
        Note(i / NOTES_PER_SECOND, min((i + 2.5) / NOTES_PER_SECOND, duration_s), 36 + i * 7 % 48, 80, 0, False)
        for i in range(int(duration_s * NOTES_PER_SECOND))
    ]


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
        self, notes: Sequence[PlayedNote], seed: int = 0, expected: Callable[[int, int], Tensor] | None = None
    ) -> "TimedStream":
        """As the vocoder does."""
        with self._watch.measure("vocoder"):
            return TimedStream(self._watched.open(notes, seed, expected), self._watch)


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


def measure(
    load: Callable[[], tuple[Synthesizer, Sampling]],
    read: Callable[[], Sequence[Note]],
    duration_s: float,
    batch: int = 1,
    on_message: Callable[[str], None] | None = None,
) -> Report:
    """Load a voice, render ``batch`` copies of a piece in lockstep, and report.

    Args:
        load: makes the synthesizer and says how to sample; its time counts towards the first sound.
        read: makes the notes of the piece, as :func:`dense_notes` or a MIDI file does.
        duration_s: of the piece.
        batch: how many copies advance together.
        on_message: called with a line for the user when so many do not fit into memory.
    """
    start_s = time.perf_counter()
    synthesizer, sampling = load()
    load_s = time.perf_counter() - start_s
    notes = read()
    next(iter(synthesizer.stream(notes, duration_s, sampling)))
    first_sound_s = time.perf_counter() - start_s
    songs = [Song(index, notes, duration_s, seed=index) for index in range(batch)]
    _warm_up(synthesizer, songs, sampling, on_message)
    plain_s = None
    if synthesizer.overlap:  # what runs side by side can be watched only one after the other, below
        plain_s = _render(songs, synthesizer, sampling, Stopwatch(synthesizer.device))
    watch = Stopwatch(synthesizer.device)
    with watch.measure("midi"):
        read()
        for song in songs if not synthesizer.config.is_templates else ():
            list(tokenize(song.notes, total_s=song.duration_s))
    with _watched(synthesizer, watch) as network:
        watched_s = _render(songs, synthesizer, sampling, watch)
    parts = {name: watch.seconds[name] for name in PARTS}
    parts[REST] = max(0.0, watched_s - sum(parts.values()))
    n_keys = sum(network.key_counts) / len(network.key_counts)
    render_s = plain_s or watched_s
    flops = batch * mean_flops_of_step(synthesizer.config, n_keys, sampling)
    return Report(
        voice=synthesizer.voice.name,
        vocoder=synthesizer.vocoder.name,
        device=str(synthesizer.device),
        dtype=str(synthesizer.dtype).removeprefix("torch."),
        processor=describe_processor(),
        n_threads=torch.get_num_threads(),
        batch=batch,
        steps=sampling.steps,
        sampler=str(sampling.sampler),
        schedule=str(sampling.schedule),
        guidance=sampling.guidance,
        reuse_every=sampling.reuse_every,
        audio_s=batch * duration_s,
        render_s=render_s,
        times_realtime=batch * duration_s / render_s,
        step_s=parts["decoder"] / watch.calls["decoder"],
        window_s=render_s / synthesizer.count_windows(duration_s),
        share={name: value / sum(parts.values()) for name, value in parts.items()},
        first_sound_s=first_sound_s,
        load_s=load_s,
        peak_memory_bytes=peak_memory_bytes(),
        peak_device_bytes=_peak_device_bytes(synthesizer.device),
        n_keys=n_keys,
        step_flops=flops,
        flops_per_s=flops * watch.calls["decoder"] / parts["decoder"],
        matmul_flops_per_s=matmul_flops_per_s(synthesizer.config, batch, synthesizer.device, synthesizer.dtype),
    )


def _warm_up(
    synthesizer: Synthesizer,
    songs: Sequence[Song[int]],
    sampling: Sampling,
    on_message: Callable[[str], None] | None,
) -> None:
    """Compiled code specialises in its first calls with a batch of this shape."""
    few = sampling if not synthesizer.config.denoises else replace(sampling, steps=min(sampling.steps, 3))
    starts = [replace(song, duration_s=min(song.duration_s, 2 * WINDOW_S)) for song in songs]
    _render(starts, synthesizer, few, Stopwatch(synthesizer.device), on_message)


def _writer(path: Path, synthesizer: Synthesizer) -> AtomicWriter:
    return AtomicWriter(path, sample_rate_hz=synthesizer.sample_rate_hz, n_channels=synthesizer.n_channels)


def _render(
    songs: Sequence[Song[int]],
    synthesizer: Synthesizer,
    sampling: Sampling,
    watch: Stopwatch,
    on_message: Callable[[str], None] | None = None,
) -> float:
    """Render songs in lockstep to files in a temporary folder; returns the seconds it took."""
    start_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_files:
        writers = [open_files.enter_context(_writer(Path(folder) / f"{song.key}.wav", synthesizer)) for song in songs]
        for piece in synthesizer.stream_many(songs, sampling, batch=len(songs), on_message=on_message):
            if piece.error is not None:
                raise piece.error
            with watch.measure("disk"):
                writers[piece.key].write(piece.audio)
        with watch.measure("disk"):
            open_files.close()
    return time.perf_counter() - start_s


@contextmanager
def _watched(
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
    watched: Vocoder | NoteVocoder
    if isinstance(vocoder, NoteVocoder):
        watched = TimedNoteVocoder(vocoder, watch)
    else:
        watched = TimedVocoder(vocoder, watch)
    synthesizer.network, synthesizer.vocoder, synthesizer.overlap = timed, watched, False
    try:
        yield timed
    finally:
        synthesizer.network, synthesizer.vocoder, synthesizer.overlap = network, vocoder, overlap


def matmul_flops_per_s(config: ModelConfig, batch: int, device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of plain matrix products of the shapes that the decoder's layers have."""
    rows, width = batch * (1 if config.is_autoregressive else WINDOW_FRAMES), config.n_heads * config.d_kv
    shapes = [(config.d_model, 3 * width), (width, config.d_model), (config.d_model, 2 * config.d_ff)]
    shapes.append((config.d_ff, config.d_model))
    flops = seconds = 0.0
    with torch.inference_mode():
        for n_inputs, n_outputs in shapes:
            x = torch.ones(rows, n_inputs, device=device, dtype=dtype)
            weight = torch.ones(n_outputs, n_inputs, device=device, dtype=dtype)
            if dtype == torch.int8:
                once_s = _seconds_of(partial(torch._int_mm, x, weight.t()), device)
            else:
                once_s = _seconds_of(partial(functional.linear, x, weight), device)
            flops += 2.0 * rows * n_inputs * n_outputs
            seconds += once_s
    return flops / seconds


def _seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Median time of one call, over about MATMUL_S seconds."""
    watch = Stopwatch(device)
    for _ in range(3):
        action()
    times_s: list[float] = []
    while sum(times_s) < MATMUL_S:
        with watch.measure("all"):
            for _ in range(N_TOGETHER):
                action()
        times_s.append(watch.seconds["all"] - sum(times_s))
    return statistics.median(times_s) / N_TOGETHER


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others kibibytes


def _peak_device_bytes(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None

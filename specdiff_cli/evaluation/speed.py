"""How fast a voice renders on this machine, and where the time goes."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from specdiff_cli.audio.wav import AtomicWriter
from specdiff_cli.constants import N_MELS, WINDOW_FRAMES, WINDOW_S
from specdiff_cli.diffusion.guidance import step_weights
from specdiff_cli.diffusion.reuse import reusing_steps
from specdiff_cli.diffusion.sampling import Sampling
from specdiff_cli.diffusion.schedules import find_schedule
from specdiff_cli.engine.synthesizer import Song, Synthesizer
from specdiff_cli.evaluation.processor import describe_processor
from specdiff_cli.evaluation.speed_report import Report
from specdiff_cli.evaluation.stopwatch import Stopwatch, watched
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import tokenize
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.note_frames import NoteFrames
from specdiff_cli.model.products import product

MATMUL_S = 0.2  # how long each reference product is repeated
N_TOGETHER = 4  # products between two looks at the clock
PARTS = ("encoders", "decoder", "vocoder", "midi", "disk")
REST = "sampler"  # and all that is not counted elsewhere


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
    with watched(synthesizer, watch) as network:
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
        sample_rate_hz=synthesizer.sample_rate_hz,
        n_channels=synthesizer.n_channels,
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
    """Render songs in lockstep to files in a temporary folder; returns the seconds it took.

    Note templates remember nothing of an earlier render: a user's song is a new one.
    """
    if isinstance(synthesizer.network, NoteFrames):
        synthesizer.network.forget()
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
                once_s = _seconds_of(partial(product(weight), x), device)
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

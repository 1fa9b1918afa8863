"""Pieces by the U-Net, written as the original writes them: 60 beats per minute, one piano, one loudness."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from specdiff_cli.composing.bundle import Composer
from specdiff_cli.composing.jobs import Advance, Made, Order, in_batches, rng_of
from specdiff_cli.composing.requests import Conditions
from specdiff_cli.composing.triples import Floats, notes_of
from specdiff_cli.composing.unet import N_DIFFUSION_STEPS, STRIDE, TRIPLE, UnetConfig, sample
from specdiff_cli.errors import Option, UsageError, listed
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.writer import TICKS_PER_BEAT, midi_bytes

DEFAULT_STEPS = 100
DEFAULT_TEMPO_BPM = 60.0
VELOCITY = 100


def make_unet_pieces(
    composer: Composer, order: Order, n: int, batch: int, advance: Advance
) -> Iterator[tuple[int, Made]]:
    """(index, piece) of ``n`` pieces. Raises UsageError for what this model cannot do."""
    _check(composer, order)
    n_steps = order.n_steps or DEFAULT_STEPS
    width = -(-order.n_notes // STRIDE) * STRIDE
    low, high = composer.network.low.double().numpy(), composer.network.high.double().numpy()

    def make(indices: list[int]) -> list[Made]:
        rngs = [rng_of(order, index) for index in indices]

        def draw() -> torch.Tensor:
            return torch.from_numpy(np.stack([rng.standard_normal((width, TRIPLE)) for rng in rngs])).float()

        noise = draw() * order.temperature
        fresh = [draw() for _ in range(n_steps)] if n_steps == N_DIFFUSION_STEPS else None
        share = len(indices) / n_steps
        rows = sample(composer.network, noise, n_steps, fresh, lambda done: advance(done * share)).double().numpy()
        return [_made(row[: order.n_notes] * (high - low) + low, composer.network.config, order) for row in rows]

    yield from in_batches(n, batch, make)


def _check(composer: Composer, order: Order) -> None:
    trained = int(composer.about.get("n_notes", 128))
    if order.songs.chosen:
        option = next(iter(order.songs.chosen))
        rule = f": {composer.name} is a U-Net, which composes whole pieces alone"
        raise UsageError(Option(option), rule, option=option)
    if replace(order.conditions, tempo_bpm=None) != Conditions():
        conditions = listed(map(Option, ("key", "metre", "density")))
        raise UsageError(*conditions, f": {composer.name} is a U-Net, which knows none of them")
    if order.n_notes > trained:
        rule = f"{composer.name} learnt pieces of {trained} notes; ask for no more"
        raise UsageError.of("notes", order.n_notes, rule)
    if order.dtype == "bfloat16":
        rule = f"{composer.name} is a U-Net, which computes in float32; leave it out"
        raise UsageError.of("dtype", order.dtype, rule)
    if order.n_steps is not None and order.n_steps > N_DIFFUSION_STEPS:
        raise UsageError.of("steps", order.n_steps, f"{composer.name} has {N_DIFFUSION_STEPS} steps")


def _made(triples: Floats, config: UnetConfig, order: Order) -> Made:
    pitches, durations, deltas = notes_of(triples, config)
    tempo_bpm = order.conditions.tempo_bpm or DEFAULT_TEMPO_BPM
    starts, ends = _ticks(pitches, durations, deltas)
    seconds = 60 / tempo_bpm / TICKS_PER_BEAT
    notes = [
        Note(start * seconds, end * seconds, int(pitch), VELOCITY, order.programs[1], is_drum=False)
        for start, end, pitch in zip(starts, ends, pitches, strict=True)
    ]
    data = midi_bytes(notes, beats_per_minute=tempo_bpm)
    return Made(data, len(notes), max(ends) * seconds, f"{tempo_bpm:g} beats per minute", {"tempo_bpm": tempo_bpm})


def _ticks(
    pitches: "np.ndarray[tuple[int], np.dtype[np.int64]]", durations: Floats, deltas: Floats
) -> tuple[list[int], list[int]]:
    """Starts and ends; a key that sounds is let go before it is struck again."""
    starts: list[int] = []
    ends: list[int] = []
    last: dict[int, int] = {}
    beat = 0.0
    for index, (pitch, duration, delta) in enumerate(zip(pitches.tolist(), durations, deltas, strict=True)):
        beat += float(delta) if index else 0.0
        start = round(beat * TICKS_PER_BEAT)
        before = last.get(pitch)
        if before is not None:
            start = max(start, starts[before] + 1)
            ends[before] = min(ends[before], start)
        starts.append(start)
        ends.append(start + max(1, round(float(duration) * TICKS_PER_BEAT)))
        last[pitch] = index
    return starts, ends

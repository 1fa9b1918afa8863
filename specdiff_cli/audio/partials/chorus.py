"""The sound of many notes at once: their stretches of a block lie under each other as rows of a few large tensors."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from specdiff_cli.audio.partials.noise import NoiseBank
from specdiff_cli.audio.partials.oscillators import BEND_STEP, Name, Oscillators, whole_hz
from specdiff_cli.audio.partials.sounds import Sound

ONSET_S = 0.003  # the ramp at an onset
ROWS_AT_ONCE = 4096  # some megabytes
OTHER_NOISE = 7_001  # added to the seed
PARTIALS_ALIKE = 8  # notes are computed together whose numbers of partials are equal in these steps

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Timbre:
    """A note's sound as it is read for many notes at once.

    ``ages_s`` (F,): of the levels; ``levels`` (F, W + B) float32: of W >= K partials and of the noise bands;
    ``whole_hz`` (W,): see ``oscillators``; ``name``: of its K frequencies.
    """

    ages_s: Floats
    levels: Tensor
    whole_hz: Tensor
    frequencies_hz: Tensor
    name: Name

    @classmethod
    def of(cls, sound: Sound) -> "Timbre":
        """The sound with its partials filled up with silent ones."""
        name = (float(sound.n_partials), *sound.frequencies_hz[[0, -1]].tolist()) if sound.n_partials else ()
        frequencies = functional.pad(whole_hz(sound.frequencies_hz), (0, -sound.n_partials % PARTIALS_ALIKE))
        levels = widened(sound.levels, sound.n_partials)
        return cls(sound.ages_s.numpy(), levels, frequencies.to(levels.device), sound.frequencies_hz, name)

    @property
    def n_columns(self) -> int:
        """W."""
        return len(self.whole_hz)


@dataclass(frozen=True)
class Fading:
    """What the end of a note multiplies its levels by: (P,) seconds since the end, (P, W + B) logarithms, and for how
    long it is heard after it."""

    since_end_s: Floats
    log_gains: Tensor
    tail_s: float


@dataclass(frozen=True)
class Stretch:
    """One note, or one side of it, between two knots of a block; J knots, both included.

    ``first``: knot of the block; ``onset``: in samples after the block's start. ``turned``: (J,) int64, how far a tone
    of 1 Hz has turned (``whole_seconds``). ``semitones``: how much higher it lies, (J,) where that changes. ``phases``
    (W,) int64. ``gains`` (J,): where they change; ``sides``: a factor for each channel.
    """

    timbre: Timbre
    fading: Fading
    first: int
    onset: float
    ages_s: Floats
    rests_s: Floats
    turned: NDArray[np.int64]
    semitones: float | Floats
    phases: Tensor
    gains: Floats | None
    sides: tuple[float, ...]

    @property
    def group(self) -> tuple[Name, float]:
        """Stretches of one group share a table."""
        return self.timbre.name, self.semitones if isinstance(self.semitones, float) else float("inf")


def widened(columns: Tensor, n_partials: int) -> Tensor:
    """(J, K + B) with silent partials after the K, as ``Timbre`` has them."""
    missing = -n_partials % PARTIALS_ALIKE
    if not missing:
        return columns
    silent = columns.new_zeros(len(columns), missing)
    return torch.cat([columns[:, :n_partials], silent, columns[:, n_partials:]], dim=1)


@dataclass(frozen=True)
class _Openings:
    """The first two hops of notes that begin, M in all.

    ``rows`` (M,): of the knots where these hops begin; ``after`` (M,): by how many samples they begin after the onsets
    (less than 0 where the onset lies within); ``hops`` (M,): in the block; ``is_second`` (M,): not the onset's hop
    but the one after it. ``notes``: index of the stretch, its first hop, first of its entries in these, and how many.
    """

    rows: Tensor
    after: Tensor
    hops: Tensor
    is_second: Tensor
    notes: list[tuple[int, int, int, int]]


class Chorus:
    """Adds up the stretches of a block of a song.

    A note's first two hops are made by themselves, since onsets lie between knots: silence, and then a short ramp.

    Args:
        oscillators, bank: of the sampling rate.
        n_channels, n_knots: of the block; hops in it.
        first_knot: since the start of the song.
        seed: of the noise.
    """

    def __init__(
        self, oscillators: Oscillators, bank: NoiseBank, n_channels: int, n_knots: int, first_knot: int, seed: int
    ) -> None:
        self._oscillators, self._bank, self._device = oscillators, bank, oscillators.device
        self._hop, self._n_knots = oscillators.hop_samples, n_knots
        self._first_knot, self._seed = first_knot, seed
        self._around = torch.zeros(2, n_channels, n_knots + 1, self._hop, device=self._device)
        self._opened = torch.zeros(2, n_channels, n_knots, self._hop, device=self._device)
        #: Variance of the noise at the hops' beginnings and ends, (2, C, n_knots, B).
        self.variance = torch.zeros(2, n_channels, n_knots, bank.n_bands, device=self._device)
        self._ramp_samples = ONSET_S * oscillators.rate_hz

    def samples(self) -> Tensor:
        """Partials and noise of all notes, (2, C, n_knots * hop)."""
        parts = self._opened.flatten(2)
        parts[0] += self._oscillators.joined(self._around)
        parts[1] += self._bank.render(self.variance.sqrt(), self._first_knot, self._seed)
        return parts

    def add(self, stretches: Sequence[Stretch]) -> None:
        """Add notes; the order does not matter but for rounding."""
        by_width: dict[int, list[Stretch]] = {}
        for stretch in stretches:
            by_width.setdefault(stretch.timbre.n_columns, []).append(stretch)
        for n_columns, alike in by_width.items():
            for some in _in_batches(sorted(alike, key=lambda stretch: stretch.group)):
                self._add(some, n_columns)

    def _add(self, some: Sequence[Stretch], n_columns: int) -> None:
        starts = np.cumsum([0, *(len(stretch.ages_s) for stretch in some)]).tolist()
        levels = self._levels(some, starts)
        around = self._rendered(some, starts, self._waves(some, starts, levels[:, :n_columns])) if n_columns else None
        at_start = levels[:, n_columns:].square()
        at_end = at_start
        openings = self._openings(some, starts)
        if openings is not None:
            self._open(openings, some, around, levels[:, n_columns:])
            at_end = at_start.clone()
            at_start[openings.rows] = 0
            at_end[openings.rows + 1] *= openings.is_second[:, None]  # in the second hop the shared noise comes in
        for stretch, start, end in zip(some, starts, starts[1:], strict=False):
            hops = slice(stretch.first, stretch.first + end - start - 1)
            knots = slice(hops.start, hops.stop + 1)
            for channel, side in enumerate(stretch.sides):
                if side:
                    self.variance[0, channel, hops].add_(at_start[start : end - 1], alpha=side * side)
                    self.variance[1, channel, hops].add_(at_end[start + 1 : end], alpha=side * side)
                    if around is not None:
                        self._around[:, channel, knots].add_(around[:, start:end], alpha=side)

    def _levels(self, some: Sequence[Stretch], starts: Sequence[int]) -> Tensor:
        """(R, W + B) levels at the knots of all stretches."""
        levels = self._read((it.timbre.ages_s, it.timbre.levels, it.ages_s) for it in some)
        gains = [stretch.gains for stretch in some]
        if any(gain is not None for gain in gains):
            parts = [np.ones(end - start) for start, end in zip(starts, starts[1:], strict=False)]
            factors = np.concatenate([ones if gain is None else gain for gain, ones in zip(gains, parts, strict=True)])
            levels *= self._sent(factors.astype(np.float32))[:, None]
        self._fade(some, levels)
        return levels

    def _fade(self, some: Sequence[Stretch], levels: Tensor) -> None:
        """Multiply levels by what the ends of the notes do; before these that is nothing."""
        if not any(stretch.rests_s[-1] > stretch.fading.since_end_s[0] for stretch in some):
            return
        gains = self._read((it.fading.since_end_s, it.fading.log_gains, it.rests_s) for it in some).exp_()
        heard = np.concatenate([it.rests_s < it.fading.tail_s for it in some])
        levels *= gains.mul_(self._sent(heard.astype(np.float32))[:, None])

    def _read(self, curves: Iterable[tuple[Floats, Tensor, Floats]]) -> Tensor:
        """Curves at times between their points, under each other: (seconds of the points, points, wanted seconds)."""
        tables, index, between = [], [], []
        n_points = 0
        for points_s, points, wanted_s in curves:
            below, share, low, high = _places(points_s, wanted_s)
            tables.append(points[low:high])
            index.append(below + (n_points - low))
            between.append(share)
            n_points += high - low
        first, shares = self._sent(np.concatenate(index)), self._sent(np.concatenate(between))
        table = torch.cat(tables)
        return table.index_select(0, first).lerp_(table.index_select(0, first + 1), shares[:, None])

    def _waves(self, some: Sequence[Stretch], starts: Sequence[int], amplitudes: Tensor) -> tuple[Tensor, Tensor]:
        """Twice (R, W): amplitudes times cosines and sines of the phases."""
        turns = torch.empty(amplitudes.shape, dtype=torch.int64, device=self._device)
        turned = self._sent(np.concatenate([stretch.turned for stretch in some]))[:, None]
        for stretch, start, end in zip(some, starts, starts[1:], strict=False):
            own = turns[start:end]
            torch.mul(turned[start:end], stretch.timbre.whole_hz, out=own)
            own += stretch.phases
        angles = self._oscillators.angles(turns)
        cosines = angles.cos().mul_(amplitudes)
        return cosines, angles.sin_().mul_(amplitudes)

    def _rendered(self, some: Sequence[Stretch], starts: Sequence[int], waves: tuple[Tensor, Tensor]) -> Tensor:
        """(2, R, hop) even and odd parts around the knots."""
        around = torch.empty(2, starts[-1], self._hop, device=self._device)
        place = 0
        for (name, semitones), alike in groupby(some, lambda stretch: stretch.group):
            members = list(alike)
            start, end = starts[place], starts[place + len(members)]
            place += len(members)
            own, out = (waves[0][start:end], waves[1][start:end]), around[:, start:end]
            frequencies_hz = members[0].timbre.frequencies_hz
            if semitones < float("inf"):
                self._oscillators.render(own, name, frequencies_hz, semitones, out)
                continue
            steps = np.rint(np.concatenate([np.asarray(member.semitones) for member in members]) / BEND_STEP)
            for step in np.unique(steps):
                rows = self._sent(np.flatnonzero(steps == step))
                part = out.new_empty(2, len(rows), self._hop)
                waves_of_step = own[0].index_select(0, rows), own[1].index_select(0, rows)
                self._oscillators.render(waves_of_step, name, frequencies_hz, float(step) * BEND_STEP, part)
                out.index_copy_(1, rows, part)
        return around

    def _openings(self, some: Sequence[Stretch], starts: Sequence[int]) -> _Openings | None:
        """The hops in which notes begin; None if there are none."""
        rows: list[int] = []
        after, hops, second, notes = [], [], [], []
        for index, (stretch, start) in enumerate(zip(some, starts, strict=False)):
            onset = math.floor(stretch.onset / self._hop)
            first, end = max(onset, 0), min(onset + 2, stretch.first + len(stretch.ages_s) - 1)
            if first < end:
                notes.append((index, first, len(rows), end - first))
            for hop in range(first, end):
                rows.append(start + hop - stretch.first)
                after.append(hop * self._hop - stretch.onset)
                hops.append(hop)
                second.append(hop > onset)
        if not rows:
            return None
        columns = (np.array(rows), np.array(after, dtype=np.float32), np.array(hops), np.array(second))
        sent, after_samples, in_block, is_second = map(self._sent, columns)
        return _Openings(sent, after_samples, in_block, is_second, notes)

    def _open(self, openings: _Openings, some: Sequence[Stretch], around: Tensor | None, noise: Tensor) -> None:
        """Make these hops, and take their partials out of what lies (2, R, hop) around knots."""
        rows = openings.rows
        ends = torch.stack([noise.index_select(0, rows), noise.index_select(0, rows + 1)])
        # other noise than the shared one, into which it fades: a step there would be heard
        knots = openings.hops + self._first_knot
        begun = knots - openings.is_second.long()
        opening_noise = self._bank.at(ends[:, None], knots, begun, self._seed + OTHER_NOISE)[0]
        time = torch.arange(self._hop, device=self._device)
        opening_noise *= torch.where(openings.is_second[:, None], (time * (math.pi / 2 / self._hop)).cos(), 1.0)
        opened = torch.stack([torch.zeros_like(opening_noise), opening_noise])
        if around is not None:
            even, odd = around.index_select(1, rows)
            later, earlier = around.index_select(1, rows + 1)
            opened[0] += even + odd
            opened[0, :, 1:] += (later - earlier)[:, 1:].flip(1)
            half = (later + earlier) / 2
            around[:, rows + 1] = torch.stack([half, half])  # what lies after the knot stays
            around[:, rows] = 0
        x = ((openings.after[:, None] + time) / self._ramp_samples).clamp(0, 1)
        opened *= x * x * (3 - 2 * x)
        for index, hop, first, n_hops in openings.notes:
            place = slice(hop, hop + n_hops)
            for channel, side in enumerate(some[index].sides):
                self._opened[:, channel, place].add_(opened[:, first : first + n_hops], alpha=side)

    def _sent(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._device)


def _places(points: Floats, wanted: Floats) -> tuple[NDArray[np.int64], NDArray[np.float32], int, int]:
    """Where rising values lie between rising points: the point below and the share of the next one, and the slice of
    points that is needed."""
    below = np.searchsorted(points[1:-1], wanted)
    low = points[below]
    share = np.minimum(np.maximum((wanted - low) / (points[below + 1] - low), 0), 1).astype(np.float32)
    return below, share, int(below[0]), int(below[-1]) + 2


def _in_batches(stretches: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    batch: list[Stretch] = []
    n_rows = 0
    for stretch in stretches:
        if batch and n_rows + len(stretch.ages_s) > ROWS_AT_ONCE:
            yield batch
            batch, n_rows = [], 0
        batch.append(stretch)
        n_rows += len(stretch.ages_s)
    if batch:
        yield batch

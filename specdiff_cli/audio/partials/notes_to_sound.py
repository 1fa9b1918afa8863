"""A song's notes to sound, block after block, before any correction."""

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from specdiff_cli.audio.partials.chorus import Chorus, Fading, Floats, Stretch, Timbre, widened
from specdiff_cli.audio.partials.noise import noise_bank, scramble
from specdiff_cli.audio.partials.oscillators import Oscillators, whole_seconds, whole_turns
from specdiff_cli.audio.partials.responses import TOP_HZ
from specdiff_cli.audio.partials.score import PlayedNote, Timbres, Vibrato, pitch_hz
from specdiff_cli.audio.partials.sounds import AS_MEASURED, FRAME_S, Sound, Splitter, find_tones, nearest, snapped

#: Samples between knots, where levels and phases are computed: 3 to 5 ms, and whole in a frame's hop of 20 ms.
HOPS = {16_000: 80, 44_100: 147, 48_000: 160}
LOOK_AHEAD_S = 1.0  # sounds of held notes are asked for in pieces of this
MAX_SOUNDS = 512
LOG_INAUDIBLE = math.log(2.0**-16)  # of an amplitude: half of a 16-bit file's last bit, where released notes end
N_PHASES = 1 << 14  # drawn once; notes begin at different places


@dataclass
class _Sounding:
    """A note that has begun, and how far its phase has come."""

    note: PlayedNote
    phases: Tensor  # (W,) int64 at the onset
    vibrato: Vibrato | None
    semitones: float | None  # where it stands still throughout
    gains: Floats | None  # (C, 1) where they stand still throughout
    fading: Fading
    turned_s: float = 0.0  # integral of the pitch ratio from the onset to the next block
    has_turned: bool = False

    @property
    def heard_until_s(self) -> float:
        return min(self.note.end_s + self.fading.tail_s, self.note.cut_s)


@dataclass(frozen=True)
class _Known:
    """What is known of how a note sounds; ``phases``: places of partials, and their turns at the onset."""

    sound: Sound
    timbre: Timbre
    phases: tuple[Tensor, Tensor] | None


class NotesToSound:
    """Renders the notes of one song in order; memory holds what sounds now.

    Args:
        notes: in any order.
        timbres: how they sound by themselves.
        rate_hz: one of ``HOPS``.
        n_channels: 1 (the mean of both sides) or 2.
        seed: of the partials' phases and the noise.
    """

    def __init__(
        self,
        notes: Sequence[PlayedNote],
        timbres: Timbres,
        *,
        rate_hz: int,
        n_channels: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.rate_hz, self.n_channels, self.device = rate_hz, n_channels, device
        self.hop_samples = HOPS[rate_hz]
        self._seed = seed
        self._timbres = timbres
        self._waiting = sorted(notes, key=lambda note: note.start_s)[::-1]
        self._sounding: list[_Sounding] = []
        self._sounds: OrderedDict[Hashable, _Known] = OrderedDict()
        self._splitter = Splitter(min(TOP_HZ, rate_hz / 2), device)
        self._bank = noise_bank(rate_hz, self.hop_samples, self._splitter.top_hz, device)
        self._oscillators = Oscillators(rate_hz, self.hop_samples, device)
        self._fadings: OrderedDict[Hashable, Fading] = OrderedDict()
        self._next_knot = 0

    def render(self, n_knots: int, more_noise: Tensor | None = None) -> Tensor:
        """Partials and noise of the next ``n_knots`` hops of the song, (2, C, n_knots * hop) float32 on the device.

        ``more_noise`` (n_knots + 1, B): variance of noise per band to be added, placed in the middle.
        """
        first = self._next_knot
        self._next_knot += n_knots
        knots_s = np.arange(first, self._next_knot + 1, dtype=np.float64) * (self.hop_samples / self.rate_hz)
        begun = []
        while self._waiting and self._waiting[-1].start_s < knots_s[-1]:
            begun.append(self._waiting.pop())
        self._make_sounds((note, min(note.end_s - note.start_s, LOOK_AHEAD_S)) for note in begun)
        self._sounding += [self._begun(note) for note in begun]
        spans = [(it, self._span(it, first, n_knots)) for it in self._sounding]
        self._make_sounds((it.note, float(knots_s[span[1]]) - it.note.start_s) for it, span in spans if span)
        chorus = Chorus(self._oscillators, self._bank, self.n_channels, n_knots, first, self._seed)
        if more_noise is not None:
            chorus.variance += torch.stack([more_noise[:-1], more_noise[1:]])[:, None]
        chorus.add([part for it, span in spans if span for part in self._stretches(it, span, first, knots_s)])
        self._sounding = [sounding for sounding in self._sounding if sounding.heard_until_s > knots_s[-1]]
        return chorus.samples()

    def _begun(self, note: PlayedNote) -> _Sounding:
        known = self._sound(note, min(note.end_s - note.start_s, LOOK_AHEAD_S))
        timbre, fading = known.timbre, self._fading(note, known.sound)
        identity = round(note.start_s * 1e6) + 1_009 * note.key + 150_001 * note.instrument + 104_729 * self._seed
        place = scramble(identity) % (N_PHASES - timbre.n_columns)
        phases = _phases(self.device)[place : place + timbre.n_columns]
        if known.phases is not None:
            phases = phases.index_copy(0, *known.phases)
        span = note.start_s, note.end_s + fading.tail_s
        vibrato = self._timbres.vibrato(note)
        expression = note.expression
        semitones, gains = None, None
        curves = () if expression is None else (expression.gain, expression.pan)
        if note.cut_s >= span[1] and not any(curve.changes_within(*span) for curve in curves):
            gains = _gains(note, np.array([note.start_s]), self.n_channels)
        if vibrato is None and not note.moves_within(*span):
            semitones = note.semitones_at(note.start_s)
        return _Sounding(note, phases, vibrato, semitones, gains, fading)

    def _known_phases(self, note: PlayedNote, sound: Sound) -> tuple[Tensor, Tensor] | None:
        """Which partials of a sound have known phases at the onset, and these; None if none has."""
        turns = self._timbres.phases(note)
        at_hz = self._timbres.partials(note)[: len(turns)] * pitch_hz(note.pitch)
        turns = turns[: len(at_hz)]
        places = nearest(at_hz, sound.frequencies_hz)
        known = (places >= 0) & ~turns.isnan()
        if not bool(known.any()):
            return None
        return places[known].to(self.device), whole_turns(turns[known] % 1.0).to(self.device)

    def _span(self, sounding: _Sounding, first: int, n_knots: int) -> tuple[int, int] | None:
        """First and last knot of a note in a block that begins with knot ``first``; None where it is not heard."""
        begin = max(0, math.floor(self._onset(sounding.note, first)))
        end = min(n_knots, math.ceil(sounding.heard_until_s * self.rate_hz / self.hop_samples) - first)
        return (begin, end) if end > begin else None

    def _onset(self, note: PlayedNote, first: int) -> float:
        """In knots of the block that begins with knot ``first``."""
        return note.start_s * self.rate_hz / self.hop_samples - first

    def _stretches(self, sounding: _Sounding, span: tuple[int, int], first: int, knots_s: Floats) -> list[Stretch]:
        """One note's part of a block: one stretch, or one for each side where the place between them changes."""
        note, (begin, end) = sounding.note, span
        onset = self._onset(note, first)
        times_s = knots_s[begin : end + 1]
        ages_s = times_s - note.start_s
        timbre = self._sound(note, float(ages_s[-1])).timbre
        turned_s, semitones = _turned(sounding, times_s, ages_s)
        gains = _gains(note, times_s, self.n_channels) if sounding.gains is None else sounding.gains
        parts: list[tuple[Floats | None, tuple[float, ...]]] = [(None, tuple(gains[:, 0].tolist()))]
        if sounding.gains is None:
            unit = np.eye(self.n_channels)
            parts = [(gains[channel], tuple(unit[channel].tolist())) for channel in range(self.n_channels)]
        rests_s, turned = times_s - note.end_s, whole_seconds(turned_s)
        shared = ages_s, rests_s, turned, semitones, sounding.phases
        onset_samples = onset * self.hop_samples
        return [Stretch(timbre, sounding.fading, begin, onset_samples, *shared, *part) for part in parts]

    def _make_sounds(self, wanted: Iterable[tuple[PlayedNote, float]]) -> None:
        """See to it that notes are known up to ages, in seconds."""
        missing: dict[Hashable, tuple[PlayedNote, float]] = {}
        for note, until_s in wanted:
            key = _key(note)
            known = self._sounds.get(key)
            if known is None or known.timbre.ages_s[-1] < until_s:
                missing[key] = note, max(until_s, missing.get(key, (note, 0.0))[1])
        # One after the other: steps so small gain nothing on several threads.
        self._sounds.update({key: self._longer(*it) for key, it in missing.items()})

    def _sound(self, note: PlayedNote, until_s: float) -> _Known:
        """How a note sounds up to an age."""
        self._make_sounds([(note, until_s)])  # where it was not among those that were made together
        key = _key(note)
        self._sounds.move_to_end(key)
        if len(self._sounds) > MAX_SOUNDS:
            self._sounds.popitem(last=False)
        return self._sounds[key]

    @torch.inference_mode()
    def _longer(self, note: PlayedNote, until_s: float) -> _Known:
        """A sound that is not known up to an age."""
        known = self._sounds.get(_key(note))
        begins_s, log_power = self._timbres.held(note, until_s + (0.0 if known is None else LOOK_AHEAD_S))
        if known is None:
            sound = self._splitter.split(log_power, begins_s, self._frequencies_hz(note, log_power, begins_s))
            return _Known(sound, Timbre.of(sound), self._known_phases(note, sound))
        sound = known.sound
        is_new = begins_s + FRAME_S / 2 > float(sound.ages_s[-1]) + 1e-6
        if bool(is_new.any()):
            n_known = len(begins_s) - int(is_new.sum())
            sound = self._splitter.extended(sound, log_power[n_known:], begins_s[n_known:])
        return _Known(sound, Timbre.of(sound), known.phases)

    def _frequencies_hz(self, note: PlayedNote, log_power: Tensor, begins_s: Tensor) -> Tensor:
        """Where the partials of a note lie whose frames these are, (K,) float64."""
        partials_hz = self._timbres.partials(note) * pitch_hz(note.pitch)
        if not self._timbres.rings(note):
            return partials_hz
        tones_hz = self._timbres.tones(note) * pitch_hz(note.pitch)
        if len(tones_hz):
            return snapped(tones_hz, partials_hz, AS_MEASURED)
        return snapped(find_tones(log_power, begins_s), partials_hz)

    def _fading(self, note: PlayedNote, sound: Sound) -> Fading:
        key = _key(note), self._timbres.ending(note)
        known = self._fadings.get(key)
        if known is None:
            since_end_s, change, tail_s = self._timbres.released(note)
            log_gains = 0.5 * change @ sound.columns  # of powers to of amplitudes
            since_end_s = since_end_s + FRAME_S / 2
            at_end = min(int(torch.searchsorted(sound.ages_s, note.end_s - note.start_s)), len(sound.ages_s) - 1)
            loudest = (log_gains + sound.levels[at_end].clamp(min=1e-12).log()).amax(1)
            audible = (loudest > LOG_INAUDIBLE).nonzero()[:, 0]
            last = min(int(audible[-1]) + 1, len(since_end_s) - 1) if len(audible) else 0
            tail_s = min(tail_s, max(float(since_end_s[last]), 0.0))
            known = Fading(since_end_s.numpy(), widened(log_gains, sound.n_partials), tail_s)
            self._fadings[key] = known
            if len(self._fadings) > MAX_SOUNDS:
                self._fadings.popitem(last=False)
        return known


@lru_cache(maxsize=2)
def _phases(device: torch.device) -> Tensor:
    """Turns that look random, (N_PHASES,) int64."""
    turns = torch.rand(N_PHASES, dtype=torch.float64, generator=torch.Generator().manual_seed(N_PHASES))
    return whole_turns(turns).to(device)


def _key(note: PlayedNote) -> tuple[float, ...]:
    """What a note's sound is kept under."""
    return note.instrument, note.key, note.velocity, note.pitch


def _gains(note: PlayedNote, times_s: Floats, n_channels: int) -> Floats:
    """Amplitude factors per channel at times, (C, J)."""
    expression = note.expression
    if expression is None:
        gain, pan = np.full(len(times_s), note.gain), np.full(len(times_s), note.pan)
    else:
        gain, pan = expression.gain.sampled(times_s) * note.gain, expression.pan.sampled(times_s)
    angle = math.pi / 4 * (1.0 + pan)
    gain[times_s >= note.cut_s] = 0.0
    sides = np.stack([np.cos(angle), np.sin(angle)]) * math.sqrt(2.0)
    if n_channels == 1:
        sides = sides.mean(0, keepdims=True)
    return np.asarray(sides * gain)


def _turned(sounding: _Sounding, times_s: Floats, ages_s: Floats) -> tuple[Floats, float | Floats]:
    """(J,) how far a tone of 1 Hz has turned at the note's pitch, and by how many semitones that is moved."""
    if sounding.semitones is not None:
        return ages_s * 2.0 ** (sounding.semitones / 12), sounding.semitones
    semitones = _bend(sounding.note, sounding.vibrato, times_s, ages_s)
    ratios = 2.0 ** (semitones / 12)
    steps = (ratios[1:] + ratios[:-1]) / 2 * np.diff(times_s)
    start = sounding.turned_s if sounding.has_turned else float(ratios[0] * ages_s[0])
    turned_s = np.cumsum([start, *steps])
    sounding.turned_s, sounding.has_turned = float(turned_s[-1]), True
    return turned_s, semitones


def _bend(note: PlayedNote, vibrato: Vibrato | None, times_s: Floats, ages_s: Floats) -> Floats:
    """(J,) semitones above the note's pitch."""
    semitones = note.semitones_over(times_s)
    if vibrato is not None:
        since_s = (ages_s - vibrato.delay_s).clip(min=0.0)
        rising = (since_s / 0.2).clip(max=1.0)
        semitones += rising * (vibrato.cents / 100) * np.sin(2 * math.pi * vibrato.rate_hz * since_s)
    return semitones

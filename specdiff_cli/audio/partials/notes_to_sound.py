"""A song's notes to sound, block after block, before any correction."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from specdiff_cli.audio.partials.noise import noise_bank, scramble
from specdiff_cli.audio.partials.oscillators import Oscillators
from specdiff_cli.audio.partials.responses import TOP_HZ
from specdiff_cli.audio.partials.score import Curve, PlayedNote, Timbres, Vibrato, pitch_hz
from specdiff_cli.audio.partials.sounds import FRAME_S, Sound, Splitter, find_tones, snapped

#: Samples between knots, where levels and phases are computed: 3 to 5 ms, and whole in a frame's hop of 20 ms.
HOPS = {16_000: 80, 44_100: 147, 48_000: 160}
ONSET_S = 0.002  # the ramp at an onset
MODULATION_CENTS, MODULATION_HZ = 50.0, 5.5  # General MIDI 2's depth at full modulation
LOOK_AHEAD_S = 1.0  # sounds of held notes are asked for in pieces of this
MAX_SOUNDS = 512
LOG_INAUDIBLE = math.log(1e-6)  # of an amplitude, -120 dB: where released notes end
N_PHASES = 1 << 14  # drawn once; notes begin at different places


@dataclass(frozen=True)
class _Release:
    """(P,) seconds since the note's end, what (P, K + B) levels are multiplied by, as logarithms; heard so long."""

    since_end_s: Tensor
    log_gains: Tensor
    tail_s: float


@dataclass
class _Sounding:
    """A note that has begun, and how far its phase has come."""

    note: PlayedNote
    phases: Tensor  # (K,) turns at the onset, float64
    vibrato: Vibrato | None
    is_bent: bool
    gains: Tensor | None  # (C, 1) where they stand still throughout
    release: _Release
    turned_s: float = 0.0  # integral of the pitch ratio from the onset to the next block
    has_turned: bool = False

    @property
    def heard_until_s(self) -> float:
        return self.note.end_s + self.release.tail_s


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
        self._sounds: OrderedDict[tuple[float, ...], tuple[Sound, Sound]] = OrderedDict()
        self._splitter = Splitter(min(TOP_HZ, rate_hz / 2))
        self._bank = noise_bank(rate_hz, self.hop_samples, self._splitter.top_hz, device)
        self._oscillators = Oscillators(rate_hz, self.hop_samples, device)
        self._releases: OrderedDict[tuple[float, ...], _Release] = OrderedDict()
        self._next_knot = 0

    def render(self, n_knots: int, more_noise: Tensor | None = None) -> Tensor:
        """The next ``n_knots`` hops of the song, (C, n_knots * hop) float32 on the device.

        ``more_noise`` (n_knots + 1, B): variance of noise per band to be added, placed in the middle.
        """
        first = self._next_knot
        self._next_knot += n_knots
        start_s, end_s = (knot * self.hop_samples / self.rate_hz for knot in (first, self._next_knot))
        while self._waiting and self._waiting[-1].start_s < end_s:
            self._sounding.append(self._begun(self._waiting.pop()))
        audio = torch.zeros(self.n_channels, n_knots * self.hop_samples, device=self.device)
        variance = torch.zeros(self.n_channels, n_knots + 1, self._bank.n_bands, device=self.device)
        if more_noise is not None:
            variance += more_noise
        for sounding in self._sounding:
            self._add(sounding, first, n_knots, audio, variance)
        self._sounding = [sounding for sounding in self._sounding if sounding.heard_until_s > end_s]
        return audio + self._bank.render(variance.sqrt(), first, self._seed)

    def _begun(self, note: PlayedNote) -> _Sounding:
        sound, _ = self._sound(note, note.start_s + min(note.end_s - note.start_s, LOOK_AHEAD_S))
        release = self._release(note)
        identity = round(note.start_s * 1e6) + 1_009 * note.key + 150_001 * note.instrument + 104_729 * self._seed
        place = int(scramble(torch.tensor(identity))) % (N_PHASES - sound.n_partials)
        phases = _phases()[place : place + sound.n_partials]
        span = note.start_s, note.end_s + release.tail_s
        vibrato = self._timbres.vibrato(note)
        is_bent = vibrato is not None or (note.glide_semitones != 0 and note.glide_s > 0)
        gains = None
        if note.expression is None or not any(
            curve.changes_within(*span) for curve in (note.expression.gain, note.expression.pan)
        ):
            gains = _gains(note, torch.tensor([note.start_s], dtype=torch.float64), self.n_channels)
        if note.expression is not None:
            curves = note.expression.pitch_semitones, note.expression.modulation
            is_bent |= any(curve.changes_within(*span) for curve in curves)
            is_bent |= bool(_at(note.expression.modulation, note.start_s) > 0)
        return _Sounding(note, phases, vibrato, is_bent, gains, release)

    def _add(self, sounding: _Sounding, first: int, n_knots: int, audio: Tensor, variance: Tensor) -> None:
        """Add one note's part of the block to the (C, n) audio and the (C, n_knots + 1, B) variance."""
        note, hop = sounding.note, self.hop_samples
        begin = max(first, math.floor(note.start_s * self.rate_hz / hop))
        end = min(first + n_knots, math.ceil(sounding.heard_until_s * self.rate_hz / hop))
        if end <= begin:
            return
        times_s = torch.arange(begin, end + 1, dtype=torch.float64) * (hop / self.rate_hz)
        ages_s = times_s - note.start_s
        sound, on_device = self._sound(note, float(times_s[-1]))
        gains = sounding.gains  # (C, J) or (C, 1)
        if gains is None:
            gains = _gains(note, times_s, self.n_channels)
        levels = self._levels(on_device, sounding, times_s, ages_s)
        n_partials = sound.n_partials
        if n_partials:
            cycles, semitones = self._cycles(sounding, sound, times_s, ages_s)
            samples = slice((begin - first) * hop, (end - first) * hop)
            for channel in range(self.n_channels if _varies(gains) else 1):
                amplitudes = levels[:, :n_partials]
                if _varies(gains):
                    amplitudes = amplitudes * gains[channel, :, None].to(self.device)
                frequencies_hz = sound.frequencies_hz
                partials = self._oscillators.render(amplitudes, cycles, frequencies_hz, semitones)
                self._open(partials, note.start_s * self.rate_hz - begin * hop)
                if _varies(gains):
                    audio[channel, samples] += partials
                else:
                    for side in range(self.n_channels):
                        audio[side, samples].add_(partials, alpha=float(gains[side, 0]))
        opening = (ages_s / ONSET_S).clamp(0, 1).float().to(self.device)
        noise = (levels[:, n_partials:] * opening[:, None]).square()
        squares = gains.square().to(self.device)
        variance[:, begin - first : end - first + 1] += noise * squares[:, :, None]

    def _levels(self, sound: Sound, sounding: _Sounding, times_s: Tensor, ages_s: Tensor) -> Tensor:
        """(J, K + B) levels at knots."""
        ages_s = ages_s.to(self.device)
        above = torch.searchsorted(sound.ages_s, ages_s).clamp(1, len(sound.ages_s) - 1)
        low, high = sound.ages_s[above - 1], sound.ages_s[above]
        x = ((ages_s - low) / (high - low)).clamp(0, 1).float()[:, None]
        levels = torch.lerp(sound.levels[above - 1], sound.levels[above], x)
        release = sounding.release
        rest_s = times_s - sounding.note.end_s
        n_held = int(torch.searchsorted(rest_s, float(release.since_end_s[0])))
        if n_held < len(rest_s):
            rest_s = rest_s[n_held:].to(self.device)
            since_end_s = release.since_end_s
            above = torch.searchsorted(since_end_s, rest_s).clamp(1, len(since_end_s) - 1)
            low, high = since_end_s[above - 1], since_end_s[above]
            x = ((rest_s - low) / (high - low)).clamp(0, 1).float()[:, None]
            fading = torch.lerp(release.log_gains[above - 1], release.log_gains[above], x).exp()
            levels[n_held:] *= fading * (rest_s < release.tail_s)[:, None]
        return levels

    def _cycles(
        self, sounding: _Sounding, sound: Sound, times_s: Tensor, ages_s: Tensor
    ) -> tuple[Tensor, Tensor | float]:
        """(J, K) phases in turns, 0 to 1, float32; and the semitones (J,) by which the note is bent, or throughout."""
        note = sounding.note
        turned_s: Tensor
        semitones: Tensor | float
        if not sounding.is_bent:
            semitones = note.tuning_semitones
            if note.expression is not None:
                semitones += _at(note.expression.pitch_semitones, note.start_s)
            turned_s = ages_s * 2.0 ** (semitones / 12)
        else:
            semitones = _bend(note, sounding.vibrato, times_s, ages_s)
            ratios = 2.0 ** (semitones / 12)
            steps = (ratios[1:] + ratios[:-1]) / 2 * (times_s[1:] - times_s[:-1])
            start = sounding.turned_s if sounding.has_turned else float(ratios[0] * ages_s[0])
            turned_s = torch.cat([torch.zeros(1, dtype=torch.float64), steps.cumsum(0)]) + start
            sounding.turned_s, sounding.has_turned = float(turned_s[-1]), True
        cycles = sounding.phases[: sound.n_partials] + sound.frequencies_hz * turned_s[:, None]
        return (cycles - cycles.floor()).float().to(self.device), semitones

    def _open(self, samples: Tensor, onset: float) -> None:
        """Silence before the onset (in samples, fractions count), then a smooth ramp."""
        n_ramp = ONSET_S * self.rate_hz
        n_changed = min(len(samples), math.ceil(onset + n_ramp) + 1)
        if onset > -n_ramp and n_changed > 0:
            x = ((torch.arange(n_changed, device=self.device) - onset) / n_ramp).clamp(0, 1)
            samples[:n_changed] *= x * x * (3 - 2 * x)

    def _sound(self, note: PlayedNote, until_s: float) -> tuple[Sound, Sound]:
        """How a note sounds up to a time of the song, on the CPU and on the device."""
        key = _key(note)
        known = self._sounds.get(key)
        until_s = until_s - note.start_s
        if known is None or float(known[0].ages_s[-1]) < until_s:
            wanted_s = until_s + (0.0 if known is None else LOOK_AHEAD_S)
            begins_s, log_power = (part.cpu() for part in self._timbres.held(note, wanted_s))
            if known is None:
                frequencies_hz = self._timbres.partials(note).cpu().double() * pitch_hz(note.pitch)
                if self._timbres.rings(note):
                    frequencies_hz = snapped(find_tones(log_power, begins_s), frequencies_hz)
                sound = self._splitter.split(log_power, begins_s, frequencies_hz)
            else:
                sound = known[0]
                is_new = begins_s + FRAME_S / 2 > float(sound.ages_s[-1]) + 1e-6
                if bool(is_new.any()):
                    sound = self._splitter.extended(sound, log_power[is_new], begins_s[is_new])
            known = sound, _moved(sound, self.device)
            self._sounds[key] = known
            if len(self._sounds) > MAX_SOUNDS:
                self._sounds.popitem(last=False)
        self._sounds.move_to_end(key)
        return known

    def _release(self, note: PlayedNote) -> _Release:
        begins_s, change, tail_s = self._timbres.released(note)
        sound, _ = self._sound(note, note.start_s)
        key = *_key(note), tail_s, float(change[-1, 0]), sound.n_partials
        known = self._releases.get(key)
        if known is None:
            log_gains = 0.5 * change.cpu() @ sound.columns  # of powers to of amplitudes
            since_end_s = begins_s.double() + FRAME_S / 2
            at_end = min(int(torch.searchsorted(sound.ages_s, note.end_s - note.start_s)), len(sound.ages_s) - 1)
            loudest = (log_gains + sound.levels[at_end].clamp(min=1e-12).log()).amax(1)
            audible = (loudest > LOG_INAUDIBLE).nonzero()[:, 0]
            last = min(int(audible[-1]) + 1, len(since_end_s) - 1) if len(audible) else 0
            tail_s = min(tail_s, max(float(since_end_s[last]), 0.0))
            known = _Release(since_end_s.to(self.device), log_gains.to(self.device), tail_s)
            self._releases[key] = known
            if len(self._releases) > MAX_SOUNDS:
                self._releases.popitem(last=False)
        return known


@lru_cache(maxsize=1)
def _phases() -> Tensor:
    """Turns from 0 to 1 that look random, (N_PHASES,) float64."""
    return torch.rand(N_PHASES, dtype=torch.float64, generator=torch.Generator().manual_seed(N_PHASES))


def _key(note: PlayedNote) -> tuple[float, ...]:
    """What a note's sound is kept under."""
    return note.instrument, note.key, note.velocity, note.pitch


def _moved(sound: Sound, device: torch.device) -> Sound:
    if device.type == "cpu":
        return sound
    return Sound(*(part.to(device) for part in (sound.ages_s, sound.frequencies_hz, sound.levels, sound.columns)))


def _at(curve: Curve, time_s: float) -> float:
    return float(curve.sampled(np.array([time_s]))[0])


def _varies(gains: Tensor) -> bool:
    return gains.shape[1] > 1


def _gains(note: PlayedNote, times_s: Tensor, n_channels: int) -> Tensor:
    """Amplitude factors per channel at times, (C, J) float32."""
    expression = note.expression
    if expression is None:
        gain, pan = torch.tensor([note.gain]), torch.tensor([note.pan])
    else:
        times = times_s.numpy()
        gain = torch.from_numpy(expression.gain.sampled(times)).float() * note.gain
        pan = torch.from_numpy(expression.pan.sampled(times)).float()
    angle = math.pi / 4 * (1.0 + pan)
    sides = torch.stack([angle.cos(), angle.sin()]) * math.sqrt(2.0)
    if n_channels == 1:
        sides = sides.mean(0, keepdim=True)
    return sides * gain


def _bend(note: PlayedNote, vibrato: Vibrato | None, times_s: Tensor, ages_s: Tensor) -> Tensor:
    """(J,) float64 semitones above the note's pitch."""
    expression = note.expression
    semitones = torch.full_like(times_s, note.tuning_semitones)
    if expression is not None:
        pitch = np.array(expression.pitch_semitones.sampled(times_s.numpy()), dtype=np.float64)
        semitones = semitones + torch.from_numpy(pitch)
        depth = torch.from_numpy(np.array(expression.modulation.sampled(times_s.numpy()), dtype=np.float64))
        semitones = semitones + depth * (MODULATION_CENTS / 100) * torch.sin(2 * math.pi * MODULATION_HZ * times_s)
    if vibrato is not None:
        since_s = (ages_s - vibrato.delay_s).clamp(min=0.0)
        rising = (since_s / 0.2).clamp(max=1.0)
        semitones = semitones + rising * (vibrato.cents / 100) * torch.sin(2 * math.pi * vibrato.rate_hz * since_s)
    if note.glide_s > 0:
        semitones = semitones + note.glide_semitones * (1 - ages_s / note.glide_s).clamp(0, 1)
    return semitones

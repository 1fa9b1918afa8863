"""Pieces in which sounds are heard one by one: what a network hears in music alone, it does not know by itself."""

import mido
import numpy as np

from specdiff_cli.corpus.compose import TICKS_PER_BEAT, ComposeConfig
from specdiff_cli.midi.drum_parts import DRUM_CHANNEL, DRUM_KEYS
from specdiff_cli.midi.programs import N_PROGRAMS

TICKS_PER_S = 2 * TICKS_PER_BEAT  # at 120 beats per minute, where no tempo is written
N_SOUNDS = 50
LEAD_S = 0.3  # before the first, and before each the program has changed by then
HOLDS_S = (0.15, 0.4, 0.9, 1.5)
GAP_S = 0.7  # releases are heard in it
MIDDLE_PITCH, PITCH_SPREAD, PITCHES = 60.0, 13.0, (28, 100)
VELOCITIES = (40, 120)


def sounds_alone(seed: int, config: ComposeConfig) -> mido.MidiFile:
    """Single notes of random programs and drum keys, with silence between them. The same seed gives the same file.

    A solo piano's configuration gives a piano alone.
    """
    rng = np.random.default_rng([seed, 0xA10E])
    has_all = config.n_parts[1] > 1
    track = mido.MidiTrack()
    wait_s = LEAD_S
    for _ in range(N_SOUNDS):
        is_drum = has_all and rng.random() < config.drum_share / 3
        program = int(rng.integers(N_PROGRAMS)) if has_all and not is_drum else 0
        pitch = int(np.clip(round(rng.normal(MIDDLE_PITCH, PITCH_SPREAD)), *PITCHES))
        if is_drum:
            pitch = int(rng.choice(DRUM_KEYS))
        hold_s = float(rng.choice(HOLDS_S))
        note = {"channel": DRUM_CHANNEL if is_drum else 0, "note": pitch}
        velocity = int(rng.integers(VELOCITIES[0], VELOCITIES[1] + 1))
        track += [
            mido.Message("program_change", channel=note["channel"], program=program, time=_ticks(wait_s - LEAD_S)),
            mido.Message("note_on", **note, velocity=velocity, time=_ticks(LEAD_S)),
            mido.Message("note_off", **note, time=_ticks(hold_s)),
        ]
        wait_s = GAP_S
    return mido.MidiFile(tracks=[track], ticks_per_beat=TICKS_PER_BEAT)


def _ticks(time_s: float) -> int:
    return round(time_s * TICKS_PER_S)

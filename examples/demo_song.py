"""Writes the demo song: the first sixteen bars of the Minuet in G by Christian Petzold (BWV Anh. 114, before 1725).

The tune is in the public domain; this setting (phrasing, dynamics, ritardando) was made for specdiff.
The same bytes are written every time.

    python examples/demo_song.py demo.mid
"""

import argparse
import io
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import mido

BEATS_PER_BAR = 3
N_BARS = 16
TICKS_PER_BEAT = 480
TEMPO_BPM = 108.0
# Tempo of each beat of the last two bars, as a part of TEMPO_BPM.
RITARDANDO = (0.97, 0.93, 0.88, 0.82, 0.76, 0.70)

# One string per bar; a token is pitch:beats, with pitches sounding together joined by "+". C4 is middle C.
MELODY = (
    "D5:1 G4:1/2 A4:1/2 B4:1/2 C5:1/2",
    "D5:1 G4:1 G4:1",
    "E5:1 C5:1/2 D5:1/2 E5:1/2 F#5:1/2",
    "G5:1 G4:1 G4:1",
    "C5:1 D5:1/2 C5:1/2 B4:1/2 A4:1/2",
    "B4:1 C5:1/2 B4:1/2 A4:1/2 G4:1/2",
    "F#4:1 G4:1/2 A4:1/2 B4:1/2 G4:1/2",
    "A4:3",
    "D5:1 G4:1/2 A4:1/2 B4:1/2 C5:1/2",
    "D5:1 G4:1 G4:1",
    "E5:1 C5:1/2 D5:1/2 E5:1/2 F#5:1/2",
    "G5:1 G4:1 G4:1",
    "C5:1 D5:1/2 C5:1/2 B4:1/2 A4:1/2",
    "B4:1 C5:1/2 B4:1/2 A4:1/2 G4:1/2",
    "A4:1 B4:1/2 A4:1/2 G4:1/2 F#4:1/2",
    "G4:3",
)
BASS = (
    "G3+B3+D4:2 A3:1",
    "B3:3",
    "C4:3",
    "B3:3",
    "A3:3",
    "G3:3",
    "D4:1 B3:1 G3:1",
    "D4:1 D3:1/2 C4:1/2 B3:1/2 A3:1/2",
    "B3:2 A3:1",
    "G3:1 B3:1 G3:1",
    "C4:3",
    "B3:1 C4:1/2 B3:1/2 A3:1/2 G3:1/2",
    "A3:2 F#3:1",
    "G3:2 B3:1",
    "C4:1 D4:1 D3:1",
    "G3:2 G2:1",
)

SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "F#": 6, "G": 7, "A": 9, "B": 11}
MELODY_VELOCITY = 74
BASS_VELOCITY = 56
# Loudness added to each bar of an eight-bar phrase: it swells into the third and sixth bar and dies away.
PHRASE_SWELL = (0, 4, 9, 6, 4, 8, 2, -6)
BEAT_ACCENT = (8, 0, 2)  # a minuet leans on the first beat
OFF_BEAT_SOFTENING = -5
LEGATO = 0.92  # the part of its written length that a note is held; the last ones are held in full


@dataclass(frozen=True)
class ScoreNote:
    """A written note; times in beats (quarter notes) from the beginning of the piece."""

    start_beats: Fraction
    length_beats: Fraction
    pitch: int


def parse_bar(bar: str) -> list[tuple[list[int], Fraction]]:
    """The chords of a bar, each as (MIDI pitches, length in beats)."""
    chords = []
    for token in bar.split():
        names, _, length = token.partition(":")
        chords.append(([parse_pitch(name) for name in names.split("+")], Fraction(length)))
    return chords


def parse_pitch(name: str) -> int:
    """The MIDI pitch of a name such as F#4; C4 is 60."""
    return SEMITONES[name[:-1]] + 12 * (int(name[-1]) + 1)


def score_notes(bars: tuple[str, ...]) -> list[ScoreNote]:
    """All notes of one hand, in order."""
    notes = []
    start_beats = Fraction(0)
    for bar in bars:
        for pitches, length_beats in parse_bar(bar):
            notes += [ScoreNote(start_beats, length_beats, pitch) for pitch in pitches]
            start_beats += length_beats
    return notes


def velocity(note: ScoreNote, base: int) -> int:
    """How hard to strike: the phrase's swell, the weight of the beat, and a softer end."""
    bar, beat = divmod(note.start_beats, BEATS_PER_BAR)
    level = base + PHRASE_SWELL[bar % len(PHRASE_SWELL)]
    level += BEAT_ACCENT[int(beat)] if beat.denominator == 1 else OFF_BEAT_SOFTENING
    return level


def hand_track(name: str, bars: tuple[str, ...], channel: int, base_velocity: int) -> mido.MidiTrack:
    """One hand as a MIDI track."""
    events: list[tuple[int, int, mido.Message]] = []
    for note in score_notes(bars):
        start_tick = int(note.start_beats * TICKS_PER_BEAT)
        is_last_bar = note.start_beats >= BEATS_PER_BAR * (N_BARS - 1)
        length_ticks = int(note.length_beats * TICKS_PER_BEAT * (1 if is_last_bar else LEGATO))
        on = mido.Message("note_on", channel=channel, note=note.pitch, velocity=velocity(note, base_velocity))
        off = mido.Message("note_off", channel=channel, note=note.pitch, velocity=0)
        events += [(start_tick, 1, on), (start_tick + length_ticks, 0, off)]
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
    track.append(mido.Message("program_change", channel=channel, program=0))
    now_tick = 0
    # Note-offs go before note-ons of the same tick, so that a repeated pitch is struck again.
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now_tick))
        now_tick = tick
    track.append(mido.MetaMessage("end_of_track"))
    return track


def conductor_track() -> mido.MidiTrack:
    """Title, metre, key and tempo, with a slight ritardando over the last two bars."""
    track = mido.MidiTrack(
        [
            mido.MetaMessage("track_name", name="Minuet in G, BWV Anh. 114 (C. Petzold)"),
            mido.MetaMessage("time_signature", numerator=BEATS_PER_BAR, denominator=4),
            mido.MetaMessage("key_signature", key="G"),
            mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(TEMPO_BPM)),
        ]
    )
    first_slow_beat = BEATS_PER_BAR * N_BARS - len(RITARDANDO)
    for index, part in enumerate(RITARDANDO):
        beats_since_last = 1 if index else first_slow_beat
        tempo = mido.bpm2tempo(TEMPO_BPM * part)
        track.append(mido.MetaMessage("set_tempo", tempo=tempo, time=beats_since_last * TICKS_PER_BEAT))
    track.append(mido.MetaMessage("end_of_track", time=TICKS_PER_BEAT))
    return track


def demo_song() -> bytes:
    """The bytes of the MIDI file."""
    midi = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    midi.tracks.append(conductor_track())
    midi.tracks.append(hand_track("right hand", MELODY, 0, MELODY_VELOCITY))
    midi.tracks.append(hand_track("left hand", BASS, 1, BASS_VELOCITY))
    buffer = io.BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue()


def main() -> None:
    """Write the song to the file named on the command line."""
    parser = argparse.ArgumentParser(description="Write the demo song, a minuet of half a minute, as a MIDI file.")
    parser.add_argument("output", type=Path, metavar="OUT.mid", help="the file to write; replaced when it exists")
    output: Path = parser.parse_args().output
    try:
        output.write_bytes(demo_song())
    except OSError as error:
        sys.exit(f"error: {output}: cannot be written ({error.strerror}); choose another file or folder")


if __name__ == "__main__":
    main()

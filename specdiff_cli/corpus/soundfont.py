"""MIDI to audio with FluidSynth's library: the teacher that the bundled voice learns from.

The library is driven through ctypes, event by event, so that one process loads the soundfont once and renders
thousands of pieces from it; the command-line program would load it again (about 2 s) for each file.
"""

import ctypes
import ctypes.util
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
from numpy.typing import NDArray

from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.midi.drum_parts import DRUM_CHANNEL

# FluidSynth interpolates its samples without an anti-aliasing filter. At twice the rate whatever folds lands
# (almost only) above 8 kHz, where the decimation filter removes it; rendering at 16 kHz folds it into the result.
OVERSAMPLING = 2
RENDER_RATE_HZ = SAMPLE_RATE_HZ * OVERSAMPLING
# FluidSynth applies an event at the start of its next block of 64 samples.
BLOCK_SAMPLES = 64
POLYPHONY = 512
# Composed pieces peak at about full scale (MuseScore General soundfont, eight parts and drums).
GAIN = 0.8
LOG_LEVELS = 5
# A small room; the soundfont's own reverb sends say how much of it each instrument gets.
LIGHT_REVERB = {
    "synth.reverb.room-size": 0.4,
    "synth.reverb.damp": 0.3,
    "synth.reverb.width": 0.5,
    "synth.reverb.level": 0.6,
}
REVERB_SEND_CONTROL, REVERB_SEND = 91, 60
N_CHANNELS = 16
BEND_CENTRE = 8192  # mido counts bends from the centre, FluidSynth from the lowest
DRUM_VELOCITY = 100


# An isolated note is followed until a stretch of this many samples stays below this peak (-100 dB).
FADE_SAMPLES = 64 * BLOCK_SAMPLES
FADED = 1e-5


@dataclass(frozen=True, slots=True)
class Stroke:
    """One isolated note; lengths in samples of the library's rate, in whole blocks."""

    pitch: int
    velocity: int
    lead_samples: int
    hold_samples: int
    tail_samples: int


def whole_blocks(time_s: float, rate_hz: int) -> int:
    """A time in samples, in whole blocks of FluidSynth, at least one."""
    return max(1, round(time_s * rate_hz / BLOCK_SAMPLES)) * BLOCK_SAMPLES


def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("fluidsynth")
    if name is None:
        raise UsageError("FluidSynth's library is not installed: install the package 'fluidsynth' of your system")
    library = ctypes.CDLL(name)
    for function in ("new_fluid_settings", "new_fluid_synth", "fluid_synth_get_sfont_by_id"):
        getattr(library, function).restype = ctypes.c_void_p
    return library


def _is_soundfont(path: Path) -> bool:
    """Whether a file begins as one; FluidSynth's helpers print to standard error about any other."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head[:4] == b"RIFF" and head[8:] == b"sfbk"


class FluidSynth:
    """A soundfont loaded once; ``render`` turns MIDI files into mono audio at 16 kHz, dry or with a light reverb.

    The gain is fixed, so a velocity has the same loudness in every piece. ``rate_hz`` is what the library computes at;
    ``render`` needs the default. Raises UsageError when the library or the soundfont cannot be loaded.
    """

    def __init__(self, soundfont: Path, gain: float = GAIN, rate_hz: int = RENDER_RATE_HZ) -> None:
        self._library = _library()
        for level in range(LOG_LEVELS):
            self._library.fluid_set_log_function(level, None, None)
        self._settings = ctypes.c_void_p(self._library.new_fluid_settings())
        numbers = {"synth.sample-rate": float(rate_hz), "synth.gain": gain, **LIGHT_REVERB}
        integers = {"synth.reverb.active": 0, "synth.chorus.active": 0, "synth.polyphony": POLYPHONY}
        for name, number in numbers.items():
            self._library.fluid_settings_setnum(self._settings, name.encode(), ctypes.c_double(number))
        for name, integer in integers.items():
            self._library.fluid_settings_setint(self._settings, name.encode(), integer)
        self._keeper = ctypes.c_void_p(self._library.new_fluid_synth(self._settings))
        font = -1
        if _is_soundfont(soundfont):
            font = self._library.fluid_synth_sfload(self._keeper, str(soundfont).encode(), 1)
        if font < 0:
            what = f"cannot read the soundfont {soundfont}: give an .sf2 or .sf3 file with "
            raise UsageError(what, Option("soundfont"), option="soundfont", value=str(soundfont))
        self._font = ctypes.c_void_p(self._library.fluid_synth_get_sfont_by_id(self._keeper, font))
        self._synth = self._keeper

    def close(self) -> None:
        """Free the soundfont; the object cannot render afterwards."""
        self._library.delete_fluid_synth(self._keeper)
        self._library.delete_fluid_settings(self._settings)

    def render(self, midi: mido.MidiFile, tail_s: float = 1.5, has_reverb: bool = False) -> NDArray[np.float32]:
        """Play the file from silence.

        Returns (n,) float32 mono at 16 kHz, time 0 = time 0 of the file, ending ``tail_s`` seconds after its last
        event. Values beyond [-1, 1] are possible: the caller counts and clips them.
        """
        from scipy.signal import resample_poly

        self._library.fluid_settings_setint(self._settings, b"synth.reverb.active", int(has_reverb))
        with self._fresh_synth():
            if has_reverb:
                for channel in range(N_CHANNELS):
                    self._library.fluid_synth_cc(self._synth, channel, REVERB_SEND_CONTROL, REVERB_SEND)
            mono = self._play(midi, tail_s)
        return np.asarray(resample_poly(mono, 1, OVERSAMPLING), dtype=np.float32)

    @contextmanager
    def _fresh_synth(self) -> Iterator[None]:
        """A new synthesizer, lent the one soundfont.

        A synthesizer that was used before, even after a reset, gives samples that differ a little, and a piece must
        not depend on what was rendered before it.
        """
        self._synth = ctypes.c_void_p(self._library.new_fluid_synth(self._settings))
        self._library.fluid_synth_add_sfont(self._synth, self._font)
        self._library.fluid_synth_system_reset(self._synth)  # makes the channels look their programs up
        try:
            yield
        finally:
            self._library.fluid_synth_remove_sfont(self._synth, self._font)
            self._library.delete_fluid_synth(self._synth)
            self._synth = self._keeper

    def play_notes(self, program: int, is_drum: bool, strokes: Iterable[Stroke]) -> Iterator[NDArray[np.float32]]:
        """Notes of one program (or drum kit), each by itself, from one synthesizer, dry, at the full rate.

        Yields (n, 2) float32 stereo per stroke. Its onset lies exactly ``lead_samples`` after the start; the sound ends
        where it has faded, at the latest ``tail_samples`` after the note's end.
        """
        self._library.fluid_settings_setint(self._settings, b"synth.reverb.active", 0)
        channel = DRUM_CHANNEL if is_drum else 0
        with self._fresh_synth():
            self._library.fluid_synth_program_change(self._synth, channel, program)
            for stroke in strokes:
                yield self._stroke(channel, stroke)

    def strike_drums(self, kit: int, keys: Iterable[int | None], gap_samples: int) -> NDArray[np.float32]:
        """Drums of a kit struck one after the other, ``gap_samples`` apart (None: nothing), each let go at the next.

        Returns (n, 2) float32 stereo, dry, at the full rate, beginning with the first stroke.
        """
        self._library.fluid_settings_setint(self._settings, b"synth.reverb.active", 0)
        chunks = []
        with self._fresh_synth():
            self._library.fluid_synth_program_change(self._synth, DRUM_CHANNEL, kit)
            for key in keys:
                if key is not None:
                    self._library.fluid_synth_noteon(self._synth, DRUM_CHANNEL, key, DRUM_VELOCITY)
                chunks.append(self._write_stereo(gap_samples))
                if key is not None:
                    self._library.fluid_synth_noteoff(self._synth, DRUM_CHANNEL, key)
        return np.concatenate(chunks)

    def _stroke(self, channel: int, stroke: Stroke) -> NDArray[np.float32]:
        chunks = [self._write_stereo(stroke.lead_samples)]
        self._library.fluid_synth_noteon(self._synth, channel, stroke.pitch, stroke.velocity)
        chunks.append(self._write_stereo(stroke.hold_samples))
        self._library.fluid_synth_noteoff(self._synth, channel, stroke.pitch)
        left = stroke.tail_samples
        while left > 0:
            chunks.append(self._write_stereo(min(left, FADE_SAMPLES)))
            left -= FADE_SAMPLES
            if np.abs(chunks[-1]).max() < FADED:
                break
        self._library.fluid_synth_all_sounds_off(self._synth, channel)
        self._write_stereo(BLOCK_SAMPLES * 16)  # what is cut off fades unheard
        return np.concatenate(chunks)

    def _play(self, midi: mido.MidiFile, tail_s: float) -> NDArray[np.float32]:
        """(n,) float32 mono at RENDER_RATE_HZ."""
        # On average an event waits half a block: the same constant is taken off every event's time.
        offset_samples = BLOCK_SAMPLES // 2
        chunks: list[NDArray[np.float32]] = []
        time_s = 0.0
        done_samples = 0
        for message in midi:
            time_s += message.time
            target_samples = max(round(time_s * RENDER_RATE_HZ) - offset_samples, 0)
            if target_samples > done_samples:
                chunks.append(self._write(target_samples - done_samples))
                done_samples = target_samples
            self._send(message)
        chunks.append(self._write(round((time_s + tail_s) * RENDER_RATE_HZ) - done_samples))
        return np.concatenate(chunks)

    def _write(self, n_samples: int) -> NDArray[np.float32]:
        return np.asarray(self._write_stereo(n_samples).mean(axis=1), dtype=np.float32)

    def _write_stereo(self, n_samples: int) -> NDArray[np.float32]:
        stereo = np.empty((n_samples, 2), dtype=np.float32)
        pointer = stereo.ctypes.data_as(ctypes.c_void_p)
        self._library.fluid_synth_write_float(self._synth, n_samples, pointer, 0, 2, pointer, 1, 2)
        return stereo

    def _send(self, message: mido.Message) -> None:
        if message.type == "note_on" and message.velocity > 0:
            self._library.fluid_synth_noteon(self._synth, message.channel, message.note, message.velocity)
        elif message.type in ("note_on", "note_off"):
            self._library.fluid_synth_noteoff(self._synth, message.channel, message.note)
        elif message.type == "control_change":
            self._library.fluid_synth_cc(self._synth, message.channel, message.control, message.value)
        elif message.type == "program_change":
            self._library.fluid_synth_program_change(self._synth, message.channel, message.program)
        elif message.type == "pitchwheel":
            self._library.fluid_synth_pitch_bend(self._synth, message.channel, message.pitch + BEND_CENTRE)

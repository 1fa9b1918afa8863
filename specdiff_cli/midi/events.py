"""Our own reader of track chunks, for files whose messages mido refuses although they hold music.

It gives mido's messages. What says nothing about the sound (texts, keys, offsets, meta events of wrong lengths) never
costs a file; bytes that are no MIDI do.
"""

from collections import Counter

import mido

from specdiff_cli.midi.bars import is_meter
from specdiff_cli.midi.chunks import N_CHANNEL_DATA, N_SYSTEM_DATA, read_number

MAX_DELTA_TICKS = 0x0FFF_FFFF  # four bytes of seven bits, the most the format allows

_SEQUENCE_NUMBER, _TRACK_NAME, _DEVICE_NAME, _PORT, _END_OF_TRACK, _TEMPO, _METER = 0, 3, 9, 0x21, 0x2F, 0x51, 0x58
_PREFIX, _SMPTE_OFFSET, _KEY = 0x20, 0x54, 0x59
_META_LENGTHS = {
    _SEQUENCE_NUMBER: (0, 2),
    _PREFIX: (1,),
    _PORT: (1,),
    _END_OF_TRACK: (0,),
    _TEMPO: (3,),
    _SMPTE_OFFSET: (5,),
    _METER: (4,),
    _KEY: (2,),
}
_MAX_KEY_ACCIDENTALS = 7


class TrackDamage(Exception):  # noqa: N818 - never leaves this package
    """Bytes that are no MIDI; the message says what, in a few words."""


class TrackParser:
    """Reads one track after the other; ``odd`` counts what was passed over or put right.

    Data bytes above 127 are no data. Of velocities and controllers they are clipped; notes of such pitches, programs
    and controller numbers do not exist and are left out, unless ``clips`` asks for mido's way (clip everything).
    """

    def __init__(self, *, clips: bool = False) -> None:
        self._clips = clips
        self.odd: Counter[str] = Counter()
        self._body = b""
        self._at = 0
        self._status = 0  # of the last channel message
        self._delta = 0  # ticks since the last message that was kept

    def read(self, body: bytes) -> mido.MidiTrack:
        """The messages of a track chunk's content. Raises TrackDamage."""
        self._body, self._at, self._status, self._delta = body, 0, 0, 0
        track = mido.MidiTrack()
        n_to_end = 0  # messages up to the end mark
        while self._at < len(body):
            try:
                message = self._next()
            except TrackDamage:
                if not n_to_end:
                    raise
                del track[n_to_end:]  # what stands behind the end of a track is padding
                break
            if message is not None:
                track.append(message)
                self._delta = 0
                if message.type == "end_of_track" and not n_to_end:
                    n_to_end = len(track)
        return track

    def _next(self) -> mido.Message | mido.MetaMessage | None:
        """The next message; None: it was passed over."""
        delta, self._at = read_number(self._body, self._at)
        if delta > MAX_DELTA_TICKS:
            raise TrackDamage("it holds a time of more than four bytes")
        self._delta += delta
        status = self._peek()
        if status < 0x80:
            if not self._status:
                raise TrackDamage("running status without a status")
            status = self._status
        else:
            self._at += 1
        if status == 0xFF:
            return self._meta(self._take(1)[0], self._take_counted())
        if status in (0xF0, 0xF7):
            return self._sysex(self._take_counted())
        if status >= 0xF0:
            if status not in N_SYSTEM_DATA:
                raise TrackDamage(f"undefined status byte 0x{status:02x}")
            self._take(N_SYSTEM_DATA[status])
            return None
        self._status = status
        return self._channel(status, self._take(N_CHANNEL_DATA[status >> 4]))

    def _peek(self) -> int:
        if self._at >= len(self._body):
            raise TrackDamage("it ends too early")
        return self._body[self._at]

    def _take(self, n_bytes: int) -> bytes:
        if self._at + n_bytes > len(self._body):
            raise TrackDamage("it ends too early")
        self._at += n_bytes
        return self._body[self._at - n_bytes : self._at]

    def _take_counted(self) -> bytes:
        n_bytes, self._at = read_number(self._body, self._at)
        return self._take(n_bytes)

    def _channel(self, status: int, data: bytes) -> mido.Message | None:
        kind, channel = status >> 4, status & 0x0F
        if max(data) > 127:
            # What names something cannot be clipped: it would name something else.
            if not self._clips and kind != 0xE and (data[0] > 127):
                if kind == 0x9 and data[1] > 0:
                    self.odd["illegal_note"] += 1
                elif kind != 0x8:
                    self.odd["illegal_data"] += 1
                return None
            data = bytes(min(value, 127) for value in data)
        return (
            mido.Message.from_bytes([status, *data], time=self._delta)
            if kind != 0x9
            else mido.Message("note_on", channel=channel, note=data[0], velocity=data[1], time=self._delta)
        )

    def _sysex(self, data: bytes) -> mido.Message:
        data = data.removeprefix(b"\xf0").removesuffix(b"\xf7")
        return mido.Message("sysex", data=bytes(min(value, 127) for value in data), time=self._delta)

    def _meta(self, kind: int, data: bytes) -> mido.MetaMessage | None:
        """Meta events that mean something here; others are kept as what they are, unread."""
        time = self._delta
        is_odd = len(data) not in _META_LENGTHS.get(kind, (len(data),))
        if kind == _KEY and not is_odd:
            accidentals = data[0] - 256 if data[0] > 127 else data[0]
            is_odd = abs(accidentals) > _MAX_KEY_ACCIDENTALS or data[1] > 1
        self.odd["metadata"] += is_odd
        if kind == _END_OF_TRACK:
            return mido.MetaMessage("end_of_track", time=time)
        if kind == _TRACK_NAME:
            return mido.MetaMessage("track_name", name=data.decode("latin-1"), time=time)
        if kind == _DEVICE_NAME:
            return mido.MetaMessage("device_name", name=data.decode("latin-1"), time=time)
        if kind == _PORT and data:
            return mido.MetaMessage("midi_port", port=data[0], time=time)
        if kind == _TEMPO and len(data) >= 3:
            return mido.MetaMessage("set_tempo", tempo=int.from_bytes(data[:3], "big"), time=time)
        if kind == _METER and len(data) >= 2:
            return self._meter(data)
        return mido.UnknownMetaMessage(kind, data=data, time=time)

    def _meter(self, data: bytes) -> mido.MetaMessage | None:
        if not is_meter(data[0], 1 << min(data[1], 63)):
            self.odd["meter"] += 1
            return None
        return mido.MetaMessage("time_signature", numerator=data[0], denominator=1 << data[1], time=self._delta)

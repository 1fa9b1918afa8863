"""Messages that speak to a device as a whole: the systems GM, GM2, GS and XG, master volume and tuning."""

# Universal system exclusive messages, without the F0 and the device number: (kind, sub-id 1, sub-id 2).
_REALTIME, _DEVICE_CONTROL = 0x7F, 0x04
_MASTER_VOLUME, _MASTER_FINE_TUNING, _MASTER_COARSE_TUNING = 0x01, 0x03, 0x04
# Addresses of GS (40 00 ..) and XG (00 00 ..).
_DEVICE_VOLUME, _MASTER_TUNE, _MASTER_KEY_SHIFT = (0x04, 0x04), (0x00, 0x00), (0x05, 0x06)


def reset_system(data: tuple[int, ...]) -> str | None:
    """The system that a message switches on ("" is none), or None for any other message."""
    if len(data) == 4 and data[0] == 0x7E and data[2] == 0x09:
        return {1: "gm", 2: "", 3: "gm2"}.get(data[3])
    if len(data) == 9 and data[0] == 0x41 and data[2:7] == (0x42, 0x12, 0x40, 0x00, 0x7F):
        return "gs"
    if len(data) == 7 and data[0] == 0x43 and data[1] >> 4 == 1 and data[2:] == (0x4C, 0x00, 0x00, 0x7E, 0x00):
        return "xg"
    return None


def master_volume(data: tuple[int, ...]) -> float | None:
    """0 to 1 (of 14 bits) of a message that sets a device's volume, or None for any other message."""
    value = _device_control(data, _MASTER_VOLUME)
    if value is not None:
        return value / 0x3FFF
    volume = _system_parameter(data, _DEVICE_VOLUME, 1)
    return None if volume is None else volume[0] / 127


def master_fine_tuning(data: tuple[int, ...]) -> float | None:
    """Semitones (-1 to 1) of a message that sets a device's fine tuning, or None for any other message."""
    value = _device_control(data, _MASTER_FINE_TUNING)
    if value is not None:
        return (value - 0x2000) / 0x2000
    tenths = _system_parameter(data, _MASTER_TUNE, 4)  # of a cent, 400 hex being none, in four half bytes
    if tenths is None:
        return None
    offset = sum((nibble & 0x0F) << shift for nibble, shift in zip(tenths, (12, 8, 4, 0), strict=True)) - 0x400
    return min(max(offset / 1000, -1.0), 1.0)


def master_coarse_tuning(data: tuple[int, ...]) -> float | None:
    """Semitones of a message that sets a device's coarse tuning, or None for any other message."""
    value = _device_control(data, _MASTER_COARSE_TUNING)
    if value is not None:
        return float((value >> 7) - 0x40)
    shift = _system_parameter(data, _MASTER_KEY_SHIFT, 1)
    return None if shift is None else float(min(max(shift[0] - 0x40, -24), 24))


def _system_parameter(data: tuple[int, ...], address: tuple[int, int], size: int) -> tuple[int, ...] | None:
    """The bytes of a GS or XG message that sets the whole device's parameter; ``address``: in GS, in XG."""
    of_gs, of_xg = address
    if len(data) == 8 + size and data[0] == 0x41 and data[2:7] == (0x42, 0x12, 0x40, 0x00, of_gs):
        return data[7:-1]
    if len(data) == 6 + size and data[0] == 0x43 and data[1] >> 4 == 1 and data[2:6] == (0x4C, 0x00, 0x00, of_xg):
        return data[6:]
    return None


def _device_control(data: tuple[int, ...], kind: int) -> int | None:
    """The 14 bits of a universal device control message (RP-001, CA-024, CA-025)."""
    if len(data) == 6 and data[0] == _REALTIME and data[2:4] == (_DEVICE_CONTROL, kind):
        return data[4] | data[5] << 7
    return None


def scale_tuning(data: tuple[int, ...]) -> tuple[list[int], list[float | None]] | None:
    """(channels, semitones for each pitch class from C on) of a message that tunes a scale, or None for any other.

    Universal scale and octave tuning (CA-021, one or two bytes a note), or GS, where None keeps a pitch class as it is.
    """
    if len(data) >= 7 and data[0] in (0x7E, _REALTIME) and data[2] == 0x08 and data[3] in (0x08, 0x09):
        # Channels 15 and 16, then 8 to 14, then 1 to 7, the lowest bit being the first of them.
        mask = data[4] << 14 | data[5] << 7 | data[6]
        channels = [channel for channel in range(16) if mask >> channel & 1]
        values = data[7:]
        if data[3] == 0x08 and len(values) == 12:
            return channels, [(value - 0x40) / 100 for value in values]
        if data[3] == 0x09 and len(values) == 24:
            pairs = zip(values[::2], values[1::2], strict=True)
            return channels, [((high << 7 | low) - 0x2000) / 0x2000 for high, low in pairs]
        return None
    if len(data) >= 9 and data[0] == 0x41 and data[2:5] == (0x42, 0x12, 0x40) and data[5] >> 4 == 1:
        first, values = data[6] - 0x40, data[7:-1]
        if 0 <= first and first + len(values) <= 12:
            tuning: list[float | None] = [None] * 12
            tuning[first : first + len(values)] = [(value - 0x40) / 100 for value in values]
            return [gs_channel(data[5] & 0x0F)], tuning
    return None


def gs_channel(part: int) -> int:
    """The channel of a GS part number: part 10 is numbered 0, and the parts before it from 1."""
    return 9 if part == 0 else part - 1 if part <= 9 else part

"""Registered parameters of a channel (RPN): bend range, tuning, modulation depth."""

from dataclasses import dataclass

RPN_MSB, RPN_LSB, NRPN_MSB, NRPN_LSB = 101, 100, 99, 98
DATA_MSB, DATA_LSB = 6, 38
DATA_INCREMENT, DATA_DECREMENT = 96, 97
PARAMETER_CONTROLLERS = frozenset(
    (RPN_MSB, RPN_LSB, NRPN_MSB, NRPN_LSB, DATA_MSB, DATA_LSB, DATA_INCREMENT, DATA_DECREMENT)
)

BEND_RANGE, FINE_TUNING, COARSE_TUNING, MODULATION_DEPTH, MPE_CONFIGURATION = 0, 1, 2, 5, 6
DEFAULT_BEND_RANGE_SEMITONES = 2.0
DEFAULT_DEPTH_SEMITONES = 0.5  # General MIDI 2
# MPE's recommendation goes to 96; what asks for more is a slip. General MIDI 2 has 24 semitones of coarse tuning.
MAX_BEND_RANGE_SEMITONES = 96.0
MAX_COARSE_SEMITONES = 48.0
_NOTHING = -1
_CENTRE = 0x40


@dataclass(slots=True)
class Parameters:
    """What a channel's registered parameters are set to, message by message. Lengths in semitones.

    Parameters that are not registered (NRPN) and the null parameter (127, 127) take data away from the registered
    ones. ``n_clamped`` counts values beyond any use.
    """

    bend_range: float = DEFAULT_BEND_RANGE_SEMITONES
    fine_tuning: float = 0.0
    coarse_tuning: float = 0.0
    modulation_depth: float = DEFAULT_DEPTH_SEMITONES
    n_clamped: int = 0
    _msb: int = _NOTHING
    _lsb: int = _NOTHING
    _is_registered: bool = True
    _data_msb: int = _NOTHING  # since the parameter was selected

    def control(self, number: int, value: int) -> bool:
        """Take a controller of ``PARAMETER_CONTROLLERS``; does it change a parameter?"""
        if number in (RPN_MSB, RPN_LSB, NRPN_MSB, NRPN_LSB):
            is_registered = number in (RPN_MSB, RPN_LSB)
            if is_registered != self._is_registered:
                self._msb = self._lsb = _NOTHING
                self._is_registered = is_registered
            self._data_msb = _NOTHING
            if number in (RPN_MSB, NRPN_MSB):
                self._msb = value
            else:
                self._lsb = value
            return False
        selected = self.selected
        if selected is None:
            return False
        if number in (DATA_INCREMENT, DATA_DECREMENT):
            return self._step(selected, 1 if number == DATA_INCREMENT else -1)
        return self._set(selected, number == DATA_MSB, value)

    @property
    def selected(self) -> int | None:
        """The registered parameter that data goes to; None: none of those known here."""
        return self._lsb if self._is_registered and self._msb == 0 and self._lsb in _KNOWN else None

    def deselect(self) -> None:
        """Reset all controllers leaves no parameter selected."""
        self._msb = self._lsb = _NOTHING

    def _set(self, selected: int, is_msb: bool, value: int) -> bool:
        if is_msb:
            self._data_msb = value
        msb, lsb = self._coarse(selected), 0 if is_msb else value
        if selected == BEND_RANGE:
            # A new coarse value keeps the cents at 0: files that want cents send them behind it.
            self.bend_range = self._clamped(msb + min(lsb, 100) / 100, 0.0, MAX_BEND_RANGE_SEMITONES)
        elif selected == FINE_TUNING:
            self.fine_tuning = ((msb << 7 | lsb) - 0x2000) / 0x2000
        elif selected == COARSE_TUNING:
            if not is_msb:
                return False
            self.coarse_tuning = self._clamped(float(msb - _CENTRE), -MAX_COARSE_SEMITONES, MAX_COARSE_SEMITONES)
        elif selected == MODULATION_DEPTH:
            self.modulation_depth = msb + lsb / 128
        return True

    def _step(self, selected: int, direction: int) -> bool:
        """Up or down by one: of the fine byte, or of the coarse one of a parameter that has no other (RP-018)."""
        if selected == BEND_RANGE:
            self.bend_range = self._clamped(self.bend_range + direction / 100, 0.0, MAX_BEND_RANGE_SEMITONES)
        elif selected == FINE_TUNING:
            self.fine_tuning = min(max(self.fine_tuning + direction / 0x2000, -1.0), 1 - 1 / 0x2000)
        elif selected == COARSE_TUNING:
            coarse = self.coarse_tuning + direction
            self.coarse_tuning = self._clamped(coarse, -MAX_COARSE_SEMITONES, MAX_COARSE_SEMITONES)
        elif selected == MODULATION_DEPTH:
            self.modulation_depth = max(0.0, self.modulation_depth + direction / 128)
        else:
            return False
        return True

    def _coarse(self, selected: int) -> int:
        """The coarse data byte in force: a fine one may come alone."""
        if self._data_msb != _NOTHING:
            return self._data_msb
        if selected == BEND_RANGE:
            return int(self.bend_range)
        return int(self.modulation_depth) if selected == MODULATION_DEPTH else _CENTRE

    def _clamped(self, value: float, low: float, high: float) -> float:
        self.n_clamped += not low <= value <= high
        return min(max(value, low), high)


_KNOWN = frozenset((BEND_RANGE, FINE_TUNING, COARSE_TUNING, MODULATION_DEPTH, MPE_CONFIGURATION))

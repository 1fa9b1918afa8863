"""Events <-> token ids.

The layout is the reference system's (note representation of Hawthorne et al. 2022, after MT3); only the number of
velocity bins differs between voices, and every id after them moves with it.
"""

from dataclasses import dataclass
from typing import Literal

PAD_ID = 0
END_ID = 1
UNKNOWN_ID = 2
N_SPECIAL_IDS = 3
MAX_SHIFT_STEPS = 1000
MAX_VELOCITY = 127

#: Whose conventions: the reference's, or those of music-spectrogram-diffusion-pytorch (PyTorch Lightning), which has no
#: special ids and no end token, and names program and velocity anew after every shift.
Dialect = Literal["magenta", "lightning"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Token ids of a voice; ``n_velocity_bins`` is 1 for the published checkpoints (they discard dynamics)."""

    n_velocity_bins: int = 1
    max_shift_steps: int = MAX_SHIFT_STEPS
    dialect: Dialect = "magenta"

    @property
    def n_special_ids(self) -> int:
        return N_SPECIAL_IDS if self.dialect == "magenta" else 0

    @property
    def end_ids(self) -> tuple[int, ...]:
        """What a window's tokens end with."""
        return (END_ID,) if self.dialect == "magenta" else ()

    @property
    def first_pitch_id(self) -> int:
        return self.n_special_ids + self.max_shift_steps + 1

    @property
    def first_velocity_id(self) -> int:
        return self.first_pitch_id + 128

    @property
    def tie_id(self) -> int:
        return self.first_velocity_id + self.n_velocity_bins + 1

    @property
    def first_program_id(self) -> int:
        return self.tie_id + 1

    @property
    def first_drum_id(self) -> int:
        return self.first_program_id + 128

    @property
    def n_ids(self) -> int:
        """Number of ids in use, special ones included (1391 with one velocity bin)."""
        return self.first_drum_id + 128

    def velocity_bin(self, velocity: int) -> int:
        """0 for a note-off, else 1 to ``n_velocity_bins``."""
        return -(-self.n_velocity_bins * velocity // MAX_VELOCITY)

    def describe(self, token_id: int) -> str:
        """A readable name, such as ``pitch 60``, for tables and error messages."""
        if not 0 <= token_id < self.n_ids:
            raise ValueError(f"token id {token_id} is outside 0 to {self.n_ids - 1}")
        if token_id < self.n_special_ids:
            return ("padding", "end", "unknown")[token_id]
        name, first_id = next(
            (name, first_id)
            for name, first_id in (
                ("drum", self.first_drum_id),
                ("program", self.first_program_id),
                ("tie", self.tie_id),
                ("velocity", self.first_velocity_id),
                ("pitch", self.first_pitch_id),
                ("shift", self.n_special_ids),
            )
            if token_id >= first_id
        )
        return name if name == "tie" else f"{name} {token_id - first_id}"

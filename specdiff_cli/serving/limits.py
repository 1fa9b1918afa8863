"""How much a visitor may ask for."""

from dataclasses import dataclass

from specdiff_cli.errors import MidiError, Option, UsageError
from specdiff_cli.wording import count

BYTES_PER_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one upload may hold. Raises UsageError for limits that would refuse everything."""

    max_duration_s: float = 600.0
    max_bytes: int = 2 * BYTES_PER_MIB
    max_notes: int = 200_000

    def __post_init__(self) -> None:
        if not self.max_duration_s > 0:
            raise UsageError.of("max_duration", float(self.max_duration_s), "must be above 0 seconds")
        if self.max_bytes < 1:
            raise UsageError(Option("max_size"), ": must be above 0 MB", option="max_size")

    def check_bytes(self, n_bytes: int, name: str) -> None:
        """Raises MidiError for a file that is too large."""
        if n_bytes > self.max_bytes:
            raise MidiError(f"{name}: is larger than {self.max_bytes / BYTES_PER_MIB:g} MB, the most this page takes")

    def check_notes(self, n_notes: int, name: str) -> None:
        """Raises MidiError for a song of too many notes."""
        if n_notes > self.max_notes:
            raise MidiError(f"{name}: holds {count(n_notes, 'note')}; this page takes {self.max_notes}")

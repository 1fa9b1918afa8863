"""Cold starts, in processes of their own."""

from pathlib import Path

import pytest
from midi_files import midi_bytes, note

from specdiff_cli.errors import UsageError
from specdiff_cli.evaluation.cold import PARTS, measure_cold_start


def test_every_part_takes_time(tmp_path: Path) -> None:
    (tmp_path / "song.mid").write_bytes(midi_bytes(note(0, 480, 0, 60)))
    parts = measure_cold_start("tiny", tmp_path / "song.mid", n_rounds=1)
    assert tuple(parts) == PARTS
    assert all(0 <= seconds < 300 for seconds in parts.values())
    assert parts["torch"] > 0.05 and parts["first sound"] > 0.01


def test_what_fails_in_the_process_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cold start of nobody failed") as failure:
        measure_cold_start("nobody", tmp_path / "none.mid", n_rounds=1)
    assert "\n" not in str(failure.value)

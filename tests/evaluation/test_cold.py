"""Cold starts, in processes of their own."""

import time
from pathlib import Path

import pytest
from midi_files import midi_bytes, note

from specdiff_cli.errors import UsageError
from specdiff_cli.evaluation.cold import PARTS, measure_cold_start


def test_the_parts_are_what_the_command_took(tmp_path: Path) -> None:
    (tmp_path / "song.mid").write_bytes(midi_bytes(note(0, 480, 0, 60)))
    begun_s = time.time()
    parts = measure_cold_start("tiny", tmp_path / "song.mid", n_rounds=1)
    elapsed_s = time.time() - begun_s
    assert tuple(parts) == PARTS
    assert all(0 < seconds < elapsed_s for seconds in parts.values())
    assert parts["torch"] > 0.05 and parts["song"] > 0.01
    assert sum(parts.values()) == pytest.approx(elapsed_s, abs=0.05 * elapsed_s)
    assert [path.name for path in tmp_path.iterdir()] == ["song.mid"]


def test_what_fails_in_the_process_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cold start of nobody failed") as failure:
        measure_cold_start("nobody", tmp_path / "none.mid", n_rounds=1)
    assert "\n" not in str(failure.value)

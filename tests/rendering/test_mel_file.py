from pathlib import Path

import numpy as np
import pytest

from specdiff_cli.errors import OutputError
from specdiff_cli.rendering.mel_file import MelWriter

FRAMES = np.arange(5 * 128, dtype=np.float32).reshape(5, 128)


def test_windows_add_up_to_one_array(tmp_path: Path) -> None:
    target = tmp_path / "mel.npy"
    with MelWriter(target, 5) as writer:
        writer.write(FRAMES[:2])
        assert not target.exists()
        writer.write(FRAMES[2:])
    np.testing.assert_array_equal(np.load(target), FRAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["mel.npy"]


def test_nothing_is_left_after_an_exception(tmp_path: Path) -> None:
    target = tmp_path / "mel.npy"
    target.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), MelWriter(target, 5, overwrite=True) as writer:
        writer.write(FRAMES)
        raise KeyboardInterrupt
    assert target.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


def test_too_few_frames_are_a_bug_and_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 frames were written, 5 announced"), MelWriter(tmp_path / "x", 5) as writer:
        writer.write(FRAMES[:2])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_one_line() -> None:
    with pytest.raises(OutputError, match="no/such/mel.npy"), MelWriter(Path("no/such/mel.npy"), 5):
        pass


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "mel.npy"
    with pytest.raises(OutputError, match="appeared"), MelWriter(target, 5) as writer:
        writer.write(FRAMES)
        target.write_bytes(b"somebody else's")
    assert target.read_bytes() == b"somebody else's"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OutputError, match="exists already"):
        MelWriter(target, 5)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.npy").write_bytes(b"old")
    link = tmp_path / "mel.npy"
    link.symlink_to(tmp_path / "real.npy")
    with MelWriter(link, 5, overwrite=True) as writer:
        writer.write(FRAMES)
    assert link.is_symlink()
    np.testing.assert_array_equal(np.load(tmp_path / "real.npy"), FRAMES)

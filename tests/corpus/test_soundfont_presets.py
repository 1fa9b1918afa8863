import struct
from pathlib import Path

import pytest

from specdiff_cli.corpus.soundfont_presets import drum_kits, read_presets, stand_ins
from specdiff_cli.errors import UsageError


def _font(presets: list[tuple[int, int, str]], *, info_bytes: bytes = b"abc", is_padded: bool = True) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2 if is_padded else 0)

    rows = [*presets, (0, 0, "EOP")]
    headers = b"".join(struct.pack("<20sHHHIII", name.encode(), p, bank, 0, 0, 0, 0) for bank, p, name in rows)
    body = chunk(b"LIST", b"INFO" + info_bytes) + chunk(b"LIST", b"pdta" + chunk(b"phdr", headers))
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"sfbk" + body


@pytest.mark.parametrize("is_padded", [True, False])
def test_presets_are_read_from_their_headers_with_and_without_padding(tmp_path: Path, is_padded: bool) -> None:
    path = tmp_path / "font.sf2"
    path.write_bytes(_font([(0, 0, "Piano"), (0, 40, "Violin"), (128, 8, "Room")], is_padded=is_padded))
    presets = read_presets(path)
    assert presets == {(0, 0): "Piano", (0, 40): "Violin", (128, 8): "Room"}
    assert drum_kits(presets) == [8]


def test_a_missing_program_is_played_by_the_nearest_of_its_family() -> None:
    others = stand_ins({(0, 0): "Piano", (0, 5): "EP", (0, 40): "Violin"})
    assert others[3] == 5  # as far as 0 is not: the nearer one
    assert others[41] == 40
    assert others[48] == 40  # none of its family: the nearest of all
    assert 0 not in others


def test_a_font_without_programs_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no General MIDI programs"):
        stand_ins({(128, 0): "Standard"})
    path = tmp_path / "font.sf2"
    path.write_bytes(b"RIFF\4\0\0\0sfbk")
    with pytest.raises(UsageError, match=r"give an \.sf2 or \.sf3 file"):
        read_presets(path)

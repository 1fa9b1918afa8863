"""Names in MIDI files, whatever their encoding."""

import pytest

from specdiff_cli.midi.text import decode_texts


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Piano", "ascii"),
        ("Flöte", "latin-1"),
        ("Française, élève", "latin-1"),
        ("Ñandú", "latin-1"),
        ("ピアノ", "cp932"),
        ("左手", "cp932"),
        ("ドラム (Drums)", "cp932"),
        ("ﾋﾟｱﾉ", "cp932"),
        ("ピアノ", "utf-8"),
        ("Скрипка", "cp1251"),
        ("Левая рука", "cp1251"),
        ("Скрипка", "utf-8"),
        ("Violín", "utf-8"),
        ("Violin", "utf-16-le"),
        ("Violin", "utf-16-be"),
        ("ピアノ", "utf-16"),  # with its mark
        ("鋼琴", "utf-8"),
    ],
)
def test_what_can_be_told_is_told(text: str, encoding: str) -> None:
    assert decode_texts([text.encode(encoding)]) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"Piano\0\0", "Piano"),
        (
            "Flöte".encode("mac-roman"),
            "Flšte",
        ),  # of an old Macintosh: which letter cannot be told, but it is one letter
        ("Flûte à bec".encode("mac-roman"), None),
    ],
)
def test_what_cannot_be_told_stays_western(text: bytes, expected: str | None) -> None:
    (found,) = decode_texts([text])
    assert found == expected or expected is None and all(char < "\u3000" for char in found)


def test_a_short_name_is_read_as_the_rest_of_the_file() -> None:
    names = [text.encode("cp932") for text in ("ピアノの右手", "ﾋﾟ")]
    assert decode_texts(names) == ["ピアノの右手", "ﾋﾟ"]


def test_tags_of_lyrics_count() -> None:
    assert decode_texts([b"{@JP}" + "左".encode("cp932"), b"{@LATIN}\xe9"]) == ["左", "é"]


@pytest.mark.parametrize("text", [b"", b"\xff", b"\x81", bytes(range(256)), b"\xfe\xff\x00", b"\0\0\0\0"])
def test_any_bytes_become_text(text: bytes) -> None:
    assert isinstance(decode_texts([text])[0], str)

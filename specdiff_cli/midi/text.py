"""Texts in MIDI files: bytes of no declared encoding, made readable. What shows them must still make them safe."""

import re
from collections.abc import Sequence

# RP-026: a lyric may say which of two encodings follows.
_TAGS = {b"{@LATIN}": "latin-1", b"{@JP}": "cp932"}
_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_MIN_CYRILLIC_RUN = 3  # letters; no Latin word has as many accented ones in a row
_CYRILLIC_RUN = re.compile(rb"[\xc0-\xff\xa8\xb8]{%d,}" % _MIN_CYRILLIC_RUN)
_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
_WITHIN_A_WORD = re.compile(r"(?<=[A-Za-z])[\u3000-\u9fff](?=[A-Za-z])")
_HALF_WIDTH_KANA = re.compile(r"[\uff66-\uff9f]{3,}")


def decode_texts(texts: Sequence[bytes]) -> list[str]:
    """The texts of one file, which are taken to be in one encoding where each alone does not tell."""
    found = _encoding(b"\n".join(texts))
    return [_decode(text, found).rstrip("\0") for text in texts]  # some writers end names as C does


def _decode(text: bytes, of_file: str) -> str:
    for tag, encoding in (_TAGS | _MARKS).items():
        if text.startswith(tag):
            return text.removeprefix(tag).decode(encoding, "replace")
    if wide := _wide(text):
        return text.decode(wide, "replace")
    for encoding in ("utf-8", of_file):
        try:
            return text.decode(encoding)
        except UnicodeDecodeError:
            continue
    return text.decode("cp1252", "replace")


def _encoding(text: bytes) -> str:
    """The 8-bit or Japanese encoding that bytes look like; Western where nothing speaks for another."""
    try:
        japanese = text.decode("cp932")
    except UnicodeDecodeError:
        japanese = ""
    if japanese and _looks_japanese(text, japanese):
        return "cp932"
    n_high = sum(len(run) for run in _HIGH_BYTES.findall(text))
    n_cyrillic = sum(len(run) for run in _CYRILLIC_RUN.findall(text))
    return "cp1251" if n_cyrillic > n_high / 2 else "cp1252"


def _looks_japanese(text: bytes, decoded: str) -> bool:
    """Is it Shift-JIS, not something that only could be?

    Kana and common kanji begin with bytes of 81 to 9F, which Western text hardly has; half-width kana come in rows.
    """
    n_double = sum("\u3000" <= char <= "\u9fff" or "\uff01" <= char <= "\uff5e" for char in decoded)
    n_lead = sum(0x81 <= byte <= 0x9F for byte in text)
    if n_double == len(_WITHIN_A_WORD.findall(decoded)):  # an accent of another encoding, and the letter behind it
        n_double = 0
    return bool(n_double and n_lead >= n_double / 2) or bool(_HALF_WIDTH_KANA.search(decoded))


def _wide(text: bytes) -> str | None:
    """UTF-16 without a mark, by the zeros of its Latin letters."""
    if len(text) < 4 or len(text) % 2:
        return None
    n_pairs = len(text) // 2
    for encoding, zeros in (("utf-16-le", text[1::2]), ("utf-16-be", text[::2])):
        if zeros.count(0) > n_pairs * 0.7:
            return encoding
    return None

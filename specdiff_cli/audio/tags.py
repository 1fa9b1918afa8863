"""What stands beside the audio in a file: a comment, and the points between which a player repeats it.

libsndfile writes one comment into FLAC, Ogg and MP3 files. Here that comment is replaced, in a file that is otherwise
complete, by tags that take as many bytes; so nothing moves. Sources: RFC 9639 (FLAC), RFC 3533 (Ogg), RFC 7845 (Opus),
the Vorbis I specification (5.2.1), ID3v2.3.0, and Microsoft's RIFF description for ``smpl``.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

FLAC_BLOCKS_AT = 4
FLAC_COMMENTS = 4  # the block type
ID3_HEADER_BYTES = 10
MIDI_KEY = 60  # smpl names a pitch at which the samples sound as they are

_BIT_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Loop:
    """The samples, per channel, that a player repeats: from ``start`` up to but without ``end``."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"a loop from sample {self.start} to {self.end} holds nothing")

    @property
    def comments(self) -> list[str]:
        """As Vorbis comments, in the form that game engines read."""
        return [f"LOOPSTART={self.start}", f"LOOPLENGTH={self.end - self.start}"]


def smpl_chunk(loop: Loop, sample_rate_hz: int) -> bytes:
    """The content of a WAV file's ``smpl`` chunk with one endless forward loop."""
    period_ns = round(1e9 / sample_rate_hz)
    head = struct.pack("<9I", 0, 0, period_ns, MIDI_KEY, 0, 0, 0, 1, 0)
    return head + struct.pack("<6I", 0, 0, loop.start, loop.end - 1, 0, 0)  # the end here is the last sample played


def parse_smpl(content: bytes) -> Loop | None:
    """The first loop of a ``smpl`` chunk's content; None where it has none that makes sense."""
    if len(content) < 60:
        return None
    n_loops, start, last = struct.unpack_from("<28xI4x8x2I", content)
    return Loop(start, last + 1) if n_loops and start <= last else None


def parse_loop_comments(comments: Sequence[str]) -> Loop | None:
    """The loop that Vorbis comments state, with LOOPLENGTH or LOOPEND; None where they state none."""
    named = {name.upper(): value for name, _, value in (comment.partition("=") for comment in comments)}
    try:
        start = int(named["LOOPSTART"])
        end = start + int(named["LOOPLENGTH"]) if "LOOPLENGTH" in named else int(named["LOOPEND"])
        return Loop(start, end)
    except (KeyError, ValueError):
        return None


# --- Vorbis comments, as FLAC, Vorbis and Opus have them --------------------------------------------------------------


def pack_comments(vendor: bytes, comments: Sequence[str], n_bytes: int | None = None) -> bytes:
    """Vendor and comments; the first comment gets spaces behind it so that all take ``n_bytes``.

    Raises ValueError where they do not fit.
    """
    encoded = [comment.encode() for comment in comments]
    if n_bytes is not None:
        spare = n_bytes - (8 + len(vendor) + sum(4 + len(comment) for comment in encoded))
        if spare < 0:
            raise ValueError(f"the comments take {-spare} bytes more than there are")
        encoded[0] = encoded[0] + b" " * spare
    packed = struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(encoded))
    return packed + b"".join(struct.pack("<I", len(comment)) + comment for comment in encoded)


def unpack_comments(area: bytes) -> tuple[bytes, list[str], int]:
    """Vendor, comments, and the bytes that they take. Raises ValueError for what is none of these."""
    try:
        (n_vendor,) = struct.unpack_from("<I", area)
        vendor, at = area[4 : 4 + n_vendor], 4 + n_vendor
        (n_comments,) = struct.unpack_from("<I", area, at)
        at += 4
        comments = []
        for _ in range(min(n_comments, len(area))):
            (length,) = struct.unpack_from("<I", area, at)
            comments.append(area[at + 4 : at + 4 + length].decode(errors="replace"))
            at += 4 + length
    except struct.error:
        raise ValueError("the comments are cut off") from None
    if at > len(area):
        raise ValueError("the comments are cut off")
    return vendor, comments, at


def replace_comments(area: bytes, comments: Sequence[str]) -> bytes:
    """The area with other comments, and as long as before."""
    vendor, _, n_bytes = unpack_comments(area)
    return pack_comments(vendor, comments, n_bytes) + area[n_bytes:]


# --- FLAC -------------------------------------------------------------------------------------------------------------


def find_flac_comments(file: BinaryIO) -> tuple[int, bytes] | None:
    """Where a FLAC file's comments lie, and they; None where there are none."""
    at = FLAC_BLOCKS_AT
    while True:
        file.seek(at)
        head = file.read(4)
        if len(head) < 4:
            return None
        length = int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == FLAC_COMMENTS:
            return at + 4, file.read(length)
        if head[0] & 0x80:  # the last block
            return None
        at += 4 + length


def tag_flac(file: BinaryIO, comments: Sequence[str]) -> None:
    """Replace the comments of a finished FLAC file, which has some. Raises OSError as the file does."""
    found = find_flac_comments(file)
    if found is None:
        raise ValueError("the FLAC file has no comments to replace")
    at, area = found
    file.seek(at)
    file.write(replace_comments(area, comments))


# --- Ogg --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """A page of an Ogg stream."""

    at: int
    """Where it begins in the file."""
    head: bytes
    body: bytes

    @property
    def n_packets(self) -> int:
        """Packets that end on it."""
        return sum(length < 255 for length in self.head[27:])

    @property
    def checksum(self) -> int:
        """What the page says its checksum is."""
        return int(struct.unpack_from("<I", self.head, 22)[0])

    def signed(self, serial: int | None = None, body: bytes | None = None) -> "Page":
        """The page with the checksum that it should have, and another serial number or body of the same length."""
        number = self.head[14:18] if serial is None else struct.pack("<I", serial)
        head = self.head[:14] + number + self.head[18:22] + bytes(4) + self.head[26:]
        content = self.body if body is None else body
        return Page(self.at, head[:22] + struct.pack("<I", ogg_checksum(head + content)) + head[26:], content)


def ogg_checksum(data: bytes) -> int:
    """CRC-32 with the bits of every byte the other way round than zlib has them, and nothing inverted."""
    reflected = zlib.crc32(data.translate(_BIT_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)


def read_pages(file: BinaryIO) -> Iterator[Page]:
    """The pages from the file's position on, up to the first thing that is not a whole page. Seeks on its own."""
    at = file.tell()
    while True:
        file.seek(at)
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            return
        head += file.read(head[26])
        n_bytes = sum(head[27:])
        body = file.read(n_bytes)
        if len(head) < 27 + head[26] or len(body) < n_bytes:
            return
        yield Page(at, head, body)
        at += len(head) + n_bytes


def header_pages(file: BinaryIO) -> list[Page]:
    """The pages of a Vorbis or Opus stream in front of its audio; [] where the file is no such stream."""
    file.seek(0)
    pages: list[Page] = []
    for page in read_pages(file):
        pages.append(page)
        n_headers = 2 if pages[0].body.startswith(b"OpusHead") else 3
        if sum(page.n_packets for page in pages) >= n_headers:
            return pages
    return []


def ogg_comments(pages: Sequence[Page]) -> list[str]:
    """The comments on header pages; [] where there are none."""
    content = b"".join(page.body for page in pages[1:])
    try:
        return unpack_comments(content[_magic_bytes(content) :])[1]
    except ValueError:
        return []


def tag_ogg(file: BinaryIO, comments: Callable[[int], Sequence[str]], serial: int) -> None:
    """Give all pages of a finished Ogg file a serial number, and replace its comments.

    ``comments`` is called with the offset of the audio once the audio stands as it will be.
    """
    pages = header_pages(file)
    audio_at = pages[-1].at + len(pages[-1].head) + len(pages[-1].body)
    file.seek(audio_at)
    for page in read_pages(file):
        _put(file, page.signed(serial))
    content = b"".join(page.body for page in pages[1:])
    n_magic = _magic_bytes(content)
    content = content[:n_magic] + replace_comments(content[n_magic:], comments(audio_at))
    _put(file, pages[0].signed(serial))
    for page in pages[1:]:
        body, content = content[: len(page.body)], content[len(page.body) :]
        _put(file, page.signed(serial, body))


def _magic_bytes(content: bytes) -> int:
    return len(b"OpusTags") if content.startswith(b"OpusTags") else len(b"\x03vorbis")


def _put(file: BinaryIO, page: Page) -> None:
    file.seek(page.at)
    file.write(page.head + page.body)


# --- ID3, in front of MP3 ---------------------------------------------------------------------------------------------


def id3_bytes(file: BinaryIO) -> int:
    """How many bytes the ID3v2 tag at the beginning of a file takes; 0 where there is none."""
    file.seek(0)
    head = file.read(ID3_HEADER_BYTES)
    if len(head) < ID3_HEADER_BYTES or head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:]:  # seven bits each
        size = size << 7 | byte & 0x7F
    return ID3_HEADER_BYTES + size


def tag_mp3(file: BinaryIO, comment: str) -> None:
    """Replace the comment (of ASCII) in the ID3v2.3 tag of a finished MP3 file. Raises ValueError if it is too long."""
    n_bytes = id3_bytes(file)
    file.seek(0)
    tag = file.read(n_bytes)
    at = ID3_HEADER_BYTES
    while at + 10 <= n_bytes and tag[at : at + 4] != b"COMM":
        at += 10 + int.from_bytes(tag[at + 4 : at + 8], "big")
    length = int.from_bytes(tag[at + 4 : at + 8], "big")
    # encoding (a byte), language (three), and a description that ends with a zero come before the text
    text_at = tag.index(b"\0", at + 14) + 1
    room = at + 10 + length - text_at
    if len(comment) > room:
        raise ValueError(f"the comment takes {len(comment) - room} bytes more than there are")
    file.seek(text_at)
    file.write(comment.encode("ascii").ljust(room))

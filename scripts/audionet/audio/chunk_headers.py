"""Sizes that the headers of WAV, AIFF, AU, CAF and similar files state for their sound.

libsndfile corrects a size that cannot be true without a word, so a file that was cut off, or whose recorder stopped
before it could fill in the header, looks whole.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO, NamedTuple

_MOST_CHUNKS = 1_000

_UNKNOWN_SIZES = (range(0x7F00_0000, 0x7F00_0100), range(0x7FFF_F000, 0x8000_1000), range(0xFFFF_F000, 0x1_0000_0000))
"""Sizes that programs writing WAV to a pipe put in the header because they do not know the length yet."""

_LARGEST_FILE = 1 << 45  # bytes; a header that states more was written to a pipe

_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


class DataChunk(NamedTuple):
    """Place of a file's sound, in bytes.

    Attributes
    ----------
    offset : int
    present : int
        Bytes from there to the file's end.
    stated : int or None
        Bytes that the header states; None if it states none on purpose: the sound goes on to the file's end.
    filled_in : bool
        False if the header was never completed: it says that there is no sound, and the file goes on.
    """

    offset: int
    present: int
    stated: int | None
    filled_in: bool = True


class _Layout(NamedTuple):
    """Order of the chunks of a format.

    `first` is the offset of the first one, `head` the struct of its name and size, `data` the name of the one that
    holds the sound, `whole` says whether the size counts this head, `align` what sizes are rounded up to, and `skipped`
    what precedes the samples in the chunk.
    """

    first: int
    head: str
    data: bytes
    whole: bool = False
    align: int = 2
    skipped: int = 0


_LAYOUTS = {
    b"RIFF": _Layout(12, "<4sI", b"data"),
    b"RIFX": _Layout(12, ">4sI", b"data"),
    b"RF64": _Layout(12, "<4sI", b"data"),
    b"BW64": _Layout(12, "<4sI", b"data"),
    b"FORM": _Layout(12, ">4sI", b"SSND", skipped=8),
    b"caff": _Layout(8, ">4sq", b"data", align=1, skipped=4),
    b"riff": _Layout(40, "<16sQ", _W64_DATA, whole=True, align=8),
}


def data_chunk(file: BinaryIO) -> DataChunk | None:
    """Find the sound in a file; None if its format is none of those above, or it holds none."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    magic = file.read(1024)
    if magic[:4] in (b".snd", b"dns.") and len(magic) >= 12:
        offset, stated = struct.unpack_from(">II" if magic[:4] == b".snd" else "<II", magic, 4)
        return _chunk(offset, size, None if stated == 0xFFFFFFFF else stated, filled_in=stated != 0)
    if magic[:7] == b"NIST_1A":
        return _nist(magic, size)
    layout = _LAYOUTS.get(magic[:4])
    return _find(file, size, magic[:4], layout) if layout else None


def missing_share(chunk: DataChunk | None) -> float:
    """Return what a file lacks of the bytes that its header states for its sound, as a share of those it has."""
    if chunk is None or chunk.stated is None or not chunk.filled_in or not chunk.present:
        return 0.0
    return max(0.0, chunk.stated / chunk.present - 1)


def _find(file: BinaryIO, size: int, magic: bytes, layout: _Layout) -> DataChunk | None:
    offset = layout.first
    long_size: int | None = None  # RF64 states the size of its sound in a chunk of its own
    for _ in range(_MOST_CHUNKS):
        if offset > size:
            return None
        file.seek(offset)
        head = file.read(struct.calcsize(layout.head))
        if len(head) < struct.calcsize(layout.head):
            return None
        name, length = struct.unpack(layout.head, head)
        if layout.whole:
            length -= len(head)
        offset += len(head)
        if name == b"ds64" and len(body := file.read(16)) == 16:
            long_size = int.from_bytes(body[8:], "little")
        if name == layout.data:
            offset += layout.skipped
            if long_size is not None and length == 0xFFFFFFFF:
                length = long_size
            empty = length <= layout.skipped and not (magic == b"caff" and length < 0)
            unknown = length < 0 or (long_size is None and _is_unknown(length))
            stated = None if unknown and not empty else max(0, length - layout.skipped)
            return _chunk(offset, size, stated, filled_in=not empty or _is_really_empty(file, magic, offset, size))
        if length < 0:
            return None
        offset += -(-length // layout.align) * layout.align
    return None


def _chunk(offset: int, size: int, stated: int | None, filled_in: bool) -> DataChunk | None:
    return DataChunk(offset, size - offset, stated, filled_in or size <= offset) if offset <= size else None


def _is_unknown(length: int) -> bool:
    return length > _LARGEST_FILE or any(length in sizes for sizes in _UNKNOWN_SIZES)


def _is_really_empty(file: BinaryIO, magic: bytes, offset: int, size: int) -> bool:
    """Return whether a file without sound is complete: its own size is right, and another chunk may follow."""
    file.seek(offset)
    following = file.read(4)
    return _outer_size_fits(file, magic, size) and all(32 <= byte < 127 for byte in following)


def _outer_size_fits(file: BinaryIO, magic: bytes, size: int) -> bool:
    """Return whether the size of the whole file is stated as it is: then its sound really is empty."""
    file.seek(0)
    head = file.read(40)
    if magic in (b"RIFF", b"RIFX", b"FORM"):
        return int.from_bytes(head[4:8], "little" if magic == b"RIFF" else "big") + 8 in (size, size + 1)
    if magic == b"riff":
        return int.from_bytes(head[16:24], "little") in range(size, size + 8)
    if magic in (b"RF64", b"BW64"):
        return head[12:16] == b"ds64" and int.from_bytes(head[20:28], "little") + 8 in (size, size + 1)
    return False


def _nist(magic: bytes, size: int) -> DataChunk | None:
    """Read a NIST SPHERE header: text of 1,024 bytes or more, one field a line."""
    fields = dict(re.findall(rb"^(\w+) -i (\d+)\s*$", magic, re.MULTILINE))
    length = re.match(rb"NIST_1A\s+(\d+)", magic)
    try:
        offset = int(length[1]) if length else 1024
        size_of_one = int(fields.get(b"sample_n_bytes", 1)) * int(fields.get(b"channel_count", 1))
        stated = int(fields[b"sample_count"]) * size_of_one
    except KeyError:
        return None
    return _chunk(offset, size, stated, filled_in=stated != 0)


_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST = 1


def asf_seconds(head: bytes) -> float | None:
    """Return the duration that the header of an ASF file (WMA, WMV) states, given its first kilobytes.

    Notes
    -----
    Advanced Systems Format Specification, section 3.2.
    """
    place = head.find(_ASF_PROPERTIES)
    if place < 0 or len(head) < place + 92:
        return None
    play, _, preroll, flags = struct.unpack_from("<QQQI", head, place + 64)
    return None if flags & _ASF_BROADCAST else play / 1e7 - preroll / 1e3


def matroska_seconds(head: bytes) -> float | None:
    """Return the duration that the header of a Matroska file states, given its first kilobytes.

    Notes
    -----
    RFC 9559, sections 5.1.2.9 and 5.1.2.10: Duration in units of TimestampScale, which is 1 ms unless stated.
    """
    place = head.find(b"\x44\x89")
    size = {0x84: 4, 0x88: 8}.get(head[place + 2]) if 0 <= place < len(head) - 11 else None
    if size is None:
        return None
    (units,) = struct.unpack_from(">f" if size == 4 else ">d", head, place + 3)
    scale = head.find(b"\x2a\xd7\xb1")
    nanoseconds = 1_000_000
    if 0 <= scale < len(head) - 11 and 0x81 <= head[scale + 3] <= 0x88:
        nanoseconds = int.from_bytes(head[scale + 4 : scale + 4 + (head[scale + 3] & 0x7F)])
    return float(units) * nanoseconds / 1e9


def avi_missing_share(file: BinaryIO) -> float:
    """Return what an AVI file lacks of the bytes that its header states, as a share of those it has."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    head = file.read(12)
    stated = int.from_bytes(head[4:8], "little") + 8
    if head[:4] != b"RIFF" or head[8:] != b"AVI " or _is_unknown(stated - 8):
        return 0.0
    return max(0.0, stated / size - 1)

"""Walks over the frames of MP3 files and the pages of Ogg files, without decoding them.

libsndfile believes what an MP3's header says of its length, or guesses it from the first frame, and ends with the
first of several Ogg streams. These walks show where it may be believed.
"""

from __future__ import annotations

import functools
import os
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np

_BLOCK_BYTES = 1 << 18  # smaller blocks take longer
_NO_FRAME = 1 << 40  # bytes; longer than any file, so that a walk ends at a header that no frame has

# Of the bytes of a frame's header, what all frames of a stream have in common: sync, version and layer; sample rate;
# mono or not. Not protection, bit rate, padding, the private bit, mode extension, copyright, original and emphasis.
_SAME_BITS = (0xFF, 0xFE, 0x0C)
_MONO = 0xC0

_RATES = (44_100, 48_000, 32_000)
_KBITS = {  # by (MPEG-1?, layer), for the indices 1 to 14
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_TAG_BYTES = 1 << 16
_FLAC_HEAD = b"fLaC\0\0\0\x22"  # with the head of its STREAMINFO block
_BEGINS = 2  # flag of a stream's first page
_LONGEST_OPUS_PACKET = 5760  # samples at 48 kHz
_OPUS_FRAMES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4  # by configuration
MP3_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"3DI")
"""First bytes of the tags that lie before, between and after the frames of MP3 files."""


class Mp3Frames(NamedTuple):
    """Frames of an MP3 file.

    Attributes
    ----------
    frames : int
        Number of whole frames that hold sound.
    samples : int
        Samples a frame.
    rate : int
        Samples a second.
    stated : int or None
        Number of frames that the Xing header states.
    uniform : bool
        True if the file holds nothing else but tags at both ends, and all frames are of one kind.
    """

    frames: int
    samples: int
    rate: int
    stated: int | None
    uniform: bool


def walk_mp3(file: BinaryIO) -> Mp3Frames | None:
    """Walk over the frames of an MPEG audio file of layer I, II or III; None if it does not begin with one.

    Notes
    -----
    ISO/IEC 11172-3, section 2.4.2.3, and 13818-3 for the lower rates.
    """
    size = os.fstat(file.fileno()).st_size
    position = _skip_id3(file)
    file.seek(position)
    first = file.read(4096)
    kind = _Kind.of(first)
    if kind is None:
        return None
    lengths = _lengths(kind.mpeg1, kind.layer, kind.rate)
    count = 0
    while True:
        file.seek(position)
        data = file.read(_BLOCK_BYTES)
        inside, last, places = 0, len(data) - 4, []
        while inside <= last:
            places.append(inside)
            inside += lengths[data[inside + 2]]
        good = _headers_like(first, data, places)
        count += good
        position += places[good] if good < len(places) else inside
        if good < len(places) or len(data) < _BLOCK_BYTES:
            break
    if position > size:
        count -= 1  # the last one is not whole
    stated, is_header = _xing(first, kind)
    return Mp3Frames(count - is_header, kind.samples, kind.rate, stated, _only_tags(file, position, size))


class _Kind(NamedTuple):
    """Version, layer, rate and number of channels of an MPEG audio stream."""

    mpeg1: bool
    layer: int
    rate: int
    mono: bool

    @classmethod
    def of(cls, head: bytes) -> _Kind | None:
        """Read a frame's header; None if it is none."""
        if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
            return None
        version, layer, index = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 2 & 3
        if version == 1 or layer == 4 or index == 3 or head[2] >> 4 in (0, 15):
            return None
        rate = _RATES[index] // {3: 1, 2: 2, 0: 4}[version]
        return cls(version == 3, layer, rate, head[3] & _MONO == _MONO)

    @property
    def samples(self) -> int:
        """Samples a frame."""
        return {1: 384, 2: 1152, 3: 1152 if self.mpeg1 else 576}[self.layer]


@functools.cache
def _lengths(mpeg1: bool, layer: int, rate: int) -> list[int]:
    """Return the length in bytes of a frame for every third byte of its header."""
    samples = _Kind(mpeg1, layer, rate, mono=False).samples
    slot = 4 if layer == 1 else 1
    lengths = [_NO_FRAME] * 256
    for index, kbits in enumerate(_KBITS[mpeg1, layer], start=1):
        for rest in range(16):
            padding = rest >> 1 & 1
            lengths[index << 4 | rest] = (samples // 8 * kbits * 1000 // rate // slot + padding) * slot
    return lengths


def _headers_like(first: bytes, data: bytes, places: list[int]) -> int:
    """Return how many of the headers at these places, from the first on, are of the first header's kind."""
    if not places:
        return 0
    array = np.frombuffer(data, np.uint8)
    at = np.array(places)
    same = np.ones(len(at), bool)
    for offset, bits in enumerate(_SAME_BITS):
        same &= array[at + offset] & bits == first[offset] & bits
    bit_rates = array[at + 2] >> 4
    same &= (bit_rates > 0) & (bit_rates < 15)
    same &= (array[at + 3] & _MONO == _MONO) == (first[3] & _MONO == _MONO)
    return len(at) if same.all() else int(same.argmin())


def _skip_id3(file: BinaryIO, position: int = 0) -> int:
    """Return where the ID3v2 tags that begin at a position end."""
    while True:
        file.seek(position)
        head = file.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            return position
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if head[5] & 0x10 else 0)


def _xing(first: bytes, kind: _Kind) -> tuple[int | None, bool]:
    """Return the number of frames that the first frame states, and whether it is such a header and holds no sound."""
    place = 4 + ((17 if kind.mono else 32) if kind.mpeg1 else (9 if kind.mono else 17))
    if kind.layer != 3 or first[place : place + 4] not in (b"Xing", b"Info") or len(first) < place + 12:
        return None, False
    count = int.from_bytes(first[place + 8 : place + 12]) if first[place + 7] & 1 else 0
    return count or None, True


def _only_tags(file: BinaryIO, position: int, size: int) -> bool:
    """Return whether nothing but tags and padding follows the last frame."""
    while position < size:
        position = _skip_id3(file, position)
        file.seek(position)
        head = file.read(_TAG_BYTES)
        if head.startswith(b"TAG"):
            position += 227 if head.startswith(b"TAG+") else 128
        elif head.startswith(b"APETAGEX"):
            position += 32 + int.from_bytes(head[12:16], "little")
        elif head.startswith(b"LYRICSBEGIN") and b"LYRICS200" in head:
            position += head.index(b"LYRICS200") + 9
        else:
            break
    file.seek(position)
    return all(not block.strip(b"\0") for block in iter(functools.partial(file.read, _BLOCK_BYTES), b""))


class OggPages(NamedTuple):
    """Pages of an Ogg file.

    Attributes
    ----------
    single : bool
        True if they are those of one stream without gaps, from its first one on.
    intact : bool
        False if one is missing or damaged.
    whole : bool
        False if the last one is not all there.
    """

    single: bool
    intact: bool
    whole: bool


def walk_ogg(file: BinaryIO) -> OggPages:
    """Walk over the pages of an Ogg file, and check them.

    Notes
    -----
    RFC 3533, section 6.
    """
    file.seek(0)
    next_page: dict[bytes, int] = {}  # of each stream
    single, granules = True, None
    while head := file.read(27):
        segments = file.read(head[26]) if len(head) == 27 else b""
        body = file.read(sum(segments))
        if head[:4] != b"OggS":
            return OggPages(single=False, intact=False, whole=True)
        if len(head) < 27 or len(segments) < head[26] or len(body) < sum(segments):
            return OggPages(single, intact=True, whole=False)
        serial, number = head[14:18], int.from_bytes(head[18:22], "little")
        if head[5] & _BEGINS:
            single = single and not next_page
            granules = _Granules.of(body)
        elif next_page.get(serial) != number:
            return OggPages(single=False, intact=False, whole=True)
        if not _checksum_fits(head, segments + body):
            return OggPages(single=False, intact=False, whole=True)
        next_page[serial] = number + 1
        single = single and granules is not None and granules.follow(head, segments, body)
    return OggPages(single and bool(next_page), intact=True, whole=True)


class _Granules:
    """Checks that the positions of pages leave no gap, and cut nothing off but what an encoder put in front.

    Parameters
    ----------
    longest, shortest : int
        Samples that a packet may give, at most and at least; for Opus, where each packet says it, 0.
    """

    def __init__(self, longest: int, shortest: int) -> None:
        self._longest = longest
        self._shortest = shortest
        self._position: int | None = None

    @classmethod
    def of(cls, head: bytes) -> _Granules | None:
        """Return the check for a stream with this first packet; None if it is neither Vorbis nor Opus."""
        if head.startswith(b"\x01vorbis") and len(head) >= 29:
            return cls((1 << (head[28] >> 4)) // 2, (1 << (head[28] & 15)) // 2)
        return cls(0, 0) if head.startswith(b"OpusHead") else None

    def follow(self, head: bytes, segments: bytes, body: bytes) -> bool:
        """Take note of the next page; return False if samples are missing before its end."""
        position = int.from_bytes(head[6:14], "little", signed=True)
        if position <= 0:  # a header, or a page on which no packet ends
            return True
        before, self._position = self._position, position
        packets = sum(length < 255 for length in segments)
        if before is None:
            return position >= (packets - 1) * self._shortest
        longest = packets * self._longest or _opus_samples(segments, body)
        return position - before <= longest


def _opus_samples(segments: bytes, body: bytes) -> int:
    """Return the samples at 48 kHz of the packets on a page, the one that goes on from the page before included.

    Notes
    -----
    RFC 6716, section 3.1.
    """
    total = place = 0
    begins = True
    for length in segments:
        if begins and place < len(body):
            code, config = body[place] & 3, body[place] >> 3
            frame = _OPUS_FRAMES[config]
            count = (1, 2, 2, body[place + 1] & 0x3F if length > 1 else 1)[code]
            total += frame * count
        place += length
        begins = length < 255
    return total + _LONGEST_OPUS_PACKET if segments and segments[0] == 255 else total


_BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _checksum_fits(head: bytes, rest: bytes) -> bool:
    """Return whether a page's checksum is right.

    It is the CRC-32 that zlib computes, but with the bits of every byte in the other order, and from 0 to 0.
    """
    page = (head[:22] + bytes(4) + head[26:27] + rest).translate(_BITS_REVERSED)
    checksum = zlib.crc32(page, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return checksum.to_bytes(4, "big").translate(_BITS_REVERSED) == head[22:26]


def is_single_flac(file: BinaryIO) -> bool:
    """Return whether no second FLAC file follows in a file."""
    file.seek(4)
    overlap = b""
    for block in iter(functools.partial(file.read, _BLOCK_BYTES), b""):
        if _FLAC_HEAD in overlap + block:
            return False
        overlap = block[-len(_FLAC_HEAD) :]
    return True

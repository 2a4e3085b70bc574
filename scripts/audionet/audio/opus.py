"""Opus as it arrives: packets, from an Ogg stream or one by one, and Ogg files of some of them; decodes nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av

from audionet.errors import RecordingError

OPUS_RATE = 48_000
"""Rate of Opus's clock, Hz."""

_FRAME_MS = ((10, 20, 40, 60), (10, 20), (2.5, 5, 10, 20))  # SILK, hybrid, CELT
_MOST_MS = 120
_PAGE_HEAD = 27  # bytes, without the table of segments
_MOST_BYTES = 1 << 20  # of a packet, or of a page that is not complete: the comments may hold a picture
_BEGINS = 2  # bit of a page's type
_HEADERS = 2  # packets before the sound


def packet_samples(packet: bytes) -> int:
    """Return the duration of an Opus packet in samples at 48 kHz (RFC 6716, section 3.1).

    Raises
    ------
    RecordingError
        If it is no Opus packet.
    """
    number = packet[0] >> 3 if packet else 0
    sizes = _FRAME_MS[0] if number < 12 else _FRAME_MS[1] if number < 16 else _FRAME_MS[2]
    size = sizes[number % len(sizes)]
    code = packet[0] & 3 if packet else 3
    frames = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
    if not 0 < frames * size <= _MOST_MS:
        raise RecordingError("is no packet of Opus")
    return round(frames * size * OPUS_RATE / 1000)


class OggOpus:
    """Takes an Ogg Opus stream apart as it arrives (RFC 3533, RFC 7845)."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._packet = bytearray()
        self._packets = 0

    def add(self, data: bytes) -> Iterator[bytes]:
        """Add the next bytes, and yield the packets of sound that are complete.

        Raises
        ------
        RecordingError
            If it is no Ogg stream, or not of Opus in one or two channels.
        """
        self._data += data
        while (page := self._next_page()) is not None:
            kind, sizes, body = page
            if kind & _BEGINS:  # another stream may be chained to the last
                self._packets = 0
                self._packet.clear()
            place = 0
            for size in sizes:
                self._packet += body[place : place + size]
                place += size
                if len(self._packet) > _MOST_BYTES:
                    raise _damaged()
                if size < 255:
                    packet = bytes(self._packet)
                    self._packet.clear()
                    self._packets += 1
                    if self._packets == 1:
                        _check_head(packet)
                    elif self._packets > _HEADERS and packet:
                        yield packet

    def _next_page(self) -> tuple[int, bytes, bytes] | None:
        """Remove a whole page from the data; return its type, its table of segments and its body."""
        data = self._data
        if not b"OggS".startswith(data[:4]):
            raise _damaged()
        if len(data) < _PAGE_HEAD or len(data) < _PAGE_HEAD + data[26]:
            return None
        start = _PAGE_HEAD + data[26]
        sizes = bytes(data[_PAGE_HEAD:start])
        end = start + sum(sizes)
        if len(data) < end:
            return None
        kind, body = data[5], bytes(data[start:end])
        del data[:end]
        return kind, sizes, body


def _check_head(packet: bytes) -> None:
    """Refuse another codec's stream, and channels beyond stereo, which the packets alone would not describe."""
    if packet[:8] != b"OpusHead" or len(packet) < 19 or packet[18] != 0:
        raise RecordingError("is no Ogg stream of Opus in one or two channels")


def _damaged() -> RecordingError:
    return RecordingError("is no Ogg stream, or damaged")


def ogg_file(packets: Sequence[bytes]) -> bytes:
    """Make an Ogg Opus file of packets.

    A decoder leaves out its first 6.5 ms, and needs 80 ms to be exact (RFC 7845, sections 4.2 and 4.6).

    Raises
    ------
    RecordingError
        If one is no Opus packet.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg") as file:
        stream = file.add_stream("libopus", rate=OPUS_RATE)
        stream.codec_context.layout = "mono"
        place = 0
        for content in packets:
            packet = av.Packet(content)
            packet.stream = stream
            packet.time_base = Fraction(1, OPUS_RATE)
            packet.pts = packet.dts = place
            packet.duration = packet_samples(content)
            place += packet.duration
            file.mux(packet)
    return buffer.getvalue()

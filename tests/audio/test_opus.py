from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from audionet.audio.decoding import open_sound
from audionet.audio.opus import OPUS_RATE, OggOpus, ogg_file, packet_samples
from audionet.errors import RecordingError
from tests.support.opus import opus_packets

TONE = 0.3 * np.sin(2 * np.pi * 440 * np.arange(OPUS_RATE) / OPUS_RATE)


@pytest.mark.parametrize(
    ("packet", "milliseconds"),
    [  # RFC 6716, tables 2 and 3: configuration, then the code of the number of frames
        (bytes([0 << 3]), 10),
        (bytes([3 << 3]), 60),
        (bytes([11 << 3 | 1]), 120),
        (bytes([13 << 3 | 2]), 40),
        (bytes([16 << 3]), 2.5),
        (bytes([31 << 3]), 20),
        (bytes([31 << 3 | 3, 5]), 100),
        (bytes([28 << 3 | 3, 0b11000000 | 48]), 120),
    ],
)
def test_duration_of_a_packet(packet: bytes, milliseconds: float) -> None:
    assert packet_samples(packet) == milliseconds * 48


@pytest.mark.parametrize("packet", [b"", bytes([3]), bytes([3, 0]), bytes([3 << 3 | 3, 3])])
def test_other_bytes_are_no_packet(packet: bytes) -> None:
    with pytest.raises(RecordingError, match="no packet of Opus"):
        packet_samples(packet)


def test_ogg_file_of_packets_holds_their_sound(tmp_path: Path) -> None:
    path = tmp_path / "part.opus"
    path.write_bytes(ogg_file(opus_packets(TONE)[10:40]))
    with open_sound(path) as sound:
        assert sound.rate == OPUS_RATE
        samples = np.concatenate(list(sound.mono()))
    assert len(samples) == 30 * 960 - 312  # the decoder's delay
    spectrum = np.abs(np.fft.rfft(samples[4800:14400]))
    assert spectrum.argmax() * OPUS_RATE / 9600 == pytest.approx(440, abs=5)
    assert np.abs(samples[4800:]).max() == pytest.approx(0.3, abs=0.02)


@given(st.lists(st.integers(1, 400), max_size=30))
def test_an_ogg_stream_is_taken_apart_wherever_it_is_cut(sizes: list[int]) -> None:
    packets = opus_packets(TONE)[:40]
    stream = io.BytesIO(ogg_file(packets))
    ogg = OggOpus()
    found = [packet for size in sizes for packet in ogg.add(stream.read(size))]
    found += ogg.add(stream.read())
    assert found == packets


def test_chained_streams_are_one() -> None:
    packets = opus_packets(TONE)
    ogg = OggOpus()
    assert [*ogg.add(ogg_file(packets[:20])), *ogg.add(ogg_file(packets[20:]))] == packets


def vorbis() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(4800), OPUS_RATE, format="OGG", subtype="VORBIS")
    return buffer.getvalue()


def surround() -> bytes:
    whole = ogg_file(opus_packets(TONE)[:10])
    place = whole.index(b"OpusHead") + 18
    return whole[:place] + b"\x01" + whole[place + 1 :]


@pytest.mark.parametrize(
    "content",
    [b"RIFF", b"Ogg?", vorbis(), surround(), ogg_file(opus_packets(TONE))[:200] + b"\xff" * 300],
    ids=["wav", "other", "vorbis", "surround", "damaged"],
)
def test_other_streams_are_refused(content: bytes) -> None:
    with pytest.raises(RecordingError, match="no Ogg stream"):
        list(OggOpus().add(content + bytes(70_000)))


def test_a_packet_without_end_is_refused() -> None:
    page = b"OggS" + bytes(22) + b"\xff" + b"\xff" * 255 + bytes(255 * 255)
    ogg = OggOpus()
    with pytest.raises(RecordingError, match="no Ogg stream"):
        for _ in range(20):
            list(ogg.add(page))


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_taken_or_refused(content: bytes, marked: bool) -> None:
    try:
        for packet in OggOpus().add(b"OggS" + content if marked else content):
            packet_samples(packet)
    except RecordingError:
        pass

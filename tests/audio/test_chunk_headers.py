"""What headers state, in files that were cut off or never finished."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from audionet.audio.chunk_headers import data_chunk, matroska_seconds
from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import open_sound
from audionet.audio.recording import Recording
from audionet.errors import RecordingError
from tests.support.sounds import tone

SECOND = SpectrogramConfig(chunk_seconds=1.0)
KINDS = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST"]
SUBTYPES = ["PCM_16", "PCM_24", "ULAW"]


def make(path: Path, kind: str, subtype: str = "PCM_16") -> bytearray:
    soundfile.write(path, np.stack([tone(500, 10), tone(600, 10)], axis=1), 16_000, format=kind, subtype=subtype)
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_whole_file_is_whole(tmp_path: Path, kind: str, subtype: str) -> None:
    path = tmp_path / f"x.{kind.lower()}"
    make(path, kind, subtype)
    recording = Recording(path, SECOND)
    assert len(list(recording)) == 10
    assert recording.remarks == []
    with path.open("rb") as file:
        chunk = data_chunk(file)
    assert chunk is not None
    assert chunk.stated == 160_000 * 2 * {"PCM_16": 2, "PCM_24": 3, "ULAW": 1}[subtype]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, kind: str, subtype: str) -> None:
    path = tmp_path / f"x.{kind.lower()}"
    content = make(path, kind, subtype)
    path.write_bytes(content[: len(content) * 2 // 5])
    chunks = []
    with pytest.raises(RecordingError, match=r"cut short: its header promises 10\.0 s, it holds (4\.0|3\.9|3\.8) s"):
        for chunk in Recording(path, SECOND):
            chunks.append(chunk)
    assert 3 <= len(chunks) <= 4


def forget_sizes(content: bytearray, kind: str) -> None:
    """Set the sizes in a header to what a recorder writes first."""
    if kind in ("WAV", "WAVEX"):
        place = content.find(b"data")
        content[4:8] = content[place + 4 : place + 8] = bytes(4)
    elif kind == "RF64":
        place = content.find(b"ds64")
        content[place + 8 : place + 32] = bytes(24)
    elif kind == "W64":
        content[16:24] = bytes(8)
        place = content.find(b"data")
        content[place + 16 : place + 24] = struct.pack("<Q", 24)
    elif kind == "AIFF":
        content[4:8] = bytes(4)
        place = content.find(b"COMM")
        content[place + 10 : place + 14] = bytes(4)
        place = content.find(b"SSND")
        content[place + 4 : place + 8] = struct.pack(">I", 8)
    elif kind == "AU":
        content[8:12] = bytes(4)
    else:
        place = content.find(b"data")
        content[place + 4 : place + 12] = struct.pack(">q", 4)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF"])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_recorder_that_crashed(tmp_path: Path, kind: str, subtype: str) -> None:
    path = tmp_path / f"x.{kind.lower()}"
    content = make(path, kind, subtype)
    with open_sound(path) as sound:
        whole = np.concatenate(list(sound.mono()))
    forget_sizes(content, kind)
    path.write_bytes(content)
    with open_sound(path) as sound:
        found = np.concatenate(list(sound.mono()))
        assert sound.remarks == ["its header was never filled in, as when a recorder crashes; what follows it is used"]
        assert sound.can_seek
        np.testing.assert_array_equal(np.concatenate(list(sound.mono(50_000))), whole[50_000:160_000])
    np.testing.assert_array_equal(found[:160_000], whole)
    assert len(found) <= 160_000 + 100  # a chunk that followed the sound


@pytest.mark.parametrize(
    ("kind", "size"),
    [("WAV", 0x7F000000), ("WAV", 0x7FFFFFFF), ("WAV", 0xFFFFFFFF), ("AIFF", 0x7F000008), ("W64", (1 << 63) - 24)],
)
def test_a_size_that_says_unknown_promises_nothing(tmp_path: Path, kind: str, size: int) -> None:
    content = make(tmp_path / "x", kind)
    place = content.find({"AIFF": b"SSND"}.get(kind, b"data"))
    if kind == "W64":
        content[place + 16 : place + 24] = size.to_bytes(8, "little")
    else:
        content[place + 4 : place + 8] = size.to_bytes(4, "big" if kind == "AIFF" else "little")
    (tmp_path / "x").write_bytes(content)
    recording = Recording(tmp_path / "x", SECOND)
    assert len(list(recording)) == 10
    assert recording.remarks == []


def test_a_length_of_zero_in_a_wav_that_goes_on(tmp_path: Path) -> None:
    content = make(tmp_path / "x.wav", "WAV")
    place = content.find(b"data")
    content[place + 4 : place + 8] = bytes(4)  # and the size of the whole file is right
    (tmp_path / "x.wav").write_bytes(content)
    assert len(list(Recording(tmp_path / "x.wav", SECOND))) == 10


@pytest.mark.parametrize("kind", ["WAV", "W64", "AIFF"])
def test_a_file_that_really_is_empty(tmp_path: Path, kind: str) -> None:
    soundfile.write(tmp_path / "x", np.zeros(0), 16_000, format=kind)
    with pytest.raises(RecordingError, match="its length is zero"):
        list(Recording(tmp_path / "x", SECOND))


@given(
    content=st.binary(max_size=300),
    magic=st.sampled_from([b"RIFF", b"RF64", b"FORM", b"caff", b"riff", b".snd", b"NIST_1A\n"]),
)
def test_no_bytes_break_it(tmp_path_factory: pytest.TempPathFactory, content: bytes, magic: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(magic + content)
    with path.open("rb") as file:
        chunk = data_chunk(file)
    assert chunk is None or (0 <= chunk.present <= len(magic + content) and (chunk.stated or 0) >= 0)


@given(content=st.binary(max_size=40), end=st.sampled_from([b"", b"\x2a\xd7\xb1", b"\x44\x89", b"\x44\x89\x88"]))
def test_a_matroska_header_may_end_anywhere(content: bytes, end: bytes) -> None:
    duration = b"\x44\x89\x88" + struct.pack(">d", 5000.0)
    assert matroska_seconds(duration + b"\x2a\xd7\xb1\x83\x0f\x42\x40" + bytes(8)) == 5.0
    for head in (content + end, duration + bytes(8) + end):
        found = matroska_seconds(head)
        assert found is None or isinstance(found, float)

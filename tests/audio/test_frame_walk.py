"""Walks over MP3 frames and Ogg pages."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from audionet.audio.decoding import open_sound
from audionet.audio.frame_walk import walk_mp3, walk_ogg
from audionet.audio.sndfile_reader import SndfileReader
from tests.support.encoding import encode, encode_tracks
from tests.support.sounds import SAMPLE_AUDIO, tone

SPEECH = soundfile.read(SAMPLE_AUDIO / "flite-slt" / "harbour.mp3", frames=8 * 16_000, dtype="float32")[0]


def make(path: Path, rate: int = 16_000, **options: str) -> Path:
    return encode(
        path,
        np.interp(np.arange(8 * rate) / rate, np.arange(len(SPEECH)) / 16_000, SPEECH),
        "mp3",
        rate,
        options=options,
    )


def without_xing(content: bytes) -> bytes:
    """Take off the ID3 tag and the first frame, which states the number of frames."""
    first = content.index(b"\xff\xf3" if b"\xff\xf3" in content[:200] else b"\xff\xfb")
    second = content.index(content[first : first + 2], first + 4)
    return content[second:]


def length(path: Path) -> tuple[float, bool, list[str]]:
    with open_sound(path) as sound:
        frames = sum(map(len, sound.mono()))
        return frames / sound.rate, isinstance(sound.reader, SndfileReader), sound.remarks


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("bit_rate", ["32k", "64k", "q"])
def test_frames_agree_with_the_header(tmp_path: Path, rate: int, bit_rate: str) -> None:
    path = make(tmp_path / "x.mp3", rate, **({"global_quality": "500"} if bit_rate == "q" else {"b": bit_rate}))
    with path.open("rb") as file:
        walk = walk_mp3(file)
    assert walk is not None
    assert walk.uniform
    assert walk.stated == walk.frames
    assert walk.rate == rate
    assert 0 < walk.frames * walk.samples - 8 * rate < 4000
    assert length(path) == (pytest.approx(8, abs=0.11), True, [])


def test_a_variable_rate_without_a_count_of_frames(tmp_path: Path) -> None:
    speech = np.concatenate(
        [np.zeros(4 * 44_100), np.interp(np.arange(8 * 44_100) / 44_100, np.arange(len(SPEECH)) / 16_000, SPEECH)]
    )
    path = encode(tmp_path / "x.mp3", speech, "mp3", 44_100, options={"compression_level": "2", "abr": "1", "b": "64k"})
    path.write_bytes(without_xing(path.read_bytes()))
    seconds, _, remarks = length(path)
    assert seconds == pytest.approx(12.0, abs=0.1)
    assert remarks == []


def test_joined_files(tmp_path: Path) -> None:
    path = make(tmp_path / "x.mp3", 44_100)
    path.write_bytes(2 * path.read_bytes())
    seconds, fast, remarks = length(path)
    assert (seconds, fast, remarks) == (pytest.approx(16.1, abs=0.1), False, [])


@pytest.mark.parametrize("tags", [b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(200), bytes(3000)])
def test_pictures_before_and_tags_behind(tmp_path: Path, tags: bytes) -> None:
    path = make(tmp_path / "x.mp3", 44_100)
    cover = b"ID3\x04\x00\x00" + bytes([0, 3, 0x69, 0x60]) + bytes(62_688)
    path.write_bytes(cover + without_xing(path.read_bytes()) + tags)
    assert length(path) == (pytest.approx(8.06, abs=0.06), True, [])


@pytest.mark.parametrize(
    "between", [b"", b"TAG" + bytes(125), b"APETAGEX" + bytes([0, 8, 0, 0, 100]) + bytes(119), bytes(9000)]
)
@pytest.mark.parametrize("xing", [True, False])
def test_what_lies_between_joined_files_hides_no_frames(tmp_path: Path, between: bytes, xing: bool) -> None:
    content = make(tmp_path / "x.mp3", 44_100).read_bytes()
    content = content if xing else without_xing(content)
    (tmp_path / "y.mp3").write_bytes(content + between + content)
    seconds, _, _ = length(tmp_path / "y.mp3")
    # Zeros may be a hole in a recording as well, and count as so many frames.
    assert 16.0 < seconds < (17.5 if not any(between) and between else 16.3)


def test_joined_flac_files(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.flac", SPEECH, 16_000)
    (tmp_path / "y.flac").write_bytes(2 * (tmp_path / "x.flac").read_bytes())
    assert length(tmp_path / "x.flac") == (8.0, True, [])
    assert length(tmp_path / "y.flac") == (pytest.approx(16.0, abs=0.3), False, [])


def test_flac_behind_junk(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.flac", SPEECH, 16_000)
    (tmp_path / "y.flac").write_bytes(b"x" * 1000 + (tmp_path / "x.flac").read_bytes())
    assert length(tmp_path / "y.flac")[:2] == (pytest.approx(8.0, abs=0.1), False)


def test_a_damaged_flac_is_read_from_any_place(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 10 * 16_000)
    soundfile.write(tmp_path / "x.flac", noise, 16_000)
    content = bytearray((tmp_path / "x.flac").read_bytes())
    del content[len(content) // 2 : len(content) // 2 + 30_000]
    (tmp_path / "x.flac").write_bytes(content)
    with open_sound(tmp_path / "x.flac") as sound:
        whole = np.concatenate(list(sound.mono()))
    assert len(whole) == 160_000
    for second in (3, 5, 7, 9):
        with open_sound(tmp_path / "x.flac") as sound:
            np.testing.assert_array_equal(np.concatenate(list(sound.mono(second * 16_000))), whole[second * 16_000 :])


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xfb\x90", b"ID3" + bytes(7), b"RIFF" + bytes(5000)])
def test_no_frames(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with (tmp_path / "x").open("rb") as file:
        assert walk_mp3(file) is None or walk_mp3(file).frames == 0


def ogg(path: Path, subtype: str = "VORBIS") -> Path:
    soundfile.write(path, SPEECH, 16_000, format="OGG", subtype=subtype)
    return path


def test_a_single_stream_of_pages(tmp_path: Path) -> None:
    with ogg(tmp_path / "x.ogg").open("rb") as file:
        assert walk_ogg(file) == (True, True, True)
    assert length(tmp_path / "x.ogg") == (8.0, True, [])


def test_chained_streams_are_read_to_the_last(tmp_path: Path) -> None:
    content = (
        ogg(tmp_path / "x.ogg").read_bytes()
        + encode(tmp_path / "y.ogg", tone(500, 3, 48_000), "libopus", 48_000).read_bytes()
    )
    (tmp_path / "z.ogg").write_bytes(content)
    with (tmp_path / "z.ogg").open("rb") as file:
        assert not walk_ogg(file).single
    (tmp_path / "two.ogg").write_bytes(2 * ogg(tmp_path / "x.ogg").read_bytes())
    assert length(tmp_path / "two.ogg") == (pytest.approx(16, abs=0.05), False, [])


@pytest.mark.parametrize("codec", ["libopus", "libvorbis"])
def test_a_pause_in_an_ogg_stream_is_no_damage(tmp_path: Path, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip("PyAV encodes no Vorbis here")
    path = encode_tracks(
        tmp_path / "x.ogg", [(codec, [(0.0, tone(500, 5, 48_000)), (8.0, tone(700, 5, 48_000))])], 48_000
    )
    assert length(path) == (pytest.approx(13, abs=0.1), False, [])


def cut_by_copy(source: Path, target: Path, seconds: float) -> None:
    """Leave the packets of the first seconds out, as a cut without encoding again does."""
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(container.streams.audio[0])
        for packet in container.demux(audio=0):
            if packet.size and packet.pts * packet.time_base >= seconds:
                packet.stream = stream
                output.mux(packet)


def test_vorbis_that_was_cut_without_encoding_again(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.ogg", np.tile(SPEECH, 2), 16_000)
    cut_by_copy(tmp_path / "x.ogg", tmp_path / "y.ogg", 4)
    assert length(tmp_path / "y.ogg")[0] == pytest.approx(12, abs=0.2)


def test_a_flipped_bit_in_a_page_is_seen(tmp_path: Path) -> None:
    content = bytearray(ogg(tmp_path / "x.ogg").read_bytes())
    for place in np.random.default_rng(0).integers(100, len(content), 20):
        content[place] ^= 4
        (tmp_path / "y.ogg").write_bytes(content)
        with (tmp_path / "y.ogg").open("rb") as file:
            assert not walk_ogg(file).single
        content[place] ^= 4


def test_a_page_that_is_not_all_there(tmp_path: Path) -> None:
    content = ogg(tmp_path / "x.ogg").read_bytes()
    (tmp_path / "y.ogg").write_bytes(content[: len(content) * 2 // 3])
    with (tmp_path / "y.ogg").open("rb") as file:
        assert walk_ogg(file) == (True, True, False)

"""Containers: whole, on their own clock, the right track, and past damage."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audionet.audio.av_reader import AvReader
from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import header, open_sound
from audionet.audio.recording import Recording
from audionet.audio.samples import is_silent
from audionet.errors import RecordingError
from tests.support.encoding import encode, encode_tracks
from tests.support.sounds import tone

SECOND = SpectrogramConfig(chunk_seconds=1.0)
RATE = 16_000


def decode(path: Path) -> tuple[NDArray[np.float32], float, list[str], str | None]:
    """Return the samples of a file, their start, the remarks and the damage that ended it."""
    blocks: list[NDArray[np.float32]] = []
    damage = None
    with open_sound(path) as sound:
        try:
            for block in sound.mono():
                blocks.append(block)
        except RecordingError as error:
            damage = str(error)
        return np.concatenate(blocks), sound.start, sound.remarks, damage


def power(samples: NDArray[np.float32], begin: float, end: float, rate: int) -> float:
    return float(np.square(samples[round(begin * rate) : round(end * rate)]).mean())


@pytest.mark.parametrize(("name", "codec", "rate"), [("x.webm", "libopus", 48_000), ("x.mka", "flac", RATE)])
def test_a_pause_without_packets_is_silence(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    sounds = [(0.0, tone(500, 3, rate)), (8.0, tone(700, 2, rate))]
    path = encode_tracks(tmp_path / name, [(codec, sounds)], rate)
    samples, start, remarks, damage = decode(path)
    assert (start, remarks, damage) == (0.0, [], None)
    assert len(samples) / rate == pytest.approx(10, abs=0.05)
    assert power(samples, 3.1, 7.9, rate) == 0
    assert power(samples, 8.1, 9.9, rate) == pytest.approx(0.125, rel=0.05)
    chunks = list(Recording(path, SECOND, aligned=True))
    assert [round(chunk.start) for chunk in chunks] == list(range(10))
    assert [is_silent(chunk.samples) for chunk in chunks][4:8] == [True] * 4


def test_a_lost_packet_becomes_silence_too(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.webm", tone(500, 4, 48_000), "libopus", 48_000)
    with av.open(str(path)) as source, av.open(str(tmp_path / "lossy.webm"), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for number, packet in enumerate(source.demux(source.streams.audio[0])):
            if packet.size and not 50 <= number < 60:  # a fifth of a second
                packet.stream = stream
                target.mux(packet)
    samples, _, remarks, _ = decode(tmp_path / "lossy.webm")
    assert len(samples) == pytest.approx(4 * 48_000, abs=1500)
    assert power(samples, 1.05, 1.15, 48_000) < 1e-3 < power(samples, 1.3, 2, 48_000)
    assert not remarks


@pytest.mark.parametrize(
    ("name", "codec"), [("x.m4a", "aac"), ("x.mp4", "aac"), ("x.mka", "ac3"), ("x.webm", "libopus")]
)
def test_sound_that_begins_late(tmp_path: Path, name: str, codec: str) -> None:
    path = encode_tracks(tmp_path / name, [(codec, [(5.0, tone(500, 3, 48_000))])], 48_000)
    chunks = list(Recording(path, SECOND))
    assert [round(chunk.start, 1) for chunk in chunks] == [5.0, 6.0, 7.0]
    recording = Recording(path, SECOND)
    assert len(list(recording)) == 3
    assert recording.start == pytest.approx(5, abs=0.05)
    assert recording.seconds == pytest.approx(8, abs=0.1)


def test_times_that_run_backwards_or_jump_for_ever(tmp_path: Path) -> None:
    """As in joined recordings of a broadcast: every sound is kept, one after the other."""
    path = encode(tmp_path / "x.mka", tone(500, 6), "pcm_s16le")
    with av.open(str(path)) as source, av.open(str(tmp_path / "y.nut"), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for number, packet in enumerate(source.demux(source.streams.audio[0])):
            if packet.size:
                if number >= 40:
                    packet.pts = packet.dts = packet.pts + 10**9 * packet.time_base.denominator
                packet.stream = stream
                target.mux(packet)
    samples, start, remarks, _ = decode(tmp_path / "y.nut")
    assert len(samples) == pytest.approx(6 * RATE, abs=100)
    assert (start, remarks) == (0.0, [])


def two_tracks(path: Path, first: NDArray[np.float64], second: NDArray[np.float64], default: int | None) -> Path:
    encode_tracks(path, [("flac", [(0.0, first)]), ("flac", [(0.0, second)])])
    marked = path.with_name(f"marked {path.name}")
    with av.open(str(path)) as source, av.open(str(marked), "w") as target:
        streams = [target.add_stream_from_template(stream) for stream in source.streams.audio]
        for number, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return marked


@pytest.mark.parametrize(
    ("amplitudes", "default", "taken", "reason"),
    [
        ((0.0, 0.5), 0, 2, "track 1 is silent"),
        ((0.5, 0.25), 1, 2, "it is marked as the default"),
        ((0.5, 0.25), None, 1, "it is the first"),
        ((0.5, 0.0), 1, 1, "track 2 is silent"),
    ],
)
def test_the_track_that_is_read(
    tmp_path: Path, amplitudes: tuple[float, float], default: int | None, taken: int, reason: str
) -> None:
    first, second = (tone(500, 2, amplitude=amplitude) for amplitude in amplitudes)
    samples, _, remarks, _ = decode(two_tracks(tmp_path / "x.mkv", first, second, default))
    assert float(np.abs(samples).max()) == pytest.approx(amplitudes[taken - 1], rel=0.01)
    assert remarks == [f"sound track {taken} of 2 is used: {reason}"]


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("x.m4a", "alac", 44_100), ("x.mp4", "libopus", 48_000), ("x.m4a", "aac", RATE), ("x.mp4", "libmp3lame", RATE)],
)
def test_an_mp4_in_pieces_is_the_whole(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 33 * rate)
    # The noise substitution of AAC draws its noise anew wherever decoding begins.
    path = encode(tmp_path / name, noise, codec, rate, options={"aac_pns": "0", "b": "128k"})
    found = header(path)
    assert found is not None
    assert found.can_seek
    assert found.seconds == pytest.approx(33, abs=0.2)
    whole = list(Recording(path, SECOND))
    for first, stop in pairwise([0, 7, 13, 28, None]):
        for piece, chunk in zip(Recording(path, SECOND).chunks(first, stop), whole[first:stop], strict=True):
            assert (piece.index, piece.start) == (chunk.index, chunk.start)
            np.testing.assert_array_equal(piece.samples, chunk.samples)


def test_packets_of_varying_length_are_read_from_the_beginning(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.webm", tone(500, 5, 48_000), "libopus", 48_000)
    found = header(path)
    assert found is not None
    assert not found.can_seek


def test_damaged_frames_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = encode(
        tmp_path / "x.m4a", np.random.default_rng(0).uniform(-0.3, 0.3, 20 * RATE), "aac", options={"b": "96k"}
    )
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(audio=0) if packet.pos is not None]
    for number in (200, 201, 202):  # from 12.8 s on
        content[places[number] : places[number] + 8] = b"\xff" * 8
    path.write_bytes(content)
    samples, _, remarks, damage = decode(path)
    assert remarks == ["3 damaged frames at 0:12"]
    assert damage is None
    assert len(samples) / RATE == pytest.approx(20, abs=0.1)
    assert power(samples, 12.78, 12.88, RATE) < 1e-4
    assert power(samples, 13.1, 19.9, RATE) == pytest.approx(0.03, rel=0.1)


@pytest.mark.parametrize(("ending", "codec"), [("flac", "flac"), ("opus", "libopus"), ("mka", "flac"), ("mp3", "mp3")])
def test_a_hole_in_a_file_is_silence_in_its_place(tmp_path: Path, ending: str, codec: str) -> None:
    rate = 48_000
    path = encode(tmp_path / f"x.{ending}", np.random.default_rng(0).uniform(-0.3, 0.3, 20 * rate), codec, rate)
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    content[place : place + 3000] = np.random.default_rng(1).bytes(3000)
    path.write_bytes(content)
    samples, _, remarks, damage = decode(path)
    assert damage is None
    assert len(samples) / rate == pytest.approx(20, abs=0.1)
    (remark,) = remarks
    assert "damaged frame" in remark
    place_named = int(remark.split(":")[1].split()[0])
    assert 5 <= place_named <= 10
    assert 0.02 < power(samples, 0.5, 4.5, rate) < 0.035
    assert 0.02 < power(samples, 16, 19.5, rate) < 0.035


@pytest.mark.parametrize(
    ("ending", "codec", "container"),
    [("webm", "libopus", None), ("wma", "wmav2", "asf"), ("avi", "libmp3lame", None), ("wv", "wavpack", None)],
)
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, ending: str, codec: str, container: str | None) -> None:
    path = encode(tmp_path / f"x.{ending}", tone(500, 10, 48_000), codec, 48_000, container, {"b": "64k"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5])
    samples, _, _, damage = decode(path)
    assert damage is not None
    # AVI states its bytes alone, its index at the end among them.
    assert re.match(r"cut short: its header promises (10\.0|9\.\d) s, it holds ", damage)
    assert float(damage.split()[-2]) == pytest.approx(len(samples) / 48_000, abs=0.06)


class Pipe(io.RawIOBase):
    """A file that an encoder cannot go back in."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self.content += bytes(content)
        return len(content)


@pytest.mark.parametrize("codec", ["flac", "pcm_s16le", "mp3"])
def test_matroska_that_was_written_to_a_pipe_promises_nothing(tmp_path: Path, codec: str) -> None:
    source = encode(tmp_path / "x.mka", tone(500, 5), codec)
    pipe = Pipe()
    with av.open(str(source)) as container, av.open(pipe, "w", format="matroska") as output:
        stream = output.add_stream_from_template(container.streams.audio[0])
        for packet in container.demux(audio=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    (tmp_path / "y.mka").write_bytes(pipe.content)
    samples, _, remarks, damage = decode(tmp_path / "y.mka")
    assert len(samples) / RATE == pytest.approx(5, abs=0.1)
    assert (remarks, damage) == ([], None)


def test_a_pause_in_wma_is_no_damage(tmp_path: Path) -> None:
    sounds = [(0.0, tone(500, 3, 44_100)), (6.0, tone(700, 3, 44_100))]
    path = encode_tracks(tmp_path / "x.wma", [("wmav2", sounds)], 44_100, "asf", {"b": "64k"})
    samples, _, remarks, damage = decode(path)
    assert len(samples) / 44_100 == pytest.approx(9, abs=0.2)
    assert (remarks, damage) == ([], None)


def test_an_mp4_without_its_index(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.m4a", tone(500, 5), "aac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RecordingError, match="has no index, which lies at the end of many MP4 files"):
        decode(path)


def test_a_container_that_promises_a_thousand_million_seconds(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mka", tone(500, 5), "flac")
    content = path.read_bytes()
    assert b"00:00:05.000000000" in content
    path.write_bytes(content.replace(b"00:00:05.000000000", b"277777:46:40.00000"))
    found = header(path)
    assert found is not None
    assert (round(found.seconds), found.can_seek) == (10**9, False)
    chunks = []
    with pytest.raises(RecordingError, match=r"cut short: its header promises 1000000000\.0 s, it holds 5\.0 s"):
        for chunk in Recording(path, SECOND):
            chunks.append(chunk)
    assert len(chunks) == 5


def test_a_rate_that_changes_on_the_way(tmp_path: Path) -> None:
    parts = [encode(tmp_path / f"{rate}.aac", tone(500, 3, rate), "aac", rate, "adts") for rate in (44_100, 22_050)]
    (tmp_path / "x.aac").write_bytes(b"".join(part.read_bytes() for part in parts))
    samples, _, _, damage = decode(tmp_path / "x.aac")
    assert damage is None
    assert len(samples) / 44_100 == pytest.approx(6, abs=0.2)
    spectrum = np.abs(np.fft.rfft(samples[-2 * 44_100 : -44_100] * np.hanning(44_100)))
    assert spectrum.argmax() == 500


def test_channels_that_change_on_the_way(tmp_path: Path) -> None:
    mono = encode(tmp_path / "1.aac", tone(500, 3), "aac", container="adts")
    stereo = encode(tmp_path / "2.aac", np.stack([tone(500, 3)] * 2, axis=1), "aac", container="adts")
    (tmp_path / "x.aac").write_bytes(mono.read_bytes() + stereo.read_bytes())
    samples, _, _, damage = decode(tmp_path / "x.aac")
    assert damage is None
    assert len(samples) / RATE == pytest.approx(6, abs=0.2)


@pytest.mark.parametrize("sample_format", ["pcm_s64le", "pcm_f64le"])
def test_samples_of_eight_bytes(tmp_path: Path, sample_format: str) -> None:
    path = encode(tmp_path / "x.nut", tone(500, 2), sample_format, container="nut")
    np.testing.assert_allclose(decode(path)[0], tone(500, 2), atol=1e-4)


def test_a_file_is_read_from_any_sample_on(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mka", np.random.default_rng(0).uniform(-1, 1, 5 * RATE), "pcm_s16le")
    whole = np.concatenate(list(AvReader(path).blocks()))
    np.testing.assert_array_equal(np.concatenate(list(AvReader(path).blocks(12_345))), whole[12_345:])


def test_at_another_rate(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mka", tone(500, 3, 48_000), "pcm_s16le", 48_000)
    samples = np.concatenate(list(AvReader(path, RATE).blocks()))[:, 0]
    assert len(samples) == 3 * RATE
    np.testing.assert_allclose(samples[100:-100], tone(500, 3)[100:-100], atol=1e-3)


def test_floats_above_full_scale_in_matroska(tmp_path: Path) -> None:
    encode(tmp_path / "x.mka", tone(500, 2, amplitude=4), "pcm_f32le")
    soundfile.write(tmp_path / "x.wav", tone(500, 2, amplitude=4), RATE, subtype="FLOAT")
    for name in ("x.mka", "x.wav"):
        assert np.abs(decode(tmp_path / name)[0]).max() == pytest.approx(10 ** (-1 / 20), rel=1e-3)

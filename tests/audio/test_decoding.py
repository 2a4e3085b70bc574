"""Which decoder reads which file, from any place in it, and what they refuse."""

from __future__ import annotations

import http.server
import os
import shutil
import struct
import subprocess
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.audio.av_file import NO_SOUND, MissingDecoderError
from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import header, open_sound
from audionet.audio.recording import Recording
from audionet.data.config import DataConfig
from audionet.data.render import render_folder
from audionet.errors import RecordingError, UnavailableError
from tests.support.encoding import encode
from tests.support.sounds import SAMPLE_AUDIO, tone, write_tone

SECOND = SpectrogramConfig(chunk_seconds=1.0)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def ffmpeg(source: Path, target: Path, *options: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["ffmpeg", "-v", "error", "-y", "-i", f"file:{source}", *options, f"file:{target}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return target


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.m4a", ()),
        ("x.aac", ()),
        ("x.webm", ("-c:a", "libopus")),
        ("x.wma", ("-c:a", "wmav2")),
        ("x.mka", ("-c:a", "ac3")),
        ("x.mp4", ("-f", "lavfi", "-i", "testsrc=size=64x64:rate=5", "-t", "2.3", "-shortest")),
        ("x.avi", ("-c:a", "mp3")),
        ("-i.m4a", ()),
        ("concat:a|b, $(c) 'd'.m4a", ()),
        (os.fsdecode(b"caf\xe9\n.m4a"), ()),
    ],
)
def test_what_libsndfile_does_not_read(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    source = write_tone(tmp_path / "tone.wav", 1000, 2.3, 48_000)
    path = ffmpeg(source, tmp_path / "made" / f"plain{Path(name).suffix}", *options)
    path = path.rename(tmp_path / "made" / name)
    chunks = list(Recording(path, SECOND))
    assert len(chunks) == 2
    spectrum = np.abs(np.fft.rfft(chunks[1].samples * np.hanning(16_000)))
    assert spectrum.argmax() == 1000
    assert spectrum.max() / (16_000 / 4) == pytest.approx(16_384, rel=0.1)


@needs_ffmpeg
def test_stereo_is_averaged_in_any_container(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.stack([tone(500, 2), np.zeros(32_000)], axis=1), 16_000)
    path = ffmpeg(tmp_path / "x.wav", tmp_path / "x.mka", "-c:a", "pcm_s16le")
    with open_sound(path) as sound, open_sound(tmp_path / "x.wav") as original:
        assert (sound.rate, sound.frames, sound.can_seek) == (16_000, 32_000, False)
        np.testing.assert_array_equal(np.concatenate(list(sound.mono())), np.concatenate(list(original.mono())))


@needs_ffmpeg
def test_an_ending_that_lies(tmp_path: Path) -> None:
    made = ffmpeg(write_tone(tmp_path / "tone.wav", seconds=2), tmp_path / "x.m4a")
    made.rename(tmp_path / "really an m4a.mp3")
    assert len(list(Recording(tmp_path / "really an m4a.mp3", SECOND))) == 2


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.webm", ("-c:a", "libopus"), r"cut short: its header promises 8\.0 s, it holds [234]\.\d s"),
        ("x.mka", ("-c:a", "ac3"), r"cut short: its header promises 8\.0 s"),
        ("x.m4a", (), "cannot be decoded"),
    ],
)
def test_cut_short_containers_are_said(tmp_path: Path, name: str, options: tuple[str, ...], message: str) -> None:
    path = ffmpeg(write_tone(tmp_path / "tone.wav", seconds=8), tmp_path / name, *options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5])
    chunks = []
    with pytest.raises(RecordingError, match=message):
        for chunk in Recording(path, SECOND):
            chunks.append(chunk)
    assert bool(chunks) == (name != "x.m4a")


@needs_ffmpeg
def test_sound_that_begins_late_is_not_cut_short(tmp_path: Path) -> None:
    write_tone(tmp_path / "tone.wav", seconds=3)
    command = ["ffmpeg", "-v", "error", "-itsoffset", "5", "-i", tmp_path / "tone.wav", tmp_path / "x.mka"]
    subprocess.run(command, check=True)
    assert len(list(Recording(tmp_path / "x.mka", SECOND))) == 3


@needs_ffmpeg
def test_a_film_without_sound(tmp_path: Path) -> None:
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=5", "-t", "1", tmp_path / "x.mp4"]
    subprocess.run(command, check=True)
    with pytest.raises(RecordingError, match="there is no sound in it"):
        list(Recording(tmp_path / "x.mp4", SECOND))


@needs_ffmpeg
@pytest.mark.parametrize("name", ["list.m4a", "list.mp3", "list.ts"])
def test_a_playlist_is_not_followed(tmp_path: Path, name: str) -> None:
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/x.ts"
    (tmp_path / name).write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n")
    with pytest.raises(RecordingError):
        list(Recording(tmp_path / name, SECOND))
    server.shutdown()
    server.server_close()
    assert not asked


def test_no_program_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataConfig(tmp_path / "audio", tmp_path / "wav", tmp_path / "image", workers=1)
    encode(data.audio_dir / "ann" / "talk.m4a", tone(500, 2), "aac")
    encode(data.audio_dir / "ann" / "call.webm", tone(500, 2, 48_000), "libopus", 48_000)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert render_folder(data, SECOND).labels["ann"].chunks == 4


class NoDecoder:
    def __init__(self, *_: object) -> None:
        raise MissingDecoderError(NO_SOUND)


def test_without_a_decoder_the_line_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "talk.m4a", tone(500, 2), "aac")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("audionet.audio.decoding.AvReader", NoDecoder)
    with pytest.raises(UnavailableError) as error, open_sound(path):
        pass
    for part in ("takes ffmpeg", "sudo apt install ffmpeg", "brew install", "winget install"):
        assert part in str(error.value)


@needs_ffmpeg
def test_an_installed_ffmpeg_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stereo = np.stack([tone(500, 2), np.zeros(32_000)], axis=1)
    path = encode(tmp_path / "x.mka", stereo, "flac")
    monkeypatch.setattr("audionet.audio.decoding.AvReader", NoDecoder)
    with open_sound(path) as sound:
        assert (sound.rate, sound.channels) == (16_000, 2)
        np.testing.assert_allclose(np.concatenate(list(sound.mono())), tone(500, 2) / 2, atol=1e-4)


RATE_AND_CHANNELS = [("wav", 16_000, 1), ("flac", 44_100, 2), ("mp3", 44_100, 2), ("mp3", 32_000, 1)]
RATE_AND_CHANNELS += [("ogg", 44_100, 1), ("opus", 48_000, 1), ("aiff", 8_000, 1), ("mp3", 16_000, 1)]


@pytest.fixture(scope="module")
def long_recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int, int], Path]:
    """Half a minute of speech in all kinds, so that pieces of it cross several sections."""
    folder = tmp_path_factory.mktemp("long")
    speech = np.concatenate([soundfile.read(path)[0] for path in sorted((SAMPLE_AUDIO / "flite-slt").glob("*.mp3"))])
    made = {}
    for kind, rate, channels in RATE_AND_CHANNELS:
        sound = np.interp(np.arange(0, 33 * rate) / rate, np.arange(len(speech)) / 16_000, speech)
        path = folder / f"{rate}-{channels}.{kind}"
        options = {"format": "OGG", "subtype": "OPUS"} if kind == "opus" else {}
        with soundfile.SoundFile(path, "w", rate, channels, **options) as file:
            for start in range(0, len(sound), rate):
                second = sound[start : start + rate]
                file.write(np.stack([second, second * 0.5], axis=1) if channels == 2 else second)
        made[kind, rate, channels] = path
    return made


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in RATE_AND_CHANNELS if kind != ("mp3", 16_000, 1)]),
    cuts=st.sets(st.integers(1, 40), max_size=4),
    overlap=st.sampled_from([0.0, 0.5]),
)
def test_a_recording_in_pieces_is_the_recording(long_recordings, kind, cuts: set[int], overlap: float) -> None:
    path = long_recordings[kind]
    config = SpectrogramConfig(chunk_seconds=1.3, overlap=overlap)
    assert header(path).can_seek
    whole = list(Recording(path, config))
    edges = [0, *sorted(cuts), None]
    pieces = [chunk for a, b in pairwise(edges) for chunk in Recording(path, config).chunks(a, b)]
    assert [chunk.index for chunk in pieces] == [chunk.index for chunk in whole] == list(range(len(whole)))
    for piece, chunk in zip(pieces, whole, strict=True):
        assert piece.start == chunk.start
        np.testing.assert_array_equal(piece.samples, chunk.samples)


def test_an_mp3_of_low_rate_is_read_from_its_beginning(long_recordings) -> None:
    assert not header(long_recordings["mp3", 16_000, 1]).can_seek


def test_many_channels_in_a_header_are_one_line(tmp_path: Path) -> None:
    au = struct.pack(">4sIIIII", b".snd", 24, 0xFFFFFFFF, 3, 16_000, 65_536) + bytes(400_000)
    (tmp_path / "x.au").write_bytes(au)
    with pytest.raises(RecordingError) as error:
        list(Recording(tmp_path / "x.au", SECOND))
    assert "\n" not in str(error.value)


def test_unavailable_is_not_damaged(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="No such file"):
        list(Recording(tmp_path / "x.wav", SECOND))


@needs_ffmpeg
@pytest.mark.parametrize("name", ["clip.m4a", "clip.mp3", "clip.ts"])
@pytest.mark.parametrize(
    "playlist",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {1}\n"],
)
def test_a_playlist_plays_no_other_file(tmp_path: Path, name: str, playlist: str) -> None:
    other = tmp_path / "other.ts"
    ffmpeg(write_tone(tmp_path / "other.wav"), other)
    clip = tmp_path / name
    clip.write_text(playlist.format(other, other.name))
    with pytest.raises(RecordingError, match="cannot be decoded"), open_sound(clip) as sound:
        list(sound.mono())

"""Every format that libsndfile writes and every codec that FFmpeg encodes, against the sound that went in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from audionet.audio.decoding import open_sound
from tests.support.encoding import encode
from tests.support.sounds import SAMPLE_AUDIO

RATE = 16_000
SPEECH = soundfile.read(SAMPLE_AUDIO / "flite-slt" / "harbour.mp3", frames=4 * RATE + 137, dtype="float32")[0]

PAIRS = [
    (kind, subtype)
    for kind in sorted(set(soundfile.available_formats()) - {"RAW"})
    for subtype in sorted(soundfile.available_subtypes(kind))
    if subtype not in ("DWVW_12", "MPEG_LAYER_I", "MPEG_LAYER_II", "DWVW_N", "VOX_ADPCM")
    and (kind, subtype) != ("WAV", "MPEG_LAYER_III")  # which libsndfile does not write
]
LOSSY = {"IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32", "G723_24", "G723_40", "DPCM_8", "VORBIS", "OPUS"}
LOSSY |= {"MPEG_LAYER_III", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32", "ULAW", "ALAW", "PCM_S8", "PCM_U8"}
BLOCK = 1017  # samples; the longest block that a codec pads to

CONTAINERS = ("tta", "wv", "matroska", "mov", "wav", "ogg", "caf", "asf", "flv", "au", "aiff")
CONTAINERS += ("adts", "ac3", "nut", "mlp", "truehd", "dts", "avi")


def options(codec: str) -> dict[str, str]:
    return {"strict": "experimental", **({"b": "128k"} if codec.startswith("wma") else {})}


RATES = (16_000, 48_000, 44_100, 8_000, 22_050)


def read(path: Path) -> tuple[NDArray[np.float32], int]:
    with open_sound(path) as sound:
        blocks = np.concatenate(list(sound.mono()))
        assert not sound.remarks
        return blocks, sound.rate


def likeness(found: NDArray[np.float32], truth: NDArray[np.float32]) -> tuple[float, int]:
    """Return the correlation at the best lag, at which `found` is so many samples late."""
    size = 1 << (len(found) + len(truth)).bit_length()
    products = np.fft.irfft(np.fft.rfft(found, size) * np.conj(np.fft.rfft(truth, size)))
    lag = int(products.argmax())
    return products[lag] / np.linalg.norm(found) / np.linalg.norm(truth), lag - size if lag > size // 2 else lag


@pytest.mark.parametrize(("kind", "subtype"), PAIRS)
def test_what_libsndfile_writes(tmp_path: Path, kind: str, subtype: str) -> None:
    path = tmp_path / f"x.{kind.lower()}"
    rate, truth = RATE, SPEECH
    try:
        soundfile.write(path, truth, rate, format=kind, subtype=subtype)
    except soundfile.LibsndfileError:
        rate, truth = 8000, SPEECH[::2].copy()  # G.721 in some, WVE
        soundfile.write(path, truth, rate, format=kind, subtype=subtype)
    found, found_rate = read(path)
    assert found_rate == {"XI": 44_100, "WVE": 8_000}.get(kind, rate) or kind == "VOC"  # which rounds it
    assert len(truth) <= len(found) < len(truth) + BLOCK
    alike, lag = likeness(found, truth)
    assert lag == 0
    assert alike > (0.99 if subtype in LOSSY else 0.9999)


def encoders() -> list[str]:
    """Return the sound codecs that PyAV encodes and a container here takes."""
    names = []
    for name in sorted(av.codecs_available):
        try:
            if av.Codec(name, "w").type == "audio" and name not in ("anull", "comfortnoise"):
                names.append(name)
        except ValueError:
            continue
    return names


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int]]:
    """One file of every codec that can be encoded into a container here, and the rate of what went in."""
    folder, made = tmp_path_factory.mktemp("encoded"), {}
    for codec in encoders():
        for rate in RATES[3:4] if codec in ("libopencore_amrnb", "g723_1", "real_144") else RATES:
            sound = soxr.resample(SPEECH, RATE, rate)
            for container in CONTAINERS:
                for samples in (sound, np.stack([sound, sound], axis=1)):
                    try:
                        path = folder / f"{codec}-{container}-{rate}"
                        made[codec] = encode(path, samples, codec, rate, container, options(codec)), rate
                    except (av.error.FFmpegError, ValueError, KeyError):
                        continue
                    break
                if codec in made:
                    break
            if codec in made:
                break
    return made


@pytest.mark.slow
def test_every_codec_that_ffmpeg_encodes(encoded: dict[str, tuple[Path, int]]) -> None:
    assert len(encoded) > 45
    for codec, (path, rate) in encoded.items():
        found, found_rate = read(path)
        truth = soxr.resample(SPEECH, RATE, rate)
        found = soxr.resample(found, found_rate, rate)
        alike, lag = likeness(found, truth)
        assert abs(lag) < 0.08 * rate, codec
        assert alike > (0.7 if codec in ("g723_1", "libopencore_amrnb", "real_144") else 0.9), codec
        assert -0.02 * rate < len(found) - len(truth) < 0.15 * rate, codec


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize(
    "codec", ["aac", "alac", "libmp3lame", "libopus", "vorbis", "ac3", "flac", "pcm_s16le", "wmav2"]
)
def test_the_same_as_the_program_ffmpeg(tmp_path: Path, codec: str) -> None:
    container, ending = {"aac": ("ipod", "m4a"), "alac": ("ipod", "m4a"), "wmav2": ("asf", "wma")}.get(
        codec, ("matroska", "mka")
    )
    samples = np.stack([SPEECH, SPEECH], axis=1) if codec in ("vorbis", "wmav2") else SPEECH
    rate = 48_000 if codec in ("ac3", "libopus") else 44_100
    path = tmp_path / f"x.{ending}"
    encode(path, soxr.resample(samples, RATE, rate), codec, rate, container, options(codec))
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "f32le", "-ac", "1", "pipe:1"]
    raw = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout
    found, _ = read(path)
    theirs = np.frombuffer(raw, "<f4")
    shared = min(len(found), len(theirs))
    assert abs(len(found) - len(theirs)) < 0.06 * rate
    assert likeness(found[:shared], theirs[:shared])[0] > 0.998

"""Checks of the decoders: a short sound, encoded in each format and read as recordings are."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import soundfile

from audionet.audio.decoding import open_sound
from audionet.diagnostics.check import Check
from audionet.utils.arrays import FloatArray
from audionet.utils.text import first_line

_RATE = 48_000  # Hz, which every encoder takes
_FREQUENCY = 440.0  # Hz
_LEAST_LIKENESS = 0.9  # share of the energy that must be at that frequency
_REMEDY = "pip install --force-reinstall soundfile av"

FORMATS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "mp3": "libmp3lame",
    "ogg": "vorbis",
    "opus": "libopus",
    "m4a": "aac",
    "webm": "libopus",
    "aiff": "pcm_s16be",
}
"""Endings of files, and the encoder of each."""


def check_decoders() -> Iterator[Check]:
    """Yield a check of each format, and of the program ffmpeg, which is optional."""
    with tempfile.TemporaryDirectory() as folder:
        for ending, codec in FORMATS.items():
            yield check_format(Path(folder) / f"tone.{ending}", codec)
    program = shutil.which("ffmpeg")
    detail = program or "not installed, and needed by rare codecs alone: FFmpeg's libraries come with av"
    yield Check("program ffmpeg", "ok" if program else "missing", detail)


def check_format(path: Path, codec: str) -> Check:
    """Check that a tone in this format is decoded as that tone."""
    name = f"decode {path.suffix}"
    try:
        encode_tone(path, codec)
    except (av.FFmpegError, ValueError, soundfile.LibsndfileError) as error:
        return Check(name, "missing", f"not tried: the tone could not be encoded ({first_line(error)})")
    try:
        with open_sound(path) as sound:
            samples = np.concatenate(list(sound.mono()))
            likeness = tone_share(samples, sound.rate)
    except Exception as error:  # of a broken library, whatever it raises
        return Check(name, "broken", first_line(error), _REMEDY)
    if likeness < _LEAST_LIKENESS:
        return Check(name, "broken", f"another sound comes out ({likeness:.0%} of it as it was)", _REMEDY)
    return Check(name, "ok", codec)


def encode_tone(path: Path, codec: str) -> None:
    """Write a second of a tone by FFmpeg's libraries; by libsndfile for Vorbis, which they read alone.

    Raises
    ------
    av.FFmpegError, ValueError
        If there is no such encoder.
    """
    tone = 0.3 * np.sin(2 * np.pi * _FREQUENCY * np.arange(_RATE) / _RATE)
    if codec == "vorbis":
        soundfile.write(path, tone, _RATE, format="OGG", subtype="VORBIS")
        return
    with av.open(str(path), "w", format={".opus": "ogg"}.get(path.suffix)) as container:
        stream = container.add_stream(codec, rate=_RATE)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray((tone * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.rate = _RATE
        resampler = av.AudioResampler(stream.format, "mono", _RATE, stream.frame_size or None)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def tone_share(samples: FloatArray, rate: int) -> float:
    """Return the share of a sound's energy within 20 Hz of the tone, 0 to 1."""
    energy = np.abs(np.fft.rfft(samples)) ** 2
    near = np.abs(np.fft.rfftfreq(len(samples), 1 / rate) - _FREQUENCY) < 20
    return float(energy[near].sum() / max(energy.sum(), 1e-12))

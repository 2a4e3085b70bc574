"""Decoding of sound files of any format to blocks of mono samples at the file's own rate.

Formats that libsndfile reads are decoded in process. All others (m4a, webm, video ...) are streamed through ffmpeg:
pydub finds the programs and probes the file, but would itself hold the whole sound in memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import soundfile

from audionet.audio.array_sound import SAMPLE_RATES, ArraySound
from audionet.errors import RecordingError, UnavailableError
from audionet.utils.arrays import FloatArray
from audionet.utils.process import native_stderr_muted
from audionet.utils.text import escape


def _endings(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


SNDFILE_SUFFIXES = _endings("mp3 wav flac ogg oga opus aif aiff aifc au snd caf w64 rf64 mp1 mp2")
"""Lower-case file name endings of the formats that libsndfile decodes."""

FFMPEG_SUFFIXES = _endings(
    "m4a m4b m4r aac mp4 m4v mov 3gp 3g2 webm mka mkv weba wma wmv asf amr awb ac3 eac3 ape wv tta mpc dts ra rm avi "
    "flv mpg mpeg ts mts m2ts vob ogv ogm ogx spx"
)
"""Lower-case file name endings of the formats that need ffmpeg."""

AUDIO_SUFFIXES = SNDFILE_SUFFIXES | FFMPEG_SUFFIXES

_CONTAINERS = (
    "mov,matroska,asf,ogg,mp3,wav,w64,flac,aiff,caf,au,aac,loas,amr,amrnb,amrwb,ac3,eac3,ape,wv,tta,tak,mpc,mpc8,dts,dtshd,"
    "truehd,mlp,rm,avi,flv,live_flv,mpeg,mpegts,mpegvideo,mpegtsraw,webm,shn,dsf,iff,voc,gsm,spdif,nut,mxf,wtv,oma,aa,aax"
)
"""Container formats that ffmpeg may open. Not playlists (HLS, concat and the like), which make it open other files."""

_BLOCK_SAMPLES = 8192  # of all channels together
_LOUDEST = np.float32(1000)  # 60 dB above full scale: no recording, and sums of it do not overflow
_UNKNOWN_LENGTH = 1 << 62  # libsndfile reports an unknown length as the largest integer

_STREAMED_LENGTHS = range(0x7FFFF000, 0x1_0000_0000)
"""Data sizes that programs writing WAV to a pipe put in the header because they do not know the length yet."""

_MPEG1_RATE = 32_000  # Hz, the lowest rate of MPEG-1
_SEEK_STEP = 2304  # samples; mpg123 sums in the same order only from every second MP3 frame on

_NO_SOUND = "cannot be decoded: damaged, or there is no sound in it"

_EXACT_DURATION = frozenset({"mov", "matroska"})
"""Containers whose header states the duration; for a bare stream ffmpeg only estimates it."""


class Sound(Protocol):
    """Sound open for reading.

    Attributes
    ----------
    rate : int
        Samples a second.
    channels : int
    frames : int or None
        Samples a channel that the header states; None if it does not.
    can_seek : bool
        True if `mono` may begin elsewhere than at 0.
    """

    rate: int
    channels: int
    frames: int | None
    can_seek: bool

    def mono(self, start: int = 0) -> Iterator[FloatArray]:
        """Yield blocks, of any length, of the mean over the channels, from sample `start` to the end.

        Raises
        ------
        RecordingError
            After the last decodable block, if the sound is incomplete; every block yielded is intact.
        """
        ...


@contextlib.contextmanager
def open_sound(source: Path | ArraySound) -> Iterator[Sound]:
    """Open a sound file.

    Raises
    ------
    RecordingError
        If it holds no sound that can be decoded.
    UnavailableError
        If it cannot be read, or needs ffmpeg and that is not installed.
    """
    if isinstance(source, ArraySound):
        yield source
        return
    path = source
    check_readable(path)
    if path.suffix.lower() in FFMPEG_SUFFIXES:
        if not has_ffmpeg():
            raise UnavailableError(
                f"takes ffmpeg to read ({escape(path.suffix)}): install it (Debian and Ubuntu: "
                "sudo apt install ffmpeg; macOS: brew install ffmpeg; Windows: winget install ffmpeg) and run again"
            )
        yield _FfmpegSound(path)
        return
    try:
        with native_stderr_muted():
            file = _Stream(os.fsencode(path))  # as bytes, because a name need not be UTF-8
    except soundfile.LibsndfileError:
        # Endings lie: an .mp3 may well be an m4a, a .wav may hold a codec of its own.
        if not has_ffmpeg():
            raise UnavailableError(
                "cannot be decoded: damaged, or not the kind of file its name says; ffmpeg, if you install it, may tell"
            ) from None
        yield _FfmpegSound(path)
        return
    with file:
        yield _LibsndfileSound(file)


class Header(NamedTuple):
    """Duration in seconds that a file's header states; `can_seek` if reading may begin anywhere."""

    seconds: float
    can_seek: bool


def header(path: Path) -> Header | None:
    """Read a file's header; None if it states no duration."""
    try:
        with open_sound(path) as sound:
            return Header(sound.frames / sound.rate, sound.can_seek) if sound.frames else None
    except RecordingError:
        return None


def check_readable(path: Path) -> None:
    """Check that a file can be opened and is not empty.

    Raises
    ------
    RecordingError
        If it is empty, or not a regular file.
    UnavailableError
        If it cannot be read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise RecordingError("is a folder that holds no clips")
        if not stat.S_ISREG(mode):
            raise RecordingError("is a pipe or a device, not a file")  # opening it could block forever
        with path.open("rb") as file:  # reports why it cannot be opened, as libsndfile does not
            if not file.read(1):
                raise RecordingError("the file is empty")
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}") from None


def _check_rate(rate: int) -> int:
    if rate not in SAMPLE_RATES:
        raise RecordingError(f"has an impossible sample rate, {rate} Hz")
    return rate


def _check_length(frames: int, promised: float, rate: int) -> None:
    """Raise if a file is cut short. An MP3's header only estimates; one cut short lacks far more than five percent."""
    if not frames:
        raise RecordingError("holds no audio: its length is zero")
    if frames < 0.95 * promised:
        raise RecordingError(f"cut short: its header promises {promised / rate:.1f} s, it holds {frames / rate:.1f} s")


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """Sound file read from beginning to end.

    soundfile seeks to where it already is after every read of a seekable file, and an MP3 decoder that seeks
    starts afresh: every block would begin with a glitch.
    """

    def seekable(self) -> bool:
        return False


class _LibsndfileSound:
    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self.rate = _check_rate(file.samplerate)
        self.channels: int = file.channels
        self.frames: int | None = file.frames if file.frames < _UNKNOWN_LENGTH else None
        # A sought MP3 of low rate (MPEG-2) differs from a streamed one in the last bit of a few samples.
        self.can_seek = bool(self.frames) and not (file.format == "MP3" and self.rate < _MPEG1_RATE)

    def mono(self, start: int = 0) -> Iterator[FloatArray]:
        file = self._file
        can_hold_nan = file.subtype in ("FLOAT", "DOUBLE")
        weights = np.full(file.channels, 1 / file.channels, np.float32)
        position = max(0, start - self.rate)  # a decoder that begins in the middle needs some frames to settle
        position -= position % _SEEK_STEP
        try:
            with native_stderr_muted():
                file.seek(position)  # to 0 as well, as soundfile.read does: it decides an MP3's last bits
        except soundfile.LibsndfileError:
            return  # the file is shorter than its header states; reading its end reports that
        while True:
            try:
                with native_stderr_muted():
                    block = file.read(max(1, _BLOCK_SAMPLES // file.channels), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                raise RecordingError(f"damaged after {position / self.rate:.1f} s") from None
            if not len(block):
                break
            if can_hold_nan and not np.isfinite(block).all():
                raise RecordingError(
                    f"has samples that are not numbers (NaN or infinite) after {position / self.rate:.1f} s"
                )
            if can_hold_nan:
                block = np.clip(block, -_LOUDEST, _LOUDEST)
            early = start - position
            position += len(block)
            if position > start:
                # A product with weights takes a tenth of the time of NumPy's mean over so short an axis.
                yield (block @ weights if file.channels > 1 else block[:, 0])[max(0, early) :]
        _check_length(position, max(self.frames or 0, position * _stated_length_ratio(file)), self.rate)


def _stated_length_ratio(file: soundfile.SoundFile) -> float:
    """Return the ratio of stated to actual length, read from libsndfile's log: it corrects the length silently."""
    mismatch = re.search(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if mismatch is None or int(mismatch[1]) in _STREAMED_LENGTHS:
        return 1
    return int(mismatch[1]) / max(1, int(mismatch[2]))


def has_ffmpeg() -> bool:
    """Return whether ffmpeg and ffprobe are installed."""
    return shutil.which("ffmpeg") is not None and shutil.which("ffprobe") is not None


class _FfmpegSound:
    can_seek = False

    def __init__(self, path: Path) -> None:
        # With its protocol, so that no name is taken for an option or a protocol of another kind.
        self._url = f"file:{path.absolute()}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydub's own, of Python's audioop
                from pydub.utils import mediainfo_json

                content: dict[str, Any] = mediainfo_json(self._url)
            streams = content["streams"]
            audio = next(stream for stream in streams if stream["codec_type"] == "audio")
            self.rate = _check_rate(int(audio["sample_rate"]))
            self.channels = int(audio["channels"])
        except (LookupError, ValueError, StopIteration):
            raise RecordingError(_NO_SOUND) from None
        except OSError as error:
            raise UnavailableError(f"cannot be read by ffprobe: {error.strerror}") from None
        self.frames: int | None = None
        seconds = audio.get("duration")
        if seconds is None and all(stream["codec_type"] == "audio" for stream in streams):
            seconds = content["format"].get("duration")
        if seconds is not None and content["format"]["format_name"].partition(",")[0] in _EXACT_DURATION:
            # What a container calls its duration may count the time before the sound begins.
            begin = float(audio.get("start_time", 0)) if "duration" not in audio else 0.0
            self.frames = round((float(seconds) - max(0.0, begin)) * self.rate)

    def mono(self, start: int = 0) -> Iterator[FloatArray]:
        if start:
            raise ValueError("ffmpeg reads from the beginning only")
        # Rate and channels are given because they may change on the way in a stream.
        command = [
            "ffmpeg",
            "-nostdin",
            "-v",
            "error",
            "-format_whitelist",
            _CONTAINERS,
            "-i",
            self._url,
            "-map",
            "0:a:0",
        ]
        command += ["-f", "f32le", "-ar", str(self.rate), "-ac", str(self.channels), "pipe:1"]
        weights = np.full(self.channels, 1 / self.channels, np.float32)
        size = max(1, _BLOCK_SAMPLES // self.channels) * self.channels * 4
        position = 0
        with tempfile.TemporaryFile() as complaints:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, bufsize=size
            )
            assert process.stdout is not None
            try:
                while data := process.stdout.read(size):
                    block = np.frombuffer(data[: len(data) // (4 * self.channels) * 4 * self.channels], "<f4")
                    block = np.clip(np.nan_to_num(block), -_LOUDEST, _LOUDEST).reshape(-1, self.channels)
                    position += len(block)
                    yield (block @ weights).astype(np.float32, copy=False)
                code = process.wait()
            finally:
                process.kill()
                process.stdout.close()
                process.wait()
        if code and position:
            raise RecordingError(f"damaged after {position / self.rate:.1f} s")
        if code:
            raise RecordingError(_NO_SOUND)  # in the same words, which tell nothing of files that a playlist names
        _check_length(position, self.frames or 0, self.rate)

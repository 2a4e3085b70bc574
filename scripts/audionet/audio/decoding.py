"""Opening of sound files: which decoder reads which kind of file."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import shutil
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import soundfile

from audionet.audio.array_sound import ArraySound, segment_sound
from audionet.audio.av_file import NO_SOUND, MissingDecoderError
from audionet.audio.av_reader import AvReader, Found
from audionet.audio.frame_walk import Mp3Frames, OggPages, is_single_flac, walk_mp3, walk_ogg
from audionet.audio.sndfile_reader import UNKNOWN_LENGTH, SndfileReader, open_sndfile
from audionet.audio.sound import ChannelChoice, ChannelSetting, Level, Reader, Sound
from audionet.errors import RecordingError, UnavailableError
from audionet.utils.text import escape

log = logging.getLogger(__name__)


def _endings(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


CONTAINER_SUFFIXES = _endings(
    "m4a m4b m4r aac mp4 m4v mov 3gp 3g2 webm mka mkv weba wma wmv asf amr awb ac3 eac3 ape wv tta mpc dts ra rm avi "
    "flv mpg mpeg ts mts m2ts vob ogv ogm ogx spx"
)
"""Lower-case file name endings of formats that libsndfile does not know, so that it need not be asked."""

AUDIO_SUFFIXES = CONTAINER_SUFFIXES | _endings(
    "mp3 wav flac ogg oga opus aif aiff aifc au snd caf w64 rf64 mp1 mp2 voc"
)
"""Lower-case file name endings of recordings."""

_IMAGES = {
    "PNG": re.compile(rb"\x89PNG"),
    "GIF": re.compile(rb"GIF8"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "JPG": re.compile(rb"\xff\xd8\xff"),
}
"""Beginnings of image files."""

_MOST_PADDING = 4000  # samples that an MP3's encoder may add at both ends, and its header has taken off again


@dataclass(frozen=True)
class FileChannel:
    """One channel of a recording as a source, or the plain mean of all.

    Parameters
    ----------
    path : Path
    channel : int or "mean"
        Number of the channel, from 1. A mono file is taken as it is.
    """

    path: Path
    channel: ChannelChoice

    def __str__(self) -> str:
        return f"{self.path} (channel {self.channel})"


FileSource = Path | FileChannel
"""A recording on disk, or one of its channels."""

Source = FileSource | ArraySound
"""A recording on disk, one of its channels, or samples in memory."""


def choose_channels(path: Path, channel: ChannelSetting) -> list[FileSource]:
    """Return the sources that a recording is read as: itself, one channel, or each of its channels.

    Raises
    ------
    RecordingError
        If its channels are asked for and it holds no sound that can be decoded.
    """
    if channel == "auto":
        return [path]
    if channel != "split":
        return [FileChannel(path, channel)]
    with open_sound(path) as sound:
        count = sound.channels
    return [FileChannel(path, number + 1) for number in range(count)] if count > 1 else [path]


@contextlib.contextmanager
def open_sound(source: Source) -> Iterator[Sound]:
    """Open a sound.

    Raises
    ------
    RecordingError
        If it holds no sound that can be decoded.
    UnavailableError
        If it cannot be read.
    """
    if isinstance(source, ArraySound):
        yield Sound(source)
        return
    path, channel = (source.path, source.channel) if isinstance(source, FileChannel) else (source, "auto")
    check_readable(path)
    with contextlib.ExitStack() as stack:
        try:
            find_level = functools.partial(_float_level, path, channel, _version(path))
            reader = _open_reader(path, stack)
        except OSError as error:
            raise UnavailableError(f"cannot be read: {error.strerror}") from None
        log.debug("decoding %s, by %s", path, type(reader).__name__)
        yield Sound(reader, channel, find_level)


def _open_reader(path: Path, stack: contextlib.ExitStack) -> Reader:
    """Return the reader for a file, to be closed by the stack: the table of what reads what.

    libsndfile is two to three times as fast, and reads the rest of its formats better: FFmpeg misreads G.721, G.723
    and NMS ADPCM, loses the end of ALAC in CAF, and does not know XI. It is not asked where it reads another sound
    than the file holds.
    """
    file = None
    if path.suffix.lower() not in CONTAINER_SUFFIXES:
        with contextlib.suppress(soundfile.LibsndfileError, TypeError):  # which .raw is, without its format
            file = stack.enter_context(open_sndfile(path))
    if file is None:
        return _open_av_reader(path, stack, walk=_walk_ogg(path, _version(path)) if _is_ogg(path) else None)
    frames: int | None = file.frames if file.frames < UNKNOWN_LENGTH else None
    walk: Mp3Frames | OggPages | None = None
    match file.format, file.subtype:
        case "MP3", _:
            # It believes the header's number of frames, and without one guesses from the first frame's bit rate.
            walk = _walk_mp3(path, _version(path))
            frames = _frames_of_mp3(walk, file.frames)
            exact = frames is not None
        case "OGG", _:
            # It ends with the first stream, leaves damaged pages and gaps out, and reads nothing but these codecs.
            walk = _walk_ogg(path, _version(path))
            exact = walk.single and file.subtype in ("VORBIS", "OPUS")
        case "FLAC", _:
            # It loses the end of one whose length is not stated, and what follows the first of several.
            exact = frames is not None and _walk_flac(path, _version(path))
        case (("WAV" | "WAVEX"), ("GSM610" | "MPEG_LAYER_III")):
            exact = False  # it adds a block to GSM, and guesses the length of MP3 inside WAV
        case _:
            exact = True
    if not exact:
        with contextlib.suppress(RecordingError):
            return _open_av_reader(path, stack, walk=walk)
    whole = not isinstance(walk, OggPages) or walk.whole
    reader = SndfileReader(path, file, frames, lambda: _open_av_reader(path, stack, file.samplerate, walk), whole)
    stack.callback(reader.close)
    return reader


def _open_av_reader(
    path: Path, stack: contextlib.ExitStack, rate: int | None = None, walk: Mp3Frames | OggPages | None = None
) -> Reader:
    """Return FFmpeg's reader; or what an installed ffmpeg makes of the file, where the libraries lack its decoder."""
    found = Found()
    if isinstance(walk, Mp3Frames):
        second = walk.rate / walk.samples
        found = Found(walk.stated / second if walk.stated else None, walk.frames / second if walk.uniform else None)
    elif isinstance(walk, OggPages):
        found = Found(pauses=walk.intact, whole=walk.whole)
    try:
        reader = AvReader(path, rate, found)
    except MissingDecoderError:
        return _by_program(path)
    stack.callback(reader.close)
    return reader


def _frames_of_mp3(walk: Mp3Frames | None, assumed: int) -> int | None:
    """Return the samples of an MP3, given those that libsndfile assumes; None if it would not read them all."""
    if walk is None or not walk.uniform or walk.stated not in (None, walk.frames):
        return None
    samples = walk.frames * walk.samples
    if walk.stated is None:
        return samples if assumed >= samples else None
    return assumed if samples - _MOST_PADDING <= assumed <= samples else None


_Version = tuple[int, int]


def _version(path: Path) -> _Version:
    """Return a file's size and modification time; what was found out of it holds as long as they stay."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _is_ogg(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"OggS"


# Cached, because several pieces of a long recording are read one after the other.
@functools.lru_cache(maxsize=8)
def _walk_mp3(path: Path, _: _Version) -> Mp3Frames | None:
    with path.open("rb") as file:
        return walk_mp3(file)


@functools.lru_cache(maxsize=8)
def _walk_ogg(path: Path, _: _Version) -> OggPages:
    with path.open("rb") as file:
        return walk_ogg(file)


@functools.lru_cache(maxsize=8)
def _walk_flac(path: Path, _: _Version) -> bool:
    with path.open("rb") as file:
        return is_single_flac(file)


@functools.lru_cache(maxsize=8)
def _float_level(path: Path, channel: ChannelChoice, _: _Version) -> Level:
    with contextlib.ExitStack() as stack:
        return Sound(_open_reader(path, stack), channel).measure()


def _by_program(path: Path) -> Reader:
    """Decode a whole file with the installed ffmpeg, by pydub."""
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        raise UnavailableError(
            f"takes ffmpeg to read ({escape(path.suffix)}): install it (Debian and Ubuntu: sudo apt install ffmpeg; "
            "macOS: brew install ffmpeg; Windows: winget install ffmpeg) and run again"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydub's own, of Python's audioop
        from pydub import AudioSegment
        from pydub.exceptions import CouldntDecodeError

        try:
            with path.open("rb") as file:
                return segment_sound(AudioSegment.from_file(file))
        except (CouldntDecodeError, LookupError, ValueError):
            raise RecordingError(NO_SOUND) from None


class Header(NamedTuple):
    """Duration in seconds that a file's header states; `can_seek` if reading may begin anywhere."""

    seconds: float
    can_seek: bool


def header(source: FileSource) -> Header | None:
    """Read a file's header; None if it states no duration."""
    try:
        with open_sound(source) as sound:
            return Header(sound.frames / sound.rate, sound.can_seek) if sound.frames else None
    except RecordingError:
        return None


def check_readable(path: Path) -> None:
    """Check that a file can be opened and is not empty.

    Raises
    ------
    RecordingError
        If it is empty, an image, or not a regular file.
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
            if not (head := file.read(12)):
                raise RecordingError("the file is empty")
            if kind := next((kind for kind, expression in _IMAGES.items() if expression.match(head)), None):
                raise RecordingError(
                    f"is a {kind} image: of images, only JPG spectrograms that data_maker.py rendered are read, "
                    "with the ending .jpg"
                )
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}") from None

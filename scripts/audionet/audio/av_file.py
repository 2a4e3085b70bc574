"""Files open for demuxing by PyAV: nothing else is opened through them, and only sound is decoded."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audionet.audio.samples import SILENCE_PEAK
from audionet.errors import RecordingError, UnavailableError
from audionet.utils.arrays import FloatArray

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer

NO_SOUND = "cannot be decoded: damaged, or there is no sound in it"
NO_INDEX = "cannot be decoded: it has no index, which lies at the end of many MP4 files, so it may be cut short"

CONTAINERS = (
    "mov,matroska,asf,ogg,mp3,wav,w64,flac,aiff,caf,au,aac,loas,amr,amrnb,amrwb,ac3,eac3,ape,wv,tta,tak,mpc,mpc8,dts,dtshd,"
    "truehd,mlp,rm,avi,flv,live_flv,mpeg,mpegts,mpegvideo,mpegtsraw,webm,shn,dsf,iff,voc,gsm,spdif,nut,mxf,wtv,oma,aa,aax,"
    "nistsphere"
)
"""Container formats that FFmpeg may open. Not playlists (HLS, concat and the like), which make it open other files."""

_PROTOCOLS = "none"  # no protocol has this name: the file is handed over open, and nothing else can be opened

_TYPES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}
"""NumPy types of FFmpeg's sample formats, packed; planar ones end in p."""

_LOUDEST = 1000.0  # 60 dB above full scale: no decoder gives it for a sound, and sums of it do not overflow


class MissingDecoderError(RecordingError):
    """The file's sound is in a format that FFmpeg's libraries, as PyAV bundles them, know but do not decode."""


class OpenFile:
    """File open for demuxing; nothing else can be opened through it."""

    def __init__(self, path: Path) -> None:
        import av  # loads 70 MB of libraries, which most recordings do not need

        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": _PROTOCOLS, "codec_whitelist": _audio_codecs()}
        self._file = _Anonymous(path)
        try:
            self.container: InputContainer = av.open(self._file, "r", options=options, metadata_errors="replace")
        except (av.error.FFmpegError, ValueError):
            self._file.seek(0)
            is_mp4 = self._file.read(8)[4:] == b"ftyp"
            self._file.close()
            # In words that tell nothing of the files that a playlist names.
            raise RecordingError(NO_INDEX if is_mp4 else NO_SOUND) from None
        except BaseException:
            self._file.close()
            raise

    @property
    def position(self) -> int:
        """Bytes that FFmpeg has read up to."""
        return self._file.tell()

    def close(self) -> None:
        """Close the container and the file."""
        self.container.close()
        self._file.close()


class _Anonymous(io.FileIO):
    """File whose name shows its ending alone, by which FFmpeg knows formats without a mark of their own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.name = f"sound{path.suffix.lower()}" if path.suffix.isascii() else "sound"

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Seek; to an impossible place, as a damaged index asks for, return what FFmpeg takes for a failure."""
        try:
            return super().seek(offset, whence)
        except OSError:
            return -1


@functools.cache
def _audio_codecs() -> str:
    """Return the decoders that FFmpeg may use: those of sound, so that no picture is ever decoded."""
    import av

    names = []
    for name in sorted(av.codecs_available):
        with contextlib.suppress(ValueError):
            if av.Codec(name, "r").type == "audio":
                names.append(name)
    return ",".join(names)


def ignore_others(container: InputContainer, streams: Sequence[AudioStream]) -> None:
    """Have the demuxer pass over all other streams, and the decoders of these use one thread."""
    import av

    for stream in container.streams:
        if stream not in streams:
            stream.discard = av.stream.Discard.all
    for stream in streams:
        stream.codec_context.thread_count = 1  # the recordings of a batch share the cores already


def packets_of(opened: OpenFile, streams: Sequence[AudioStream]) -> Iterator[Packet[AudioStream]]:
    """Yield the packets of some sound tracks.

    Raises
    ------
    RecordingError
        If the file is damaged so that no more can be found; the message is the reason.
    UnavailableError
        If it cannot be read.
    """
    import av

    packets = opened.container.demux(streams)
    searched = -1
    while True:
        try:
            yield next(packets)  # type: ignore[arg-type]
        except StopIteration:
            return
        except IndexError:  # a packet of a track that the header does not name, for which PyAV has no place
            packets = opened.container.demux(streams)
        except av.error.BlockingIOError as error:  # no sound in the bytes just read; there may be in the next
            if opened.position <= searched:
                raise RecordingError(error.strerror) from None
            searched, packets = opened.position, opened.container.demux(streams)
        except av.error.FFmpegError as error:
            raise RecordingError(error.strerror) from None
        except OSError as error:
            raise UnavailableError(f"cannot be read: {error.strerror}") from None


@functools.lru_cache(maxsize=8)
def first_sounding(path: Path, tracks: tuple[int, ...], size: int, mtime_ns: int) -> int:
    """Return the first of some tracks that is not silent from beginning to end; the first one if all are.

    Cached, because several pieces of a long recording are read; size and time say which version of the file it is.
    """
    import av

    opened = OpenFile(path)
    with contextlib.closing(opened):
        streams = [opened.container.streams.audio[track] for track in tracks]
        ignore_others(opened.container, streams)
        silent = {stream.index: track for stream, track in zip(streams, tracks, strict=True)}
        with contextlib.suppress(RecordingError):
            for packet in packets_of(opened, streams):
                if packet.stream_index in silent and _is_sounding(packet):
                    del silent[packet.stream_index]
                    packet.stream.discard = av.stream.Discard.all
                if streams[0].index not in silent:
                    break
    return next((track for track in tracks if track not in silent.values()), tracks[0])


def _is_sounding(packet: Packet[AudioStream]) -> bool:
    import av

    with contextlib.suppress(av.error.FFmpegError):
        return any(np.ptp(frame_samples(frame), axis=0).max() > 2 * SILENCE_PEAK / 32768 for frame in packet.decode())
    return False


def frame_samples(frame: AudioFrame) -> FloatArray:
    """Return a frame's samples as float32, integers scaled to -1 to 1; shape (n, channels)."""
    kind = frame.format.name.removesuffix("p")
    if kind not in _TYPES:  # integers of 64 bits, which few can write
        import av

        (frame,) = av.AudioResampler("dbl").resample(frame)
        kind = "dbl"
    # As AudioFrame.to_ndarray, in a third of its time: Opus has fifty frames a second.
    planes = [np.frombuffer(memoryview(plane), _TYPES[kind]) for plane in frame.planes]
    channels = len(frame.layout.channels)
    if frame.format.is_planar:
        first = planes[0][: frame.samples, None]
        array = first if channels == 1 else np.stack([plane[: frame.samples] for plane in planes], axis=1)
    else:
        array = planes[0][: frame.samples * channels].reshape(-1, channels)
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    half = 2.0 ** (8 * array.dtype.itemsize - 1)
    zero = half if kind == "u8" else 0.0
    return ((array.astype(np.float64) - zero) / half).astype(np.float32)


def without_impossible(samples: FloatArray) -> FloatArray:
    """Return what a lossy decoder gave, without the numbers that it makes of damaged frames and no sound has."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples if peak <= _LOUDEST else np.clip(np.nan_to_num(samples), -_LOUDEST, _LOUDEST)

"""Reader of the formats that libsndfile decodes exactly."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import soundfile

from audionet.audio.chunk_headers import data_chunk, missing_share
from audionet.audio.sound import Reader, check_length, segment_length
from audionet.errors import RecordingError
from audionet.utils.arrays import FloatArray
from audionet.utils.process import native_stderr_muted

UNKNOWN_LENGTH = 1 << 62
"""Lengths from here on mean that libsndfile does not know it."""

_MPEG1_RATE = 32_000  # Hz, the lowest rate of MPEG-1
_SEEK_STEP = 2304  # samples; mpg123 sums in the same order only from every second MP3 frame on

LINEAR_SUBTYPES = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})
"""Encodings of one sample by itself, whose length follows from their bytes."""


class SndfileReader:
    """Reader of a file that libsndfile decodes; a `Reader`.

    Parameters
    ----------
    path : Path
    file : soundfile.SoundFile
        From `open_sndfile`.
    frames : int or None
        Samples a channel, if they are known.
    rest : callable
        Gives a reader of the same file at the same rate, for what follows a sample at which libsndfile fails.
    whole : bool
        False if the file is known to end too early.
    """

    def __init__(
        self,
        path: Path,
        file: soundfile.SoundFile,
        frames: int | None,
        rest: Callable[[], Reader],
        whole: bool = True,
    ) -> None:
        self.remarks: list[str] = []
        self.start = 0.0
        self._raw: _From | None = None
        with path.open("rb") as raw:
            chunk = data_chunk(raw)
        if chunk is not None and not chunk.filled_in and file.subtype in LINEAR_SUBTYPES:
            self._raw = _From(path, chunk.offset)
            file = _open_without_header(self._raw, file)
            frames = file.frames
            self.remarks.append("its header was never filled in, as when a recorder crashes; what follows it is used")
        self._file = file
        self._rest = rest
        self._whole = whole
        self._missing = missing_share(chunk)
        self.rate: int = file.samplerate
        self.channels: int = file.channels
        self.frames = frames
        self.is_float = file.subtype in ("FLOAT", "DOUBLE")
        # A sought MP3 of low rate (MPEG-2) differs from a streamed one in the last bit of a few samples.
        self._is_sought = soundfile.SoundFile.seekable(file) and not file.subtype.startswith("DWVW")  # says so wrongly
        self.can_seek = self._is_sought and bool(self.frames) and not (file.format == "MP3" and self.rate < _MPEG1_RATE)

    def close(self) -> None:
        """Close what the reader has opened."""
        if self._raw is not None:
            self._file.close()
            self._raw.close()

    def blocks(self, start: int = 0) -> Iterator[FloatArray]:
        """Yield the samples from sample `start` to the end; see `Reader`."""
        file, length = self._file, segment_length(self.rate, self.channels)
        position = 0
        if self._is_sought:
            position = max(0, start - self.rate)  # a decoder that begins in the middle needs some frames to settle
            position -= position % _SEEK_STEP
            try:
                with native_stderr_muted():
                    file.seek(position)  # to 0 as well, as soundfile.read does: it decides an MP3's last bits
            except soundfile.LibsndfileError:  # damaged, or shorter than its header states
                yield from self._go_on(start)
                return
        while True:
            wanted = start - position if position < start else length
            try:
                with native_stderr_muted():
                    block = file.read(min(wanted, length), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                if self.frames is not None and position >= self.frames:
                    break
                yield from self._go_on(max(position, start))
                return
            if not len(block):
                break
            position += len(block)
            if position > start:
                yield block
        check_length(position / self.rate, max(self.frames or 0, position * (1 + self._missing)) / self.rate)
        if not self._whole:
            raise RecordingError("cut short: its last page is not all there")

    def _go_on(self, start: int) -> Iterator[FloatArray]:
        """Yield from sample `start` on what FFmpeg makes of the file, where libsndfile fails."""
        rest = self._rest()
        rest.remarks = self.remarks
        yield from rest.blocks(start)


def open_sndfile(path: Path) -> soundfile.SoundFile:
    """Open a file with libsndfile; raise LibsndfileError if it does not know the format."""
    with native_stderr_muted():
        return _Stream(os.fsencode(path))  # as bytes, because a name need not be UTF-8


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """Sound file read from beginning to end.

    soundfile seeks to where it already is after every read of a seekable file, and an MP3 decoder that seeks
    starts afresh: every block would begin with a glitch.
    """

    def seekable(self) -> bool:
        return False


def _open_without_header(raw: _From, file: soundfile.SoundFile) -> soundfile.SoundFile:
    """Open the samples themselves of a file whose header states no length."""
    big = file.endian == "BIG" or (file.endian == "FILE" and file.format in ("AIFF", "AU", "CAF"))
    return _Stream(
        raw,
        samplerate=file.samplerate,
        channels=file.channels,
        format="RAW",
        subtype=file.subtype,
        endian="BIG" if big else "LITTLE",
    )


class _From(io.FileIO):
    """File from an offset on."""

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(path)
        self._offset = offset
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return super().seek(offset + (self._offset if whence == os.SEEK_SET else 0), whence) - self._offset

    def tell(self) -> int:
        return super().tell() - self._offset

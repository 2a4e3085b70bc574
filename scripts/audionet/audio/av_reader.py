"""Reader of everything that FFmpeg's libraries decode, in process, by PyAV."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soxr

from audionet.audio.av_file import (
    NO_SOUND,
    MissingDecoderError,
    OpenFile,
    first_sounding,
    frame_samples,
    ignore_others,
    packets_of,
    without_impossible,
)
from audionet.audio.chunk_headers import (
    asf_seconds,
    avi_missing_share,
    data_chunk,
    matroska_seconds,
    missing_share,
)
from audionet.audio.frame_walk import MP3_TAGS
from audionet.audio.packet_clock import DamagedFrames, PacketClock
from audionet.audio.sound import check_length
from audionet.errors import RecordingError, UnavailableError
from audionet.utils.arrays import FloatArray

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer

_STATED_DURATION = frozenset(("mov", "wv", "tta", "ape", "caf", "wav", "aiff", "au", "w64", "flac"))
"""Containers whose header states the duration of a track; for others FFmpeg only estimates it."""

_TRUE_CLOCK = frozenset(
    ("mov", "matroska", "asf", "avi", "flv", "live_flv", "mpegts", "mpeg", "ogg", "nut", "mxf", "flac")
)
"""Containers that keep a time for every packet; for others FFmpeg adds durations up."""

_NO_PAUSES = frozenset({"flac", "ogg"})
"""Containers of which every gap is damage."""

_CLOCK_FROM_ZERO = frozenset({"mov", "matroska"})
"""Containers whose clock a player shows as it is; the others' begins anywhere, and counts from their first packet."""

_MOST_OVERHEAD = 1000  # bytes of Matroska between the packets of a file with one track
_HEAD_BYTES = 8192
_SHORTEST_PAUSE = 1.0  # seconds, in ASF, which does not tell pauses from what is lost
_LATE_STARTS = (0.1, 24 * 3600.0)  # seconds; less is what an encoder puts in front, more is no time
_LONGEST_DURATION = 1e10  # seconds
_MOST_ENTRIES_CHECKED = 1000
_LEAST_BITS = 100  # a second; a header that promises more sound than that is not believed
_LOSSLESS = 4  # AV_CODEC_PROP_LOSSLESS
_DEFAULT = 1  # AV_DISPOSITION_DEFAULT


class Found(NamedTuple):
    """Findings of a walk over a file without decoding it.

    Attributes
    ----------
    stated, held : float or None
        Seconds that its header states, and that it holds.
    pauses : bool
        Whether a gap is a pause, and not damage, although the container has no pauses.
    whole : bool
        False if the file ends too early.
    """

    stated: float | None = None
    held: float | None = None
    pauses: bool = False
    whole: bool = True


class AvReader:
    """Reader of one sound track of a file; a `Reader`.

    Parameters
    ----------
    path : Path
    rate : int, optional
        Sample rate of the blocks; default: the track's own.
    found : Found, optional
        Findings of a walk over the file.

    Raises
    ------
    RecordingError
        If there is no sound in it.
    """

    def __init__(self, path: Path, rate: int | None = None, found: Found | None = None) -> None:
        self._path = path
        self._found = found or Found()
        self.remarks: list[str] = []
        self._unread: OpenFile | None = OpenFile(path)  # for the first call of `blocks`
        try:
            container = self._unread.container
            self._track = self._choose_track(container)
            stream = container.streams.audio[self._track]
            context = stream.codec_context
            self._format = container.format.name.partition(",")[0]
            self.rate: int = rate or context.sample_rate
            self.channels: int = max(1, context.channels)
            format_name = context.format.name if context.format else ""
            self.is_float = bool(context.codec.properties & _LOSSLESS) and format_name[:3] in ("flt", "dbl")
            self._origin = 0.0 if self._format in _CLOCK_FROM_ZERO else (container.start_time or 0) / 1e6
            self._first = None if stream.start_time is None else _seconds(stream.start_time, stream)
            # Without its header, FFmpeg adds the times of FLAC up, and wrongly.
            self._has_clock = self._format in _TRUE_CLOCK and (self._format != "flac" or stream.duration is not None)
            self._stated = self._found.stated or self._stated_seconds(container, stream)
            with path.open("rb") as file:
                self._missing = missing_share(data_chunk(file)) or avi_missing_share(file)
            seconds = self._found.held or self._stated
            self.frames: int | None = round(seconds * self.rate) if seconds else None
            self.can_seek = rate is None and self._is_regular(stream, path.stat().st_size)
        except BaseException:
            self.close()
            raise

    @property
    def start(self) -> float:
        """Time of the first sample on the container's clock, seconds; final once a block has been read."""
        late = (self._first or 0.0) - self._origin
        return late if _LATE_STARTS[0] < late < _LATE_STARTS[1] else 0.0

    def close(self) -> None:
        """Close the file, if none of it has been read."""
        if self._unread is not None:
            self._unread.close()

    def blocks(self, start: int = 0) -> Iterator[FloatArray]:
        """Yield the samples from sample `start` to the end; see `Reader`.

        Gaps in the container's clock become zeros, and so do damaged frames.
        """
        opened, self._unread = self._unread or OpenFile(self._path), None
        with contextlib.closing(opened):
            first = self._first if self.can_seek else None
            clock = PacketClock(self.rate, self._has_clock, first, sought=start > 0)
            damaged = DamagedFrames()
            held: list[FloatArray] = []
            size = 0
            failure: RecordingError | None = None
            try:
                for block in self._decoded(opened, start, clock, damaged):
                    early = start - clock.position
                    clock.position += len(block)
                    if early >= len(block):
                        continue
                    held.append(block[early:] if early > 0 else block)
                    size += len(block)
                    if size >= self.rate or block.shape[1] != held[0].shape[1]:
                        yield from self._joined(held)
                        held, size = [], 0
            except UnavailableError:
                raise
            except RecordingError as error:
                failure = error
            finally:  # also if no more than a part is wanted
                self.remarks += damaged.remarks()
            yield from self._joined(held)
            if not clock.position:
                raise RecordingError(NO_SOUND)
            seconds = clock.position / self.rate
            check_length(seconds, max(self._stated or 0.0, seconds * (1 + self._missing)))
            if failure is not None and not self._stated:
                raise failure
            if not self._found.whole:
                raise RecordingError("cut short: its last page is not all there")

    def _choose_track(self, container: InputContainer) -> int:
        """Return the sound track to read, from 0: of those that hold sound, the default one or else the first."""
        tracks = container.streams.audio
        usable = [i for i, track in enumerate(tracks) if track.codec_context and track.codec_context.sample_rate]
        if not usable:
            raise MissingDecoderError(NO_SOUND) if tracks else RecordingError(NO_SOUND)
        if len(tracks) == 1:
            return 0
        preferred = sorted(usable, key=lambda i: (not tracks[i].disposition & _DEFAULT, i))
        state = self._path.stat()
        chosen = first_sounding(self._path, tuple(preferred), state.st_size, state.st_mtime_ns)
        silent = sorted(i + 1 for i in preferred[: preferred.index(chosen)])
        if silent:
            reason = f"track {' and '.join(map(str, silent))} {'is' if len(silent) == 1 else 'are'} silent"
        else:
            reason = "it is marked as the default" if tracks[chosen].disposition & _DEFAULT else "it is the first"
        self.remarks.append(f"sound track {chosen + 1} of {len(tracks)} is used: {reason}")
        return chosen

    def _stated_seconds(self, container: InputContainer, stream: AudioStream) -> float | None:
        """Return the track's duration as far as the header really states it, without the time before it begins."""
        seconds = None
        if self._format in _STATED_DURATION and stream.duration is not None:
            seconds = _seconds(stream.duration, stream)
        elif self._format == "asf" and len(container.streams) == 1:  # it states the duration of all of them
            with self._path.open("rb") as file:
                seconds = asf_seconds(file.read(_HEAD_BYTES))
        elif self._format == "matroska":
            with contextlib.suppress(ValueError):
                hours, of_hour, of_minute = stream.metadata.get("DURATION", "").split(":")
                seconds = int(hours) * 3600 + int(of_hour) * 60 + float(of_minute.strip("\0")) - self.start
            if seconds is None and len(container.streams) == 1:
                with self._path.open("rb") as file:
                    stated = matroska_seconds(file.read(_HEAD_BYTES))
                seconds = None if stated is None else stated - self.start
        return seconds if seconds and 0 < seconds < _LONGEST_DURATION else None

    def _is_regular(self, stream: AudioStream, size: int) -> bool:
        """Return whether the packet that holds a sample can be found by its number alone."""
        tick = stream.time_base
        if self._format != "mov" or self._stated is None or tick is None or tick * self.rate != 1:
            return False
        entries = stream.index_entries
        if len(entries) < 3 or size * 8 < self._stated * _LEAST_BITS:
            return False
        first, step = entries[0].timestamp, entries[1].timestamp - entries[0].timestamp
        some = range(0, len(entries), max(1, len(entries) // _MOST_ENTRIES_CHECKED))
        return step > 0 and all(entries[i].timestamp == first + i * step for i in some)

    def _decoded(
        self, opened: OpenFile, start: int, clock: PacketClock, damaged: DamagedFrames
    ) -> Iterator[FloatArray]:
        """Yield the samples and the silence between them; the caller advances the clock."""
        import av

        container = opened.container
        stream = container.streams.audio[self._track]
        ignore_others(container, [stream])
        if start > 0 and self.can_seek and stream.start_time is not None:
            # A decoder that begins in the middle needs some frames to settle.
            with contextlib.suppress(av.error.FFmpegError):  # then it is read from its beginning
                container.seek(stream.start_time + max(0, start - self.rate), stream=stream)
        resampler = _Resampler(self.rate)
        single = self._format == "matroska" and len(container.streams) == 1
        lost = _LostFrames(single, mp3=self._format == "mp3")
        no_pauses = self._format in _NO_PAUSES and not self._found.pauses
        packets = packets_of(opened, [stream])
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except UnavailableError:
                raise
            except RecordingError as error:
                yield from resampler.flush()
                raise RecordingError(f"damaged after {self._time(clock):.1f} s: {error}") from None
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                clock.lose(lost.note_undecodable(packet) * _seconds(packet.duration, packet))
                continue
            lost.note_decoded(packet)
            for frame in frames:
                block = frame_samples(frame)
                silence = clock.gap(frame.time, resampler.pending)
                self._first = clock.first
                is_damage = no_pauses or (self._format == "asf" and silence < _SHORTEST_PAUSE * self.rate)
                count = lost.frames_in_gap(silence / max(1, len(block)), is_damage)
                if count and clock.position >= start:
                    damaged.add(self._time(clock), count)
                if silence:
                    yield from resampler.flush()
                    for begin in range(0, silence, self.rate):
                        yield np.zeros((min(self.rate, silence - begin), block.shape[1]), np.float32)
                yield from resampler.resample(block, frame.sample_rate)
        yield from resampler.flush()
        damaged.add(self._time(clock), lost.frames_at_end())

    def _joined(self, blocks: Sequence[FloatArray]) -> Iterator[FloatArray]:
        """Yield blocks as one array for each run of the same number of channels."""
        for _, run in itertools.groupby(blocks, key=lambda block: block.shape[1]):
            joined = np.concatenate(list(run))
            yield joined if self.is_float else without_impossible(joined)

    def _time(self, clock: PacketClock) -> float:
        return self.start + clock.position / self.rate


class _Resampler:
    """Resampler of the frames whose rate is not the one wanted; rates may change within a stream.

    Attributes
    ----------
    pending : int
        Samples of the result that wait for more to come.
    """

    def __init__(self, rate: int) -> None:
        self.pending = 0
        self._rate = rate
        self._from: tuple[int, int] | None = None
        self._stream: soxr.ResampleStream | None = None
        self._owed = 0.0

    def resample(self, block: FloatArray, rate: int) -> Iterator[FloatArray]:
        """Yield what of a block, and of what came before, can be resampled."""
        if (rate, block.shape[1]) != self._from:
            yield from self.flush()
            self._from = rate, block.shape[1]
            self._stream = None if rate == self._rate else soxr.ResampleStream(rate, self._rate, block.shape[1])
        if self._stream is None:
            yield block
            return
        changed = self._stream.resample_chunk(block)
        self._owed += len(block) * self._rate / rate - len(changed)
        self.pending = max(0, round(self._owed))
        yield changed

    def flush(self) -> Iterator[FloatArray]:
        """Yield the end of what has been given."""
        if self._stream is not None and self._from is not None:
            yield self._stream.resample_chunk(np.zeros((0, self._from[1]), np.float32), last=True)
        self._stream, self._from, self._owed, self.pending = None, None, 0.0, 0


class _LostFrames:
    """Count of the frames between two decoded ones that could not be decoded, or that the demuxer left out.

    Parameters
    ----------
    single : bool
        Whether it is Matroska with one track, whose packets follow each other closely.
    mp3 : bool
        Whether it is an MP3, where what lies between two frames comes as a packet, too.
    """

    def __init__(self, single: bool, mp3: bool) -> None:
        self._single = single
        self._mp3 = mp3
        self._bytes = self._packets = 0  # that were decoded
        self._end: int | None = None  # where the last packet ended in the file
        self._undecoded = 0
        self._left_out = False

    def note_undecodable(self, packet: Packet[AudioStream]) -> int:
        """Take note of a packet that could not be decoded; return how many frames it held."""
        self._end = _end_of(packet)
        content = bytes(memoryview(packet)[:16]) if packet.size else b""
        count = 1 if content else 0
        if self._mp3 and content[:1] != b"\xff":
            no_frame = content.startswith(MP3_TAGS) or not self._bytes
            count = 0 if no_frame else round(packet.size * self._packets / self._bytes)
        self._undecoded += count
        return count

    def note_decoded(self, packet: Packet[AudioStream]) -> None:
        """Take note of a packet that could be decoded."""
        self._bytes += packet.size
        self._packets += 1
        end, self._end = self._end, _end_of(packet)
        if self._single and end is not None and packet.pos is not None:
            self._left_out = self._left_out or packet.pos - end > _MOST_OVERHEAD

    def frames_in_gap(self, frames: float, is_damage: bool) -> int:
        """Return how many frames were lost, at least, in a gap of so many frames before the one just decoded."""
        undecoded, self._undecoded = self._undecoded, 0
        if not frames or not (is_damage or self._left_out):
            return undecoded
        self._left_out = False
        return max(undecoded, round(frames), 1)

    def frames_at_end(self) -> int:
        """Return how many frames were lost after the last one decoded; behind an MP3 lie tags and padding."""
        return 0 if self._mp3 else self._undecoded


def _end_of(packet: Packet[AudioStream]) -> int | None:
    return None if packet.pos is None else packet.pos + packet.size


def _seconds(ticks: int | None, of: AudioStream | Packet[AudioStream] | AudioFrame) -> float:
    return float((ticks or 0) * of.time_base) if of.time_base else 0.0

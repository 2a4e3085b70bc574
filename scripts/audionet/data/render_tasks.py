"""Rendering tasks for worker processes: a batch of small recordings, or a piece of a long one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import CONTAINER_SUFFIXES, FileChannel, FileSource, check_readable, header, open_sound
from audionet.audio.image import render
from audionet.audio.recording import Recording, Span, measure, needs_levels, span_of
from audionet.audio.resampling import SECTION_SECONDS
from audionet.audio.samples import PAUSE_DB, SILENCE_PEAK, is_silent, peak_level, wav_bytes
from audionet.audio.sndfile_reader import SndfileReader
from audionet.audio.sound import ChannelChoice
from audionet.data.journal import DECODING, Outcome, join_notes
from audionet.data.naming import chunk_name, recording_name
from audionet.data.recording_files import RecordingFile, path_of
from audionet.errors import RecordingError, UnavailableError
from audionet.utils.files import WriteBatch
from audionet.utils.parallel import Pool, process_died

PIECE_SECONDS = 1800
"""Length of a piece, seconds; several workers render the pieces of a recording at least twice as long."""

_BATCH_BYTES = 2 << 20
_BATCH_RECORDINGS = 64
LARGE_BYTES = 1 << 20  # the length of smaller files is not read
_LEAST_CONSTANT = 1e-3  # of full scale; less, as all sound has, changes no decision on what is silent
_LONGEST_SILENCE = 64  # chunks; silent ones have no files, so progress looks this far ahead for the next file


class Piece(NamedTuple):
    """Recording, or its chunks from `first` to before `stop`."""

    source: RecordingFile
    first: int = 0
    stop: int | None = None
    span: Span | None = None
    known: Outcome | None = None


class PieceTask(NamedTuple):
    """Pieces of recordings of one label, which lie in a folder, for one worker to render."""

    label: str
    pieces: list[Piece]
    folder: Path
    outputs: dict[Path, str]
    config: SpectrogramConfig
    channel: ChannelChoice = "auto"


@dataclass
class PieceProgress:
    """Progress of a long recording that one worker renders from beginning to end.

    Attributes
    ----------
    source : RecordingFile
    folder : Path
        Folder of its images, whose names end in `suffix`.
    seconds : float
        Length according to its header.
    chunks : int
        Number of chunks rendered at the last call.
    done : float
        Share rendered at the last call, 0 to 1.
    """

    source: RecordingFile
    folder: Path
    suffix: str
    seconds: float
    chunks: int = 0
    done: float = 0.0

    def newly_done(self, config: SpectrogramConfig) -> float:
        """Return the share of the recording rendered since the last call, judging by its image files."""
        name = recording_name(self.source.file)
        index, before = self.chunks, self.done
        while index < self.chunks + _LONGEST_SILENCE:
            if (self.folder / chunk_name(name, index, self.suffix)).exists():
                self.chunks = index + 1
            index += 1
        self.done = min(1.0, self.chunks * config.step_length / config.sample_rate / self.seconds)
        return self.done - before


def source_of(folder: Path, recording: RecordingFile, channel: ChannelChoice) -> FileSource:
    """Return what a recording is read as: its file, or one channel of it."""
    path, chosen = path_of(folder, recording), recording.channel or channel
    return path if chosen == "auto" else FileChannel(path, chosen)


def pieces_of(
    source: RecordingFile, sound: FileSource, config: SpectrogramConfig, known: Outcome | None, pool: Pool
) -> tuple[list[Piece], float | None]:
    """Divide a large recording into pieces; also return its length if it is long but has to be read from its start."""
    whole = [Piece(source, known=known)]
    if source.parts:
        return whole, None
    info = header(sound)
    if info is None or info.seconds < 2 * PIECE_SECONDS:
        return whole, None
    if not info.can_seek or known:
        return whole, info.seconds
    seconds, span = info.seconds, None
    if needs_levels(config):
        span = _measure_span(sound, seconds, config, pool)
        if span is None:
            return whole, info.seconds
        if span.stop is not None:
            seconds = (span.stop - span.start) / config.sample_rate
    step = config.step_length / config.sample_rate
    size = max(1, round(PIECE_SECONDS / step))
    firsts = range(0, max(1, math.ceil(seconds / step)), size)
    return [Piece(source, first, first + size if first != firsts[-1] else None, span) for first in firsts], None


def piece_batches(sources: Sequence[RecordingFile]) -> Iterator[list[RecordingFile]]:
    """Group small recordings into batches, so that a task outweighs the cost of sending it."""
    batch: list[RecordingFile] = []
    size = 0
    for source in sources:
        if batch and (size + source.size > _BATCH_BYTES or len(batch) == _BATCH_RECORDINGS):
            yield batch
            batch, size = [], 0
        batch.append(source)
        size += source.size
    if batch:
        yield batch


def split_pieces(task: PieceTask) -> list[PieceTask]:
    """Split a task into one task per piece."""
    return [task._replace(pieces=[piece]) for piece in task.pieces]


def _measure_span(source: FileSource, seconds: float, config: SpectrogramConfig, pool: Pool) -> Span | None:
    """Measure the span of a long recording with several workers; return None if one of them died."""
    sections = PIECE_SECONDS // SECTION_SECONDS
    places = range(0, math.ceil(seconds / SECTION_SECONDS), sections)
    try:
        futures = [pool.executor.submit(measure, source, config, place, sections) for place in places]
        return span_of([future.result() for future in futures], config)
    except Exception as error:
        if not process_died(error):
            raise
        return None


def render_pieces(task: PieceTask) -> list[Outcome]:
    """Write the chunks and images of some recordings; the outcomes name decoding errors."""
    with WriteBatch() as batch:  # on the disk before the journal names them
        return [_render_piece(piece, task, batch) for piece in task.pieces]


def _render_piece(piece: Piece, task: PieceTask, batch: WriteBatch) -> Outcome:
    source = source_of(task.folder, piece.source, task.channel)
    path = source if isinstance(source, Path) else source.path
    recording = Recording(source, task.config, piece.span)
    name = recording_name(piece.source.file)
    silent: list[int] = []
    levels: dict[int, float] = {}
    chunks = 0
    note, digest, final, ended = None, "", True, False
    try:
        if piece.first == 0:
            digest = _digest(path)
            if piece.known and piece.known.digest == digest and _is_read_as_before(source, piece.known):
                return piece.known._replace(decoding=DECODING, kept=True)
        parts = piece.source.parts
        for chunk in recording.chunks_of(parts) if parts else recording.chunks(piece.first, piece.stop):
            silent += range(piece.first + chunks, chunk.index)  # numbers between labelled parts
            chunks = chunk.index + 1 - piece.first
            if is_silent(chunk.samples):
                silent.append(chunk.index)
                continue
            levels[chunk.index] = peak_level(chunk.samples, task.config.sample_rate)
            wav = wav_bytes(chunk.samples, task.config.sample_rate)
            jpg = render(chunk.samples, task.config)
            for (folder, suffix), content in zip(task.outputs.items(), (wav, jpg), strict=True):
                batch.write(folder / task.label / chunk_name(name, chunk.index, suffix), content)
        state = path.stat()
        if (state.st_size, state.st_mtime_ns) != (piece.source.size, piece.source.mtime_ns):
            raise UnavailableError("changed while it was read: run again to render the new version")
    except OSError as error:
        if error.filename != str(path):  # an output cannot be written: no other recording could be either
            raise
        chunks, silent, note, final, ended = 0, [], f"cannot be read: {error.strerror}", False, True
    except UnavailableError as error:
        chunks, silent, note, final, ended = 0, [], str(error), False, True
    except RecordingError as error:
        note, ended = str(error), True
    if chunks:
        silent = sorted([*silent, *_remove_pauses(name, levels, task, batch)])
    notes = tuple(dict.fromkeys([*recording.remarks, *([note] if note else [])]))
    seconds = recording.seconds - recording.start
    if piece.source.parts:
        seconds = sum(max(0.0, min(end, recording.seconds) - start) for start, end in piece.source.parts)
    return Outcome(seconds, chunks, silent, join_notes(notes), digest, final=final, ended=ended, notes=notes)


def _is_read_as_before(source: FileSource, known: Outcome) -> bool:
    """Return whether today's decoding gives the sound that the version of `known` gave."""
    if known.decoding == DECODING:
        return True
    # What changed for the readers that stayed: channels that cancel, loud floats, and constants, which are silent now.
    if known.note is not None or not isinstance(source, Path) or source.suffix.lower() in CONTAINER_SUFFIXES:
        return False
    silence = SILENCE_PEAK / 32768
    total, count = 0.0, 0
    try:
        with open_sound(source) as sound:
            if not isinstance(sound.reader, SndfileReader):
                return False
            for block in sound.mono():
                total += float(block.sum())
                count += len(block)
                is_idle = float(np.ptp(block)) <= 2 * silence and abs(float(block[0])) >= silence
                if is_idle or sound.remarks or sound.gain != 1:
                    return False
    except RecordingError:
        return False
    return abs(total) < count * _LEAST_CONSTANT


def _remove_pauses(name: str, levels: dict[int, float], task: PieceTask, batch: WriteBatch) -> list[int]:
    """Remove the files of chunks far below the loudest, which is known only at the end, and return their numbers."""
    loudest = max(levels.values(), default=0.0)
    quiet = [index for index, level in levels.items() if level < loudest - PAUSE_DB]
    for index in quiet:
        for folder, suffix in task.outputs.items():
            batch.remove(folder / task.label / chunk_name(name, index, suffix))
    return quiet


def _digest(path: Path) -> str:
    check_readable(path)
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}") from None
    return digest.hexdigest()

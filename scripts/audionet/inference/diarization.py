"""Speaker diarization of long recordings, and its output files."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from audionet.audio.decoding import FileSource, Source
from audionet.audio.recording import SILENT
from audionet.audio.samples import PAUSE_DB
from audionet.errors import RecordingError, UsageError
from audionet.inference.answer import Decider
from audionet.inference.clip import Clip, ClipChunk, is_cut_off, is_image
from audionet.inference.predictor import Predictor
from audionet.inference.segmentation import LAG_SECONDS, Segment, Window
from audionet.inference.timeline_files import (
    CSV_HEADER,
    RAVEN_HEADER,
    diarization_plot,
    segment_to_audacity,
    segment_to_csv,
    segment_to_raven,
    segment_to_rttm,
)
from audionet.utils.extras import is_installed, missing_extra
from audionet.utils.files import atomic_path, make_folder, write_bytes

log = logging.getLogger(__name__)

WINDOWS_PER_CHUNK = 3


@dataclass(frozen=True)
class Diarization:
    """Segments of a recording: who speaks when.

    Attributes
    ----------
    seconds : float
        Length of the recording.
    segments : list of Segment
        In order of time; they overlap only where several labels may be present at a time.
    remark : str or None
        Damage to the recording, where part of it could be diarized.
    files : list of Path
        CSV, RTTM and, where matplotlib is installed, PNG, where they were written.
    """

    seconds: float
    segments: list[Segment]
    remark: str | None
    files: list[Path] = dataclasses.field(default_factory=list)


def diarize(
    predictor: Predictor,
    source: Source,
    step: float | None = None,
    on_segment: Callable[[Segment], object] | None = None,
) -> Diarization:
    """Slide the model's chunk over a recording, and join its predictions into segments.

    Parameters
    ----------
    predictor : Predictor
    source : Source
        A recording.
    step : float, optional
        Hop of the sliding window in seconds, at most a chunk; default: a third of a chunk.
    on_segment : callable, optional
        Called with each segment as soon as it is decided.

    Raises
    ------
    RecordingError
        If nothing in the recording can be used.
    UsageError
        If the step is longer than a chunk, or shorter than a twentieth of one.
    """
    spectrogram = predictor.spectrogram
    if is_image(source):
        raise RecordingError("is an image: diarization needs a recording")
    if spectrogram is None:
        raise RecordingError("cannot be diarized: data_maker.py did not render this model's training images")
    length = spectrogram.chunk_seconds
    step = length / WINDOWS_PER_CHUNK if step is None else step
    if not 0.0499 * length <= step <= length:
        raise UsageError(
            f"--timeline_step is {step:g}: with this model it must be {length / 20:g} to {length:g} seconds"
        )
    config = dataclasses.replace(spectrogram, overlap=min(1 - step / length, 0.95), trim_silence=None)
    step = config.step_length / config.sample_rate
    clip = Clip(source, config)
    windows = _Windows(predictor, clip)
    found: list[Segment] = []
    odds = None if predictor.rejection is None else predictor.rejection.window_odds
    for segment in predictor.decider.turns(windows, length, step, lambda: clip.seconds or 0.0, odds):
        found.append(segment)
        if on_segment is not None:
            on_segment(segment)
    if not windows.has_sound:
        raise windows.damage or RecordingError(SILENT)
    damage = None if windows.damage is None else str(windows.damage)
    return Diarization(clip.seconds or 0.0, found, clip.remark(damage))


def diarize_to_files(
    predictor: Predictor, source: FileSource, step: float | None, folder: Path, name: str
) -> Diarization:
    """Diarize a recording, and write the segments to CSV and RTTM as they are decided, then a plot.

    Parameters
    ----------
    predictor, source, step
        As for `diarize`.
    folder : Path
        Created if missing.
    name : str
        Name of the files, without the ending, and file id in the RTTM.

    Raises
    ------
    RecordingError, UsageError
        As `diarize` does; no file is left then.
    """
    make_folder(folder)
    files = [folder / f"{name}.{kind}" for kind in ("csv", "rttm", "txt", "selections.txt", "png")]
    with ExitStack() as stack:
        table, turns, labels, selections = (_lines(stack, file) for file in files[:-1])
        table.write(CSV_HEADER + "\r\n")
        selections.write(RAVEN_HEADER + "\n")
        numbers = itertools.count(1)

        def write(segment: Segment) -> None:
            table.write(segment_to_csv(segment) + "\r\n")
            turns.write(segment_to_rttm(segment, name) + "\n")
            labels.write(segment_to_audacity(segment) + "\n")
            selections.write(segment_to_raven(segment, next(numbers)) + "\n")

        found = diarize(predictor, source, step, write)
    if is_installed("matplotlib"):
        title = source.name if isinstance(source, Path) else f"{source.path.name}, channel {source.channel}"
        write_bytes(files[-1], diarization_plot(found.segments, found.seconds, title))
    else:
        log.warning(f"{files.pop().name} is not written: {missing_extra('matplotlib', 'train')}")
    return dataclasses.replace(found, files=files)


class _Windows:
    """Windows of a clip; ends at damage and stores it, so that the windows before it are used.

    Windows far below the loudest of the last and the next 30 seconds, or without speech where labels are spoken, are
    pauses.
    """

    def __init__(self, predictor: Predictor, clip: Clip) -> None:
        self._predictor = predictor
        self._length = 0.0 if predictor.spectrogram is None else predictor.spectrogram.chunk_seconds
        self._clip = clip
        self.has_sound = False
        self.damage: RecordingError | None = None

    def __iter__(self) -> Iterator[Window]:
        decider = self._predictor.decider
        waiting: deque[ClipChunk] = deque()
        loudest = -math.inf
        for chunk in self._chunks():
            loudest = max(loudest, -math.inf if chunk.level is None else chunk.level)
            waiting.append(chunk)
            while waiting[0].start < chunk.start - LAG_SECONDS:
                yield self._window(waiting.popleft(), loudest, decider)
        for chunk in waiting:
            yield self._window(chunk, loudest, decider)

    def _chunks(self) -> Iterator[ClipChunk]:
        try:
            yield from self._clip
        except RecordingError as error:
            self.damage = error

    def _window(self, chunk: ClipChunk, loudest: float, decider: Decider) -> Window:
        quiet = chunk.level is not None and chunk.level < loudest - PAUSE_DB
        if chunk.jpg is not None and not quiet:
            self.has_sound = True
            if not is_cut_off(chunk, self._length):
                answer = self._predictor.answer_chunk(chunk, chunk.jpg)
                if answer.speech:
                    return decider.window(answer)
        return Window(chunk.start, None, None)


def _lines(stack: ExitStack, path: Path) -> IO[str]:
    """Open a text file that is written atomically: it appears when the stack is closed."""
    temporary = stack.enter_context(atomic_path(path))
    return stack.enter_context(temporary.open("w", encoding="utf-8", errors="surrogateescape", newline=""))

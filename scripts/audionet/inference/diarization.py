"""A model listening to a long recording: who speaks when, and the files that say so."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from audionet.audio.recording import SILENT
from audionet.errors import RecordingError, UsageError
from audionet.inference.clip import IMAGE_SUFFIXES, Clip
from audionet.inference.predictor import ChunkAnswer, Predictor
from audionet.inference.segmentation import Segment, Window, segments
from audionet.inference.timeline_files import CSV_HEADER, segment_to_csv, segment_to_rttm, timeline_plot
from audionet.utils.arrays import FloatArray
from audionet.utils.extras import is_installed, missing_extra
from audionet.utils.files import atomic_path, make_folder, write_bytes

log = logging.getLogger(__name__)


WINDOWS_PER_CHUNK = 3


@dataclass(frozen=True)
class Diarization:
    """Who speaks when in a recording.

    Attributes
    ----------
    seconds : float
        The recording's length.
    segments : list of Segment
    files : list of Path
        CSV, RTTM and, where matplotlib is installed, PNG.
    remark : str or None
        What was wrong with the recording, where part of it could be judged.
    """

    seconds: float
    segments: list[Segment]
    files: list[Path]
    remark: str | None


def diarize(predictor: Predictor, path: Path, step: float | None, folder: Path, name: str) -> Diarization:
    """Slide the model's chunk over a recording, and write the segments as they are found.

    Parameters
    ----------
    predictor : Predictor
    path : Path
        A recording.
    step : float or None
        Seconds from one place of the chunk to the next, at most its length; default: a third of it.
    folder : Path
        Where the files go.
    name : str
        What they are called, before the ending.

    Raises
    ------
    RecordingError
        If nothing in it can be judged.
    UsageError
        If the step is longer than a chunk, or much shorter.
    """
    spectrogram = predictor.spectrogram
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise RecordingError("is an image: a timeline takes a recording")
    if spectrogram is None:
        raise RecordingError("cannot be followed: this model was trained on images of unknown making")
    length = spectrogram.chunk_seconds
    step = step or length / WINDOWS_PER_CHUNK
    if not 0.0499 * length <= step <= length:
        raise UsageError(
            f"--timeline_step is {step:g}: with this model it must be {length / 20:g} to {length:g} seconds"
        )
    config = dataclasses.replace(spectrogram, overlap=min(1 - step / length, 0.95), trim_silence=None)
    step = config.step_length / config.sample_rate
    clip = Clip(path, config)
    listening = _Listening(predictor, clip)
    found: list[Segment] = []
    make_folder(folder)
    files = [folder / f"{name}.{kind}" for kind in ("csv", "rttm", "png")]
    with ExitStack() as stack:
        table, turns = (_lines(stack, file) for file in files[:2])
        table.write(CSV_HEADER + "\r\n")
        for segment in segments(
            listening, predictor.names, length, step, lambda: clip.seconds or 0.0, predictor.threshold
        ):
            found.append(segment)
            table.write(segment_to_csv(segment) + "\r\n")
            turns.write(segment_to_rttm(segment, path.name) + "\n")
        if not listening.heard:
            raise listening.damage or RecordingError(SILENT)
    seconds = clip.seconds or 0.0
    if is_installed("matplotlib"):
        write_bytes(files[2], timeline_plot(found, seconds, path.name))
    else:
        log.warning(f"{files.pop().name} is left out: {missing_extra('matplotlib', 'train')}")
    return Diarization(seconds, found, files, None if listening.damage is None else str(listening.damage))


class _Listening:
    """The windows of a clip. Damage ends them, and is kept, so that what was heard before it counts."""

    def __init__(self, predictor: Predictor, clip: Clip) -> None:
        self._predictor = predictor
        self._clip = clip
        self.heard = False
        self.damage: RecordingError | None = None

    def __iter__(self) -> Iterator[Window]:
        try:
            for start, jpg in self._clip:
                self.heard = self.heard or jpg is not None
                yield Window(start, None, None) if jpg is None else self._window(start, jpg)
        except RecordingError as error:
            self.damage = error

    def _window(self, start: float, jpg: bytes) -> Window:
        output = self._predictor.predict_image(jpg)
        return window_from_chunk(
            self._predictor, self._predictor.chunk_answer(start, output.probabilities, output.embedding)
        )


def window_from_chunk(predictor: Predictor, chunk: ChunkAnswer) -> Window:
    """A chunk's answer as one place of a sliding window; an enrolled voice that is the nearest has all probability."""
    nearest = int(chunk.scores.argmax())
    probabilities: FloatArray = np.zeros(len(chunk.scores), np.float32)
    if nearest < len(predictor.labels):
        probabilities[: len(predictor.labels)] = chunk.probabilities
        # Where mistakes cost more or less, the label that costs least changes places with the most probable.
        best, given = int(chunk.probabilities.argmax()), int(predictor.rule.decide(chunk.probabilities[None])[0])
        probabilities[[best, given]] = probabilities[[given, best]]
    else:
        probabilities[nearest] = 1
    return Window(chunk.start, probabilities, float(chunk.scores[nearest]))


def _lines(stack: ExitStack, path: Path) -> IO[str]:
    """A text file that appears whole when the stack is left."""
    temporary = stack.enter_context(atomic_path(path))
    return stack.enter_context(temporary.open("w", encoding="utf-8", errors="surrogateescape", newline=""))

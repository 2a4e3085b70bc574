"""A process of its own for what strangers send: recordings in, images out, within a limit of memory.

Started as ``python -m audionet.serving.decode_worker MEGABYTES``. A job comes as a line of JSON on stdin. What it makes
goes out on stdout as frames: a line of JSON, and as many bytes as its `size` says. Nothing that comes back is ever
executed or unpickled, so that a decoder that a hostile file has taken over gains this process, and not the one that
serves.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import open_sound
from audionet.audio.image import decode
from audionet.audio.network_input import image_features, model_inputs
from audionet.audio.recording import SILENT
from audionet.errors import LimitError, RecordingError
from audionet.inference.clip import Clip
from audionet.serving.clip_image import ClipImage
from audionet.utils.process import tune_process
from audionet.utils.settings import from_json

CLIP_IMAGE_WIDTH = 2000  # pixels

_LARGEST_FILE = 1 << 26  # bytes that a decoder may write, such as its complaints


@dataclass(frozen=True)
class Limits:
    """What a recording may be: seconds, channels, and samples a second."""

    seconds: float
    channels: int
    rate: int


@dataclass(frozen=True)
class Job:
    """What to make of a recording.

    Attributes
    ----------
    path : str
    image : SpectrogramConfig
    limits : Limits
    want : {"features", "chunk", "clip"}
        What the network is shown of each chunk; one chunk's image; all images side by side.
    input_size : (int, int)
        Height and width that the network is shown.
    statistics : str or None
        Those that the network is shown beside.
    chunk : int
        Which one, counted from 0.
    """

    path: str
    spectrogram: SpectrogramConfig
    limits: Limits
    want: Literal["features", "chunk", "clip"] = "features"
    input_size: tuple[int, int] = (1, 1)
    statistics: str | None = None
    chunk: int = 0

    def line(self) -> bytes:
        """The job as it is sent."""
        content = vars(self) | {"spectrogram": vars(self.spectrogram), "limits": vars(self.limits)}
        return json.dumps(content).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Job:
        """The job as it was sent."""
        content = json.loads(line)
        content["spectrogram"] = _spectrogram(tuple(content["spectrogram"].items()))
        content["limits"] = Limits(**content["limits"])
        content["input_size"] = tuple(content["input_size"])
        return cls(**content)


@functools.lru_cache(maxsize=8)  # checking the settings takes longer than reading the rest
def _spectrogram(settings: tuple[tuple[str, Any], ...]) -> SpectrogramConfig:
    return from_json(SpectrogramConfig, dict(settings))


Frame = tuple[dict[str, Any], bytes]


def frames(job: Job) -> Iterator[Frame]:
    """Do a job.

    Yields
    ------
    (dict, bytes)
        For each chunk `start` and, unless it is silent, its image; in the end `seconds`, the recording's length, and
        `remark`, what is wrong with it where part of it was of use.

    Raises
    ------
    RecordingError
        If nothing was.
    """
    path = Path(job.path)
    _check(path, job.limits)
    clip = Clip(path, job.spectrogram)
    if job.want == "chunk":
        yield _chunk(clip, job)
        return
    remark = None
    used = False
    strip = ClipImage(job.spectrogram, CLIP_IMAGE_WIDTH) if job.want == "clip" else None
    try:
        for start, jpg in _within(clip, job.limits):
            if strip is not None:
                strip.paste(start, None if jpg is None else decode(jpg))
            else:
                yield {"start": start}, b"" if jpg is None else _shown(jpg, job)
            used = used or jpg is not None
    except LimitError:
        raise
    except RecordingError as error:
        if not used:
            raise
        remark = str(error)
    if not used:
        raise RecordingError(SILENT)
    if strip is not None:
        yield {"start": 0.0, "spans": strip.seconds}, strip.jpg()
    yield {"seconds": clip.seconds, "remark": remark}, b""


def _chunk(clip: Clip, job: Job) -> Frame:
    for number, (start, jpg) in enumerate(_within(clip, job.limits)):
        if number == job.chunk:
            if jpg is None:
                raise RecordingError(f"is silent in chunk {number}")
            return {"start": start}, jpg
    raise RecordingError(f"has no chunk {job.chunk}")


def _within(clip: Clip, limits: Limits) -> Iterator[tuple[float, bytes | None]]:
    for start, jpg in clip:
        if (clip.seconds or 0) > limits.seconds:
            raise LimitError(_too_long(limits))
        yield start, jpg


def _shown(jpg: bytes, job: Job) -> bytes:
    return b"".join(part.tobytes() for part in model_inputs(image_features(jpg, job.input_size), job.statistics))


def _check(path: Path, limits: Limits) -> None:
    """Refuse by its header what is too much, before any of it is decoded."""
    with open_sound(path) as sound:
        if sound.channels > limits.channels:
            raise LimitError(f"has {sound.channels} channels, and {limits.channels} are taken at most")
        if sound.rate > limits.rate:
            raise LimitError(f"has a sample rate of {sound.rate} Hz, and {limits.rate} are taken at most")
        if sound.frames is not None and sound.frames > limits.seconds * sound.rate:
            raise LimitError(_too_long(limits))


def _too_long(limits: Limits) -> str:
    return f"is longer than {limits.seconds:g} s, the most that is taken: send it in parts"


def work(jobs: BinaryIO, results: BinaryIO) -> None:
    """Do jobs until there are no more."""
    send(results, {"ready": True})
    while line := jobs.readline():
        try:
            for header, content in frames(Job.from_line(line)):
                send(results, header, content)
            send(results, {"end": True})
        except RecordingError as error:
            send(results, {"error": type(error).__name__, "words": str(error)})
        except MemoryError:
            send(results, {"error": "LimitError", "words": "takes more memory than one recording is given here"})
        except BrokenPipeError:
            raise
        except Exception as error:
            # Nobody else sees it; and what a strange file does to a decoder must not cost a new process each time.
            send(results, {"error": "RecordingError", "words": "cannot be decoded: damaged", "cause": repr(error)})


def send(results: BinaryIO, header: dict[str, Any], content: bytes = b"") -> None:
    """Send a frame."""
    results.write(json.dumps(header | {"size": len(content)}).encode("ascii") + b"\n" + content)
    results.flush()


def _confine(megabytes: int) -> None:
    """Give this process, and ffmpeg when it starts it, limits that no file can get past."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    for kind, most in (
        (resource.RLIMIT_AS, megabytes << 20),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS knows RLIMIT_AS and refuses it
            resource.setrlimit(kind, (most, most))


def main() -> None:
    tune_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which lets this process finish
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print must not get between the frames
    _confine(int(sys.argv[1]))
    with contextlib.suppress(BrokenPipeError):
        work(sys.stdin.buffer, results)
    os._exit(0)  # what is left to flush has no reader


if __name__ == "__main__":
    main()

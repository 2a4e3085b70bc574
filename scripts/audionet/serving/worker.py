"""Sandboxed worker process: decodes untrusted uploads under memory and file size limits.

Started as ``python -m audionet.serving.worker MEGABYTES``. Reads jobs from stdin, one line of JSON each, and
writes the results to stdout as frames: a line of JSON, followed by `size` bytes. The server never executes or unpickles
a frame, so that a hostile file that takes over a worker gains this process, and not the server.
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
from audionet.inference.clip import Clip, ClipChunk
from audionet.serving.clip_image import ClipImage
from audionet.utils.process import tune_process
from audionet.utils.settings import from_json

CLIP_IMAGE_WIDTH = 2000  # pixels

_MAX_FILE_BYTES = 1 << 26  # bytes that the process may write to a file


@dataclass(frozen=True)
class Limits:
    """Limits of a recording: seconds, channels, and samples per second."""

    seconds: float
    channels: int
    rate: int


@dataclass(frozen=True)
class Job:
    """A decoding job.

    Attributes
    ----------
    path : str
    spectrogram : SpectrogramConfig
    limits : Limits
    want : {"features", "chunk", "clip"}
        The network's input for each chunk; the image of one chunk; one image of the whole clip.
    input_size : (int, int)
        Height and width of the network's input, pixels.
    statistics : str or None
        Image statistics that the network takes as well.
    chunk : int
        Index of the chunk, from 0.
    """

    path: str
    spectrogram: SpectrogramConfig
    limits: Limits
    want: Literal["features", "chunk", "clip"] = "features"
    input_size: tuple[int, int] = (1, 1)
    statistics: str | None = None
    chunk: int = 0

    def line(self) -> bytes:
        """Serialize the job as a line of JSON."""
        content = vars(self) | {"spectrogram": vars(self.spectrogram), "limits": vars(self.limits)}
        return json.dumps(content).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Job:
        """Parse a job from a line of JSON."""
        content = json.loads(line)
        content["spectrogram"] = _spectrogram(tuple(content["spectrogram"].items()))
        content["limits"] = Limits(**content["limits"])
        content["input_size"] = tuple(content["input_size"])
        return cls(**content)


@functools.lru_cache(maxsize=8)  # validating the settings takes longer than parsing the rest
def _spectrogram(settings: tuple[tuple[str, Any], ...]) -> SpectrogramConfig:
    return from_json(SpectrogramConfig, dict(settings))


Frame = tuple[dict[str, Any], bytes]


def frames(job: Job) -> Iterator[Frame]:
    """Run a job.

    Yields
    ------
    (dict, bytes)
        For each chunk, `start`, `level`, `activity` and its input, or only the start if it is silent; at the end,
        `seconds`, where the recording ends on its clock, and `remark`, what to know of it, if anything. For want
        "chunk", the one image alone.

    Raises
    ------
    RecordingError
        If no part of it can be used.
    """
    path = Path(job.path)
    _check_header(path, job.limits)
    clip = Clip(path, job.spectrogram)
    if job.want == "chunk":
        yield _chunk(clip, job)
        return
    damage = None
    used = False
    clip_image = ClipImage(job.spectrogram, CLIP_IMAGE_WIDTH) if job.want == "clip" else None
    try:
        for chunk in _limited_chunks(clip, job.limits):
            if clip_image is not None:
                clip_image.paste(chunk.start, None if chunk.jpg is None else decode(chunk.jpg))
            elif chunk.jpg is None:
                yield {"start": chunk.start}, b""
            else:
                features = image_features(chunk.jpg, job.input_size)
                header = {"start": chunk.start, "level": chunk.level, "activity": features.activity}
                yield header, b"".join(part.tobytes() for part in model_inputs(features, job.statistics))
            used = used or chunk.jpg is not None
    except LimitError:
        raise
    except RecordingError as error:
        if not used:
            raise
        damage = str(error)
    if not used:
        raise RecordingError(SILENT)
    if clip_image is not None:
        yield {"start": 0.0, "spans": clip_image.seconds}, clip_image.jpg()
    yield {"seconds": clip.seconds, "remark": clip.remark(damage)}, b""


def _chunk(clip: Clip, job: Job) -> Frame:
    for number, chunk in enumerate(_limited_chunks(clip, job.limits)):
        if number == job.chunk:
            if chunk.jpg is None:
                raise RecordingError(f"is silent in chunk {number}")
            return {"start": chunk.start}, chunk.jpg
    raise RecordingError(f"has no chunk {job.chunk}")


def _limited_chunks(clip: Clip, limits: Limits) -> Iterator[ClipChunk]:
    for chunk in clip:
        if (clip.seconds or 0) - clip.start > limits.seconds:
            raise LimitError(_too_long(limits))
        yield chunk


def _check_header(path: Path, limits: Limits) -> None:
    """Refuse a recording whose header exceeds the limits, before decoding."""
    with open_sound(path) as sound:
        if sound.channels > limits.channels:
            raise LimitError(f"has {sound.channels} channels, and the limit is {limits.channels}")
        if sound.rate > limits.rate:
            raise LimitError(f"has a sample rate of {sound.rate} Hz, and the limit is {limits.rate} Hz")
        if sound.frames is not None and sound.frames > limits.seconds * sound.rate:
            raise LimitError(_too_long(limits))


def _too_long(limits: Limits) -> str:
    return f"is longer than {limits.seconds:g} s, the limit of this service; send it in parts"


def run_jobs(jobs: BinaryIO, results: BinaryIO) -> None:
    """Run jobs until the input ends."""
    send_frame(results, {"ready": True})
    while line := jobs.readline():
        try:
            for header, content in frames(Job.from_line(line)):
                send_frame(results, header, content)
            send_frame(results, {"end": True})
        except RecordingError as error:
            send_frame(results, {"error": type(error).__name__, "words": str(error)})
        except MemoryError:
            send_frame(results, {"error": "LimitError", "words": "needs more memory than the limit for one recording"})
        except BrokenPipeError:
            raise
        except Exception as error:
            # Report it, as this process has no log; and survive, as a new process for every damaged file would be slow.
            send_frame(
                results, {"error": "RecordingError", "words": "cannot be decoded: damaged", "cause": repr(error)}
            )


def send_frame(results: BinaryIO, header: dict[str, Any], content: bytes = b"") -> None:
    """Write a frame."""
    results.write(json.dumps(header | {"size": len(content)}).encode("ascii") + b"\n" + content)
    results.flush()


def _set_limits(megabytes: int) -> None:
    """Limit the memory and file sizes of this process, and of an ffmpeg that it starts as the last resort."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    for kind, limit in (
        (resource.RLIMIT_AS, megabytes << 20),
        (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS defines RLIMIT_AS but refuses it
            resource.setrlimit(kind, (limit, limit))


def main() -> None:
    tune_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which lets this process finish
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not mix with the frames
    import av  # noqa: F401 -- loads its libraries before the first recording that needs them, not during it

    _set_limits(int(sys.argv[1]))
    with contextlib.suppress(BrokenPipeError):
        run_jobs(sys.stdin.buffer, results)
    os._exit(0)  # nothing reads the remaining output


if __name__ == "__main__":
    main()

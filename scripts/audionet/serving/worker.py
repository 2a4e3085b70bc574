"""Sandboxed worker process: decodes untrusted uploads and runs the network, under memory and file size limits.

Started as ``python -m audionet.serving.worker MEGABYTES``. Reads networks from stdin, each a line with its size and
then its bytes, and jobs, one line of JSON each; writes the results to stdout as frames: a line of JSON, followed by
`size` bytes. The server never executes or unpickles a frame, so that a hostile file that takes over a worker gains
this process, with the recordings that it is given later, and not the server.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import open_sound
from audionet.audio.image import decode, level_of
from audionet.audio.network_input import ImageFeatures, image_features, model_inputs
from audionet.audio.recording import SILENT
from audionet.audio.samples import to_int16
from audionet.backbones.litert import Runner
from audionet.errors import LimitError, ModelError, RecordingError
from audionet.inference.clip import Clip, ClipChunk
from audionet.inference.occlusion import occluded_outputs
from audionet.serving.clip_image import ClipImage
from audionet.utils.process import tune_process
from audionet.utils.settings import from_json

CLIP_IMAGE_WIDTH = 2000  # pixels

NETWORK = b"network "
"""Start of the line that announces a network, followed by its size in bytes."""

_INPUT_TYPES = (np.uint8, np.float32)  # of the image and of its statistics
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
    want : {"outputs", "chunk", "clip", "occlusions", "samples"}
        The network's outputs for each chunk; the image of one chunk; one image of the whole clip; the outputs for the
        occlusions of some chunks, and the levels of the whole clip; the decoded samples.
    statistics : str or None
        Image statistics that the network takes as well.
    batch : int
        Maximum number of images in a forward pass.
    chunk : int
        Index of the chunk, from 0.
    chunks : tuple of int
        Indices of the chunks whose occlusions are wanted.
    """

    path: str
    spectrogram: SpectrogramConfig
    limits: Limits
    want: Literal["outputs", "chunk", "clip", "occlusions", "samples"] = "outputs"
    statistics: str | None = None
    batch: int = 1
    chunk: int = 0
    chunks: tuple[int, ...] = ()

    def line(self) -> bytes:
        """Serialize the job as a line of JSON."""
        content = vars(self) | {"spectrogram": vars(self.spectrogram), "limits": vars(self.limits)}
        return json.dumps(content).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Job:
        """Parse a job from a line of JSON."""
        content: dict[str, Any] = json.loads(line)
        content["spectrogram"] = _spectrogram(tuple(content["spectrogram"].items()))
        content["limits"] = Limits(**content["limits"])
        content["chunks"] = tuple(content["chunks"])
        return cls(**content)


@functools.lru_cache(maxsize=8)  # validating the settings takes longer than parsing the rest
def _spectrogram(settings: tuple[tuple[str, Any], ...]) -> SpectrogramConfig:
    return from_json(SpectrogramConfig, dict(settings))


Frame = tuple[dict[str, Any], bytes]


class Pipeline:
    """Runs the network on the chunks of a clip, in a thread of its own, while further ones are decoded.

    Chunks that are decoded during one forward pass form the next batch; the last needs no thread.

    Parameters
    ----------
    network : Runner
    statistics : str or None
        Image statistics that the network takes as well.
    batch : int
        Maximum number of images in a forward pass.
    """

    def __init__(self, network: Runner, statistics: str | None, batch: int) -> None:
        self._network = network
        _, *self._size, _ = network.input_shapes[0]
        self._statistics = statistics
        self._batch = batch
        self._waiting: list[tuple[ClipChunk, ImageFeatures | None]] = []
        self._running: Future[list[Frame]] | None = None

    def add(self, chunk: ClipChunk) -> list[Frame]:
        """Add the next chunk; return the frames that are finished, in order."""
        done: list[Frame] = []
        if self._waiting and (self._running is None or self._running.done() or len(self._waiting) >= self._batch):
            done = self._result()
            self._running = _network_thread().submit(self._predict, self._waiting)
            self._waiting = []
        height, width = self._size
        self._waiting.append((chunk, None if chunk.jpg is None else image_features(chunk.jpg, (height, width))))
        return done

    def finish(self) -> list[Frame]:
        """Return the remaining frames."""
        return self._result() + self._predict(self._waiting)

    def wait(self) -> None:
        """Wait for the batch in progress: one thread at a time may call the network."""
        if self._running is not None:
            wait([self._running])

    def _result(self) -> list[Frame]:
        """Return the frames of the batch in progress."""
        return [] if self._running is None else self._running.result()

    def _predict(self, batch: Sequence[tuple[ClipChunk, ImageFeatures | None]]) -> list[Frame]:
        inputs = [model_inputs(features, self._statistics) for _, features in batch if features is not None]
        outputs = [np.empty(0, np.float32)] * len(batch)
        if inputs:
            found = self._network.run_all(*(np.concatenate(part) for part in zip(*inputs, strict=True)))
            rows = iter(np.concatenate(found, axis=1))
            outputs = [outputs[i] if features is None else next(rows) for i, (_, features) in enumerate(batch)]
        return [_chunk_frame(*item, output.tobytes()) for item, output in zip(batch, outputs, strict=True)]


@functools.cache
def _network_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "network")


def _chunk_frame(chunk: ClipChunk, features: ImageFeatures | None, outputs: bytes) -> Frame:
    if features is None:
        return {"start": chunk.start}, b""
    active = None if chunk.active is None else list(chunk.active)
    return {"start": chunk.start, "level": chunk.level, "activity": features.activity, "active": active}, outputs


def frames(job: Job, network: Runner | None = None) -> Iterator[Frame]:
    """Run a job.

    Parameters
    ----------
    job : Job
    network : Runner, optional
        Required for its outputs.

    Yields
    ------
    (dict, bytes)
        For each chunk, `start`, `level`, `activity`, `active` and the network's outputs, float32, one after the other,
        or only the start if it is silent; at the end, `begin` and `seconds`, where the sound begins and the recording
        ends on its clock, and `remark`, what to know of it, if anything. For want "chunk", the one image alone. For
        "occlusions", of each chunk asked for its start, and its levels and the outputs one after the other; then the
        duration of the whole clip and its levels. For "samples", mono blocks of int16 at the recording's own rate.

    Raises
    ------
    RecordingError
        If no part of it can be used.
    """
    path = Path(job.path)
    _check_header(path, job.limits)
    if job.want == "samples":
        with open_sound(path) as sound:
            yield from (({"rate": sound.rate}, to_int16(block).tobytes()) for block in sound.mono())
        return
    clip = Clip(path, job.spectrogram)
    if job.want == "chunk":
        yield _chunk(clip, job)
        return
    damage = None
    used = False
    clip_image = ClipImage(job.spectrogram, CLIP_IMAGE_WIDTH) if job.want in ("clip", "occlusions") else None
    pipeline = None
    if job.want == "outputs":
        assert network is not None
        pipeline = Pipeline(network, job.statistics, job.batch)
    try:
        for number, chunk in enumerate(_limited_chunks(clip, job.limits)):
            if chunk.jpg is not None and number in job.chunks:
                yield _occlusions_frame(chunk.start, chunk.jpg, network, job.statistics)
            if clip_image is not None:
                clip_image.paste(chunk.start, None if chunk.jpg is None else decode(chunk.jpg))
            elif pipeline is not None:
                yield from pipeline.add(chunk)
            used = used or chunk.jpg is not None
    except RecordingError as error:
        if not used or isinstance(error, LimitError):
            raise
        damage = str(error)
    finally:
        if pipeline is not None:
            pipeline.wait()
    if not used:
        raise RecordingError(SILENT)
    if clip_image is not None:
        content = clip_image.jpg() if job.want == "clip" else level_of(clip_image.image()).tobytes()
        yield {"start": 0.0, "spans": clip_image.seconds}, content
    elif pipeline is not None:
        yield from pipeline.finish()
    yield {"begin": clip.start, "seconds": clip.seconds, "remark": clip.remark(damage)}, b""


def _occlusions_frame(start: float, jpg: bytes, network: Runner | None, statistics: str | None) -> Frame:
    assert network is not None
    level, outputs = occluded_outputs(network, jpg, statistics)
    return {"start": start}, level.tobytes() + np.concatenate(outputs, axis=1).tobytes()


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
    """Take networks and run jobs until the input ends."""
    network: Runner | None = None
    send_frame(results, {"ready": True})
    while line := jobs.readline():
        try:
            if line.startswith(NETWORK):
                network = None  # it and the next one may not fit into the memory limit together
                network = _load_network(jobs.read(int(line[len(NETWORK) :])))
            else:
                for header, content in frames(Job.from_line(line), network):
                    send_frame(results, header, content)
            send_frame(results, {"end": True, "processor_seconds": time.process_time()})
        except RecordingError as error:
            send_frame(results, {"error": type(error).__name__, "words": str(error)})
        except ModelError as error:
            send_frame(results, {"error": "ModelError", "words": str(error)})
        except MemoryError:
            send_frame(results, {"error": "LimitError", "words": "needs more memory than the limit for one recording"})
        except BrokenPipeError:
            raise
        except Exception as error:
            # Report it, as this process has no log; and survive, as a new process for every damaged file would be slow.
            send_frame(
                results, {"error": "RecordingError", "words": "cannot be decoded: damaged", "cause": repr(error)}
            )


def _load_network(content: bytes) -> Runner:
    """Load a network and run it once, so that its memory is allocated before the first request."""
    network = Runner(content)
    network.run_all(*(np.zeros(shape, kind) for shape, kind in zip(network.input_shapes, _INPUT_TYPES, strict=False)))
    return network


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

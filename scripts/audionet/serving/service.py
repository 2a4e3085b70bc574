"""The service without HTTP: worker processes, batched inference, and reloading of the model."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.errors import AudioNetError, BusyError, LimitError, ModelError
from audionet.inference.answer import ChunkAnswer
from audionet.inference.formatting import answer_json, segment_json
from audionet.inference.predictor import Predictor
from audionet.inference.segmentation import Window, segments
from audionet.serving.batching import Batcher
from audionet.serving.config import ServeConfig
from audionet.serving.metrics import Metrics
from audionet.serving.worker import Job, Limits
from audionet.serving.worker_pool import Worker, WorkerPool
from audionet.utils.process import available_cores

log = logging.getLogger("audionet.serve")

Result = TypeVar("Result")

_MANY_CHUNKS = 32


class Model(NamedTuple):
    """A model in service."""

    predictor: Predictor
    spectrogram: SpectrogramConfig
    batcher: Batcher

    @property
    def id(self) -> str:
        """SHA-256 of the network."""
        sha256: str = self.predictor.card["graph_sha256"]
        return sha256


class Service:
    """Classifies recordings and draws their spectrograms; independent of HTTP.

    Parameters
    ----------
    config : ServeConfig
    metrics : Metrics

    Attributes
    ----------
    folder : Path
        Folder of the uploads in progress.
    ready : bool
        True if it can answer requests.

    Raises
    ------
    ModelError
        If the model is missing or cannot be served.
    """

    def __init__(self, config: ServeConfig, metrics: Metrics) -> None:
        self.config = config
        self.metrics = metrics
        self.limits = Limits(config.max_seconds, config.max_channels, config.max_rate)
        self.folder = Path()
        self.ready = False
        self._workers = WorkerPool(config.workers, config.worker_megabytes, metrics.replaced.inc)
        self._reloading = asyncio.Lock()
        self._next_reload: asyncio.Task[Model] | None = None
        self.model = self._load()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the service for the duration of the block.

        Raises
        ------
        OSError
            If the folder or a worker process cannot be created.
        """
        with tempfile.TemporaryDirectory(prefix="audionet-", ignore_cleanup_errors=True) as folder:
            self.folder = Path(folder)
            try:
                await asyncio.gather(self._workers.start(), self.model.batcher.warm_up())
                self.ready = True
                yield
            finally:
                self.ready = False
                await self._workers.close()

    async def classify(self, path: Path, name: str, top_k: int) -> dict[str, Any]:
        """Classify a clip; `name` is the file name that the client gave it.

        Raises
        ------
        RecordingError
            If no part of it can be classified.
        BusyError
            If no worker becomes free in time.
        """
        model = self.model  # a reload may replace it meanwhile
        height, width = model.predictor.input_size
        job = Job(str(path), model.spectrogram, self.limits, "features", (height, width), model.predictor.statistics)
        ended: dict[str, Any] = {}
        submitted: list[tuple[float, asyncio.Future[ChunkAnswer] | None]] = []
        try:
            async with self._workers.acquire(self.config.time_limit) as worker:
                await self._in_time(self._submit_chunks(worker, job, model, submitted, ended))
            found = [(start, None if answer is None else await answer) for start, answer in submitted]
        finally:
            for _, answer in submitted:
                if answer is not None and not answer.done():
                    answer.cancel()
        combine_chunks = functools.partial(_combine, model, found, name, top_k, ended)
        # Combining the chunks of a long recording would block the event loop.
        content = combine_chunks() if len(found) < _MANY_CHUNKS else await asyncio.to_thread(combine_chunks)
        self.metrics.answers.labels("unknown" if content["unknown"] else "known").inc()
        return content

    async def _submit_chunks(
        self,
        worker: Worker,
        job: Job,
        model: Model,
        submitted: list[tuple[float, asyncio.Future[ChunkAnswer] | None]],
        ended: dict[str, Any],
    ) -> None:
        """Submit each chunk to the batcher as it is decoded, with at most one batch of the clip waiting."""
        height, width = job.input_size
        async for header, content in worker.frames(job):
            if "seconds" in header:
                ended |= header
            elif content:
                pixels = np.frombuffer(content, np.uint8, height * width * 3).reshape(height, width, 3)
                statistics = np.frombuffer(content, np.float32, offset=height * width * 3)
                measured = header["start"], float(header["activity"]), float(header["level"])
                submitted.append((header["start"], model.batcher.submit(*measured, pixels, statistics)))
            else:
                submitted.append((header["start"], None))
            if len(submitted) >= self.config.batch and (earlier := submitted[-self.config.batch][1]) is not None:
                await asyncio.wait([earlier])

    async def image(self, path: Path, chunk: int | None) -> tuple[bytes, float]:
        """Return the JPEG spectrogram of one chunk, or of the whole clip if None, and its duration in seconds.

        Raises
        ------
        RecordingError
            If there is no such image.
        BusyError
            If no worker becomes free in time.
        """
        spectrogram = self.model.spectrogram
        job = Job(str(path), spectrogram, self.limits, "clip" if chunk is None else "chunk", chunk=chunk or 0)

        async def jpg(worker: Worker) -> tuple[bytes, float]:
            found = b"", 0.0
            async for header, content in worker.frames(job):
                if content:
                    found = content, header.get("spans", spectrogram.chunk_seconds)
            return found

        async with self._workers.acquire(self.config.time_limit) as worker:
            return await self._in_time(jpg(worker))

    def describe(self) -> dict[str, Any]:
        """Describe the model in service, without paths or other details of the training machine."""
        predictor, spectrogram, _ = self.model
        card, config = predictor.card, self.config
        return {
            "id": self.model.id,
            "labels": predictor.labels,
            "enrolled": list(predictor.enrolled),
            "chunk_seconds": spectrogram.chunk_seconds,
            "step_seconds": spectrogram.step_length / spectrogram.sample_rate,
            "picture": dataclasses.asdict(spectrogram),
            "backbone": card["backbone"]["name"],
            "head": card["training"].get("head", ""),
            "threshold": predictor.several_threshold,
            "temperature": card["calibration"]["temperature"],
            "test": card["test"],
            "open_set": card["open_set"],
            "limits": {"megabytes": config.max_megabytes, **dataclasses.asdict(self.limits)},
            "ffmpeg": True,  # older clients ask
        }

    async def reload(self) -> Model:
        """Load the model from its path again; requests in progress finish with the old model.

        All calls during a reload share one further reload after it.

        Raises
        ------
        ModelError
            If the new model cannot be served; the old one stays in service.
        BusyError
            If the service is starting or stopping.
        """
        if not self.ready:
            raise BusyError("the service is starting or stopping")
        if self._next_reload is None:
            self._next_reload = asyncio.ensure_future(self._reload())
            self._next_reload.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next_reload)

    async def _reload(self) -> Model:
        async with self._reloading:
            self._next_reload = None  # later calls need another reload
            try:
                model = await asyncio.to_thread(self._load)
                await model.batcher.warm_up()
            except Exception as error:
                self.metrics.reloads.labels("refused").inc()
                log.error("reload failed, the old model stays in service: %s", error)
                if isinstance(error, AudioNetError):
                    raise
                raise ModelError(f"{type(error).__name__} while the model was loaded") from error
            self.model = model
            self.metrics.reloads.labels("taken").inc()
            log.info("serving model %s, %d labels", model.id[:8], len(model.predictor.labels))
            return model

    def _load(self) -> Model:
        # The workers use the other cores.
        predictor = Predictor(self.config.graph, threads=max(1, available_cores() // 2), held=True)
        if predictor.spectrogram is None:
            raise ModelError(
                "the model lacks its spectrogram settings, so recordings cannot be classified; train it again "
                "with retrain.py"
            )
        return Model(
            predictor, predictor.spectrogram, Batcher(predictor, self.config.batch, self.metrics.batches.observe)
        )

    async def _in_time(self, work: Coroutine[Any, Any, Result]) -> Result:
        try:
            return await asyncio.wait_for(work, self.config.time_limit)
        except TimeoutError:
            raise LimitError(f"takes longer than {self.config.time_limit:g} s to classify; send it in parts") from None


def _combine(
    model: Model, found: list[tuple[float, ChunkAnswer | None]], name: str, top_k: int, ended: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON of `label_image.py --json --per_chunk`, with the diarization and the model's id."""
    predictor, spectrogram = model.predictor, model.spectrogram
    chunks = [chunk for _, chunk in found if chunk is not None]
    silent = [start for start, chunk in found if chunk is None]
    answer = predictor.combine_chunks(chunks, silent, ended["seconds"], ended["remark"])
    decider = predictor.decider
    windows = [decider.window(chunk) for chunk in answer.chunks] + [
        Window(start, None, None) for start in answer.pauses
    ]
    turns = segments(
        sorted(windows, key=lambda window: window.start),
        predictor.names,
        spectrogram.chunk_seconds,
        spectrogram.step_length / spectrogram.sample_rate,
        lambda: float(ended["seconds"]),
        None if predictor.rejection is None else predictor.rejection.odds(len(answer.chunks)),
    )
    content = answer_json(Path(name), answer, predictor, top_k, per_chunk=True)
    return content | {"file": name, "segments": list(map(segment_json, turns)), "model": model.id}

"""The service without HTTP: classification by worker processes, and reloading of the model."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np

from audionet.audio.samples import wav_bytes
from audionet.errors import AudioNetError, BusyError, LimitError, ModelError, RecordingError
from audionet.inference.clip import ClipChunk, is_cut_off
from audionet.inference.explanation import chosen_starts, explained_index
from audionet.inference.live import Heard, live_spectrogram
from audionet.inference.occlusion import OCCLUSIONS
from audionet.serving.clip_evidence import ClipEvidence, draw_evidence
from audionet.serving.config import ServeConfig
from audionet.serving.enrolling import Change, can_enrol, enrol_frames, forget_name
from audionet.serving.metrics import Metrics
from audionet.serving.model import Model, load_model
from audionet.serving.report import find_report
from audionet.serving.spool import Spool
from audionet.serving.uploads import Upload, stored, upload_folder
from audionet.serving.worker import Frame, Job, Limits
from audionet.serving.worker_output import answer_of, chunk_answers, combine_frames
from audionet.serving.worker_pool import CrashError, Network, WorkerPool
from audionet.utils.arrays import Int16Array

log = logging.getLogger("audionet.serve")

_MANY_CHUNKS = 32
_LEAST_SHARE = 0.5
"""A worker that computed for less than this share of the time limit was held up by something else."""


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
    spool : Spool
        Uploads in progress.
    workers : WorkerPool
    ready : bool
        True if it can answer requests.
    listeners : int
        Number of live sessions.
    live_threads : CapacityLimiter
        Their threads.

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
        self.listeners = 0
        self.live_threads = anyio.CapacityLimiter(max(1, config.listeners))
        self.spool = Spool(config.uploads, round(config.stored_megabytes * 1e6), config.time_limit)
        self._reloading = asyncio.Lock()
        self._next_reload: asyncio.Task[Model] | None = None
        self._changes: set[asyncio.Task[dict[str, Any]]] = set()
        self.model = load_model(config.graph)
        self.workers = WorkerPool(
            config.workers, config.worker_megabytes, config.queue, self.model.network, metrics.replaced.inc
        )
        metrics.listeners.set_function(lambda: self.listeners)
        metrics.in_flight.set_function(lambda: len(self.spool) + len(self.workers))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the service for the duration of the block.

        Raises
        ------
        OSError
            If the folder or a worker process cannot be created.
        """
        with upload_folder() as self.folder:
            try:
                await self.workers.start()
                self.ready = True
                yield
            finally:
                self.ready = False
                await self.workers.close()

    async def classify(self, upload: Upload, top_k: int) -> dict[str, Any]:
        """Classify a clip.

        Raises
        ------
        RecordingError
            If no part of it can be classified.
        BusyError
            If the queue is full, or no worker becomes free in time.
        """
        model = self.model  # a reload may replace it meanwhile
        found = await self._outputs(upload, model)
        combine_chunks = functools.partial(combine_frames, model, found, upload.name, top_k)
        # Combining the chunks of a long recording would block the event loop.
        content = combine_chunks() if len(found) < _MANY_CHUNKS else await asyncio.to_thread(combine_chunks)
        self.metrics.images.inc(sum(bool(outputs) for _, outputs in found))
        self.metrics.answers.labels("unknown" if content["unknown"] else "known").inc()
        return content

    async def image(self, upload: Upload, chunk: int | None) -> tuple[bytes, float]:
        """Return the JPEG spectrogram of one chunk, or of the whole clip if None, and its duration in seconds.

        Raises
        ------
        RecordingError
            If there is no such image.
        BusyError
            If the queue is full, or no worker becomes free in time.
        """
        spectrogram = self.model.spectrogram
        job = Job(str(upload.path), spectrogram, self.limits, "clip" if chunk is None else "chunk", chunk=chunk or 0)
        header, jpg = next(frame for frame in await self._run(job, upload.client) if frame[1])
        return jpg, header.get("spans", spectrogram.chunk_seconds)

    async def explain(self, upload: Upload, name: str | None) -> ClipEvidence:
        """Draw where in a clip the evidence is for a label or an enrolled speaker; default: the answer.

        Raises
        ------
        UsageError
            If the model has no such name.
        RecordingError
            If no part of the clip can be classified.
        BusyError
            If the queue is full, or no worker becomes free in time.
        """
        model = self.model  # a reload may replace it meanwhile
        predictor, spectrogram = model.predictor, model.spectrogram
        index = None if name is None else predictor.index_of(name, "label")
        found = await self._outputs(upload, model)
        answer = await asyncio.to_thread(answer_of, predictor, found)
        index = explained_index(predictor, answer) if index is None else index
        starts = set(chosen_starts(answer, index))
        chunks = tuple(number for number, (header, _) in enumerate(found) if header.get("start") in starts)
        job = Job(str(upload.path), spectrogram, self.limits, "occlusions", predictor.statistics, chunks=chunks)
        occluded = await self._run(job, upload.client, model.network)
        self.metrics.images.inc(OCCLUSIONS * len(chunks))
        return await asyncio.to_thread(draw_evidence, predictor, spectrogram, occluded, index)

    async def hear(self, model: Model, samples: Int16Array, rate: int, client: str) -> Heard | None:
        """Run a model's network on a window of live sound, mono; None if it is silent.

        Raises
        ------
        BusyError
            If the queue is full, or no worker becomes free in time.
        """
        predictor, spectrogram = model.predictor, live_spectrogram(model.predictor)
        with stored(wav_bytes(samples, rate), ".wav", self.folder, client) as upload:
            job = Job(str(upload.path), spectrogram, self.limits, statistics=predictor.statistics)
            try:
                (header, outputs), *_ = await self._run(job, client, model.network)
            except (CrashError, LimitError):
                raise
            except RecordingError:  # it is silent
                return None
        if not outputs:
            return None
        self.metrics.images.inc()
        chunk = ClipChunk(header["start"], None, header["level"], header["active"])
        answer = chunk_answers(predictor, [(header, outputs)])[0]
        cut_off = is_cut_off(chunk, spectrogram.chunk_seconds)
        return Heard(header["level"], cut_off, lambda start: answer._replace(start=start))

    async def decode(self, content: bytes, suffix: str, client: str) -> Int16Array:
        """Decode a short recording in a worker; return mono samples at its own rate.

        Raises
        ------
        RecordingError
            If it cannot be decoded.
        BusyError
            If the queue is full, or no worker becomes free in time.
        """
        with stored(content, suffix, self.folder, client) as upload:
            job = Job(str(upload.path), self.model.spectrogram, self.limits, "samples")
            found = await self._run(job, client)
        return np.concatenate([np.frombuffer(block, np.int16) for _, block in found] or [np.zeros(0, np.int16)])

    async def _outputs(self, upload: Upload, model: Model) -> list[Frame]:
        """Run a model's network on the chunks of a clip."""
        statistics, batch = model.predictor.statistics, self.config.batch
        job = Job(str(upload.path), model.spectrogram, self.limits, statistics=statistics, batch=batch)
        return await self._run(job, upload.client, model.network)

    async def _run(self, job: Job, client: str, network: Network | None = None) -> list[Frame]:
        """Run a job of a client; run it once more if its process was killed: not every crash is the recording's fault.

        Raises
        ------
        RecordingError, BusyError
        """
        with contextlib.suppress(CrashError):
            return await self._run_once(job, client, network)
        return await self._run_once(job, client, network)

    async def _run_once(self, job: Job, client: str, network: Network | None) -> list[Frame]:
        limit = self.config.time_limit
        async with self.workers.acquire(limit, client) as worker:
            try:
                async with asyncio.timeout(limit):
                    if network is not None:
                        await worker.load(network)
                    return [frame async for frame in worker.frames(job)]
            except TimeoutError:
                used = worker.processor_seconds()
                if used is not None and used < _LEAST_SHARE * limit:
                    raise BusyError("the worker process was held up; try again later") from None
                raise LimitError(f"takes longer than {limit:g} s to classify; send it in parts") from None

    async def enrol(self, upload: Upload, name: str) -> dict[str, Any]:
        """Enrol a speaker, under a name that `check_enrolment` accepts, and recognise the speaker from now on.

        Raises
        ------
        RecordingError
            If nothing in the recording can be used.
        ModelError
            If the speaker cannot be stored beside the model.
        BusyError
            If the queue is full, no worker becomes free in time, or the model is replaced meanwhile.
        """
        model = self.model  # a reload may replace it meanwhile
        found = await self._outputs(upload, model)
        self.metrics.images.inc(sum(bool(outputs) for _, outputs in found))
        return await self._change_enrolled(model.id, functools.partial(enrol_frames, name=name, frames=found))

    async def forget(self, name: str) -> dict[str, Any]:
        """Remove an enrolled speaker, who is not recognised from now on.

        Raises
        ------
        UsageError
            If no speaker of that name is enrolled.
        ModelError
            If the speakers beside the model cannot be changed.
        """
        return await self._change_enrolled(self.model.id, functools.partial(forget_name, name=name))

    async def _change_enrolled(self, model_id: str, change: Change) -> dict[str, Any]:
        """Change the enrolled speakers on disk and in service, even if the client disconnects meanwhile."""

        async def run() -> dict[str, Any]:
            async with self._reloading:  # the model may have been reloaded, or other speakers enrolled, meanwhile
                if self.model.id != model_id:
                    raise BusyError("the model was replaced meanwhile; try again")
                predictor, content = await asyncio.to_thread(change, self.model.predictor)
                self.model = self.model._replace(predictor=predictor)
                log.info("serving %d enrolled speakers", len(predictor.enrolled))
                return content

        task = asyncio.ensure_future(run())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def report(self) -> bytes | None:
        """Return the page of the report on the model in service; None if there is none."""

        def read() -> bytes | None:
            page = find_report(self.config.report_dir, self.model.id)
            return None if page is None else page.read_bytes()

        return await asyncio.to_thread(read)

    async def describe(self) -> dict[str, Any]:
        """Describe the model in service, without paths or other details of the training machine."""
        predictor, spectrogram = self.model
        card, config = predictor.card, self.config
        report = await asyncio.to_thread(find_report, config.report_dir, self.model.id)
        return {
            "id": self.model.id,
            "labels": predictor.labels,
            "enrolled": list(predictor.enrolled),
            "can_enrol": can_enrol(predictor),
            "report": report is not None,
            "chunk_seconds": spectrogram.chunk_seconds,
            "step_seconds": spectrogram.step_length / spectrogram.sample_rate,
            "picture": dataclasses.asdict(spectrogram),
            "backbone": card["backbone"]["name"],
            "head": card["training"].get("head", ""),
            "threshold": predictor.several_threshold,
            "temperature": predictor.calibration.temperature,
            "test": card["test"],
            "multi_label": card.get("multi_label"),
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
                model = await asyncio.to_thread(load_model, self.config.graph)
                await self.workers.change_network(model.network)
            except Exception as error:
                self.metrics.reloads.labels("refused").inc()
                log.error("reload failed, the old model stays in service: %s", error)
                if isinstance(error, AudioNetError):
                    raise
                reason = str(error) if isinstance(error, OSError) else type(error).__name__
                raise ModelError(f"the model cannot be served: {reason}") from error
            self.model = model
            self.metrics.reloads.labels("taken").inc()
            log.info("serving model %s, %d labels", model.id[:8], len(model.predictor.labels))
            return model

"""A model that answers many at a time: processes decode, one network looks, and a new model can take over."""

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
from audionet.audio.decoding import has_ffmpeg
from audionet.errors import AudioNetError, BusyError, LimitError, ModelError
from audionet.inference.diarization import window_from_chunk
from audionet.inference.formatting import answer_json, segment_json
from audionet.inference.predictor import ChunkAnswer, Predictor
from audionet.inference.segmentation import Window, segments
from audionet.serving.batching import Batcher
from audionet.serving.config import ServeConfig
from audionet.serving.decode_pool import DecodePool, Decoder
from audionet.serving.decode_worker import Job, Limits
from audionet.serving.metrics import Metrics
from audionet.utils.parallel import available_cores

log = logging.getLogger("audionet.serve")

Result = TypeVar("Result")

_MANY_CHUNKS = 32


class Model(NamedTuple):
    """A model that is being served."""

    predictor: Predictor
    spectrogram: SpectrogramConfig
    batcher: Batcher

    @property
    def id(self) -> str:
        """SHA-256 of its network."""
        sha256: str = self.predictor.card["graph_sha256"]
        return sha256


class Service:
    """All that serving is, but HTTP.

    Parameters
    ----------
    config : ServeConfig
    instruments : Instruments

    Attributes
    ----------
    folder : Path
        Where recordings lie while they are worked on.
    ready : bool
        Whether it can answer.

    Raises
    ------
    ModelError
        If there is no model that can be served.
    """

    def __init__(self, config: ServeConfig, instruments: Metrics) -> None:
        self.config = config
        self.instruments = instruments
        self.limits = Limits(config.max_seconds, config.max_channels, config.max_rate)
        self.folder = Path()
        self.ready = False
        self._decoders = DecodePool(config.workers, config.worker_megabytes, instruments.replaced.inc)
        self._reloading = asyncio.Lock()
        self._next_reload: asyncio.Task[Model] | None = None
        self.model = self._load()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be ready to answer for as long as the block lasts.

        Raises
        ------
        OSError
            If there is no room for files, or no process for decoding.
        """
        with tempfile.TemporaryDirectory(prefix="audionet-", ignore_cleanup_errors=True) as folder:
            self.folder = Path(folder)
            try:
                await asyncio.gather(self._decoders.start(), self.model.batcher.warm_up())
                self.ready = True
                yield
            finally:
                self.ready = False
                await self._decoders.close()

    async def classify(self, path: Path, name: str, top_k: int) -> dict[str, Any]:
        """All that is known of a clip, under the name that its sender gave it.

        Raises
        ------
        RecordingError
            If nothing in it can be judged.
        BusyError
            If its turn does not come in time.
        """
        model = self.model  # a new one may take its place meanwhile
        height, width = model.predictor.input_size
        job = Job(str(path), model.spectrogram, self.limits, "features", (height, width), model.predictor.statistics)
        ended: dict[str, Any] = {}
        heard: list[tuple[float, asyncio.Future[ChunkAnswer] | None]] = []
        try:
            async with self._decoders.acquire(self.config.time_limit) as decoder:
                await self._in_time(self._hear(decoder, job, model, heard, ended))
            found = [(start, None if answer is None else await answer) for start, answer in heard]
        finally:
            for _, answer in heard:
                if answer is not None and not answer.done():
                    answer.cancel()
        combine_chunks = functools.partial(_content, model, found, name, top_k, ended)
        # A long recording's answer takes long enough to keep everybody else waiting.
        content = combine_chunks() if len(found) < _MANY_CHUNKS else await asyncio.to_thread(combine_chunks)
        self.instruments.answers.labels("unknown" if content["unknown"] else "known").inc()
        return content

    async def _hear(
        self,
        decoder: Decoder,
        job: Job,
        model: Model,
        heard: list[tuple[float, asyncio.Future[ChunkAnswer] | None]],
        ended: dict[str, Any],
    ) -> None:
        """Have each chunk looked at as it comes, a batch of a clip's chunks at a time."""
        height, width = job.input_size
        async for header, content in decoder.frames(job):
            if "seconds" in header:
                ended |= header
            elif content:
                pixels = np.frombuffer(content, np.uint8, height * width * 3).reshape(height, width, 3)
                statistics = np.frombuffer(content, np.float32, offset=height * width * 3)
                heard.append((header["start"], model.batcher.submit(header["start"], pixels, statistics)))
            else:
                heard.append((header["start"], None))
            if len(heard) >= self.config.batch and (earlier := heard[-self.config.batch][1]) is not None:
                await asyncio.wait([earlier])

    async def image(self, path: Path, chunk: int | None) -> tuple[bytes, float]:
        """The JPG that the network is shown of one chunk, or of the whole clip; and the seconds that it spans.

        Raises
        ------
        RecordingError
            If there is none.
        BusyError
            If its turn does not come in time.
        """
        spectrogram = self.model.spectrogram
        job = Job(str(path), spectrogram, self.limits, "clip" if chunk is None else "chunk", chunk=chunk or 0)

        async def jpg(decoder: Decoder) -> tuple[bytes, float]:
            found = b"", 0.0
            async for header, content in decoder.frames(job):
                if content:
                    found = content, header.get("spans", spectrogram.chunk_seconds)
            return found

        async with self._decoders.acquire(self.config.time_limit) as decoder:
            return await self._in_time(jpg(decoder))

    def describe(self) -> dict[str, Any]:
        """The model that is being served, without anything of the machine that it was trained on."""
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
            "threshold": predictor.threshold,
            "temperature": card["calibration"]["temperature"],
            "test": card["test"],
            "open_set": card["open_set"],
            "limits": {"megabytes": config.max_megabytes, **dataclasses.asdict(self.limits)},
            "ffmpeg": has_ffmpeg(),
        }

    async def reload(self) -> Model:
        """Serve what lies at the model's path now; requests that have begun end with the model they began with.

        However many ask while a model is being read, it is read once more after that.

        Raises
        ------
        ModelError
            If that cannot be served; the one that was there stays.
        BusyError
            If the service is ending.
        """
        if not self.ready:
            raise BusyError("the service is starting or stopping")
        if self._next_reload is None:
            self._next_reload = asyncio.ensure_future(self._reload())
            self._next_reload.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next_reload)

    async def _reload(self) -> Model:
        async with self._reloading:
            self._next_reload = None  # who asks from now on wants to have it read once more
            try:
                model = await asyncio.to_thread(self._load)
                await model.batcher.warm_up()
            except Exception as error:
                self.instruments.reloads.labels("refused").inc()
                log.error("the model stays as it was: %s", error)
                if isinstance(error, AudioNetError):
                    raise
                raise ModelError(f"{type(error).__name__} while it was read") from error
            self.model = model
            self.instruments.reloads.labels("taken").inc()
            log.info("serving model %s, %d labels", model.id[:8], len(model.predictor.labels))
            return model

    def _load(self) -> Model:
        # Decoding takes the other cores.
        predictor = Predictor(self.config.graph, threads=max(1, available_cores() // 2), held=True)
        if predictor.spectrogram is None:
            raise ModelError("this model was trained on images of unknown making: sound cannot be drawn for it")
        return Model(
            predictor, predictor.spectrogram, Batcher(predictor, self.config.batch, self.instruments.batches.observe)
        )

    async def _in_time(self, work: Coroutine[Any, Any, Result]) -> Result:
        try:
            return await asyncio.wait_for(work, self.config.time_limit)
        except TimeoutError:
            raise LimitError(f"takes longer than {self.config.time_limit:g} s to judge: send it in parts") from None


def _content(
    model: Model, found: list[tuple[float, ChunkAnswer | None]], name: str, top_k: int, ended: dict[str, Any]
) -> dict[str, Any]:
    """What `label_image.py --json --per_chunk` says of the clip, who speaks when, and which model says so."""
    predictor, spectrogram = model.predictor, model.spectrogram
    chunks = [chunk for _, chunk in found if chunk is not None]
    answer = predictor.combine_chunks(chunks, ended["seconds"], ended["remark"])
    windows = [
        Window(start, None, None) if chunk is None else window_from_chunk(predictor, chunk) for start, chunk in found
    ]
    turns = segments(
        windows,
        predictor.names,
        spectrogram.chunk_seconds,
        spectrogram.step_length / spectrogram.sample_rate,
        lambda: float(ended["seconds"]),
        predictor.threshold,
    )
    content = answer_json(Path(name), answer, predictor, top_k, per_chunk=True)
    return content | {"file": name, "segments": list(map(segment_json, turns)), "model": model.id}

"""Dynamic batching: images of concurrent requests share a forward pass."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from audionet.audio.network_input import STATISTICS_WIDTHS
from audionet.inference.answer import ChunkAnswer
from audionet.inference.predictor import Predictor
from audionet.utils.arrays import FloatArray, UInt8Array


class _Item(NamedTuple):
    start: float
    activity: float
    level: float
    pixels: UInt8Array
    statistics: FloatArray
    answer: asyncio.Future[ChunkAnswer]


class Batcher:
    """Run images through a network in batches: all images that arrive during one forward pass form the next batch.

    An idle network starts at once, so that a single request has the shortest possible latency.

    Parameters
    ----------
    predictor : Predictor
        Called from the batcher's own thread.
    max_batch : int
        Maximum number of images in a batch.
    observe : callable, optional
        Called with the size of each batch.
    """

    def __init__(
        self, predictor: Predictor, max_batch: int, observe: Callable[[int], object] = lambda size: None
    ) -> None:
        self._predictor = predictor
        self._max_batch = max_batch
        self._observe = observe
        self._thread = ThreadPoolExecutor(1, "network")
        self._pending: deque[_Item] = deque()
        self._is_running = False

    async def warm_up(self) -> None:
        """Run the largest batch once, so that its memory is allocated before the first request."""
        pixels = np.zeros((self._max_batch, *self._predictor.input_size, 3), np.uint8)
        width = STATISTICS_WIDTHS[self._predictor.statistics] if self._predictor.statistics else 0
        loop = asyncio.get_running_loop()
        statistics = np.zeros((self._max_batch, width), np.float32)
        await loop.run_in_executor(self._thread, self._predictor.predict_batch, pixels, statistics)

    def submit(
        self, start: float, activity: float, level: float, pixels: UInt8Array, statistics: FloatArray
    ) -> asyncio.Future[ChunkAnswer]:
        """Add a chunk's image to the next batch; the future gives its answer.

        Parameters
        ----------
        start : float
            Start of the chunk in the clip, seconds.
        activity : float
            Share of the chunk with sound, 0 to 1.
        level : float
            Level of its loudest moment, dB.
        pixels : ndarray of uint8, shape (height, width, 3)
        statistics : ndarray of float32, shape (width,)
            Image statistics that the model takes; empty if it takes none.
        """
        answer: asyncio.Future[ChunkAnswer] = asyncio.get_running_loop().create_future()
        self._pending.append(_Item(start, activity, level, pixels, statistics, answer))
        self._start_batch()
        return answer

    def _start_batch(self) -> None:
        if self._is_running:
            return
        batch: list[_Item] = []
        while self._pending and len(batch) < self._max_batch:
            item = self._pending.popleft()
            if not item.answer.done():  # cancelled when its client disconnected
                batch.append(item)
        if not batch:
            return
        self._is_running = True
        self._observe(len(batch))
        task = asyncio.get_running_loop().run_in_executor(self._thread, self._predict, batch)
        task.add_done_callback(lambda done: self._deliver(batch, done))

    def _predict(self, batch: list[_Item]) -> list[ChunkAnswer]:
        pixels = np.stack([item.pixels for item in batch])
        statistics = np.stack([item.statistics for item in batch])
        output = self._predictor.predict_batch(pixels, statistics)
        return [
            self._predictor.score_chunk(item.start, item.level, item.activity, (probabilities, embedding, bool(speech)))
            for item, probabilities, embedding, speech in zip(batch, *output, strict=True)
        ]

    def _deliver(self, batch: list[_Item], done: asyncio.Future[list[ChunkAnswer]]) -> None:
        self._is_running = False
        self._start_batch()
        error = done.exception()
        answers = [] if error is not None else done.result()
        for i, item in enumerate(batch):
            if item.answer.done():
                continue
            if error is not None:
                item.answer.set_exception(error)
            else:
                item.answer.set_result(answers[i])

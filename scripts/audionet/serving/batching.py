"""Images from many requests, shown to the network together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from audionet.audio.network_input import STATISTICS_WIDTHS
from audionet.inference.predictor import ChunkAnswer, Predictor
from audionet.utils.arrays import FloatArray, UInt8Array


class _Waiting(NamedTuple):
    start: float
    pixels: UInt8Array
    statistics: FloatArray
    answer: asyncio.Future[ChunkAnswer]


class Batcher:
    """Shows a network what is waiting: at once where nothing is, and what came meanwhile in one batch after that.

    Nobody waits for company, so that a lone request is as quick as it can be.

    Parameters
    ----------
    predictor : Predictor
        Called from a thread of the batcher's own.
    most : int
        Images in a batch, at most.
    observe : callable, optional
        Told the size of each batch.
    """

    def __init__(self, predictor: Predictor, most: int, observe: Callable[[int], object] = lambda size: None) -> None:
        self._predictor = predictor
        self._most = most
        self._observe = observe
        self._thread = ThreadPoolExecutor(1, "network")
        self._waiting: deque[_Waiting] = deque()
        self._at_work = False

    async def warm_up(self) -> None:
        """Make room for the largest batch, so that nobody waits for that later."""
        pixels = np.zeros((self._most, *self._predictor.input_size, 3), np.uint8)
        width = STATISTICS_WIDTHS[self._predictor.statistics] if self._predictor.statistics else 0
        loop = asyncio.get_running_loop()
        statistics = np.zeros((self._most, width), np.float32)
        await loop.run_in_executor(self._thread, self._predictor.predict_batch, pixels, statistics)

    def submit(self, start: float, pixels: UInt8Array, statistics: FloatArray) -> asyncio.Future[ChunkAnswer]:
        """Have a chunk's image looked at.

        Parameters
        ----------
        start : float
            Seconds into the clip.
        pixels : ndarray of uint8, shape (height, width, 3)
        statistics : ndarray of float32, shape (width,)
            Those that the model takes; empty where it takes none.
        """
        answer: asyncio.Future[ChunkAnswer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(start, pixels, statistics, answer))
        self._go_on()
        return answer

    def _go_on(self) -> None:
        if self._at_work:
            return
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._most:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # whoever asked may be gone
                batch.append(waiting)
        if not batch:
            return
        self._at_work = True
        self._observe(len(batch))
        task = asyncio.get_running_loop().run_in_executor(self._thread, self._look, batch)
        task.add_done_callback(lambda done: self._deliver(batch, done))

    def _look(self, batch: list[_Waiting]) -> list[ChunkAnswer]:
        pixels = np.stack([waiting.pixels for waiting in batch])
        statistics = np.stack([waiting.statistics for waiting in batch])
        probabilities, embeddings = self._predictor.predict_batch(pixels, statistics)
        return [
            self._predictor.chunk_answer(waiting.start, probabilities[i], embeddings[i])
            for i, waiting in enumerate(batch)
        ]

    def _deliver(self, batch: list[_Waiting], done: asyncio.Future[list[ChunkAnswer]]) -> None:
        self._at_work = False
        self._go_on()
        error = done.exception()
        answers = [] if error is not None else done.result()
        for i, waiting in enumerate(batch):
            if waiting.answer.done():
                continue
            if error is not None:
                waiting.answer.set_exception(error)
            else:
                waiting.answer.set_result(answers[i])

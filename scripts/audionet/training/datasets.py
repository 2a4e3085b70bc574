"""What a network is shown: bottlenecks from the cache or images from their files, a batch at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from audionet.audio.network_input import image_features, model_inputs
from audionet.backbones.cache import Records
from audionet.data.dataset import ChunkImage
from audionet.errors import DatasetError
from audionet.utils.arrays import FloatArray, IntArray
from audionet.utils.parallel import available_cores
from audionet.utils.text import escape

Item = TypeVar("Item")

_BLOCK = 8192
_MOST_DECODED = 1 << 29  # bytes of pixels kept from one epoch to the next


class Examples(Protocol):
    """One set: what a network takes, and the labels it should give.

    Attributes
    ----------
    labels : ndarray of int64, shape (n,)
    """

    labels: IntArray

    def inputs(self, which: IntArray) -> tuple[NDArray[Any], ...]:
        """The network's inputs for some examples, each of shape (len(which), ...)."""
        ...


class FeatureExamples:
    """Bottlenecks, read from the cache as they are wanted.

    Parameters
    ----------
    records : Records
    labels : ndarray of int64, shape (len(records),)
    fields : sequence of str
        Which of the records' fields are joined, in this order.
    """

    def __init__(self, records: Records, labels: IntArray, fields: Sequence[str]) -> None:
        self.labels = labels
        self._records = records
        self._fields = fields

    def inputs(self, which: IntArray) -> tuple[FloatArray]:
        parts = [self._records.take(field, which) for field in self._fields]
        features: FloatArray = np.empty((len(which), sum(part.shape[1] for part in parts)), np.float32)
        np.concatenate(parts, axis=1, out=features)
        return (features,)

    def some(self, which: IntArray) -> FeatureExamples:
        """Some of these examples."""
        return FeatureExamples(self._records[which], self.labels[which], self._fields)

    def blocks(self) -> Iterator[FloatArray]:
        """All features, some thousand rows at a time."""
        for start in range(0, len(self.labels), _BLOCK):
            yield self.inputs(np.arange(start, min(start + _BLOCK, len(self.labels))))[0]

    def all(self) -> FloatArray:
        """All features at once, shape (n, width)."""
        return self.inputs(np.arange(len(self.labels)))[0]


class ImageExamples:
    """Images, decoded as they are wanted, and kept decoded where there are few.

    Parameters
    ----------
    images : sequence of Image
    labels : ndarray of int64, shape (len(images),)
    input_size : (int, int)
        Height and width that the network takes.
    statistics : str or None
        Those that it takes too, as its second input.
    """

    def __init__(
        self, images: Sequence[ChunkImage], labels: IntArray, input_size: tuple[int, int], statistics: str | None
    ) -> None:
        self.labels = labels
        self._images = images
        self._input_size = input_size
        self._statistics = statistics
        self._threads = ThreadPoolExecutor(available_cores())
        self._kept: dict[int, tuple[NDArray[Any], ...]] = {}
        height, width = input_size
        self._room = _MOST_DECODED // (3 * height * width)

    def inputs(self, which: IntArray) -> tuple[NDArray[Any], ...]:
        """Pixels, uint8 (n, height, width, 3), and statistics, float32 (n, width), where some are wanted.

        Raises
        ------
        DatasetError
            If an image is gone or damaged.
        """
        decoded = list(self._threads.map(self._decoded, which.tolist()))
        return tuple(map(np.concatenate, zip(*decoded, strict=True)))

    def _decoded(self, number: int) -> tuple[NDArray[Any], ...]:
        if number in self._kept:
            return self._kept[number]
        path = self._images[number].path
        try:
            features = image_features(path.read_bytes(), self._input_size)
        except (OSError, DatasetError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DatasetError(f"{escape(path)}: {reason}; it was there when training began: run again") from None
        found = model_inputs(features, self._statistics)
        if len(self._kept) < self._room:
            self._kept[number] = found
        return found


def batches(examples: int, size: int, seed: int, start: int = 0) -> Iterator[IntArray]:
    """Example numbers for one step after another, without end, every example once before any comes again.

    Which ones a step gets depends on nothing but the arguments and the step: training that was interrupted goes
    on with the batches it would have had.

    Parameters
    ----------
    examples, size, seed : int
    start : int
        The step to begin with.
    """
    size = min(size, examples)
    epoch, place = divmod(start * size, examples)
    order = _epoch(examples, seed, epoch)[place:]
    while True:
        while len(order) < size:
            epoch += 1
            order = np.concatenate([order, _epoch(examples, seed, epoch)])
        yield order[:size]
        order = order[size:]


def _epoch(examples: int, seed: int, epoch: int) -> IntArray:
    return np.random.default_rng((seed, epoch)).permutation(examples)


def prefetch(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Pass items through, each being made by a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item

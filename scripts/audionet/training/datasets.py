"""Training examples in batches: bottlenecks from the cache, or images from their files."""

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
from audionet.utils.process import available_cores
from audionet.utils.text import escape

Item = TypeVar("Item")

_BLOCK = 8192
_MAX_DECODED_BYTES = 1 << 29  # of pixels kept in memory between epochs


class Examples(Protocol):
    """Examples of one set: network inputs and target labels.

    Attributes
    ----------
    labels : ndarray of int64, shape (n,)
    """

    labels: IntArray

    def inputs(self, rows: IntArray) -> tuple[NDArray[Any], ...]:
        """Return the network's inputs for some examples, each of shape (len(rows), ...)."""
        ...


class FeatureExamples:
    """Bottlenecks, read from the cache on demand.

    Parameters
    ----------
    records : Records
    labels : ndarray of int64, shape (len(records),)
    fields : sequence of str
        Fields of the records to join, in this order.
    """

    def __init__(self, records: Records, labels: IntArray, fields: Sequence[str]) -> None:
        self.labels = labels
        self._records = records
        self._fields = fields

    def inputs(self, rows: IntArray) -> tuple[FloatArray]:
        parts = [self._records.take(field, rows) for field in self._fields]
        features: FloatArray = np.empty((len(rows), sum(part.shape[1] for part in parts)), np.float32)
        np.concatenate(parts, axis=1, out=features)
        return (features,)

    def some(self, rows: IntArray) -> FeatureExamples:
        """Return a subset of these examples."""
        return FeatureExamples(self._records[rows], self.labels[rows], self._fields)

    def blocks(self) -> Iterator[FloatArray]:
        """Yield all features, some thousand rows at a time."""
        for start in range(0, len(self.labels), _BLOCK):
            yield self.inputs(np.arange(start, min(start + _BLOCK, len(self.labels))))[0]

    def all(self) -> FloatArray:
        """Return all features at once, shape (n, width)."""
        return self.inputs(np.arange(len(self.labels)))[0]


class ImageExamples:
    """Images, decoded on demand; as many as fit in 512 MiB stay decoded in memory.

    Parameters
    ----------
    images : sequence of ChunkImage
    labels : ndarray of int64, shape (len(images),)
    input_size : (int, int)
        Height and width of the network's input, pixels.
    statistics : str or None
        Kind of image statistics that the network takes as its second input; None: no second input.
    """

    def __init__(
        self, images: Sequence[ChunkImage], labels: IntArray, input_size: tuple[int, int], statistics: str | None
    ) -> None:
        self.labels = labels
        self._images = images
        self._input_size = input_size
        self._statistics = statistics
        self._threads = ThreadPoolExecutor(available_cores())
        self._cache: dict[int, tuple[NDArray[Any], ...]] = {}
        height, width = input_size
        self._capacity = _MAX_DECODED_BYTES // (3 * height * width)

    def inputs(self, rows: IntArray) -> tuple[NDArray[Any], ...]:
        """Return pixels, uint8 (n, height, width, 3), and statistics, float32 (n, width), if the network takes any.

        Raises
        ------
        DatasetError
            If an image was removed or damaged since training started.
        """
        decoded = list(self._threads.map(self._decode, rows.tolist()))
        return tuple(map(np.concatenate, zip(*decoded, strict=True)))

    def _decode(self, row: int) -> tuple[NDArray[Any], ...]:
        if row in self._cache:
            return self._cache[row]
        path = self._images[row].path
        try:
            features = image_features(path.read_bytes(), self._input_size)
        except (OSError, DatasetError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DatasetError(f"{escape(path)}: {reason}; the image changed during training: run again") from None
        inputs = model_inputs(features, self._statistics)
        if len(self._cache) < self._capacity:
            self._cache[row] = inputs
        return inputs


def batches(examples: int, size: int, seed: int, start: int = 0) -> Iterator[IntArray]:
    """Yield the example numbers of each step's batch, endlessly, in epochs of newly shuffled examples.

    A batch depends on nothing but the arguments and the step: interrupted training resumes with the batches it would
    have had.

    Parameters
    ----------
    examples, size, seed : int
    start : int
        First step.
    """
    size = min(size, examples)
    epoch, offset = divmod(start * size, examples)
    order = _shuffled(examples, seed, epoch)[offset:]
    while True:
        while len(order) < size:
            epoch += 1
            order = np.concatenate([order, _shuffled(examples, seed, epoch)])
        yield order[:size]
        order = order[size:]


def _shuffled(examples: int, seed: int, epoch: int) -> IntArray:
    return np.random.default_rng((seed, epoch)).permutation(examples)


def prefetch(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield the items; a thread computes the next one while the current one is used."""
    with ThreadPoolExecutor(1) as thread:
        pending = thread.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = thread.submit(next, items, None)
            yield item

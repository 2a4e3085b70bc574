"""Running a LiteRT model: the one arithmetic of bottlenecks and of labelling, without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .console import native_stderr_muted
from .errors import ModelError
from .files import printable


class Runner:
    """A loaded LiteRT model. One thread at a time may call it; give each thread its own.

    Parameters
    ----------
    path : Path
        A .tflite file.
    threads : int
        Threads inside the network. On several pictures, one thread in each of several runners is faster
        than several threads in one.

    Raises
    ------
    ModelError
        If the file is no LiteRT model.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with native_stderr_muted():
                self._interpreter = Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError):
            raise ModelError(f"{printable(path)} is missing or no LiteRT model: run retrain.py again") from None
        self._inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self._outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    @property
    def input_shapes(self) -> list[tuple[int, ...]]:
        """Shape of each input."""
        return [tuple(map(int, item["shape"])) for item in self._inputs]

    @property
    def output_width(self) -> int:
        """Numbers in the first output."""
        return int(np.prod(self._outputs[0]["shape"]))

    def resized(self, batch: int) -> bool:
        """Make room for a batch; False where the graph's layers do not all follow."""
        item, width = self._inputs[0], self.output_width
        try:
            with native_stderr_muted():
                self._interpreter.resize_tensor_input(item["index"], [batch, *map(int, item["shape"][1:])])
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError):
            return False
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        return tuple(map(int, self._outputs[0]["shape"])) == (batch, width)

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """The first output, shape (width,), for inputs of batch one."""
        result: NDArray[np.float32] = self.run(*inputs).reshape(-1)
        return result

    def run(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """The first output as it comes, shape (batch, width)."""
        return self.run_all(*inputs)[0]

    def run_all(self, *inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """All outputs as they come."""
        for item, value in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(item["index"], value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(item["index"]) for item in self._outputs]


class BatchRunner:
    """A network with one input, run on several pictures at a time where its graph allows it.

    Each picture's features are the same to the last bit as alone, and come a third sooner: the weights are
    fetched from memory once for all of them.

    Parameters
    ----------
    path : Path
        A .tflite file.
    batch : int
        Pictures at a time.
    """

    def __init__(self, path: Path, batch: int) -> None:
        self._runner = Runner(path)
        self._width = self._runner.output_width
        self._batch = batch if self._runner.resized(batch) else 1
        if self._batch == 1:
            self._runner = Runner(path)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features, shape (n, width), of pictures, shape (n, height, width, 3)."""
        features = np.empty((len(pixels), self._width), np.float32)
        padded = np.concatenate([pixels, pixels[:1].repeat(-len(pixels) % self._batch, axis=0)])
        for start in range(0, len(pixels), self._batch):
            part = features[start : start + self._batch]
            part[:] = self._runner.run(padded[start : start + self._batch])[: len(part)]
        return features

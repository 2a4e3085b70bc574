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

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """The first output for these inputs, flattened to one dimension; the network's batch is one."""
        for item, value in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(item["index"], value)
        self._interpreter.invoke()
        result: NDArray[np.float32] = self._interpreter.get_tensor(self._outputs[0]["index"])
        return result.reshape(-1)

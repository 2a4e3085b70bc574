"""LiteRT inference without TensorFlow: the same arithmetic for bottlenecks and for labelling."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.backbones.litert_check import check_form, check_size
from audionet.errors import ModelError
from audionet.utils.process import native_stderr_muted
from audionet.utils.text import escape

AT_A_TIME = 8
"""Number of images in a forward pass; more are not faster."""


CONVERT_AGAIN = "delete it, and the backbone is converted again"
"""Remedy of a converted backbone."""


class Runner:
    """A loaded LiteRT model. Only one thread at a time may call it; give each thread its own.

    An image's outputs are bit-identical in a batch and alone, and a batch takes up to a third less time: the weights
    are read from memory once for all its images.

    Parameters
    ----------
    model : Path or bytes
        A .tflite file, which is mapped, or its content: a mapped file that is truncated while in use kills the process.
    threads : int
        Threads inside the network. For several images, several runners of one thread each are faster than one
        runner of several threads.
    name : str, optional
        Name of the file, for error messages; default: its path.
    remedy : str
        Way out of a file that cannot be used, for error messages.

    Raises
    ------
    ModelError
        If the file is missing, no LiteRT model, or not of the form that AudioNet writes.
    """

    def __init__(
        self, model: Path | bytes, threads: int = 1, name: str | None = None, remedy: str = "run retrain.py again"
    ) -> None:
        self._model = model
        self._threads = threads
        self._name = name or ("the network" if isinstance(model, bytes) else escape(model))
        self._remedy = remedy
        self._resizable = True
        self._load()

    def _load(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            in_memory = isinstance(self._model, bytes)
            model = {"model_content": self._model} if in_memory else {"model_path": str(self._model)}
            with native_stderr_muted():
                self._interpreter = Interpreter(**model, num_threads=self._threads)
        except (ValueError, RuntimeError, OSError):
            raise ModelError(f"{self._name} is missing or no LiteRT model: {self._remedy}") from None
        try:
            check_form(self._interpreter)
            check_size(self._interpreter)
            with native_stderr_muted():
                self._interpreter.allocate_tensors()
            check_size(self._interpreter)
        except ModelError as why:
            raise ModelError(f"{self._name} {why}: {self._remedy}") from None
        except (ValueError, RuntimeError):
            raise ModelError(f"{self._name} is no LiteRT model: {self._remedy}") from None
        self._read_details()

    def _read_details(self) -> None:
        self._inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self._outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    @property
    def input_shapes(self) -> list[tuple[int, ...]]:
        """Shape of each input."""
        return [tuple(map(int, item["shape"])) for item in self._inputs]

    @property
    def output_widths(self) -> list[int]:
        """Width of each output."""
        return [int(item["shape"][-1]) for item in self._outputs]

    @property
    def output_width(self) -> int:
        """Width of the first output."""
        return self.output_widths[0]

    def _resize(self, batch: int) -> bool:
        """Resize the network's tensors for a batch; return False, and keep batch size 1, if that fails."""
        if batch == self._inputs[0]["shape"][0]:
            return True
        if not self._resizable:
            return False
        widths = self.output_widths
        try:
            with native_stderr_muted():
                for item in self._inputs:
                    self._interpreter.resize_tensor_input(item["index"], [batch, *map(int, item["shape"][1:])])
                self._interpreter.allocate_tensors()
            self._read_details()
        except (ValueError, RuntimeError):
            self._resizable = False
        else:
            shapes = [tuple(map(int, item["shape"])) for item in self._outputs]
            self._resizable = shapes == [(batch, width) for width in widths]
        if not self._resizable:
            self._load()
        return self._resizable

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the first output, shape (width,), for inputs of batch size 1."""
        result: NDArray[np.float32] = self.run(*inputs).reshape(-1)
        return result

    def run(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the first output, shape (batch, width)."""
        return self.run_all(*inputs)[0]

    def features(self, pixels: NDArray[np.uint8], at_a_time: int = 1) -> NDArray[np.float32]:
        """Compute the first output, shape (n, width), of a one-input network for pixels, (n, height, width, 3)."""
        features = np.empty((len(pixels), self.output_width), np.float32)
        for start in range(0, len(pixels), at_a_time):
            features[start : start + at_a_time] = self.run(pixels[start : start + at_a_time])
        return features

    def run_all(self, *inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Compute all outputs, for inputs of any batch size.

        Raises
        ------
        ModelError
            If an operation fails, as in a damaged file.
        """
        batch = len(inputs[0])
        if not self._resize(batch):
            singly = [self.run_all(*(value[i : i + 1] for value in inputs)) for i in range(batch)]
            return [np.concatenate(parts) for parts in zip(*singly, strict=True)]
        for item, value in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(item["index"], value)
        try:
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(item["index"]) for item in self._outputs]
        except (ValueError, RuntimeError):
            raise ModelError(f"{self._name} cannot be run: {self._remedy}") from None


def thread_runner(path: Path) -> Runner:
    """Return this thread's runner of a network, one thread inside it, loaded on first use."""
    return _runner_of_thread(path, threading.get_ident())


@functools.lru_cache(maxsize=16)
def _runner_of_thread(path: Path, thread: int) -> Runner:
    return Runner(path, remedy=CONVERT_AGAIN)

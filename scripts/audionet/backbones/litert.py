"""Running a LiteRT model: the one arithmetic of bottlenecks and of labelling, without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.errors import ModelError
from audionet.utils.process import native_stderr_muted
from audionet.utils.text import escape

AT_A_TIME = 8
"""Images in one run of a network; more gain nothing."""


class Runner:
    """A loaded LiteRT model. One thread at a time may call it; give each thread its own.

    Each image's outputs are the same to the last bit in a batch as alone, and come up to a third sooner: the weights
    are fetched from memory once for all of them.

    Parameters
    ----------
    path : Path
        A .tflite file.
    threads : int
        Threads inside the network. On several images, one thread in each of several runners is faster
        than several threads in one.
    held : bool
        Whether to read the file into memory, not to map it: mapped, a file that is cut short while the network is in
        use ends the process.

    Raises
    ------
    ModelError
        If the file is no LiteRT model.
    """

    def __init__(self, path: Path, threads: int = 1, held: bool = False) -> None:
        self._path = path
        self._threads = threads
        self._held = held
        self._grows = True
        self._load()

    def _load(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            model = {"model_content": self._path.read_bytes()} if self._held else {"model_path": str(self._path)}
            with native_stderr_muted():
                self._interpreter = Interpreter(**model, num_threads=self._threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, OSError):
            raise ModelError(f"{escape(self._path)} is missing or no LiteRT model: run retrain.py again") from None
        self._look_up()

    def _look_up(self) -> None:
        self._inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self._outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    @property
    def input_shapes(self) -> list[tuple[int, ...]]:
        """Shape of each input."""
        return [tuple(map(int, item["shape"])) for item in self._inputs]

    @property
    def output_width(self) -> int:
        """Numbers in the first output, of one image."""
        return int(np.prod(self._outputs[0]["shape"])) // int(self._inputs[0]["shape"][0])

    def _takes(self, batch: int) -> bool:
        """Make room for a batch; False, and only for one image, where the graph's layers do not all follow."""
        if batch == self._inputs[0]["shape"][0]:
            return True
        if not self._grows:
            return False
        widths = [int(np.prod(item["shape"])) // int(self._inputs[0]["shape"][0]) for item in self._outputs]
        try:
            with native_stderr_muted():
                for item in self._inputs:
                    self._interpreter.resize_tensor_input(item["index"], [batch, *map(int, item["shape"][1:])])
                self._interpreter.allocate_tensors()
            self._look_up()
        except (ValueError, RuntimeError):
            self._grows = False
        else:
            shapes = [tuple(map(int, item["shape"])) for item in self._outputs]
            self._grows = shapes == [(batch, width) for width in widths]
        if not self._grows:
            self._load()
        return self._grows

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """The first output, shape (width,), for inputs of batch one."""
        result: NDArray[np.float32] = self.run(*inputs).reshape(-1)
        return result

    def run(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """The first output as it comes, shape (batch, width)."""
        return self.run_all(*inputs)[0]

    def features(self, pixels: NDArray[np.uint8], at_a_time: int = 1) -> NDArray[np.float32]:
        """The first output, shape (n, width), of a network with one input, for pixels, shape (n, height, width, 3)."""
        found = np.empty((len(pixels), self.output_width), np.float32)
        for start in range(0, len(pixels), at_a_time):
            found[start : start + at_a_time] = self.run(pixels[start : start + at_a_time])
        return found

    def run_all(self, *inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """All outputs as they come, for inputs of any batch."""
        batch = len(inputs[0])
        if not self._takes(batch):
            singly = [self.run_all(*(value[i : i + 1] for value in inputs)) for i in range(batch)]
            return [np.concatenate(parts) for parts in zip(*singly, strict=True)]
        for item, value in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(item["index"], value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(item["index"]) for item in self._outputs]

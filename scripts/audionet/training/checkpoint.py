"""Checkpoints: the training state, written atomically, from which an interrupted training resumes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from audionet.errors import DamagedError
from audionet.utils.array_files import Expected, check_arrays, read_npz, write_npz
from audionet.utils.files import atomic_path, make_folder
from audionet.utils.json_files import field, parse_json, whole

Parsed = TypeVar("Parsed")

log = logging.getLogger(__name__)

_SAVE_SECONDS = 20.0


@dataclasses.dataclass
class State:
    """Training state, complete enough to resume with the same result as an uninterrupted run.

    Attributes
    ----------
    step : int
        Number of completed steps.
    arrays : list of ndarray
        The network's and the optimizer's variables.
    best : list of ndarray
        The network's variables at the best validation so far.
    progress : dict
        Numbers and lists that can be written as JSON: scores, curves.
    """

    step: int
    arrays: list[NDArray[Any]]
    best: list[NDArray[Any]]
    progress: dict[str, Any]


class Checkpoint:
    """Checkpoint file of one training run. Other settings or other data give another file.

    Parameters
    ----------
    folder : Path
    stage : str
        Name of the network being trained, such as ``head``.
    identity : object
        Everything that the result depends on, as JSON.
    every : int
        Steps between checkpoints; 0: save every 20 seconds instead.
    """

    def __init__(self, folder: Path, stage: str, identity: Any, every: int = 0) -> None:
        self._identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{stage}-{self._identity[:16]}.npz"
        self._every = every
        self._saved_at = time.monotonic()
        make_folder(folder)

    def due(self, before: int, step: int) -> bool:
        """Return whether to save now, after steps `before` to `step`."""
        if self._every:
            return step // self._every > before // self._every
        return time.monotonic() - self._saved_at > _SAVE_SECONDS

    def save(self, state: State) -> None:
        """Write the state to the file."""
        about = {"identity": self._identity, "step": state.step, "progress": state.progress}
        arrays = {f"array{i:04d}": array for i, array in enumerate(state.arrays)}
        arrays |= {f"best{i:04d}": array for i, array in enumerate(state.best)}
        with atomic_path(self.path) as temporary, temporary.open("wb") as stream:
            write_npz(stream, {"about": np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays})
        self._saved_at = time.monotonic()

    def load(
        self, like: Sequence[tuple[tuple[int, ...], str]], best: int, parse: Callable[[State], Parsed]
    ) -> Parsed | None:
        """Return the last saved state, parsed; None, with a warning, if the file cannot be used.

        Parameters
        ----------
        like : sequence of (shape, dtype)
            Shapes and dtypes of the network's and the optimizer's variables.
        best : int
            Number of the variables, the first ones, that the best weights are of; there may be none yet.
        parse : callable
            Returns what training resumes from; raises DamagedError if the progress does not hold that.
        """
        if not self.path.exists():
            return None
        try:
            with self.path.open("rb") as stream:
                stored = read_npz(stream)
            about = parse_json(
                check_arrays(stored, {"about": Expected(np.uint8, ("bytes",))})["about"].tobytes(), False
            )
            state = State(whole(about, "step"), _listed(stored, "array"), _listed(stored, "best"), {})
            if field(about, "identity", str) != self._identity or _shapes(state.arrays) != list(like):
                log.warning(f"{self.path}: is a checkpoint of another training; training starts over")
                return None
            if _shapes(state.best) not in ([], list(like[:best])):
                raise DamagedError("its best weights are those of another network")
            return parse(dataclasses.replace(state, progress=field(about, "progress", dict)))
        except (OSError, DamagedError):
            log.warning(f"{self.path}: is damaged; training starts over")
            return None


def _listed(arrays: dict[str, NDArray[Any]], name: str) -> list[NDArray[Any]]:
    return [arrays[key] for key in sorted(arrays) if key.startswith(name)]


def _shapes(arrays: Sequence[NDArray[Any]]) -> list[tuple[tuple[int, ...], str]]:
    return [(array.shape, str(array.dtype)) for array in arrays]

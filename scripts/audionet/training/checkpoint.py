"""Interrupted training goes on where it was: its state on disk, every so often, whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.utils.files import atomic_path, make_folder

log = logging.getLogger(__name__)


_SECONDS = 20.0


@dataclasses.dataclass
class State:
    """All that training needs to go on as if nothing had happened.

    Attributes
    ----------
    step : int
        Steps done.
    arrays : list of ndarray
        The network's and the optimizer's variables.
    best : list of ndarray
        The network's variables at the best look so far.
    progress : dict
        Numbers and lists that JSON holds: scores, curves.
    """

    step: int
    arrays: list[NDArray[Any]]
    best: list[NDArray[Any]]
    progress: dict[str, Any]


class Checkpoint:
    """Where one training keeps its state. Another training, or the same on other data, has another file.

    Parameters
    ----------
    folder : Path
    stage : str
        What is being trained, such as ``head``.
    identity : object
        Whatever the result depends on, as JSON.
    every : int
        Steps from one checkpoint to the next; 0 goes by the clock.
    """

    def __init__(self, folder: Path, stage: str, identity: Any, every: int = 0) -> None:
        self._identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{stage}-{self._identity[:16]}.npz"
        self._every = every
        self._saved_at = time.monotonic()
        make_folder(folder)

    def due(self, before: int, step: int) -> bool:
        """Whether it is time to save, after steps `before` to `step`."""
        if self._every:
            return step // self._every > before // self._every
        return time.monotonic() - self._saved_at > _SECONDS

    def save(self, state: State) -> None:
        """Write the state."""
        about = {"identity": self._identity, "step": state.step, "progress": state.progress}
        arrays = {f"array{i:04d}": array for i, array in enumerate(state.arrays)}
        arrays |= {f"best{i:04d}": array for i, array in enumerate(state.best)}
        with atomic_path(self.path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
        self._saved_at = time.monotonic()

    def load(self, like: list[tuple[tuple[int, ...], str]]) -> State | None:
        """The state as last saved; None, with a word about it, where that cannot be used.

        Parameters
        ----------
        like : list of (shape, dtype)
            What the network's and the optimizer's variables are like.
        """
        if not self.path.exists():
            return None
        try:
            # Opened here: NumPy leaves a damaged file open.
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                about = json.loads(stored["about"].tobytes())
                arrays = [stored[name] for name in sorted(stored.files) if name.startswith("array")]
                best = [stored[name] for name in sorted(stored.files) if name.startswith("best")]
            if about["identity"] != self._identity or [(a.shape, str(a.dtype)) for a in arrays] != like:
                log.warning(f"{self.path}: is a checkpoint of another training; training begins anew")
                return None
            return State(about["step"], arrays, best, about["progress"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            log.warning(f"{self.path}: is damaged; training begins anew")
            return None

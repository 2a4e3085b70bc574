"""TensorBoard logs of a training: curves, confusion matrix, and bottlenecks in the projector."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import shutil
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audionet.utils.arrays import FloatArray
from audionet.utils.files import make_folder, owner_name, owner_runs, write_bytes
from audionet.utils.plots import CurvePoint
from audionet.utils.text import escape

SETS_LOGGED = ("training", "validation")


_DIMENSIONS = 50
_MARK_PREFIX = ".audionet-training-"
_LONGEST_PAUSE_SECONDS = 24 * 3600
_unfinished: set[Path] = set()  # files that mark this process's trainings


@contextlib.contextmanager
def run_folder(parent: Path) -> Iterator[Path]:
    """Create a training's folder for TensorBoard, named by the time, which an error within the block removes.

    Until `finish_run`, the folder holds a file that names this process, by which the next training knows whether the
    process was killed: then it removes the folder. A training that resumes logs its curves from their beginning.
    """
    make_folder(parent)
    _remove_killed_runs(parent)
    name = time.strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    mark = folder / f"{_MARK_PREFIX}{owner_name()}"
    mark.touch()
    _unfinished.add(mark)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def finish_run(folder: Path) -> None:
    """Keep a training's folder for good, unless nothing was logged there."""
    for mark in [mark for mark in _unfinished if mark.parent == folder]:
        mark.unlink(missing_ok=True)
        _unfinished.remove(mark)
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()


def _remove_killed_runs(parent: Path) -> None:
    for mark in parent.glob(f"*/{_MARK_PREFIX}*"):
        is_own = mark.name in {own.name for own in _unfinished}
        if not is_own and not _is_running(mark) and mark.exists():  # it may have finished in this moment
            shutil.rmtree(mark.parent, ignore_errors=True)


def _is_running(mark: Path) -> bool:
    """Return whether a training runs: on another machine, where that cannot be seen, if it logged lately."""
    running = owner_runs(mark.name.removeprefix(_MARK_PREFIX))
    if running is None:
        try:
            ages = [time.time() - os.lstat(path).st_mtime for path in (mark, *mark.parent.rglob("*"))]
        except FileNotFoundError:
            return True  # its files change
        return min(ages) < _LONGEST_PAUSE_SECONDS
    return running


class Curves:
    """Loss and accuracy over the steps, kept in memory and, if a folder is given, logged for TensorBoard.

    Parameters
    ----------
    folder : Path, optional
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.points: list[CurvePoint] = []
        self._writers = {name: Scalars(folder / name) for name in SETS_LOGGED} if folder is not None else {}

    def add(self, point: CurvePoint) -> None:
        """Add a point."""
        self.points.append(point)
        if point.set in self._writers:
            self._writers[point.set].add(point.step, {"cross_entropy": point.loss, "accuracy": point.accuracy})

    def close(self) -> None:
        """Flush and close the log."""
        for writer in self._writers.values():
            writer.close()


class Scalars:
    """Numbers and images over the steps, logged for TensorBoard without TensorFlow.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        # TensorBoard's own EventFileWriter imports TensorFlow where it is installed, only to create the folder.
        from tensorboard.summary.writer.record_writer import RecordWriter

        make_folder(folder)
        name = f"events.out.tfevents.{time.time():.6f}.{platform.node()}.{os.getpid()}"
        self._writer = RecordWriter((folder / name).open("wb"))
        self._write(file_version="brain.Event:2")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(step, [Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    def add_png(self, name: str, png: bytes) -> None:
        """Add an image."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = struct.unpack(">II", png[16:24])
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._add(0, [Summary.Value(tag=name, image=image)])

    def _add(self, step: int, values: Sequence[Any]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(step=step, summary=Summary(value=values))

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the log."""
        self._writer.close()


def log_curves(folder: Path, points: Sequence[CurvePoint]) -> None:
    """Log the points of a finished training."""
    curves = Curves(folder)
    for point in points:
        curves.add(point)
    curves.close()


def add_image(folder: Path, name: str, png: bytes) -> None:
    """Log a PNG for TensorBoard's images page."""
    writer = Scalars(folder)
    writer.add_png(name, png)
    writer.close()


def add_projector(folder: Path, features: FloatArray, labels: Sequence[str], names: Sequence[str]) -> None:
    """Write features as points for TensorBoard's projector.

    Parameters
    ----------
    folder : Path
        A run's folder; TensorBoard reads it only if it also contains event files.
    features : ndarray of float32, shape (n, width), n in the thousands at most
    labels, names : sequence of n str
        Colour category and name of each point.
    """
    make_folder(folder)
    rows = principal_components(features, _DIMENSIONS)
    tsv = "".join("\t".join(f"{value:.4g}" for value in row) + "\n" for row in rows)
    write_bytes(folder / "bottlenecks.tsv", tsv.encode())
    lines = [f"{escape(label)}\t{escape(name)}" for label, name in zip(labels, names, strict=True)]
    write_bytes(folder / "bottlenecks_labels.tsv", "\n".join(["label\timage", *lines, ""]).encode())
    config = """embeddings {
  tensor_name: "bottlenecks"
  tensor_path: "bottlenecks.tsv"
  metadata_path: "bottlenecks_labels.tsv"
}
"""
    write_bytes(folder / "projector_config.pbtxt", config.encode())


def principal_components(features: FloatArray, most: int) -> FloatArray:
    """Project features onto their principal components, shape (n, at most `most`).

    The browser has hundreds of numbers less to load for each point, and distances stay nearly the same.
    """
    centred = features - features.mean(axis=0)
    # From the Gram matrix, which is smaller than the covariance: there are fewer points than features.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = [i for i in np.argsort(-values)[:most] if values[i] > 1e-6 * values[-1]] or [len(values) - 1]
    components: FloatArray = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))
    return components

"""Images to bottleneck features: what the cache lacks is computed, by as many processes as there are."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.audio.network_input import ImageFeatures, image_features
from audionet.backbones.cache import CACHE_FORMAT, KEY_BYTES, Bottleneck, Cache, Records, content_key
from audionet.backbones.litert import AT_A_TIME, Runner
from audionet.backbones.registry import Backbone
from audionet.backbones.tf_runtime import distribute, gpus, import_tensorflow, mixed_precision, training_strategy
from audionet.data.dataset import ChunkImage
from audionet.errors import DatasetError
from audionet.utils.arrays import FloatArray, UInt8Array
from audionet.utils.parallel import WorkerDied, available_cores, map_unordered, worker_pool
from audionet.utils.progress import progress

log = logging.getLogger(__name__)


_BATCH = 32
_GPU_BATCH = 128
_BATCHES_AHEAD = 4
_NO_SIZE = (8, 8)
_SAVE_SECONDS = 10.0  # what a killed run loses at most


@dataclass(frozen=True)
class Bottlenecks:
    """Features of images, row for row.

    Attributes
    ----------
    images : list of Image
        Those that could be read.
    keys : ndarray of V16, shape (len(images),)
        What stands for each image's content.
    records : Records
        Their bottlenecks.
    computed, cached : int
        How many different images were computed, and how many were in the cache.
    seconds : float
        Time spent computing them.
    engine : str
        What computed them: ``LiteRT`` or ``GPU``.
    """

    images: list[ChunkImage]
    keys: NDArray[np.void]
    records: Records
    computed: int
    cached: int
    seconds: float
    engine: str


def compute_bottlenecks(
    images: Iterable[ChunkImage],
    backbone: Backbone | None,
    cache_dir: Path,
    workers: int,
    scheduler: str | None = None,
) -> Bottlenecks:
    """Features of all images, from the cache where it has them. Unreadable images are said and left out.

    A backbone runs on the GPU where TensorFlow finds one, and as LiteRT on all cores elsewhere; the two differ by
    rounding, so that each has a cache of its own.

    Parameters
    ----------
    images : iterable of Image
    backbone : Backbone or None
        Without one, only the statistics that need no network.
    cache_dir : Path
        Every backbone gets a folder of its own in it.
    workers : int
        Processes to compute with.
    scheduler : str, optional
        Address of the Dask cluster to compute with instead.

    Raises
    ------
    DatasetError
        If no image can be read.
    """
    engine = "GPU" if backbone and not scheduler and gpus() else "LiteRT"
    name = f"{backbone.name}-{backbone.identity[:12]}" if backbone else "statistics"
    name += "-gpu" if engine == "GPU" else ""
    cache = Cache(cache_dir / f"{name}-v{CACHE_FORMAT}", backbone.width if backbone else 0)
    readable: list[ChunkImage] = []
    contents = bytearray()
    for image in images:
        try:
            contents += content_key(image.path.read_bytes())
        except OSError as error:
            log.warning(f"{image.path}: cannot be read ({error.strerror}); left out")
            continue
        readable.append(image)
    keys = np.frombuffer(contents, f"V{KEY_BYTES}")
    missing: dict[bytes, ChunkImage] = {}
    for i in np.flatnonzero(cache.missing(keys)):
        missing.setdefault(keys[i].tobytes(), readable[i])
    started = time.perf_counter()
    unreadable = _compute(missing, backbone, cache, workers, scheduler, engine) if missing else set()
    seconds = time.perf_counter() - started
    if unreadable:
        kept = np.flatnonzero(~cache.missing(keys))
        readable, keys = [readable[i] for i in kept], keys[kept]
    if not readable:
        raise DatasetError("none of the images can be read: make them again with data_maker.py --force")
    different = len(np.unique(keys)) + len(unreadable)
    return Bottlenecks(readable, keys, cache.records(keys), len(missing), different - len(missing), seconds, engine)


class BottleneckTask(NamedTuple):
    """Images for one worker to compute, and the network to do it with, if any."""

    images: list[Path]
    network: Path | None
    input_size: tuple[int, int]


def compute(task: BottleneckTask) -> list[Bottleneck | str]:
    """The features of each image, or why it has none."""
    # All images first, then the network on all: taking turns, each would push the other out of the cache.
    found = [_features(path, task.input_size) for path in task.images]
    return _with_network(found, lambda pixels: _network_features(pixels, task.network))


def _with_network(
    found: list[ImageFeatures | str], network: Callable[[UInt8Array], FloatArray]
) -> list[Bottleneck | str]:
    pixels = [features.pixels for features in found if not isinstance(features, str)]
    computed = iter(network(np.concatenate(pixels)) if pixels else ())
    return [
        features
        if isinstance(features, str)
        else Bottleneck(features.size, next(computed), features.band_statistics, features.mfcc_statistics)
        for features in found
    ]


def _network_features(pixels: UInt8Array, network: Path | None) -> FloatArray:
    return _runner(network).features(pixels, AT_A_TIME) if network else np.empty((len(pixels), 0), np.float32)


def _features(path: Path, input_size: tuple[int, int]) -> ImageFeatures | str:
    try:
        return image_features(path.read_bytes(), input_size)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except DatasetError as error:
        return str(error)


def _split(task: BottleneckTask) -> list[BottleneckTask]:
    return [task._replace(images=[path]) for path in task.images]


_of_thread = threading.local()  # a Dask worker may run several tasks at a time; a network runs one


def _runner(network: Path) -> Runner:
    """The network of this worker."""
    if getattr(_of_thread, "network", None) != network:
        _of_thread.network, _of_thread.runner = network, Runner(network)
    runner: Runner = _of_thread.runner
    return runner


def _on_gpu(
    tasks: list[BottleneckTask], backbone: Backbone
) -> Generator[tuple[BottleneckTask, list[Bottleneck | str]], None, None]:
    """Images decoded by threads, a few batches ahead of the network."""
    network = gpu_features(backbone)
    with ThreadPoolExecutor(available_cores()) as threads:
        waiting: deque[tuple[BottleneckTask, list[Future[ImageFeatures | str]]]] = deque()
        source = iter(tasks)
        while True:
            for task in itertools.islice(source, _BATCHES_AHEAD - len(waiting)):
                waiting.append((task, [threads.submit(_features, path, task.input_size) for path in task.images]))
            if not waiting:
                return
            task, decoded = waiting.popleft()
            yield task, _with_network([future.result() for future in decoded], network)


def _on_cores(
    tasks: list[BottleneckTask], workers: int, scheduler: str | None, folders: list[Path]
) -> Generator[tuple[BottleneckTask, list[Bottleneck | str]], None, None]:
    with worker_pool(min(workers, len(tasks)), scheduler, folders) as pool:
        for task, rows in map_unordered(pool, compute, tasks, _split):
            if isinstance(rows, WorkerDied):
                yield task, ["ended the worker process, twice" for _ in task.images]
            else:
                yield task, rows


def _compute(
    missing: dict[bytes, ChunkImage],
    backbone: Backbone | None,
    cache: Cache,
    workers: int,
    scheduler: str | None,
    engine: str,
) -> set[bytes]:
    """Fill the cache; returns the keys of images that cannot be read."""
    place = {image.path.absolute(): key for key, image in missing.items()}
    paths = list(place)
    network = backbone.path.absolute() if backbone else None
    size = backbone.input_size if backbone else _NO_SIZE
    batch = _GPU_BATCH if engine == "GPU" else _BATCH
    tasks = [BottleneckTask(paths[i : i + batch], network, size) for i in range(0, len(paths), batch)]
    unreadable: set[bytes] = set()
    unsaved: list[tuple[bytes, Bottleneck]] = []
    saved_at = time.monotonic()
    folders = sorted({path.parent.parent for path in paths} | ({network.parent} if network else set()))
    if backbone and engine == "GPU":
        results = _on_gpu(tasks, backbone)
    else:
        results = _on_cores(tasks, workers, scheduler, folders)
    with contextlib.closing(results), progress("Bottlenecks", "images", len(paths)) as advance:
        for task, rows in results:
            for path, bottleneck in zip(task.images, rows, strict=True):
                if isinstance(bottleneck, str):
                    unreadable.add(place[path])
                    log.warning(f"{path}: {bottleneck}; left out")
                else:
                    unsaved.append((place[path], bottleneck))
            advance(len(rows))
            if unsaved and time.monotonic() - saved_at > _SAVE_SECONDS:
                cache.add(unsaved)
                unsaved, saved_at = [], time.monotonic()
    if unsaved:
        cache.add(unsaved)
    cache.compact()
    return unreadable


def gpu_features(backbone: Backbone) -> Callable[[UInt8Array], FloatArray]:
    """The backbone's original network on all GPUs, in mixed precision where they are faster at it.

    Returns
    -------
    callable
        Pixels, uint8 (n, height, width, 3), to features, float32 (n, width). They agree with LiteRT's as well as
        the converted network agrees with the original: ``backbone.cosine``.
    """
    tf = import_tensorflow()
    strategy = training_strategy()
    with strategy.scope(), mixed_precision():
        original = backbone.load()

    def forward(pixels: UInt8Array) -> FloatArray:
        # Every device gets as many, and the same number whenever possible: another shape is traced anew.
        padded = np.concatenate([pixels, pixels[:1].repeat(-len(pixels) % strategy.num_replicas_in_sync, axis=0)])
        features = strategy.experimental_local_results(run(distribute(strategy, padded)))
        return np.concatenate([part.numpy() for part in features])[: len(pixels)]

    def on_device(pixels: object) -> object:
        return tf.cast(original.function(tf.cast(pixels, tf.float32)), tf.float32)

    run = tf.function(lambda pixels: strategy.run(on_device, (pixels,)), autograph=False, reduce_retracing=True)
    return forward

"""Bottleneck features of images: read from the cache, or computed by parallel processes or on the GPU."""

from __future__ import annotations

import contextlib
import itertools
import logging
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
from audionet.backbones.litert import AT_A_TIME, thread_runner
from audionet.backbones.registry import Backbone
from audionet.backbones.tf_runtime import distribute, gpus, import_tensorflow, mixed_precision, training_strategy
from audionet.data.dataset import ChunkImage
from audionet.errors import DatasetError
from audionet.utils.arrays import FloatArray, UInt8Array
from audionet.utils.parallel import WorkerDied, map_unordered, worker_pool
from audionet.utils.process import available_cores
from audionet.utils.progress import progress

log = logging.getLogger(__name__)

_BATCH = 32
_GPU_BATCH = 128
_BATCHES_AHEAD = 4
_NO_SIZE = (8, 8)
_SAVE_SECONDS = 10.0  # a killed run loses at most this much work


@dataclass(frozen=True)
class Bottlenecks:
    """Bottleneck features of images, one row per image.

    Attributes
    ----------
    images : list of ChunkImage
        The readable images.
    keys : ndarray of V16, shape (len(images),)
        Content hash of each image.
    records : Records
        Bottlenecks of the images.
    computed, cached : int
        Number of distinct images computed, and of those found in the cache.
    seconds : float
        Time spent computing them.
    engine : str
        ``LiteRT`` or ``GPU``.
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
    """Compute the bottlenecks of all images that the cache lacks. Unreadable images are logged and skipped.

    A backbone runs on the GPU if TensorFlow finds one, otherwise as LiteRT on all cores. The two differ by rounding,
    so each has its own cache.

    Parameters
    ----------
    images : iterable of ChunkImage
    backbone : Backbone or None
        If None, only the image statistics are computed, which need no network.
    cache_dir : Path
        Folder with one sub-folder per backbone.
    workers : int
        Number of processes.
    scheduler : str, optional
        Address of a Dask cluster to compute on instead.

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
            log.warning(f"{image.path}: cannot be read ({error.strerror}); skipped")
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
        raise DatasetError("none of the images can be read: render them again with data_maker.py --force")
    distinct = len(np.unique(keys)) + len(unreadable)
    return Bottlenecks(readable, keys, cache.records(keys), len(missing), distinct - len(missing), seconds, engine)


class BottleneckTask(NamedTuple):
    """Images for one worker, and the network that computes their features, if any."""

    images: list[Path]
    network: Path | None
    input_size: tuple[int, int]


def compute(task: BottleneckTask) -> list[Bottleneck | str]:
    """Compute the bottleneck of each image, or the reason why it has none."""
    # Decode all images, then run the network on all: alternating, each would evict the other from the CPU cache.
    decoded = [_decode(path, task.input_size) for path in task.images]
    return _with_network(decoded, lambda pixels: _network_features(pixels, task.network))


def _with_network(
    decoded: list[ImageFeatures | str], network: Callable[[UInt8Array], FloatArray]
) -> list[Bottleneck | str]:
    pixels = [features.pixels for features in decoded if not isinstance(features, str)]
    computed = iter(network(np.concatenate(pixels)) if pixels else ())
    return [
        features
        if isinstance(features, str)
        else Bottleneck(
            features.size, next(computed), features.band_statistics, features.mfcc_statistics, features.activity
        )
        for features in decoded
    ]


def _network_features(pixels: UInt8Array, network: Path | None) -> FloatArray:
    return thread_runner(network).features(pixels, AT_A_TIME) if network else np.empty((len(pixels), 0), np.float32)


def _decode(path: Path, input_size: tuple[int, int]) -> ImageFeatures | str:
    try:
        return image_features(path.read_bytes(), input_size)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except DatasetError as error:
        return str(error)


def _split(task: BottleneckTask) -> list[BottleneckTask]:
    return [task._replace(images=[path]) for path in task.images]


def _on_gpu(
    tasks: list[BottleneckTask], backbone: Backbone
) -> Generator[tuple[BottleneckTask, list[Bottleneck | str]], None, None]:
    """Yield bottlenecks computed on the GPU; threads decode images a few batches ahead of the network."""
    network = gpu_features(backbone)
    with ThreadPoolExecutor(available_cores()) as threads:
        queue: deque[tuple[BottleneckTask, list[Future[ImageFeatures | str]]]] = deque()
        source = iter(tasks)
        while True:
            for task in itertools.islice(source, _BATCHES_AHEAD - len(queue)):
                queue.append((task, [threads.submit(_decode, path, task.input_size) for path in task.images]))
            if not queue:
                return
            task, decoded = queue.popleft()
            yield task, _with_network([future.result() for future in decoded], network)


def _on_cores(
    tasks: list[BottleneckTask], workers: int, scheduler: str | None, folders: list[Path]
) -> Generator[tuple[BottleneckTask, list[Bottleneck | str]], None, None]:
    with worker_pool(min(workers, len(tasks)), scheduler, folders) as pool:
        for task, rows in map_unordered(pool, compute, tasks, _split):
            if isinstance(rows, WorkerDied):
                yield task, ["ended the worker process twice" for _ in task.images]
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
    """Add missing bottlenecks to the cache; return the keys of unreadable images."""
    key_of = {image.path.absolute(): key for key, image in missing.items()}
    paths = list(key_of)
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
                    unreadable.add(key_of[path])
                    log.warning(f"{path}: {bottleneck}; skipped")
                else:
                    unsaved.append((key_of[path], bottleneck))
            advance(len(rows))
            if unsaved and time.monotonic() - saved_at > _SAVE_SECONDS:
                cache.add(unsaved)
                unsaved, saved_at = [], time.monotonic()
    if unsaved:
        cache.add(unsaved)
    cache.compact()
    return unreadable


def gpu_features(backbone: Backbone) -> Callable[[UInt8Array], FloatArray]:
    """Load the backbone's original network on all GPUs, in mixed precision where that is faster.

    Returns
    -------
    callable
        Maps pixels, uint8 (n, height, width, 3), to features, float32 (n, width). Their cosine to LiteRT's features is
        that of the conversion, ``backbone.cosine``.
    """
    tf = import_tensorflow()
    strategy = training_strategy()
    with strategy.scope(), mixed_precision():
        original = backbone.load()

    def forward(pixels: UInt8Array) -> FloatArray:
        # Every device gets equally many images; a batch of a new shape would be traced again.
        padded = np.concatenate([pixels, pixels[:1].repeat(-len(pixels) % strategy.num_replicas_in_sync, axis=0)])
        features = strategy.experimental_local_results(run(distribute(strategy, padded)))
        return np.concatenate([part.numpy() for part in features])[: len(pixels)]

    def on_device(pixels: object) -> object:
        return tf.cast(original.function(tf.cast(pixels, tf.float32)), tf.float32)

    run = tf.function(lambda pixels: strategy.run(on_device, (pixels,)), autograph=False, reduce_retracing=True)
    return forward

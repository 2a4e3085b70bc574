"""Work spread over local processes, a bounded amount in flight at a time."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from .errors import AudioNetError

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT_PER_WORKER = 4


@contextlib.contextmanager
def local_processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh Python processes; an error or an interruption in the block ends them at once.

    Spawned, not forked: a fork of a process that has threads (progress bars, TensorFlow) can deadlock.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    try:
        yield pool
    except BaseException:
        # Nobody waits for the rest of a long recording; files appear whole or not at all, so none is left half-made.
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    # Workers hand their words back as results; what C libraries write there concerns nobody.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from here: the parent says that it was interrupted
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this worker when its parent is gone, however suddenly; a pool's worker would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def map_unordered(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result]]:
    """Apply a function to items in a pool; yield each item with its result as soon as it is there.

    Items are drawn only as work finishes, so memory does not grow with their number.

    Raises
    ------
    AudioNetError
        If a worker process dies.
    Exception
        Whatever `function` raises.
    """
    source = iter(items)
    pending: dict[Future[Result], Item] = {}
    try:
        for item in itertools.islice(source, workers * _IN_FLIGHT_PER_WORKER):
            pending[pool.submit(function, item)] = item
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield pending.pop(future), future.result()
                for item in itertools.islice(source, 1):
                    pending[pool.submit(function, item)] = item
    except BrokenProcessPool:
        raise AudioNetError(
            "a worker process was killed, perhaps for want of memory: run it again with fewer --workers; "
            "finished work is kept"
        ) from None
    finally:
        for future in pending:
            future.cancel()

"""Work spread over local processes or a Dask cluster, a bounded amount in flight at a time."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Protocol, TypeVar

from audionet.utils.dask_pool import cluster
from audionet.utils.process import tune_process

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT_PER_WORKER = 4


class WorkerDied:
    """Instead of a result: the process that did the work ended, and did so again when it was tried alone."""


class Pool(Protocol):
    """Processes to give work to.

    Attributes
    ----------
    executor : concurrent.futures.Executor
    workers : int
        How many pieces of work it does at a time.
    """

    workers: int

    @property
    def executor(self) -> Executor: ...

    def renew(self) -> None:
        """Replace an executor that lost a process and takes no more work."""
        ...


@contextlib.contextmanager
def worker_pool(
    workers: int, scheduler: str | None, reads: Sequence[Path], writes: Sequence[Path] = ()
) -> Iterator[Pool]:
    """Local processes or, where a scheduler is named, the workers of its Dask cluster.

    An error or an interruption in the block ends local processes at once.

    Parameters
    ----------
    workers : int
        How many local processes.
    scheduler : str or None
        Address of a Dask scheduler, such as ``tcp://host:8786``.
    reads, writes : sequence of Path
        Folders that every worker has to see.

    Raises
    ------
    UsageError
        If Dask is not installed.
    AudioNetError
        If there is no such cluster, or it cannot do this work.
    """
    with local_processes(workers) if scheduler is None else cluster(scheduler, reads, writes) as pool:
        yield pool


class LocalProcesses:
    """A pool of fresh Python processes.

    Spawned, not forked: a fork of a process that has threads (progress bars, TensorFlow) can deadlock.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _start_worker)

    def renew(self) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)
        self.executor = self._start()


@contextlib.contextmanager
def local_processes(workers: int) -> Iterator[LocalProcesses]:
    """Local processes; an error or an interruption in the block ends them at once."""
    pool = LocalProcesses(workers)
    try:
        yield pool
    except BaseException:
        # Nobody waits for the rest of a long recording; files appear whole or not at all, so none is left half-made.
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        # It cancels what has not begun. Nobody else may: the pool's own thread fails at what was cancelled behind it.
        pool.executor.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    tune_process()
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
    pool: Pool,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    split: Callable[[Item], Sequence[Item]],
    idle: Callable[[], None] | None = None,
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """Apply a function to items in a pool; yield each item with its result as soon as it is there.

    Items are drawn only as work finishes, so memory does not grow with their number. When a process dies, what
    was being worked on is tried again, each item alone; one that ends its process again is split, to find
    the part at fault, and what cannot be split comes back with `WorkerDied`.

    Parameters
    ----------
    pool : Pool
    function : callable
        Importable by name.
    items : iterable
    split : callable
        The smaller items that an item consists of; itself alone, if it is as small as can be.
    idle : callable, optional
        Called about once a second while nothing finishes.

    Raises
    ------
    Exception
        Whatever `function` raises.
    """
    source = iter(items)
    pending: dict[Future[Result], Item] = {}
    suspects: deque[Item] = deque()
    on_trial = False
    while True:
        try:
            if suspects and not pending:
                on_trial = True
                _submit(pool, function, suspects.popleft(), pending)
            elif not suspects:
                on_trial = False
                room = pool.workers * _IN_FLIGHT_PER_WORKER - len(pending)
                for item in itertools.islice(source, room):
                    _submit(pool, function, item, pending)
        except BrokenExecutor:
            pass  # every piece of work in flight is about to say the same
        if not pending:
            return
        done, _ = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
        if not done and idle is not None:
            idle()
        lost: list[Item] = []
        guilty: list[Item] = []
        for future in done:
            item = pending.pop(future)
            try:
                result = future.result()
            except Exception as error:
                if not process_died(error):
                    raise
                (lost if isinstance(error, BrokenExecutor) else guilty).append(item)
            else:
                yield item, result
        if lost:
            # All that was in flight is lost with the executor; which of it was at fault is not known yet.
            lost += pending.values()
            pending.clear()
            pool.renew()
            (guilty if on_trial else suspects).extend(lost)
        for item in guilty:
            parts = split(item)
            if len(parts) > 1:
                suspects.extend(parts)
            else:
                yield item, WorkerDied()


def _submit(pool: Pool, function: Callable[[Item], Result], item: Item, pending: dict[Future[Result], Item]) -> None:
    try:
        pending[pool.executor.submit(function, item)] = item
    except BrokenExecutor as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        pending[failed] = item
        raise


def process_died(error: Exception) -> bool:
    """Whether an error says that a worker process ended; Dask's says so after it has tried three times."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

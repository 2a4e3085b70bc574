"""Parallel map over local processes or a Dask cluster, with a bounded number of tasks in flight."""

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
from typing import Any, Protocol, TypeVar

from audionet.utils.dask_pool import cluster
from audionet.utils.process import processes_without_interrupts, tune_process

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT_PER_WORKER = 4


class WorkerDied:
    """Placeholder for the result of an item whose worker process died, and again when it was retried alone."""


class Pool(Protocol):
    """Pool of worker processes.

    Attributes
    ----------
    executor : concurrent.futures.Executor
    workers : int
        Number of items processed at a time.
    """

    workers: int

    @property
    def executor(self) -> Executor: ...

    def renew(self) -> None:
        """Replace an executor that lost a process and accepts no more tasks."""
        ...


@contextlib.contextmanager
def worker_pool(
    workers: int, scheduler: str | None, reads: Sequence[Path], writes: Sequence[Path] = ()
) -> Iterator[Pool]:
    """Start local processes or, where a scheduler is given, connect to the workers of its Dask cluster.

    An error or an interruption in the block ends local processes at once.

    Parameters
    ----------
    workers : int
        Number of local processes.
    scheduler : str or None
        Address of a Dask scheduler, such as ``tcp://host:8786``.
    reads, writes : sequence of Path
        Folders that every worker must see.

    Raises
    ------
    UsageError
        If Dask is not installed.
    AudioNetError
        If the cluster does not answer, or its workers cannot run this package.
    """
    with local_processes(workers) if scheduler is None else cluster(scheduler, reads, writes) as pool:
        yield pool


class _Processes(ProcessPoolExecutor):
    """Executor whose processes get no SIGINT; those that come with the first tasks print tracebacks otherwise."""

    def submit(self, function: Callable[..., Result], /, *args: Any, **keywords: Any) -> Future[Result]:
        with processes_without_interrupts():
            return super().submit(function, *args, **keywords)


class LocalProcesses:
    """Pool of fresh Python processes.

    Spawned, not forked: a fork of a process that has threads (progress bars, TensorFlow) can deadlock.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return _Processes(self.workers, multiprocessing.get_context("spawn"), _start_worker)

    def renew(self) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)
        self.executor = self._start()


@contextlib.contextmanager
def local_processes(workers: int) -> Iterator[LocalProcesses]:
    """Start local processes; an error or an interruption in the block ends them at once."""
    pool = LocalProcesses(workers)
    try:
        yield pool
    except BaseException:
        # Do not wait for the rest of a long recording; writes are atomic, so no partial file is left.
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        # Cancels tasks not yet started. Only shutdown may: the executor's thread fails at tasks cancelled elsewhere.
        pool.executor.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    tune_process()
    # Workers return their messages as results; the output of C libraries on stderr is noise.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from workers: the parent reports the interruption
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End this worker when its parent has ended, even if killed; an idle worker would wait forever."""
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

    Items are drawn only as others finish, so memory does not grow with their number. When a process dies, the items
    in flight are retried, one at a time; an item that kills its process again is split, to find the part at fault,
    and an item that cannot be split is yielded with `WorkerDied`.

    Parameters
    ----------
    pool : Pool
    function : callable
        Importable by name.
    items : iterable
    split : callable
        Returns the smaller items that an item consists of; the item alone if it is indivisible.
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
    retrying = False
    while True:
        try:
            if suspects and not pending:
                retrying = True
                _submit(pool, function, suspects.popleft(), pending)
            elif not suspects:
                retrying = False
                room = pool.workers * _IN_FLIGHT_PER_WORKER - len(pending)
                for item in itertools.islice(source, room):
                    _submit(pool, function, item, pending)
        except BrokenExecutor:
            pass  # the futures in flight raise the same error below
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
            # All items in flight are lost with the executor; the one at fault is not known yet.
            lost += pending.values()
            pending.clear()
            pool.renew()
            (guilty if retrying else suspects).extend(lost)
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
    """Return whether an error means that a worker process died; Dask raises its own after three retries."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"

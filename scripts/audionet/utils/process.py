"""Process-wide settings and the processor: speed, cores, and muting the stderr of C libraries."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_M_TOP_PAD = -2


def tune_process() -> None:
    """Apply process-wide speed settings; only entry points call it, so that importing the library changes nothing.

    Work is spread over processes, an image each. BLAS threads on top, for matrices this small, wait for each other more
    than they compute: bottlenecks take twice as long. NumPy reads the variable when it is first imported, and worker
    processes inherit it.

    glibc keeps 64 MB of freed memory instead of handing it back after every image and taking it again, hundreds of page
    faults each time: rendering takes half the time, under Dask a third. Other C libraries have no such call.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_TOP_PAD, 64 << 20)


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_mute_lock = threading.Lock()
_mute_depth = 0
_mute_saved = -1


@contextlib.contextmanager
def native_stderr_muted() -> Iterator[None]:
    """Mute file descriptor 2, where C libraries write; Python's own stderr is muted meanwhile too.

    mpg123, XNNPACK and TensorFlow print notes there that no setting turns off, and a damaged
    MP3 would give ten lines instead of one. Nests, and threads may share it.
    """
    global _mute_depth, _mute_saved
    with _mute_lock:
        _mute_depth += 1
        if _mute_depth == 1:
            sys.stderr.flush()
            _mute_saved = os.dup(2)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.close(null)
    try:
        yield
    finally:
        with _mute_lock:
            _mute_depth -= 1
            if _mute_depth == 0:
                os.dup2(_mute_saved, 2)
                os.close(_mute_saved)


def multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions for matrices of bfloat16 (AMX), as far as Linux tells."""
    with contextlib.suppress(OSError):
        return re.search(r"\bamx_bf16\b", Path("/proc/cpuinfo").read_text()) is not None
    return False


@contextlib.contextmanager
def processes_without_interrupts() -> Iterator[None]:
    """Block SIGINT in the processes that the block starts: Ctrl-C goes to them too, and their parent ends them.

    A process that is interrupted while Python starts prints a traceback, before it could choose otherwise. In this
    process, a SIGINT during the block is delivered at its end.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""Process-wide speed settings, for the command line and for worker processes."""

from __future__ import annotations

import contextlib
import ctypes
import os

_M_TOP_PAD = -2


def tune_process() -> None:
    """Set what makes this process fast; a library must not, so that importing it changes nothing.

    Work is spread over processes, an image each. BLAS threads on top, for matrices this small, wait for each other more
    than they compute: bottlenecks take twice as long. NumPy reads the variable when it is first imported, and worker
    processes inherit it.

    glibc keeps 64 MB of freed memory instead of handing it back after every image and taking it again, hundreds of page
    faults each time: rendering takes half the time, under Dask a third. Other C libraries have no such call.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_TOP_PAD, 64 << 20)

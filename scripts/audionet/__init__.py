"""AudioNet: recordings become pictures, pictures become bottlenecks, bottlenecks become answers."""

import contextlib
import ctypes
import os

__version__ = "0.1.0"

# Work is spread over processes, a picture each. BLAS threads on top, for matrices this small, wait for each other
# more than they compute: bottlenecks take twice as long. Read by NumPy when it is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# glibc keeps 64 MB of freed memory instead of handing it back after every picture and taking it again, hundreds of
# page faults each time: rendering takes half the time, under Dask a third. Other C libraries have no such call.
_M_TOP_PAD = -2
with contextlib.suppress(AttributeError, OSError, TypeError):
    ctypes.CDLL(None).mallopt(_M_TOP_PAD, 64 << 20)

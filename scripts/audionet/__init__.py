"""AudioNet: recordings become pictures, pictures become bottlenecks, bottlenecks become answers."""

import os

__version__ = "0.1.0"

# Work is spread over processes, a picture each. BLAS threads on top, for matrices this small, wait for each other
# more than they compute: bottlenecks take twice as long. Read by NumPy when it is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Worker processes inherit this: glibc keeps 64 MB of freed memory instead of handing it back after every picture
# and taking it again, a hundred page faults each time. Features take a quarter less time.
os.environ.setdefault("MALLOC_TOP_PAD_", str(64 << 20))

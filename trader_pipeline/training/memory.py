"""Memory that goes back to the system. Belongs here: nothing that knows of models or records."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def memory_given_back() -> Iterator[None]:
    """Return what the block took: else the process keeps some GB in pieces, and whatever comes next adds to them."""
    try:
        yield
    finally:
        gc.collect()
        if sys.platform == "linux":
            with suppress(OSError, AttributeError):  # another C library than glibc has no such call
                ctypes.CDLL("libc.so.6").malloc_trim(0)

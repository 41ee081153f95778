"""How numba kernels are compiled.

Belongs here: the decorators, so that every kernel is cached between processes, releases the interpreter's lock and
divides as numpy does.
"""

from __future__ import annotations

import warnings

from numba import njit


def _can_cache() -> bool:
    """Whether compiled code can be kept: beside the source, in the user's cache folder, or in NUMBA_CACHE_DIR."""
    try:
        njit(cache=True)(_can_cache)
    except RuntimeError:
        warnings.warn(
            "compiled kernels cannot be kept, so each process compiles them anew (some 15 s): set NUMBA_CACHE_DIR to a"
            " folder of your own that can be written to",
            stacklevel=2,
        )
        return False
    return True


CACHED = _can_cache()
kernel = njit(cache=CACHED, nogil=True, error_model="numpy", _nrt=False)
"""For functions that make no array. Without `_nrt=False` numba counts references: each call that is handed a tuple of
arrays would count all of them up and down with atomic instructions, which takes longer than pricing an option does."""

inlined_kernel = njit(cache=CACHED, nogil=True, error_model="numpy", _nrt=False, inline="always")
"""For what an inner loop calls with tuples of many arrays: they are copied at each call that is not inlined."""

extremes_kernel = njit(cache=CACHED, nogil=True, error_model="numpy", _nrt=False, fastmath={"nnan", "nsz"})
"""For the least and largest of numbers that are not NaN: they come out the same in any order, so LLVM may vectorise."""

allocating_kernel = njit(cache=CACHED, nogil=True, error_model="numpy")
"""For functions that make arrays or return those that they were given."""

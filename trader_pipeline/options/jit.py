"""How numba kernels are compiled.

Belongs here: the two decorators, so that every kernel is cached between processes, releases the interpreter's lock and
divides as numpy does.
"""

from __future__ import annotations

from numba import njit

kernel = njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
"""For functions that make no array. Without `_nrt=False` numba counts references: each call that is handed a tuple of
arrays would count all of them up and down with atomic instructions, which takes longer than pricing an option does."""

allocating_kernel = njit(cache=True, nogil=True, error_model="numpy")
"""For functions that make arrays or return those that they were given."""

"""BLAS on one thread while the agents' threads work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]

_LOCK = Lock()
_RUNS: list[list[int]] = []  # of every run in progress the threads of each library that it found; the first sets them


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread while the agents' threads work: both copies of it, NumPy's and SciPy's.

    The limit of most libraries holds for the whole process, so runs that overlap in threads are counted: the first one
    keeps what was before, the last one restores it. OpenBLAS over OpenMP has a limit per thread, which each run
    restores for its own.

    Examples
    --------
    >>> from threadpoolctl import threadpool_info
    >>> with one_blas_thread():
    ...     {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} <= {1}
    True
    """
    libraries = _libraries()
    with _LOCK:
        found = [library.num_threads for library in libraries]
        _RUNS.append(found)
        for library in libraries:
            _set(library, 1)
    try:
        yield
    finally:
        with _LOCK:
            first = _RUNS[0]
            del _RUNS[-1]
            for library, own, before in zip(libraries, found, first, strict=True):
                if getattr(library, "threading_layer", "") == "openmp":
                    _set(library, own)
                elif not _RUNS:
                    _set(library, before)


@cache
def _libraries() -> list[Any]:
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def _set(library: Any, n_threads: int) -> None:
    """Set the threads of a library, also if another Python thread did so last, which threadpoolctl 3.8 would ignore."""
    clear = getattr(library, "clear_controlling_thread", lambda force: None)
    clear(force=True)
    library.set_num_threads(n_threads)
    clear(force=True)

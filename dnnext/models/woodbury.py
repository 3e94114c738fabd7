"""Solves ``(D + J'J) v = rhs`` in the space of the rows of J."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

__all__ = ["woodbury"]

Array = NDArray[Any]


def woodbury(j: Array, diag: Array, rhs: Array, blocks: Array, out: Array) -> int:
    """(diag + J'J) out = rhs block by block for any diagonal (P,), J (rows, P); status as in `MLP.dual_solve`."""
    status = 0
    for k, (start, stop) in enumerate(pairwise(blocks)):
        cut = slice(start, stop)
        try:
            with np.errstate(all="ignore"):
                scaled, solution = j[:, cut] / diag[cut], rhs[cut] / diag[cut]
                inner = np.eye(len(j), dtype=j.dtype) + scaled @ j[:, cut].T
                if len(j):
                    inside = cho_solve(cho_factor(inner, lower=True), j[:, cut] @ solution)
                    solution -= scaled.T @ inside
            if not np.isfinite(solution).all():
                raise np.linalg.LinAlgError
        except (np.linalg.LinAlgError, ValueError):  # tau so small that inner is singular, or not finite
            solution, status = np.zeros(stop - start, rhs.dtype), status or k + 1
        out[cut] = solution
    return status

"""Sums over the numbers of one agent's row, added in float64; results do not depend on other rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["row_dots", "row_norms"]


def row_dots(u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.float64]:
    """``u_i'v_i`` of every row: (n, P), (n, P) -> (n,)."""
    return np.asarray(np.einsum("ip,ip->i", u, v, dtype=np.float64))


def row_norms(u: NDArray[Any]) -> NDArray[np.float64]:
    """``||u_i||`` of every row: (n, P) -> (n,)."""
    return np.sqrt(row_dots(u, u))

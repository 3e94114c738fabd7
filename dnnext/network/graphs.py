"""Edges of the built-in graphs: plain functions n -> (E, 2) array of agent pairs, loops and repeats allowed.

Random graphs take a numpy Generator as second argument; `connected` repeats their draws until the graph is connected.
"""

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = [
    "adjacency_of",
    "barabasi_albert",
    "complete",
    "connected",
    "erdos_renyi",
    "exponential",
    "grid",
    "hypercube",
    "is_connected",
    "path",
    "random_geometric",
    "ring",
    "star",
    "watts_strogatz",
]

Edges = NDArray[np.int64]

DRAWS = 100


def adjacency_of(n: int, edges: Edges) -> sp.csr_array:
    """Symmetric CSR pattern (bool, sorted, no loops) of the given pairs."""
    low, high = edges.min(axis=1), edges.max(axis=1)
    key = np.unique((low * n + high)[low != high])
    low, high = key // n, key % n
    rows, cols = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.lexsort((cols, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    pattern = sp.csr_array((np.ones(len(rows), dtype=bool), cols[order], indptr), shape=(n, n))
    pattern.has_sorted_indices = True
    return pattern


def is_connected(adjacency: sp.csr_array) -> bool:
    """Whether every agent reaches every other one."""
    return int(sp.csgraph.connected_components(adjacency, directed=False, return_labels=False)) == 1


def connected(n: int, draw: Callable[[], Edges], name: str, advice: str) -> Edges:
    """The first connected graph of at most 100 draws."""
    for _ in range(DRAWS):
        edges = draw()
        if is_connected(adjacency_of(n, edges)):
            return edges
    raise ValueError(f"{name} with {n} agents was not connected in {DRAWS} draws; {advice}.")


def _pairs(low: NDArray[np.int64], high: NDArray[np.int64]) -> Edges:
    return np.stack([low, high], axis=1).astype(np.int64)


def path(n: int) -> Edges:
    """0 - 1 - ... - n-1."""
    i = np.arange(n - 1)
    return _pairs(i, i + 1)


def ring(n: int) -> Edges:
    """A path whose ends meet."""
    i = np.arange(n)
    return _pairs(i, (i + 1) % n)


def grid(rows: int, cols: int, *, periodic: bool) -> Edges:
    """Agent r cols + c sits at row r, column c; periodic joins opposite borders."""
    place = np.arange(rows * cols).reshape(rows, cols)
    right, down = np.roll(place, -1, axis=1), np.roll(place, -1, axis=0)
    last_col, last_row = (cols, rows) if periodic else (cols - 1, rows - 1)
    across = _pairs(place[:, :last_col].ravel(), right[:, :last_col].ravel())
    along = _pairs(place[:last_row].ravel(), down[:last_row].ravel())
    return np.concatenate([across, along])


def grid_shape(n: int) -> tuple[int, int]:
    """The most square rows x cols = n; a prime n is 1 x n."""
    rows = next(r for r in range(math.isqrt(n), 0, -1) if n % r == 0)
    return rows, n // rows


def one_row(name: object, n: int) -> str:
    """A sentence if a grid or torus of n agents by name has one row only, else ''.

    >>> one_row("grid", 7)
    'a grid of 7 agents has one row, so it is a path; take a number with two factors'
    """
    if name not in ("grid", "torus") or n < 4 or 1 not in grid_shape(n):
        return ""
    shape = "path" if name == "grid" else "ring"
    return f"a {name} of {n} agents has one row, so it is a {shape}; take a number with two factors"


def star(n: int) -> Edges:
    """Agent 0 is the hub."""
    i = np.arange(1, n)
    return _pairs(np.zeros_like(i), i)


def complete(n: int) -> Edges:
    """Every agent is linked to all others."""
    low, high = np.triu_indices(n, 1)
    return _pairs(low, high)


def hypercube(n: int) -> Edges:
    """Links between agents whose numbers differ in one bit; n is a power of two."""
    i = np.arange(n)
    parts = [_pairs(i, i ^ (1 << b)) for b in range(n.bit_length() - 1)]
    return np.concatenate(parts) if parts else path(1)


def exponential(n: int) -> Edges:
    """Agent i meets i + 1, i + 2, i + 4, ... (mod n)."""
    i = np.arange(n)
    parts = [_pairs(i, (i + (1 << b)) % n) for b in range((n - 1).bit_length())]
    return np.concatenate(parts) if parts else path(1)


def erdos_renyi(n: int, rng: np.random.Generator, p: float) -> Edges:
    """Every pair with probability p."""
    parts = [np.flatnonzero(rng.random(n - 1 - i) < p) + i + 1 for i in range(n)]
    return _pairs(np.repeat(np.arange(n), [len(part) for part in parts]), np.concatenate(parts))


def random_geometric(n: int, rng: np.random.Generator, radius: float) -> Edges:
    """Points in the unit square, joined when at most `radius` apart."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(rng.random((n, 2))).query_pairs(radius, output_type="ndarray")
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)


def watts_strogatz(n: int, rng: np.random.Generator, k: int, p: float) -> Edges:
    """A ring of the k nearest neighbours; each edge moves its far end to a stranger with probability p."""
    if n <= k + 1:
        return complete(n)
    near = [{(i + j) % n for j in range(-(k // 2), k // 2 + 1)} - {i} for i in range(n)]
    for j in range(1, k // 2 + 1):
        for i in np.flatnonzero(rng.random(n) < p).tolist():
            old = (i + j) % n
            if old not in near[i] or len(near[i]) == n - 1:
                continue
            new = int(rng.integers(n))
            while new == i or new in near[i]:
                new = int(rng.integers(n))
            near[i].remove(old)
            near[old].remove(i)
            near[i].add(new)
            near[new].add(i)
    pairs = [(i, j) for i in range(n) for j in sorted(near[i]) if i < j]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def barabasi_albert(n: int, rng: np.random.Generator, m: int) -> Edges:
    """Each newcomer joins m agents, drawn in proportion to their degree; the first m + 1 form a star."""
    if n <= m + 1:
        return complete(n)
    pairs = [(0, i) for i in range(1, m + 1)]
    ends = [end for pair in pairs for end in pair]
    for i in range(m + 1, n):
        chosen: set[int] = set()
        while len(chosen) < m:
            chosen.add(ends[int(rng.integers(len(ends)))])
        for j in sorted(chosen):
            pairs.append((j, i))
            ends += [j, i]
    return np.array(pairs, dtype=np.int64)

"""Eigenvalues that decide how fast a network agrees, and the mixing rounds that follow from them."""

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = [
    "CONTRACTION",
    "Coefficients",
    "Product",
    "chebyshev",
    "extreme_eigenvalues",
    "round_outward",
    "spectral_norm",
]

CONTRACTION = 0.25  # disagreement left after the mixing of one iteration
DENSE = 300  # above this size sparse eigenvalues are faster
LARGEST_DENSE = 3000  # above this size no matrix is dense, however slowly Lanczos converges
MANY_STEPS, FEW_STEPS, LOOK_FIRST = 4000, 1500, 20  # of Lanczos: up to that size, above it, until the first look
EXACT_PRODUCT = 200  # up to this size the product of a schedule is followed exactly


class Coefficients(NamedTuple):
    """One round: ``v_new = scale C v + shift v + memory v_previous``."""

    scale: float
    shift: float
    memory: float


def extreme_eigenvalues(matrix: sp.csr_array, constant: float) -> tuple[float, float]:
    """(smallest, largest) eigenvalue of a symmetric matrix besides that of the constant vector, ``S 1 = constant 1``.

    The constant vector is moved to the mean of the other eigenvalues, where it cannot be mistaken for an end.
    """
    n = matrix.shape[0]
    if n == 1:
        return 0.0, 0.0
    middle = (float(matrix.diagonal().sum()) - constant) / (n - 1)
    if n > DENSE:
        ends = _sparse_ends(matrix, constant - middle, middle)
        if ends is not None:
            return ends
        if n > LARGEST_DENSE:
            return _clustered_ends(matrix, constant)
    spectrum = np.linalg.eigvalsh(matrix.toarray() - (constant - middle) / n)
    return float(spectrum[0]), float(spectrum[-1])


def _sparse_ends(matrix: sp.csr_array, shift: float, middle: float) -> tuple[float, float] | None:
    """Lanczos from a fixed start, both ends at once, three vectors kept; None where it does not converge.

    Without orthogonalisation eigenvalues come up again and again, which does not move the ends; an end is found when
    the residual of its Ritz vector is below 1e-10 of the largest eigenvalue.
    """
    n = matrix.shape[0]
    v = np.random.default_rng(0).standard_normal(n)
    scale = float(np.abs(matrix.data).max(initial=0.0))
    if np.abs(matrix @ v - shift * v.mean() - middle * v).max() <= 1e-13 * n * scale:
        return middle, middle  # a multiple of the identity, as on a complete graph
    v /= np.linalg.norm(v)
    before, diagonal, beside, look = np.zeros(n), list[float](), [0.0], LOOK_FIRST
    for k in range(1, (FEW_STEPS if n > LARGEST_DENSE else MANY_STEPS) + 1):
        image = matrix @ v
        image -= shift * v.mean()
        image -= beside[-1] * before
        diagonal.append(float(v @ image))
        image -= diagonal[-1] * v
        beside.append(float(np.linalg.norm(image)))
        ended = beside[-1] <= 1e-13 * scale
        if ended or k == look:
            look += max(LOOK_FIRST, k // 4)
            ends = _ritz_ends(np.array(diagonal), np.array(beside[1:]))
            if ends is not None:
                return ends
            if ended:
                return None
        before, v = v, image
        v /= beside[-1]
    return None


def _ritz_ends(diagonal: NDArray[Any], beside: NDArray[Any]) -> tuple[float, float] | None:
    """(smallest, largest) eigenvalue of Lanczos' tridiagonal matrix; None while a residual is too large."""
    from scipy.linalg import eigh_tridiagonal

    found, last = [], len(diagonal) - 1
    for place in (0, last):
        value, vector = eigh_tridiagonal(diagonal, beside[:-1], select="i", select_range=(place, place))
        found.append((float(value[0]), beside[-1] * abs(float(vector[-1, 0]))))
    (low, below), (high, above) = found
    return (low, high) if max(below, above) <= 1e-10 * max(abs(low), abs(high)) else None


def _clustered_ends(matrix: sp.csr_array, constant: float) -> tuple[float, float]:
    """Lanczos on inverses shifted to just outside of each end, where eigenvalues are too close for plain Lanczos.

    That happens on long and flat graphs (rings, grids), whose sparse factors are small.
    """
    from scipy.sparse.linalg import eigsh

    n = matrix.shape[0]
    options = {"v0": np.random.default_rng(0).standard_normal(n), "tol": 1e-12, "return_eigenvectors": False}
    rows = np.asarray(abs(matrix).sum(axis=1)).ravel()
    lowest = float((matrix.diagonal() - (rows - np.abs(matrix.diagonal()))).min())  # Gershgorin
    shift = 1e-9 * max(float(rows.max()), 1e-300)
    ends = []
    for edge, outside in ((lowest, -shift), (float(max(rows.max(), constant)), shift)):
        found = np.sort(eigsh(matrix.tocsc(), 2, sigma=edge + outside, **options))
        other = found[np.abs(found - constant) > 1e-11 * max(abs(constant), 1.0)]  # not that of the constant vector
        ends.append(float(other[0] if outside < 0 else other[-1]) if len(other) else constant)
    return ends[0], ends[1]


def spectral_norm(matrix: sp.csr_array) -> float:
    """``||C - 11'/A||_2`` of a doubly stochastic matrix that need not be symmetric."""
    n = matrix.shape[0]
    if n == 1:
        return 0.0
    gram = (matrix.T @ matrix).tocsr()  # (C - 11'/A)'(C - 11'/A) = C'C - 11'/A
    return math.sqrt(max(extreme_eigenvalues(gram, 1.0)[1], 0.0))


def round_outward(value: float, up: bool) -> float:
    """Rounded to 1e-6 away from the centre of the spectrum, so that every machine shares one number.

    A value that differs from a multiple of 1e-6 by less than 1e-10 is that multiple. An end that would reach 1 or -1
    stays half-way inside: a very large connected graph still contracts.
    """
    sign = 1.0 if up else -1.0
    outward = math.ceil(sign * value * 1e6 - 1e-4) / 1e6
    if outward >= 1.0 and sign * value < 1.0 - 1e-12:
        outward = 0.5 * (1.0 + sign * value)
    return sign * outward + 0.0


def chebyshev(lambda_2: float, lambda_n: float, bound: float = CONTRACTION) -> tuple[list[Coefficients], float]:
    """The fewest Chebyshev rounds that contract disagreement to `bound`, and the contraction they reach.

    With ``d = lambda_2 - lambda_n``, ``s = lambda_2 + lambda_n``, ``M = (2 C - s I) / d``, ``x = (2 - s) / d``:
    ``a_0 = 1, a_1 = x, a_(k+1) = 2 x a_k - a_(k-1)``, ``v_1 = M v_0 / x`` and
    ``v_(k+1) = (2 a_k / a_(k+1)) M v_k - (a_(k-1) / a_(k+1)) v_(k-1)``; K rounds contract to ``1 / a_K``.
    If d = 0 (complete graph), one round is exact.

    Parameters
    ----------
    lambda_2, lambda_n : float
        Largest and smallest eigenvalue of C besides the 1, both inside (-1, 1).
    bound : float
        Wanted contraction.

    Returns
    -------
    rounds : list of Coefficients
        One ``(scale, shift, memory)`` per round.
    contraction : float

    References
    ----------
    K. Scaman et al., Optimal algorithms for smooth and strongly convex distributed optimization in networks, ICML
    (2017), algorithm 2.

    Examples
    --------
    >>> rounds, contraction = chebyshev(0.8, -0.2)
    >>> len(rounds), round(contraction, 4)
    (3, 0.1476)
    """
    d, s = lambda_2 - lambda_n, lambda_2 + lambda_n
    rounds = [Coefficients(2.0 / (2.0 - s), -s / (2.0 - s), 0.0)]  # M / x, free of d
    if d < 1e-12:
        return rounds, 0.0
    x = (2.0 - s) / d
    before, now = 1.0, x
    while now * bound < 1.0:
        after = 2.0 * x * now - before
        rounds.append(Coefficients(4.0 * now / (after * d), -2.0 * s * now / (after * d), -before / after))
        before, now = now, after
    return rounds, 1.0 / now


class Product:
    """Disagreement left by a product of mixing matrices, ``E = C_k ... C_1 - 11'/A``, followed round by round.

    Up to 200 agents ``||E||_2`` is exact: column norms and a warm power iteration bound it from below, and only when
    they allow it the norm itself is computed. Above, four seeded columns stand for it.
    """

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(0)
        self.exact = n <= EXACT_PRODUCT
        self.e = np.eye(n) - 1.0 / n if self.exact else rng.standard_normal((n, 4))
        if not self.exact:
            self.e -= self.e.mean(axis=0)
            self.e /= np.linalg.norm(self.e, axis=0)
        self.probe = rng.standard_normal(n)

    def multiply(self, mixing: sp.csr_array) -> None:
        """One more round: ``E <- C E``."""
        self.e = mixing @ self.e

    def contracts(self, bound: float = CONTRACTION) -> bool:
        """Whether the disagreement is at most `bound` times what it was."""
        if float(np.linalg.norm(self.e, axis=0).max()) > bound:
            return False
        if not self.exact or float(np.linalg.norm(self.e)) <= bound:
            return True
        for _ in range(2):
            image = self.e @ self.probe
            length = float(np.linalg.norm(self.probe))
            if float(np.linalg.norm(image)) > bound * length:
                self.probe = self.e.T @ image
                self.probe /= np.linalg.norm(self.probe)
                return False
            self.probe = self.e.T @ image
            if not self.probe.any():
                return True
            self.probe /= np.linalg.norm(self.probe)
        return float(np.linalg.norm(self.e, 2)) <= bound

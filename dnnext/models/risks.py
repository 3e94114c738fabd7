"""Population risks of lazy and of full training in closed form: two layers, quadratic activation, two targets.

# Design
# With `phi(u) = u^2` a network of N units is a quadratic form ``x' M x`` plus a constant, so a regime is a set of
# symmetric matrices M, and its best risk is a distance to that set:
#     "features"  span {w_i w_i'}            only the output weights are trained; the w_i stay as they started
#     "tangent"   {S W' + W S'}              the linearised network
#     "full"      symmetric of rank <= N     everything is trained
# All risks are over inputs from the population, for the best weights of the class and the best constant.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, cg

from dnnext import _checks

__all__ = ["REGIMES", "mixture_risk", "mixture_risk_limit", "quadratic_risk", "quadratic_risk_limit",
           "quadratic_risk_mean"]  # fmt: skip

Array = NDArray[Any]

REGIMES = ("features", "tangent", "full")


def quadratic_risk(regime: str, target: ArrayLike, weights: ArrayLike) -> float:
    """Share of a quadratic target that the best network of a regime misses, exact for the given first layer.

    ``x ~ N(0, I)``, ``f*(x) = x' B x - Tr B`` and ``R = min_M E (f* - x' M x - c)^2 / E f*^2``, which is
    ``min_M ||B - M||_F^2 / ||B||_F^2`` over the matrices of the regime:

    ``"features":  1 - b' G^-1 b / ||B||_F^2``, ``G_ij = (w_i' w_j)^2``, ``b_i = w_i' B w_i``;
    ``"tangent":   ||P B P||_F^2 / ||B||_F^2``, P the projector on what is orthogonal to all w_i;
    ``"full":      sum_{i > N} lambda_i^2 / sum_i lambda_i^2``, eigenvalues of B by decreasing magnitude.

    Parameters
    ----------
    regime : {"features", "tangent", "full"}
    target : (d, d) array
        The symmetric matrix B.
    weights : (d, N) array
        The first layer, one column per unit; "full" asks only for its number of columns.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the regime is unknown, B is not a symmetric matrix other than 0, or the shapes do not fit.

    References
    ----------
    B. Ghorbani, S. Mei, T. Misiakiewicz, A. Montanari, Limitations of lazy training of two-layers neural networks,
    NeurIPS 2019, section 2.

    Examples
    --------
    >>> B, W = np.diag([2.0, 1.0, 0.0]), np.array([[1.0], [0.0], [0.0]])
    >>> [round(quadratic_risk(regime, B, W), 6) for regime in ("features", "tangent", "full")]
    [0.2, 0.2, 0.2]
    >>> W = np.array([[0.0], [1.0], [0.0]])
    >>> [round(quadratic_risk(regime, B, W), 6) for regime in ("features", "tangent", "full")]
    [0.8, 0.8, 0.2]
    """
    b, w = _target("target", target), _weights(weights, len(np.asarray(target)))
    whole = float(np.sum(b * b))
    if _checks.check_choice("regime", regime, REGIMES) == "full":
        return _beyond(np.linalg.eigvalsh(b), w.shape[1])
    if regime == "tangent":
        rest = linalg.null_space(w.T)
        return float(np.sum((rest.T @ b @ rest) ** 2)) / whole
    overlap = np.einsum("ij,ij->j", w, b @ w)
    return float(np.clip(1 - _quotient((w.T @ w) ** 2, overlap) / whole, 0, 1))


def quadratic_risk_mean(regime: str, target: ArrayLike, n_units: int, covariance: ArrayLike | None = None) -> float:
    """`quadratic_risk` on average over a Gaussian first layer, at finite d.

    ``w_i ~ N(0, Gamma / d)``. With ``rho = N / d``, ``t = Tr(B)^2 / (d ||B||^2)``, ``gamma2 = Tr(Gamma^2) / d``:

    ``"features":  1 - rho / (1 + rho gamma2) <B, Gamma>^2 / (d ||B||^2)``, up to terms of order 1 / d; without a
    covariance the leading one, ``(1 - t) N / (d (d + 1) / 2 - 1)``, is subtracted;
    ``"tangent":   (alpha + beta) + beta Tr(B)^2 / ||B||^2``, exact, with ``k = d - N``,
    ``beta = k (d - k) / (d (d - 1) (d + 2))``, ``alpha = k^2 / d^2 - 2 beta / d``;
    ``"full":      sum_{i > N} lambda_i^2 / sum_i lambda_i^2``, which no first layer changes.

    Parameters
    ----------
    regime : {"features", "tangent", "full"}
    target : (d, d) array
        The symmetric matrix B, d at least 2.
    n_units : int
        N.
    covariance : (d, d) array, optional
        Gamma, scaled to trace d here; the identity by default. The tangent regime has a closed form for that alone.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is unfit, or ``regime="tangent"`` is given a covariance.

    References
    ----------
    B. Ghorbani, S. Mei, T. Misiakiewicz, A. Montanari, Limitations of lazy training of two-layers neural networks,
    NeurIPS 2019, theorems 1 to 3; the terms at finite d are derived here.

    Examples
    --------
    >>> B = np.diag([4.0, 3.0, 2.0, 1.0])
    >>> [round(quadratic_risk_mean(regime, B, 2), 3) for regime in ("features", "tangent", "full")]
    [0.685, 0.463, 0.167]
    """
    b = _target("target", target)
    d, n = len(b), _checks.check_count("n_units", n_units)
    whole, trace = float(np.sum(b * b)), float(np.trace(b))
    if d < 2:
        raise ValueError(f"target must have at least two rows, got {d}.")
    if _checks.check_choice("regime", regime, REGIMES) == "full":
        return _beyond(np.linalg.eigvalsh(b), n)
    if regime == "tangent":
        if covariance is not None:
            raise ValueError("covariance must be None for regime='tangent': its closed form is that of the identity.")
        k = max(d - n, 0)
        beta = k * (d - k) / (d * (d - 1) * (d + 2))
        return (k / d) ** 2 - 2 * beta / d + beta + beta * trace**2 / whole
    if covariance is None:
        t = trace**2 / (d * whole)
        return max(1 - n / (n + d) * t - (1 - t) * n / (d * (d + 1) / 2 - 1), 0.0)
    gamma = _covariance(covariance, d)
    return 1 - _shrunk(n / d, float(np.sum(gamma * gamma)) / d) * float(np.sum(b * gamma)) ** 2 / (d * whole)


def quadratic_risk_limit(
    regime: str, rho: float, spectrum: str | ArrayLike = "exponential", covariance: ArrayLike | None = None
) -> float:
    """`quadratic_risk` in the limit of many inputs, ``d -> infinity`` with ``N / d -> rho``.

    ``"features":  1 - rho / (1 + rho gamma2) mean(b g)^2 / mean(b^2)``, ``gamma2 = mean(g^2)``;
    ``"tangent":   (1 - rho)_+^2 (1 - t) + (1 - rho)_+ t``, ``t = mean(b)^2 / mean(b^2)``;
    ``"full":      the share of ``sum b^2`` beyond the rho d eigenvalues of largest magnitude; for the exponential
    spectrum ``1 - rho (q^2 + 2 q + 2) / 2``, ``q = -ln rho``.

    Parameters
    ----------
    regime : {"features", "tangent", "full"}
    rho : float
        Units per input.
    spectrum : "exponential" or (m,) array
        Distribution of the eigenvalues b of the target: Exp(1), or these values, each equally likely.
    covariance : (m,) array, optional
        Eigenvalues g of Gamma, on the same eigenvectors in the same order, scaled to mean 1 here; needs an array of
        eigenvalues, and only "features" depends on it.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is unfit.

    References
    ----------
    B. Ghorbani, S. Mei, T. Misiakiewicz, A. Montanari, Limitations of lazy training of two-layers neural networks,
    NeurIPS 2019, theorems 1 to 3.

    Examples
    --------
    >>> [round(quadratic_risk_limit(regime, 0.5), 4) for regime in ("features", "tangent", "full")]
    [0.8333, 0.375, 0.0333]
    """
    _checks.check_choice("regime", regime, REGIMES)
    rho = _checks.check_positive("rho", rho)
    t, aligned, gamma2 = 0.5, 0.5, 1.0
    if isinstance(spectrum, str):
        _checks.check_choice("spectrum", spectrum, ("exponential",))
        if covariance is not None:
            raise ValueError("covariance must be None with spectrum='exponential': give the eigenvalues as an array.")
        if regime == "full":
            q = -np.log(min(rho, 1.0))
            return float(1 - min(rho, 1.0) * (q * q + 2 * q + 2) / 2)
    else:
        b = np.asarray(spectrum, dtype=np.float64)
        if b.ndim != 1 or not np.all(np.isfinite(b)) or not np.any(b):
            raise ValueError(f"spectrum must be 'exponential' or finite numbers (m,), got {_checks.short(spectrum)}.")
        g = np.ones(len(b)) if covariance is None else np.asarray(covariance, dtype=np.float64)
        if g.shape != b.shape or not np.all(g >= 0) or not np.sum(g) < np.inf or not np.any(g):
            raise ValueError(f"covariance must be {b.shape} numbers, at least 0, got {_checks.short(covariance)}.")
        if regime == "full":
            return _beyond(b, rho * len(b))
        g = g / np.mean(g)
        t, aligned = (float(np.mean(b * a) ** 2 / np.mean(b * b)) for a in (1.0, g))
        gamma2 = float(np.mean(g * g))
    return _tangent(rho, t) if regime == "tangent" else 1 - _shrunk(rho, gamma2) * aligned


def mixture_risk(regime: str, delta: ArrayLike, weights: ArrayLike, sigma: ArrayLike | None = None) -> float:
    """Risk of the best network of a regime on a mixture of two centred Gaussians, exact for the given first layer.

    ``y = +-1`` equally likely, ``x | y ~ N(0, Sigma - y Delta)``, ``R = min E (y - c - x' M x)^2``. With Sigma = I
    (other Sigma are whitened here) and the best c,
    ``R(M) = (1 + Tr(M Delta))^2 + 2 Tr(M^2) + 2 Tr(M Delta M Delta)``, hence

    ``"features":  1 / (1 + b' H^-1 b)``, ``H_ij = 2 (w_i' w_j)^2 + 2 (w_i' Delta w_j)^2``, ``b_i = w_i' Delta w_i``;
    ``"tangent":   1 / (1 + <g, A^-1 g>)``, ``g = 2 Delta W``, ``A(S) = 4 (M + Delta M Delta) W``, ``M = S W' + W S'``;
    ``"full":      1 / (1 + 1/2 sum delta_i^2 / (1 + delta_i^2))`` over the N eigenvalues of Delta of largest magnitude.

    Parameters
    ----------
    regime : {"features", "tangent", "full"}
    delta : (d, d) array
        Delta, symmetric.
    weights : (d, N) array
        The first layer, one column per unit; "full" asks only for its number of columns.
    sigma : (d, d) array, optional
        Sigma, positive definite; the identity by default.

    Returns
    -------
    float
        In units of ``E y^2 = 1``.

    Raises
    ------
    ValueError
        If an argument is unfit or ``Sigma +- Delta`` are no covariances.

    References
    ----------
    B. Ghorbani, S. Mei, T. Misiakiewicz, A. Montanari, Limitations of lazy training of two-layers neural networks,
    NeurIPS 2019, section 3; the exact forms are derived here.

    Examples
    --------
    >>> delta, W = np.diag([0.5, 0.0]), np.array([[1.0], [0.0]])
    >>> [round(mixture_risk(regime, delta, W), 6) for regime in ("features", "tangent", "full")]
    [0.909091, 0.909091, 0.909091]
    """
    d = _target("delta", delta)
    w = _weights(weights, len(d))
    d, w = _whitened(d, w, sigma)
    values = np.linalg.eigvalsh(d)
    n = w.shape[1]
    if _checks.check_choice("regime", regime, REGIMES) == "features":
        gain = _quotient(2 * (w.T @ w) ** 2 + 2 * (w.T @ d @ w) ** 2, np.einsum("ij,ij->j", w, d @ w))
    elif regime == "full" or np.linalg.matrix_rank(w) == len(d):
        squares = np.sort(values**2)[::-1][: n if regime == "full" else len(d)]
        gain = float(np.sum(squares / (1 + squares))) / 2
    else:
        gain = _tangent_gain(d, linalg.orth(w))
    return 1 / (1 + gain)


def mixture_risk_limit(regime: str, delta: ArrayLike, n_units: int, covariance: ArrayLike | None = None) -> float:
    """`mixture_risk` for a Gaussian first layer where d is large and Delta is small, ``1 / (1 + p / 2)``.

    With Sigma = I, ``w_i ~ N(0, Gamma / d)``, ``rho = N / d``, ``t = Tr(Delta)^2 / (d ||Delta||^2)``:

    ``"features":  p = rho / (1 + rho gamma2) <Delta, Gamma>^2 / d``;
    ``"tangent":   p = ||Delta||^2 (1 - (1 - rho)_+^2 (1 - t) - (1 - rho)_+ t)``;
    ``"full":      p = sum of the N largest squared eigenvalues of Delta``.

    Parameters
    ----------
    regime : {"features", "tangent", "full"}
    delta : (d, d) array
        Delta, symmetric.
    n_units : int
        N.
    covariance : (d, d) array, optional
        Gamma, scaled to trace d here; the identity by default. Only "features" takes another.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is unfit.

    References
    ----------
    B. Ghorbani, S. Mei, T. Misiakiewicz, A. Montanari, Limitations of lazy training of two-layers neural networks,
    NeurIPS 2019, theorems 4 to 6.

    Examples
    --------
    >>> round(mixture_risk_limit("full", np.diag([0.2, 0.1]), 2), 6)
    0.97561
    """
    b = _target("delta", delta)
    d, n = len(b), _checks.check_count("n_units", n_units)
    rho, whole, trace = n / d, float(np.sum(b * b)), float(np.trace(b))
    if _checks.check_choice("regime", regime, REGIMES) == "features":
        gamma = np.eye(d) if covariance is None else _covariance(covariance, d)
        return 1 / (1 + _shrunk(rho, float(np.sum(gamma * gamma)) / d) * float(np.sum(b * gamma)) ** 2 / d / 2)
    if covariance is not None and regime == "tangent":
        raise ValueError("covariance must be None for regime='tangent': its closed form is that of the identity.")
    share = _tangent(rho, trace**2 / (d * whole)) if regime == "tangent" else _beyond(np.linalg.eigvalsh(b), n)
    return 1 / (1 + whole * (1 - share) / 2)


def _shrunk(rho: float, gamma2: float) -> float:
    return rho / (1 + rho * gamma2)


def _tangent(rho: float, t: float) -> float:
    left = max(1 - rho, 0.0)
    return left * left * (1 - t) + left * t


def _beyond(values: Array, n: float) -> float:
    """Share of the squares of all values that those beyond the n largest hold; n may lie between two of them."""
    squares = np.sort(np.square(values))[::-1]
    taken = np.clip(n - np.arange(len(squares)), 0, 1)
    return float(np.sum(squares * (1 - taken)) / np.sum(squares))


def _quotient(matrix: Array, vector: Array) -> float:
    """``v' A^+ v`` of a positive semidefinite matrix whose range holds v."""
    values, vectors = np.linalg.eigh(matrix)
    held = values > 1e-12 * max(float(values[-1]), 0.0)
    return float(np.sum((vectors[:, held].T @ vector) ** 2 / values[held]))


def _tangent_gain(delta: Array, q: Array) -> float:
    """``<g, A^-1 g>`` by conjugate gradients; q (d, N) is an orthonormal basis of the span of the first layer."""
    shape = q.shape

    def curvature(flat: Array) -> Array:
        s = flat.reshape(shape)
        m = s @ q.T
        m = m + m.T
        return np.asarray(4 * (m + delta @ m @ delta) @ q).ravel()

    g = (2 * delta @ q).ravel()
    apply: Callable[[Array], Array] = curvature
    solution, failed = cg(LinearOperator((len(g), len(g)), matvec=apply, dtype=np.float64), g, rtol=1e-12, maxiter=1000)
    if failed:
        raise ArithmeticError("the tangent risk of the mixture was not reached in 1000 steps of conjugate gradients.")
    return float(g @ solution)


def _target(name: str, given: ArrayLike) -> Array:
    b = np.asarray(given, dtype=np.float64)
    if b.ndim != 2 or b.shape[0] != b.shape[1] or not np.all(np.isfinite(b)) or not np.any(b):
        raise ValueError(f"{name} must be a finite symmetric matrix other than 0, got shape {b.shape}.")
    if not np.allclose(b, b.T, rtol=1e-10, atol=0):
        raise ValueError(
            f"{name} must be symmetric, got a difference of {np.max(np.abs(b - b.T)):.3g} to its transpose."
        )
    return b


def _weights(given: ArrayLike, d: int) -> Array:
    w = np.asarray(given, dtype=np.float64)
    if w.ndim != 2 or len(w) != d or w.shape[1] < 1 or not np.all(np.isfinite(w)):
        raise ValueError(f"weights must be a finite array ({d}, units), one column per unit, got shape {w.shape}.")
    return w


def _covariance(given: ArrayLike, d: int) -> Array:
    gamma = _target("covariance", given)
    if gamma.shape != (d, d) or not np.trace(gamma) > 0:
        raise ValueError(f"covariance must be ({d}, {d}) with a trace above 0, got shape {gamma.shape}.")
    return np.asarray(gamma * (d / np.trace(gamma)))


def _whitened(delta: Array, w: Array, sigma: ArrayLike | None) -> tuple[Array, Array]:
    """Delta and W in coordinates where Sigma is the identity."""
    if sigma is not None:
        s = _target("sigma", sigma)
        if s.shape != delta.shape:
            raise ValueError(f"sigma must have the shape of delta, {delta.shape}, got {s.shape}.")
        values, vectors = np.linalg.eigh(s)
        if not values[0] > 0:
            raise ValueError(f"sigma must be positive definite, got a smallest eigenvalue of {values[0]:.3g}.")
        root, inverse = (vectors * values**0.5) @ vectors.T, (vectors * values**-0.5) @ vectors.T
        delta, w = inverse @ delta @ inverse, root @ w
        delta = (delta + delta.T) / 2
    largest = float(np.max(np.abs(np.linalg.eigvalsh(delta))))
    if largest > 1 + 1e-12:
        raise ValueError(
            f"delta must leave Sigma + Delta and Sigma - Delta covariances: its whitened eigenvalues must lie within "
            f"-1 and 1, got one of magnitude {largest:.3g}."
        )
    return delta, w

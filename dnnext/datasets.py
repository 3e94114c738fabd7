"""Made data: for the closed-form risks of `dnnext.models.risks`, and peaks in the plane."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnext import _checks
from dnnext._checks import short

__all__ = ["make_centered_mixture", "make_peaks", "make_quadratic"]

Array = NDArray[Any]


def make_quadratic(
    n_samples: int, n_features: int, spectrum: str | ArrayLike = "exponential", random_state: Any = None
) -> tuple[Array, Array, Array]:
    """Gaussian inputs and a quadratic target of mean 0 and variance 1.

    ``x ~ N(0, I)``,  ``y = x' B x - Tr B``,  ``B = diag(b) / (sqrt(2) |b|)``.

    Parameters
    ----------
    n_samples, n_features : int
        Rows, and the number d of inputs.
    spectrum : "exponential" or (d,) array
        b: drawn from Exp(1), or given; a shorter array is filled up with zeros.
    random_state : None, int, SeedSequence or Generator

    Returns
    -------
    X : (n_samples, d) array
    y : (n_samples,) array
    B : (d, d) array
        What `dnnext.models.risks.quadratic_risk` takes.

    Raises
    ------
    ValueError
        If a number is not positive or the spectrum is unfit.

    References
    ----------
    B. Ghorbani, S. Mei, T. Misiakiewicz, A. Montanari, Limitations of lazy training of two-layers neural networks,
    NeurIPS 2019, section 2.

    Examples
    --------
    >>> X, y, B = make_quadratic(1000, 4, random_state=0)
    >>> X.shape, bool(np.allclose(y, np.sum((X @ B) * X, axis=1) - np.trace(B))), round(2 * float(np.sum(B**2)), 6)
    ((1000, 4), True, 1.0)
    """
    rng = np.random.default_rng(_checks.check_random_state(random_state))
    n, d = _checks.check_count("n_samples", n_samples), _checks.check_count("n_features", n_features)
    b = _spectrum(spectrum, d, rng)
    b /= np.sqrt(2) * np.linalg.norm(b)
    x = rng.standard_normal((n, d))
    return x, (x * x - 1) @ b, np.diag(b)


def make_centered_mixture(
    n_samples: int,
    n_features: int,
    distance: float = 2.0,
    spectrum: str | ArrayLike = "exponential",
    random_state: Any = None,
) -> tuple[Array, Array, Array]:
    """Two Gaussian classes of equal means that differ in their covariances alone.

    ``y = +-1`` equally likely, ``x | y ~ N(0, I - y Delta)``, ``Delta = distance diag(b) / |b|``: no linear classifier
    is better than chance.

    Parameters
    ----------
    n_samples, n_features : int
        Rows, and the number d of inputs.
    distance : float, default=2.0
        The Frobenius norm of Delta.
    spectrum : "exponential" or (d,) array
        b: drawn from Exp(1), or given; a shorter array is filled up with zeros.
    random_state : None, int, SeedSequence or Generator

    Returns
    -------
    X : (n_samples, d) array
    y : (n_samples,) array of -1 and 1
    Delta : (d, d) array
        What `dnnext.models.risks.mixture_risk` takes.

    Raises
    ------
    ValueError
        If a number is not positive, the spectrum is unfit, or the distance is so large that ``I - Delta`` or
        ``I + Delta`` is no covariance.

    References
    ----------
    B. Ghorbani, S. Mei, T. Misiakiewicz, A. Montanari, Limitations of lazy training of two-layers neural networks,
    NeurIPS 2019, section 3.

    Examples
    --------
    >>> X, y, delta = make_centered_mixture(2000, 10, distance=1.0, random_state=0)
    >>> sorted(set(y.tolist())), round(float(np.linalg.norm(delta)), 6)
    ([-1.0, 1.0], 1.0)
    """
    rng = np.random.default_rng(_checks.check_random_state(random_state))
    n, d = _checks.check_count("n_samples", n_samples), _checks.check_count("n_features", n_features)
    b = _spectrum(spectrum, d, rng)
    b *= _checks.check_positive("distance", distance) / np.linalg.norm(b)
    if np.max(np.abs(b)) > 1:
        raise ValueError(
            f"distance must leave every entry of Delta within -1 and 1, got {short(distance)} with a largest entry of "
            f"{np.max(np.abs(b)):.3g}: take a smaller distance or more features."
        )
    y = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    return rng.standard_normal((n, d)) * np.sqrt(1 - y[:, None] * b), y, np.diag(b)


def make_peaks(n_per_class: int = 200, random_state: Any = None) -> tuple[Array, NDArray[np.int64]]:
    """Points of the plane in five classes: the heights of MATLAB's function of this name.

    ``f = 3 (1 - x)^2 exp(-x^2 - (y + 1)^2) - 10 (x / 5 - x^3 - y^5) exp(-x^2 - y^2) - exp(-(x + 1)^2 - y^2) / 3`` on
    ``[-3, 3]^2``; the classes are cut at f = -2.5, -0.5, 0.5, 2.5 and equally large.

    Parameters
    ----------
    n_per_class : int
    random_state : None, int, SeedSequence or Generator

    Returns
    -------
    X : (5 n_per_class, 2) array
    y : (5 n_per_class,) int64, 0 to 4, shuffled

    References
    ----------
    E. Haber, L. Ruthotto, Stable architectures for deep neural networks, Inverse Problems 34 (2018), section 6: the
    classification of peaks.

    Examples
    --------
    >>> X, y = make_peaks(30, random_state=0)
    >>> X.shape, np.bincount(y).tolist()
    ((150, 2), [30, 30, 30, 30, 30])
    """
    rng, n = (
        np.random.default_rng(_checks.check_random_state(random_state)),
        _checks.check_count("n_per_class", n_per_class),
    )
    points, labels = np.empty((0, 2)), np.empty(0, np.int64)
    while np.bincount(labels, minlength=5).min() < n:
        more = rng.uniform(-3, 3, (20 * n, 2))
        points = np.concatenate([points, more])
        labels = np.digitize(_peaks(*points.T), [-2.5, -0.5, 0.5, 2.5]).astype(np.int64)
    order = rng.permutation(np.concatenate([np.flatnonzero(labels == k)[:n] for k in range(5)]))
    return points[order], labels[order]


def _peaks(x: Array, y: Array) -> Array:
    return np.asarray(
        3 * (1 - x) ** 2 * np.exp(-(x**2) - (y + 1) ** 2)
        - 10 * (x / 5 - x**3 - y**5) * np.exp(-(x**2) - y**2)
        - np.exp(-((x + 1) ** 2) - y**2) / 3
    )


def _spectrum(given: str | ArrayLike, d: int, rng: np.random.Generator) -> Array:
    if isinstance(given, str):
        _checks.check_choice("spectrum", given, ("exponential",))
        return rng.exponential(size=d)
    values = np.array(given, dtype=np.float64)
    if values.ndim != 1 or len(values) > d or not np.all(np.isfinite(values)) or not np.any(values):
        raise ValueError(
            f"spectrum must be 'exponential' or at most {d} finite numbers other than 0, got {short(given)}."
        )
    return np.concatenate([values, np.zeros(d - len(values))])

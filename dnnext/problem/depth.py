"""The penalty of networks that are discretised in depth: weights that change little from layer to layer."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from dnnext import _checks
from dnnext.models.layout import Layout
from dnnext.problem.penalties import Penalty

__all__ = ["DepthPenalty"]

Array = NDArray[Any]


class DepthPenalty(Penalty):
    """``r(w) = tikhonov / 2 |w|^2 + output / 2 |w_L|^2 + smoothness / 2 sum_n |(w_n - w_n-1) / h|^2``.

    The last sum runs over neighbouring layers of equal shape, all their parameters, biases included; h is the step
    size of the network. The term of the output layer w_L comes on top of tikhonov's [1]_, equation 2.7.

    Parameters
    ----------
    tikhonov, smoothness, output : float
        Strengths, on the scale of the objective.
    h : float
        Step size of the layers, such as `ResNet.h`.

    Raises
    ------
    ValueError
        If a strength is negative or h is not positive.

    References
    ----------
    .. [1] S. Guenther, L. Ruthotto, J. B. Schroder, E. C. Cyr, N. R. Gauger, Layer-parallel training of deep residual
       neural networks, SIAM J. Math. Data Sci. 2 (2020), section 2.

    Examples
    --------
    >>> from dnnext.models import ResNet
    >>> model = ResNet(2, 1, n_inputs=1, n_outputs=1, opening="padding")
    >>> r = DepthPenalty(tikhonov=0.0, smoothness=1.0, h=0.5).bind(model.layout)
    >>> r.value(np.array([1.0, 0.0, 3.0, 0.0, 9.0, 9.0]))  # layers (1, 0) and (3, 0), then the output
    8.0
    """

    def __init__(self, tikhonov: float = 1e-7, smoothness: float = 1e-5, output: float = 0.0, h: float = 1.0) -> None:
        self.tikhonov = _checks.check_positive("tikhonov", tikhonov, allow_zero=True)
        self.smoothness = _checks.check_positive("smoothness", smoothness, allow_zero=True)
        self.output = _checks.check_positive("output", output, allow_zero=True)
        self.h = _checks.check_positive("h", h)
        self._runs: list[tuple[int, int, int]] = []  # start, layers, parameters of a layer
        self._ridge: Array = np.empty(0)

    def bind(self, layout: Layout, *, dtype: Any = np.float64, n_threads: int = 1) -> Self:
        """A copy that knows which neighbouring layers have one shape."""
        bound = super().bind(layout, dtype=dtype, n_threads=n_threads)
        shapes = [
            tuple(part.shape for part in layout.parts if cut.start <= part.start < cut.stop)
            for cut in layout.layer_slices
        ]
        runs, first = [], 0
        for _, group in groupby(shapes[:-1]):  # the output layer is a layer of its own
            number = len(list(group))
            cut = layout.layer_slices[first]
            if number > 1:
                runs.append((cut.start, number, cut.stop - cut.start))
            first += number
        bound._runs = runs
        bound._ridge = np.full(layout.n_params, self.tikhonov)
        bound._ridge[layout.layer_slices[-1]] += self.output
        return bound

    def value(self, w: Array) -> float:
        """``r(w)`` of one row of weights (P,)."""
        w = np.asarray(w, dtype=np.float64)
        total = 0.5 * float(np.sum(self._ridge * w * w))
        for start, number, size in self._runs:
            steps = np.diff(w[start : start + number * size].reshape(number, size), axis=0) / self.h
            total += 0.5 * self.smoothness * float(np.sum(steps * steps))
        return total

    def prox(self, v: Array, s: Array) -> Array:
        """``(I + s_i Q) u = v_i`` with ``r(u) = u'Q u / 2``: one tridiagonal matrix for all entries of equal layers."""
        out = np.array(v / (1 + s[:, None] * self._ridge), dtype=v.dtype)
        for start, number, size in self._runs:
            links = self.smoothness / self.h**2
            for i, step in enumerate(np.asarray(s, np.float64)):
                banded = np.zeros((2, number))
                banded[0, 1:] = -step * links
                banded[1] = 1 + step * (self.tikhonov + 2 * links)
                banded[1, [0, -1]] -= step * links
                rows = v[i, start : start + number * size].reshape(number, size)
                out[i, start : start + number * size] = solveh_banded(banded, rows).ravel()
        return out

    def __repr__(self) -> str:
        return (
            f"DepthPenalty(tikhonov={self.tikhonov!r}, smoothness={self.smoothness!r}, output={self.output!r}, "
            f"h={self.h!r})"
        )

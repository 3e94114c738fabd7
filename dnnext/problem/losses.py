"""Losses of raw network outputs, each convex in the output.

A loss is value, gradient and the root of its curvature, row by row, in NumPy. That is enough to train with it; a loss
that also names a kernel is evaluated inside the compiled pass over the data.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext import _checks, kernels
from dnnext.problem.loss import Loss

__all__ = ["Huber", "Logistic", "Loss", "Poisson", "Softmax", "SquaredError", "SquaredHinge"]

Array = NDArray[Any]


class SquaredError(Loss):
    """``loss(d, f) = 1/2 ||d - f||^2``, one or many outputs.

    Examples
    --------
    >>> SquaredError().value(np.array([[3.0, 1.0]]), np.array([[1.0, 1.0]]))
    array([2.])
    """

    name = "squared_error"
    kernel = kernels.LOSSES["squared_error"]
    has_root_kernel = True
    curvature_has_labels = False
    is_quadratic = True

    def value(self, f: Array, d: Array) -> Array:
        """``1/2 sum_q (f_q - d_q)^2``: f, d (M, Q) -> (M,)."""
        return 0.5 * _row_sums(np.square(f - d, dtype=np.float64))

    def grad(self, f: Array, d: Array) -> Array:
        """``f - d``: (M, Q)."""
        return f - d

    def curvature_root(self, f: Array, d: Array) -> Array:
        """``S = I``, as its diagonal: ones (M, Q)."""
        return np.ones_like(f)


class Huber(Loss):
    """Huber's loss of ``r = f - d``: quadratic near zero, linear far away, one or many outputs.

    ``sum_q  r_q^2 / 2  if |r_q| <= delta  else  delta (|r_q| - delta / 2)``

    Parameters
    ----------
    delta : float, default=1.35
        Where the linear part begins, in units of the target; positive.

    Raises
    ------
    ValueError
        If delta is not a positive number.

    References
    ----------
    P. J. Huber, Robust estimation of a location parameter, Ann. Math. Stat. 35 (1964).

    Examples
    --------
    >>> Huber(delta=1.0).value(np.array([[0.5], [-3.0]]), np.zeros((2, 1)))
    array([0.125, 2.5  ])
    """

    name = "huber"
    kernel = kernels.LOSSES["huber"]
    has_root_kernel = True

    def __init__(self, delta: float = 1.35) -> None:
        self.delta = self.param = _checks.check_positive("delta of the Huber loss", delta)

    def value(self, f: Array, d: Array) -> Array:
        """``sum_q huber(f_q - d_q)``: f, d (M, Q) -> (M,)."""
        r = np.abs(f - d)
        near = np.minimum(r, self.delta)
        return _row_sums(near * (r - 0.5 * near))

    def grad(self, f: Array, d: Array) -> Array:
        """``r`` clipped to ``[-delta, delta]``: (M, Q)."""
        grad: Array = np.clip(f - d, -self.delta, self.delta)
        return grad

    def curvature_root(self, f: Array, d: Array) -> Array:
        """``1`` where ``|r| <= delta``, ``0`` beyond, as a diagonal: (M, Q)."""
        near: Array = np.abs(f - d) <= self.delta
        return near.astype(f.dtype)

    def __repr__(self) -> str:
        return f"Huber(delta={self.delta:g})"


class Logistic(Loss):
    """``loss(d, f) = log(1 + e^f) - d f``, targets 0 and 1, one raw output (the log-odds) per label.

    With several outputs each is a label of its own and the losses are added.

    References
    ----------
    D. R. Cox, The regression analysis of binary sequences, JRSS B 20 (1958).

    Examples
    --------
    >>> Logistic().value(np.array([[0.0], [1000.0]]), np.array([[1.0], [0.0]]))
    array([6.93147181e-01, 1.00000000e+03])
    """

    name = "logistic"
    kernel = kernels.LOSSES["logistic"]
    has_root_kernel = True
    curvature_has_labels = False

    def value(self, f: Array, d: Array) -> Array:
        """``sum_q log(1 + e^f_q) - d_q f_q``: f, d (M, Q) -> (M,)."""
        soft = np.maximum(f, 0) + np.log1p(np.exp(-np.abs(f)))
        return _row_sums(soft - d * f)

    def grad(self, f: Array, d: Array) -> Array:
        """``p - d``,  ``p = 1 / (1 + e^-f)``: (M, Q)."""
        e = np.exp(-np.abs(f))
        grad: Array = np.where(f >= 0, 1, e) / (1 + e) - d
        return grad

    def curvature_root(self, f: Array, d: Array) -> Array:
        """``sqrt(p (1 - p)) = e^(-|f|/2) / (1 + e^-|f|)``, as a diagonal: (M, Q)."""
        half = np.exp(-0.5 * np.abs(f))
        root: Array = half / (1 + half * half)
        return root

    def check_target(self, d: Array) -> str | None:
        """Targets are 0 or 1."""
        return _only(d, (0, 1), self)


class Softmax(Loss):
    """``loss(d, f) = log sum_q e^f_q - d'f``, cross-entropy of Q >= 2 classes, one-hot targets (M, Q).

    Rows of class probabilities serve as targets too.

    References
    ----------
    J. S. Bridle, Probabilistic interpretation of feedforward classification network outputs, Neurocomputing (1990).

    Examples
    --------
    >>> Softmax().grad(np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]]))
    array([[-0.5,  0.5]])
    """

    name = "softmax"
    kernel = kernels.LOSSES["softmax"]
    has_root_kernel = True
    curvature_has_labels = False

    def value(self, f: Array, d: Array) -> Array:
        """``log sum_q e^f_q - d'f``: f, d (M, Q) -> (M,)."""
        shifted = f - np.max(f, axis=1, keepdims=True)
        log_total = np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
        return _row_sums(d * (log_total - shifted))

    def grad(self, f: Array, d: Array) -> Array:
        """``p - d``,  ``p_q = e^f_q / sum_r e^f_r``: (M, Q)."""
        return self._probabilities(f) - d

    def curvature_root(self, f: Array, d: Array) -> Array:
        """``S = diag(sqrt p) - p sqrt(p)'``, so that ``S S' = diag(p) - p p'``: (M, Q, Q)."""
        p = self._probabilities(f)
        root = np.sqrt(p)
        full: Array = -p[:, :, None] * root[:, None, :]
        every = np.arange(f.shape[1])
        full[:, every, every] += root
        return full

    def curvature_product(self, f: Array, d: Array, u: Array) -> Array:
        """``p (u - p'u)``, in closed form: f, d, u (M, Q) -> (M, Q)."""
        p = self._probabilities(f)
        product: Array = p * (u - np.einsum("mq,mq->m", p, u)[:, None])
        return product

    def n_classes(self, n_outputs: int) -> int:
        """All of them."""
        return n_outputs

    def curvature_weights(self, f: Array, d: Array) -> Array:
        """``p``: (M, Q)."""
        return self._probabilities(f)

    def check_target(self, d: Array) -> str | None:
        """Rows are one-hot, or nonnegative numbers that add up to 1."""
        if d.shape[1] < 2:
            return f"the softmax loss needs at least 2 outputs, got {d.shape[1]}; use Logistic() for two classes"
        wrong = np.flatnonzero((d < 0).any(axis=1) | (np.abs(d.sum(axis=1) - 1) > 1e-5))
        if len(wrong):
            return f"the softmax loss takes one-hot rows that add up to 1, row {wrong[0]} is {d[wrong[0]].tolist()}"
        return None

    @staticmethod
    def _probabilities(f: Array) -> Array:
        e = np.exp(f - np.max(f, axis=1, keepdims=True))
        p: Array = e / np.sum(e, axis=1, keepdims=True)
        return p


class Poisson(Loss):
    """``loss(d, f) = e^f - d f + d log d - d``, counts d >= 0 whose mean is ``e^f``: half the Poisson deviance.

    Beyond f = 20, which no count reaches, e^f goes on as its tangent, so that nothing overflows. With several outputs
    the losses are added.

    References
    ----------
    P. McCullagh, J. A. Nelder, Generalized linear models, 2nd ed., Chapman and Hall (1989), chapter 6.

    Examples
    --------
    >>> Poisson().value(np.array([[0.0], [np.log(2.0)]]), np.array([[1.0], [0.0]]))
    array([0., 2.])
    """

    name = "poisson"
    curvature_has_labels = False
    largest = 20.0

    def value(self, f: Array, d: Array) -> Array:
        """``sum_q e^f_q - d_q f_q + d_q log d_q - d_q``: f, d (M, Q) -> (M,)."""
        f, d = f.astype(np.float64), d.astype(np.float64)
        near = np.minimum(f, self.largest)
        mean = np.exp(near) * (1 + f - near)
        return _row_sums(np.maximum(mean - d * f + d * np.log(np.where(d > 0, d, 1)) - d, 0))

    def grad(self, f: Array, d: Array) -> Array:
        """``e^f - d``: (M, Q)."""
        grad: Array = np.exp(np.minimum(f, self.largest)) - d
        return grad

    def curvature_root(self, f: Array, d: Array) -> Array:
        """``e^(f/2)``, as a diagonal: (M, Q)."""
        root: Array = np.exp(0.5 * np.minimum(f, self.largest))
        return root

    def best_output(self, d: Array) -> Array:
        """``log d``, and ``log 1/10`` for counts of zero: (M, Q)."""
        best: Array = np.log(np.maximum(d, 0.1))
        return best

    def check_target(self, d: Array) -> str | None:
        """Targets are not negative."""
        if (d < 0).any():
            return f"the {self.name} loss takes targets of at least 0, got {float(d.min()):g}"
        return None


class SquaredHinge(Loss):
    """``loss(d, f) = sum_q 1/2 max(0, 1 - d_q f_q)^2``, targets -1 and 1.

    One output separates two classes; with one output per class it is the one-versus-all machine.

    References
    ----------
    O. L. Mangasarian, A finite Newton method for classification, Optim. Methods Softw. 17 (2002).

    Examples
    --------
    >>> SquaredHinge().value(np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]]))
    array([0.5, 0. ])
    """

    name = "squared_hinge"
    kernel = kernels.LOSSES["squared_hinge"]
    has_root_kernel = True

    def value(self, f: Array, d: Array) -> Array:
        """``1/2 sum_q max(0, 1 - d_q f_q)^2``: f, d (M, Q) -> (M,)."""
        return 0.5 * _row_sums(np.square(np.maximum(0, 1 - d * f), dtype=np.float64))

    def grad(self, f: Array, d: Array) -> Array:
        """``-d max(0, 1 - d f)``: (M, Q)."""
        grad: Array = -d * np.maximum(0, 1 - d * f)
        return grad

    def curvature_root(self, f: Array, d: Array) -> Array:
        """``1`` where ``d f < 1``, ``0`` beyond (``d^2 = 1``), as a diagonal: (M, Q)."""
        near: Array = d * f < 1
        return near.astype(f.dtype)

    def check_target(self, d: Array) -> str | None:
        """Targets are -1 or 1."""
        return _only(d, (-1, 1), self)


def _row_sums(values: Array) -> Array:
    """The sum of every row in float64: (M, Q) -> (M,)."""
    return np.asarray(np.sum(values, axis=1, dtype=np.float64))


def _only(d: Array, allowed: tuple[float, float], loss: Loss) -> str | None:
    """None if every target is one of the two allowed values."""
    wrong = (d != allowed[0]) & (d != allowed[1])
    if wrong.any():
        return f"the {loss.name} loss takes targets {allowed[0]} and {allowed[1]}, got {float(d[wrong][0]):g}"
    return None

"""The contract of losses of raw network outputs."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from dnnext._params import Parameters

__all__ = ["Loss"]

Array = NDArray[Any]

ROOT_NUMBERS = 2**19  # of the roots that `Loss.curvature_product` holds at a time


class Loss(Parameters, ABC):
    """The contract of a loss ``loss(d, f)``, convex in the raw output ``f``.

    A loss of your own is one subclass with `value`, `grad` and `curvature_root`.

    Attributes
    ----------
    name : str
        How messages call it.
    kernel : int or None
        The code of the compiled twin, None for a loss that exists in Python only.
    has_root_kernel : bool
        Whether the kernel knows ``curvature_root``, too (`dnnext.kernels.curvature_root`).
    param : float
        The one number the kernel takes.
    is_quadratic : bool
        Whether ``curvature_root`` does not depend on ``f``.
    curvature_has_labels : bool
        Whether ``curvature_root`` depends on ``d``; only where it does not can agents share curvature by their inputs.
    n_outputs : int or None
        The number of raw outputs the loss takes, None for any.

    Examples
    --------
    >>> from dnnext.problem import Loss
    >>> class LogCosh(Loss):
    ...     name = "log_cosh"
    ...     def value(self, f, d):
    ...         r = np.abs(f - d)
    ...         return np.sum(r + np.log1p(np.exp(-2 * r)) - np.log(2), axis=1)
    ...     def grad(self, f, d):
    ...         return np.tanh(f - d)
    ...     def curvature_root(self, f, d):
    ...         return 1 / np.cosh(np.clip(f - d, -300, 300))
    >>> LogCosh().grad(np.zeros((1, 1)), np.zeros((1, 1)))
    array([[0.]])
    """

    name: ClassVar[str] = "loss"
    kernel: ClassVar[int | None] = None
    has_root_kernel: ClassVar[bool] = False
    param: float = 0.0
    is_quadratic: ClassVar[bool] = False
    curvature_has_labels: ClassVar[bool] = True
    n_outputs: int | None = None

    def __init_subclass__(cls) -> None:
        """A subclass with its own value or grad is no longer what its parent's kernel computes."""
        if "kernel" not in vars(cls) and not vars(cls).keys().isdisjoint({"value", "grad"}):
            cls.kernel, cls.is_quadratic = None, vars(cls).get("is_quadratic", False)
        if "curvature_root" in vars(cls):
            cls.has_root_kernel = vars(cls).get("has_root_kernel", False)
            if "curvature_has_labels" not in vars(cls):
                cls.curvature_has_labels = True
            if "curvature_product" not in vars(cls):  # its parent's may be another curvature
                cls.curvature_product = Loss.curvature_product  # type: ignore[method-assign]
        own = vars(cls).keys() & {"curvature_root", "curvature_product", "curvature_weights"}
        if own and "curvature_weights" not in own:
            cls.curvature_weights = Loss.curvature_weights  # type: ignore[method-assign]

    @classmethod
    def examples(cls) -> list[Self]:
        """Objects on which the contract tests run."""
        return [cls()]

    def example_targets(self, n_rows: int, n_outputs: int, random_state: Any = 0) -> Array | None:
        """Targets (n_rows, n_outputs) that the loss takes, float64: numbers if it can, else 0 and 1, -1 and 1, one-hot.

        None where it takes none of these with so many outputs.
        """
        rng = np.random.default_rng(random_state)
        ones = rng.integers(0, 2, (n_rows, n_outputs)).astype(float)
        one_hot = np.eye(n_outputs)[rng.integers(0, n_outputs, n_rows)]
        drawn = (rng.normal(size=(n_rows, n_outputs)), ones, 2 * ones - 1, one_hot)
        fitting = (d for d in drawn if self.check_target(d) is None)
        return next(fitting, None) if self.n_outputs in (None, n_outputs) else None

    @abstractmethod
    def value(self, f: Array, d: Array) -> Array:
        """``loss(d_m, f_m)`` of every row: f, d (M, Q) -> (M,), summed over the outputs in float64."""

    @abstractmethod
    def grad(self, f: Array, d: Array) -> Array:
        """The derivative in the raw output: f, d (M, Q) -> (M, Q), in the precision of f."""

    @abstractmethod
    def curvature_root(self, f: Array, d: Array) -> Array:
        """A root ``S_m`` of the (generalised) second derivative ``H_m = S_m S_m'`` in the raw output.

        f, d (M, Q) -> (M, Q), the diagonal of a diagonal root, or (M, Q, R).
        """

    def curvature_product(self, f: Array, d: Array, u: Array) -> Array:
        """``H_m u_m`` of every row: f, d, u (M, Q) -> (M, Q); from `curvature_root`, a few rows at a time."""
        out, step = np.empty_like(u), max(1, ROOT_NUMBERS // max(1, f.shape[1] ** 2))
        for first in range(0, len(f), step):
            rows = slice(first, first + step)
            root, v = self.curvature_root(f[rows], d[rows]), u[rows]
            if root.ndim == 2:
                out[rows] = root * root * v
            else:
                out[rows] = np.einsum("mqr,mr->mq", root, np.einsum("mqr,mq->mr", root, v))
        return out

    def curvature_weights(self, f: Array, d: Array) -> Array | None:
        """``p_m >= 0`` (M, Q) where ``H_m = diag(p_m) - p_m p_m'`` and ``sum_q p_mq = 1``, else None."""
        return None

    def n_classes(self, n_outputs: int) -> int:
        """How many classes the outputs tell apart: Q where a row belongs to one of them, else 0."""
        return 0

    def best_output(self, d: Array) -> Array:
        """Raw outputs near the least loss: d (M, Q) -> (M, Q); where the curvature is looked at besides the start."""
        return d

    def check_target(self, d: Array) -> str | None:
        """None if the targets d (M, Q) fit this loss, else half a sentence: what is allowed, what came."""
        return None

"""The parameter `tangents`: directions are given for raw inputs, the network sees standardised ones.

With ``x_std = (x - m) / s`` the derivative of the outputs along a direction v of x is the one along ``v / s`` of x_std.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dnnext.estimators.data import Moments
from dnnext.problem import Tangents


class Standardised(Tangents):
    """Tangents for standardised inputs, from those for raw inputs.

    Parameters
    ----------
    tangents : Tangents
        Directions in units of x, targets in units of the raw outputs.
    moments : Moments
        How inputs and outputs were scaled.
    """

    def __init__(self, tangents: Tangents, moments: Moments) -> None:
        super().__init__(tangents.mu, tangents.directions, tangents.targets)
        self.tangents, self.moments = tangents, moments

    def at(self, x: Any) -> Any:
        """``v / s``, with v the directions at the raw inputs: (K, n, ...)."""
        return np.ascontiguousarray(self.tangents.at(self._raw_inputs(x)) / self.moments.x_scale, dtype=x.dtype)

    def beta(self, x: Any, shape: tuple[int, int, int]) -> Any:
        """Target derivatives of the standardised outputs, (K, n, Q), or None for zeros."""
        beta = self.tangents.beta(self._raw_inputs(x), shape)
        return None if beta is None else np.ascontiguousarray(beta / self.moments.y_scale, dtype=x.dtype)

    def _raw_inputs(self, x: Any) -> Any:
        return (x * self.moments.x_scale + self.moments.x_mean).astype(x.dtype)

    def __repr__(self) -> str:
        return repr(self.tangents)


def on_inputs(tangents: Tangents | None, moments: Moments) -> Tangents | None:
    """The term for the problem."""
    return None if tangents is None else Standardised(tangents, moments)

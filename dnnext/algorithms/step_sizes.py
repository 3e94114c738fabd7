"""Step sizes of the recipes: constant or diminishing."""

from __future__ import annotations

from dnnext import _checks
from dnnext._params import Parameters, fingerprint


class StepSize(Parameters):
    """A constant step, or ``step[t] = step[t-1] (1 - mu step[t-1])``, which diminishes but is not summable.

    Parameters
    ----------
    step : float
        First step, positive; NEXT allows at most 1.
    mu : float
        0 keeps the step constant; must stay below ``1 / step`` [1]_, eq. 20.

    Raises
    ------
    ValueError
        If step is not positive or mu is not in [0, 1 / step).

    References
    ----------
    .. [1] P. Di Lorenzo, G. Scutari, NEXT: in-network nonconvex optimization, IEEE TSIPN 2 (2016).

    Examples
    --------
    >>> law = StepSize(0.5, mu=0.1)
    >>> [round(law(t), 4) for t in range(3)]
    [0.5, 0.475, 0.4524]
    """

    def __init__(self, step: float, mu: float = 0.0) -> None:
        _checks.check_positive("step", step)
        _checks.check_positive("mu", mu, allow_zero=True)
        if mu >= 1 / step:
            raise ValueError(f"mu must be in [0, {1 / step:g}) with step = {step}, got {mu}. Choose a smaller mu.")
        self.step, self.mu = step, mu
        self._known = [float(step)]

    def __call__(self, t: int) -> float:
        """The step of iteration t = 0, 1, ..."""
        if self.mu == 0:
            return self._known[0]
        while len(self._known) <= t:
            last = self._known[-1]
            self._known.append(last * (1 - float(self.mu) * last))
        return self._known[t]

    def fingerprint(self) -> str:
        """Class and parameters; how many steps are known already does not count."""
        return f"StepSize({fingerprint((self.step, self.mu))})"

"""The rules for tau by name."""

from __future__ import annotations

from collections.abc import Callable

from dnnext import _checks
from dnnext.algorithms.damping import Damping, FixedTau, SecantRule
from dnnext.algorithms.ratio import NielsenRule, RatioRule
from dnnext.algorithms.signed import SignedRule

RULES: dict[str, Callable[[], Damping]] = {
    "auto": SecantRule,
    "signed": SignedRule,
    "ratio": RatioRule,
    "nielsen": NielsenRule,
}


def make_damping(tau: str | float | Damping) -> Damping:
    """The rule that `tau` names: one of `RULES`, a positive number, or a Damping object."""
    if isinstance(tau, Damping):
        return tau
    if _checks.is_word(tau, *RULES):
        return RULES[str(tau)]()
    return FixedTau(_checks.check_positive("tau", tau, words=tuple(RULES)))

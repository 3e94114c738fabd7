"""What is trained: the network, its tangent at the start, or its last layer alone.

# Design
# A regime is a model between the network and the problem. What was trained with all but the last layer frozen is a
# network like any other and is kept, folded, saved and exported as one. A tangent is not: it keeps its weights and the
# start it belongs to, predicts by products with the Jacobian, and is refused where only a network fits.
"""

from __future__ import annotations

from dnnext.estimators.groups import Parted
from dnnext.models import Frozen, Linearised
from dnnext.models.risks import REGIMES

__all__ = ["REGIMES", "check_full", "check_network", "full_rows", "is_tangent", "of_regime"]


def of_regime(regime, model, seeds, dtype):
    """The model that is trained: the network itself, or what stands on its start."""
    if regime == "full":
        return model
    start = model.init(seeds.generator("weights")).astype(dtype)
    return Linearised(model, start) if regime == "tangent" else Frozen(model, start)


def full_rows(model, rows):
    """Rows of a whole network: with the frozen parts in place, if there are any."""
    return model.full(rows) if isinstance(model, Frozen) else rows


def check_full(estimator, what):
    """ValueError where a regime does not fit: partial_fit, a warm start."""
    if estimator.regime != "full":
        raise ValueError(
            f"{what} goes on from a trained network, but regime={estimator.regime!r} trains from its own start: use "
            "regime='full', or fit anew without it."
        )


def is_tangent(estimator):
    """Whether the fitted model is a tangent."""
    return isinstance(estimator._network.model, Linearised)


def check_network(estimator, what):
    """ValueError where only a whole network fits and the fitted model is a tangent, or spread over ranks."""
    if isinstance(estimator._network, Parted):
        raise ValueError(f"{what} needs whole weights, which are spread over ranks: call gather_weights() first.")
    if is_tangent(estimator):
        raise ValueError(
            f"{what} needs a network, but regime='tangent' trained the tangent of one: use regime='full' or 'features' "
            "instead, or keep this model by save()."
        )

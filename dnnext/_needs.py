"""What the parts of a run need of each other, and offer: one vocabulary, one comparison, one sentence.

# Design
# A part (recipe, surrogate, rule for tau, oracle) names words of `WORDS` as its `needs`; the parts around it name some
# as `offers`. They are compared before the first iteration (`dnnext.runs.start.check_parts`), or where an object is
# made of both. Nothing asks which class a part is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dnnext._checks import short

__all__ = ["WORDS", "Word", "check_needs"]


class Word(NamedTuple):
    """Which part may offer it, what that part must then do, and what to do where it does not."""

    of: str
    does: str
    instead: str = "choose another one"


NETWORK = "choose another network or another algorithm"
SOLVER = "choose NEXT() with solver='auto', 'cg' or 'fista' and curvature='own', or another model"
ORACLE = "choose another model, trained whole (regime='full' of estimators), or oracle=None"
TANGENTS = "choose another model, trained whole (regime='full' of estimators), or tangents=None"

WORDS = {
    "any_arrays": Word(
        "network", "mix any number of arrays (without that the last of two or more must be a tracker)", NETWORK
    ),
    "scalars": Word("network", "pass scalars on to the neighbours", NETWORK),
    "static": Word("network", "have the same matrix in every round", NETWORK),
    "memoryless": Word("network", "keep no numbers from call to call, so that an iteration can be taken back", NETWORK),
    "tree": Word("network", "add rows up along a spanning tree of a fixed graph", NETWORK),
    "shrinks": Word("network", "go on without lost agents, on a fixed graph", NETWORK),
    "gauss_newton": Word("model", "form Gauss-Newton matrices, as MLP does", SOLVER),
    "cg": Word("model", "do all steps of conjugate gradients in one kernel call"),
    "dual": Word("model", "solve in the space of rows, as MLP does", SOLVER),
    "loss_grad": Word("model", "evaluate losses and their gradient in one pass"),
    "next_step": Word("model", "do a whole iteration in one kernel call"),
    "tangents": Word("model", "have derivatives along directions of its inputs, as MLP and Chain do", TANGENTS),
    "coefs": Word("model", "have a weight for every input and unit, as MLP does", "choose an MLP"),
    "hidden_layers": Word("model", "be made of layers, an MLP or a Chain", ORACLE),
    "feedback": Word("model", "find directions by feedback in one kernel call"),
    "tangent_kernel": Word("model", "form its neural tangent kernel without a Jacobian"),
    "layers": Word("model", "be made of residual layers (ResNet)", ORACLE),
    "whole_rows": Word(
        "model",
        "hold whole rows of weights on every rank",
        "choose an algorithm, surrogate and oracle that act number by number, such as NEXT() with their defaults",
    ),
    "terms": Word("penalty", "have terms that the kernels know"),
    "by_number": Word(
        "penalty", "act number by number, where rows are spread over ranks", "choose a built-in penalty or none"
    ),
    "square": Word(
        "penalty",
        "be a sum of squares of single weights (L2) or none",
        "choose that, or leave metric=None",
    ),
    "gradient": Word("oracle", "give the true gradient", "use FullLinearization(), or leave oracle=None"),
    "alike": Word(
        "surrogate",
        "agree at all agents",
        "use PartialLinearization(curvature='shared') or 'exact', or leave tau='auto'",
    ),
    "no_tangents": Word("tangents", "be None", "leave tangents=None, or oracle=None"),
}


def check_needs(who: str, needs: Iterable[str], offers: Iterable[str], parts: Mapping[str, Any]) -> None:
    """All needs are among the offers.

    Parameters
    ----------
    who : str
        What needs them, for the sentence.
    needs, offers : iterables of str
        Keys of `WORDS`.
    parts : dict
        What may offer something, by its name.

    Raises
    ------
    ValueError
        Naming the first thing that is missing, the part that lacks it, and what to do.

    Examples
    --------
    >>> check_needs("DGD()", {"any_arrays"}, {"scalars"}, {"network": "a network"})
    Traceback (most recent call last):
    ValueError: network must mix any number of arrays ..., because DGD() needs that, got 'a network': ...
    """
    for need in sorted(set(needs) - set(offers)):
        word = WORDS.get(need, Word("network", f"offer {need!r}", NETWORK))
        raise ValueError(
            f"{word.of} must {word.does}, because {who} needs that, got {short(parts[word.of])}: {word.instead}."
        )

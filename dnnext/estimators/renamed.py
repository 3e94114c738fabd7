"""Parameters that moved from the estimators into the algorithm object, and what to write in their place."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

from dnnext._checks import short
from dnnext.algorithms import DGD, NEXT, CentralizedSCA, GradientTracking
from dnnext.local import FullLinearization, PartialLinearization

Init = TypeVar("Init", bound=Callable[..., None])
# the old parameters of the estimators and their defaults
MOVED = {"surrogate": "auto", "tau": "auto", "step": "auto", "n_blocks": 1, "solver": "auto", "curvature": "auto"}
AS_BY_DEFAULT = "algorithm=NEXT(PartialLinearization(curvature='auto'))"  # an object that does what "next" does


def translated(params):
    """The constructor parameters of today for those of an earlier version.

    Raises
    ------
    TypeError
        If the algorithm is an object, or takes plain gradient steps, and a parameter asks for something else.
    ValueError
        From the algorithm and the surrogate, for a value outside of what they take.
    """
    old = {name: value for name, value in params.items() if name in MOVED}
    rest = {name: value for name, value in params.items() if name not in MOVED}
    asked = {name: value for name, value in old.items() if not (type(value) is str and value == MOVED[name])}
    if asked.get("n_blocks", 1) == 1:
        asked.pop("n_blocks", None)
    if asked:
        rest["algorithm"] = _algorithm(asked, rest.get("algorithm", "next"))
    return rest


def _algorithm(asked, algorithm):
    """The object for an algorithm's name and what was asked beside it."""
    steps = {"gradient_tracking": GradientTracking, "dgd": DGD}
    recipes = {"next": NEXT, "centralized": CentralizedSCA}
    if isinstance(algorithm, str) and algorithm in steps and asked.keys() == {"step"}:
        return steps[algorithm](**asked)
    if not isinstance(algorithm, str) or algorithm not in recipes:
        raise TypeError(
            f"{', '.join(asked)} must be given to the algorithm, not to the estimator; algorithm={short(algorithm)} "
            "was not made with it. Write algorithm=NEXT(PartialLinearization(n_blocks=...), tau=...), for example."
        )
    surrogate = asked.pop("surrogate", "partial")
    of_partial = {name: asked.pop(name) for name in ("n_blocks", "solver", "curvature") if name in asked}
    if surrogate in ("auto", "partial"):
        surrogate = PartialLinearization(**of_partial)
    elif of_partial:
        raise TypeError(
            f"{', '.join(of_partial)} must be given to PartialLinearization; surrogate was {short(surrogate)}."
        )
    elif surrogate == "full":
        surrogate = FullLinearization()
    return recipes[algorithm](surrogate, **asked)


def with_old_names(init: Init) -> Init:
    """The constructor, which also takes the parameters that moved and warns with what to write instead."""

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **params: Any) -> None:
        old = [name for name in MOVED if name in params]
        if old:
            params = translated(params)
            algorithm = params.get("algorithm", "next")
            warnings.warn(
                f"{', '.join(old)} moved from {type(self).__name__} into the algorithm: write "
                f"algorithm={algorithm!r} instead. A later version will refuse the old names.",
                FutureWarning,
                stacklevel=2,
            )
        init(self, *args, **params)

    return cast(Init, wrapped)


def refuse_old_names(names):
    """ValueError that names what to set instead, if parameters to set have moved."""
    moved = sorted({name.split("__")[0] for name in names} & MOVED.keys())
    if moved:
        raise ValueError(
            f"{', '.join(moved)} moved into the algorithm: set {AS_BY_DEFAULT} first, then "
            "algorithm__tau, algorithm__step, algorithm__surrogate, algorithm__surrogate__n_blocks, "
            "algorithm__surrogate__solver or algorithm__surrogate__curvature."
        )


def refuse_parts_of_words(estimator, params):
    """ValueError if a parameter of ``algorithm``, ``model`` and the like is to be set where there is no such object."""
    own = estimator.get_params(deep=False) | params
    for name in params:
        first, _, inner = name.partition("__")
        if inner and first in own and not hasattr(own[first], "set_params"):
            example = f"; pass {AS_BY_DEFAULT} first" if first == "algorithm" else ""
            raise ValueError(f"{first} must be an object to set {name}, got {short(own[first])}{example}.")

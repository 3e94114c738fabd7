"""Values that follow from a problem alone, computed once and kept as long as the problem lives."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from dnnext.problem.objective import Problem

__all__ = ["Kept"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """One value per problem and key; the values of a problem go when it goes.

    Examples
    --------
    >>> from dnnext.problem import MLP, Problem, SquaredError
    >>> problem, sizes = Problem(MLP([1, 1]), SquaredError(), None, [([[1.0]], [1.0])]), Kept[str, int]()
    >>> sizes.once(problem, "rows", lambda: len(problem.x)), sizes.get(problem, "rows"), sizes.get(problem, "columns")
    (1, 1, None)
    """

    def __init__(self) -> None:
        self._values: WeakKeyDictionary[Problem, dict[K, V]] = WeakKeyDictionary()

    def get(self, problem: Problem, key: K) -> V | None:
        """The value, or None where it is not known yet."""
        return self._values.get(problem, {}).get(key)

    def once(self, problem: Problem, key: K, make: Callable[[], V]) -> V:
        """The value, made where it is not known yet."""
        values = self._values.setdefault(problem, {})
        if key not in values:
            values[key] = make()
        return values[key]

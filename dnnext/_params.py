"""Parameters of objects: read and changed as in scikit-learn, and compared over ranks by a fingerprint."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Mapping, Sequence, Set
from functools import cached_property, partial
from types import CodeType, MethodType, ModuleType
from typing import Any, ClassVar, Self

import numpy as np

from dnnext._checks import short

__all__ = ["Parameters", "fingerprint"]


class Parameters:
    """An object that is its constructor's parameters: kept under their own names, as they were given.

    Examples
    --------
    >>> class Scale(Parameters):
    ...     def __init__(self, factor=1.0, power=2):
    ...         self.factor, self.power = factor, power
    >>> scale = Scale(3.0)
    >>> scale.get_params(), scale
    ({'factor': 3.0, 'power': 2}, Scale(factor=3.0))
    >>> scale.set_params(power=1).power
    1
    >>> Scale(3.0).fingerprint() == Scale(np.float64(3.0)).fingerprint() != Scale(4.0).fingerprint()
    True
    """

    _kept: ClassVar[dict[str, str]] = {}  # parameters that have the name of a method: the attribute that holds each

    def _value(self, name: str) -> Any:
        return getattr(self, self._kept.get(name, name))

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """The constructor's parameters and their defaults, in order."""
        if cls.__init__ is object.__init__:
            return {}
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        every = list(inspect.signature(cls.__init__).parameters.values())[1:]
        return {p.name: p.default for p in every if p.kind not in kinds}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name; with `deep` also those of the objects among them, as ``name__inner``."""
        params = {name: self._value(name) for name in self._defaults()}
        for name, value in list(params.items()) if deep else []:
            if hasattr(value, "get_params") and not isinstance(value, type):
                params |= {f"{name}__{inner}": v for inner, v in value.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Change parameters, also inner ones; the object is built anew from them, so they are checked as at first.

        Raises
        ------
        ValueError
            If a name is none of the parameters, or a value is unfit.
        """
        own, inner = self.get_params(deep=False), dict[str, dict[str, Any]]()
        for name, value in params.items():
            first, _, rest = name.partition("__")
            if first not in own:
                raise ValueError(f"{name} must be a parameter of {type(self).__name__}: {', '.join(own) or 'none'}.")
            if rest:
                inner.setdefault(first, {})[rest] = value
            else:
                own[first] = value
        for name, changes in inner.items():
            if not hasattr(own[name], "set_params"):
                raise ValueError(
                    f"{name} must be an object with parameters to set {sorted(changes)}, got {short(own[name])}."
                )
            own[name].set_params(**changes)
        self.__init__(**own)  # type: ignore[misc]
        return self

    def __sklearn_clone__(self) -> Self:
        """A new object from copies of the parameters: what `sklearn.base.clone` makes of it."""
        return type(self)(**copy.deepcopy(self.get_params(deep=False)))

    def fingerprint(self) -> str:
        """Class and parameters in a form that is equal for equal objects, on every rank; `repr` may hide some."""
        return f"{_name(type(self))}({fingerprint(_own(self))})"

    def __repr__(self) -> str:
        said = [
            f"{name}={self._value(name)!r}"
            for name, default in self._defaults().items()
            if hasattr(self, self._kept.get(name, name)) and not _same(self._value(name), default)
        ]
        return f"{type(self).__name__}({', '.join(said)})"


def fingerprint(value: Any) -> str:
    """A text that is equal for equal values on every rank: numbers by value, arrays by digest, objects by their parts.

    An object is asked for its `fingerprint()`; without one, its class and all its attributes count. A function is its
    qualified name, code, defaults and what it encloses; globals that it reads count by their names alone.

    Examples
    --------
    >>> fingerprint((np.float64(0.5), "ring", None)), fingerprint(np.arange(2)) == fingerprint(np.arange(2))
    ("(0.5, 'ring', None)", True)
    """
    return _of(value, ())


def _of(value: Any, above: tuple[int, ...]) -> str:
    if id(value) in above:
        return "..."
    above = (*above, id(value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and abs(value) < 2**53 and value.is_integer():
        value = int(value)  # 1 and 1.0 are equal
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "O":
            return f"array({_of(value.tolist(), above)})"
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        return f"array({value.dtype}, {value.shape}, {digest})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{_of(k, above)}: {_of(v, above)}" for k, v in value.items())) + "}"
    if isinstance(value, Set):
        return "{" + ", ".join(sorted(_of(v, above) for v in value)) + "}"
    if isinstance(value, Sequence):
        return "(" + ", ".join(_of(v, above) for v in value) + ")"
    return _object(value, above)


def _object(value: Any, above: tuple[int, ...]) -> str:
    own = getattr(value, "fingerprint", None)
    if callable(own) and not isinstance(value, type):
        return str(own())
    if isinstance(value, type | np.dtype):
        return _name(value) if isinstance(value, type) else str(value)
    if isinstance(value, partial):
        return f"partial({_of(value.func, above)}, {_of(value.args, above)}, {_of(value.keywords, above)})"
    if isinstance(value, np.random.Generator | np.random.SeedSequence):
        state = (
            value.bit_generator.state if isinstance(value, np.random.Generator) else (value.entropy, value.spawn_key)
        )
        return f"{type(value).__name__}({_of(state, above)})"
    if callable(value) and hasattr(value, "__code__"):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        held = value.__defaults__, value.__kwdefaults__, value.__self__ if isinstance(value, MethodType) else None
        return f"{value.__module__}.{value.__qualname__}({_code(value.__code__)}, {_of((cells, held), above)})"
    if isinstance(value, ModuleType | np.ufunc):
        return value.__name__
    parts = _own(value)
    for kind in type(value).__mro__:
        names = kind.__dict__.get("__slots__", ())
        parts |= {n: getattr(value, n) for n in ([names] if isinstance(names, str) else names) if hasattr(value, n)}
    return f"{_name(type(value))}({_of(parts, above)})"


def _code(code: CodeType) -> str:
    """Instructions, names and constants, those of inner functions, too; no address, file or line."""
    consts = [_code(const) if isinstance(const, CodeType) else _of(const, ()) for const in code.co_consts]
    return hashlib.sha256(code.co_code + repr((code.co_names, consts)).encode()).hexdigest()[:16]


def _own(value: Any) -> dict[str, Any]:
    """Its attributes, but for cached properties, which follow from the others."""
    own = getattr(value, "__dict__", {})
    return {name: v for name, v in own.items() if not isinstance(getattr(type(value), name, None), cached_property)}


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _same(value: Any, default: Any) -> bool:
    if value is default:
        return True
    try:
        return type(value) is type(default) and bool(value == default)
    except (TypeError, ValueError):
        return False

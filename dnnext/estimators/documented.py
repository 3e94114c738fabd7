"""Signatures and docstrings of the estimators, from the tables of parameters.py."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, get_type_hints

from dnnext.estimators.parameters import ATTRIBUTES, CLASSES, COST, POSITIONAL, RAISES, REFERENCES, Given

__all__ = ["documented", "keep"]

WIDTH = 116  # columns of a docstring's text
KEYWORD = inspect.Parameter.KEYWORD_ONLY
Kind = TypeVar("Kind", bound=type)


@cache
def keywords(table: type) -> dict[str, Given]:
    """The parameters of a table by name, in the order of documentation: loss first."""
    hints = get_type_hints(table, include_extras=True)
    found = {name: next(m for m in hint.__metadata__ if isinstance(m, Given)) for name, hint in hints.items()}
    return {name: found[name] for name in sorted(found, key=lambda name: name != "loss")}


def documented(table: type) -> Callable[[Kind], Kind]:
    """A class decorator: the signature of the constructor, and the docstring with its sections, from `table`.

    The docstring of the class has a line ``{sections}`` where they belong; the constructor takes ``**parameters``.
    """

    def complete(kind: Kind) -> Kind:
        init: Any = kind.__init__  # type: ignore[misc]
        bare = inspect.signature(inspect.unwrap(init))
        named = [p for p in bare.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        own = {p.name: POSITIONAL[p.name] for p in named if p.name != "self"}
        more = [inspect.Parameter(name, KEYWORD, default=given.default) for name, given in keywords(table).items()]
        plain = [p.replace(annotation=inspect.Parameter.empty) for p in named]
        init.__signature__ = inspect.Signature([*plain, *more])
        sections = {
            "Parameters": "".join(map(entry, *zip(*(own | keywords(table)).items(), strict=True))),
            "Attributes": ATTRIBUTES.replace("{classes}", CLASSES if "class_weight" in keywords(table) else ""),
            "Raises": RAISES,
            "References": REFERENCES,
        }
        texts = [f"    {title}\n    {'-' * len(title)}\n{text}" for title, text in sections.items()]
        kind.__doc__ = (kind.__doc__ or "").replace("    {sections}\n", "\n".join([COST, *texts]))
        return kind

    return complete


def entry(name: str, given: Given) -> str:
    """A parameter as numpydoc has it."""
    indent = " " * 8
    text = textwrap.fill(given.text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return f"    {name} : {given.kinds}, default={given.default!r}\n{text}\n"


def keep(estimator: Any, table: type, given: dict[str, Any], **own: Any) -> None:
    """Set the constructor's parameters as attributes: `own`, and those of `table`, as given or their defaults.

    Raises
    ------
    TypeError
        If a name is none of the parameters.
    """
    known = list(keywords(table))
    for name in given:
        if name not in known:
            raise TypeError(f"{name} must be a parameter of {type(estimator).__name__}: {', '.join([*own, *known])}.")
    defaults = {name: parameter.default for name, parameter in keywords(table).items()}
    for name, value in {**own, **defaults, **given}.items():
        setattr(estimator, name, value)

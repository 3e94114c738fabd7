"""The sentences that refuse a value everywhere: which argument, what it was, what is allowed.

Each check returns the value in the type the caller wants, or raises ValueError.
"""

import difflib
import math
import os
import reprlib
import sys
from collections.abc import Collection
from typing import Any

import numpy as np

__all__ = [
    "check_between",
    "check_choice",
    "check_count",
    "check_memory",
    "check_path",
    "check_positive",
    "check_random_state",
    "is_word",
    "nearest",
    "short",
]

Words = Collection[str | None]
LONGEST = 200  # characters of a value in a sentence


class _Short(reprlib.Repr):
    """repr for sentences: a large array or table is its kind and shape, and every value is one line."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST
        self.maxlist = self.maxtuple = self.maxarray = self.maxdict = self.maxset = self.maxfrozenset = 8

    def repr1(self, x: Any, level: int) -> str:
        shape = None if isinstance(x, type) else getattr(x, "shape", None)
        if isinstance(shape, tuple) and not (isinstance(x, np.ndarray | np.generic) and x.size <= self.maxlist):
            return f"<{type(x).__name__} of shape {shape}>"
        text = super().repr1(x, level)
        return " ".join(text.split()) if "\n" in text else text


def short(value: Any) -> str:
    """The value as a sentence shows it: its repr, where that is long without the middle, of arrays the shape alone.

    >>> short([np.zeros((50, 4)), 0.5]), short(np.arange(3))
    ('[<ndarray of shape (50, 4)>, 0.5]', 'array([0, 1, 2])')
    """
    text = _Short().repr(value)
    return text if len(text) <= LONGEST + 40 else f"{text[: LONGEST - 60]}...{text[-60:]}"


def check_positive(name: str, value: Any, *, allow_zero: bool = False, above: float = 0.0, words: Words = ()) -> float:
    """A finite number above zero (or zero itself, if allowed), or above `above`, as float."""
    return check_between(name, value, above, math.inf, open_low=not allow_zero, open_high=True, words=words)


def check_between(
    name: str,
    value: Any,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
    words: Words = (),
) -> float:
    """A number in the interval from low to high as float; NaN and everything that is not a real number are refused.

    words: what else the caller allows, for the sentence.
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    number = number and not (isinstance(value, int) and abs(value) > sys.float_info.max)  # no float holds it
    number = number and not math.isnan(value)
    inside = number and (low < value if open_low else low <= value) and (value < high if open_high else value <= high)
    if not inside:
        if high == math.inf:
            allowed = f"a finite number {'above' if open_low else 'of at least'} {low:g}"
        else:
            ends = (
                f"{low:g}{' (not included)' if open_low else ''} and {high:g}{' (not included)' if open_high else ''}"
            )
            allowed = f"a number between {ends}"
        raise ValueError(f"{name} must be {_or(words)}{allowed}, got {short(value)}.{nearest(value, words)}")
    return float(value)


def check_count(name: str, value: Any, minimum: int = 1, words: Words = ()) -> int:
    """A whole number of at least `minimum` as int; words: what else the caller allows, for the sentence."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < minimum:
        raise ValueError(
            f"{name} must be {_or(words)}a whole number of at least {minimum}, got {short(value)}."
            f"{nearest(value, words)}"
        )
    return int(value)


def _or(words: Words) -> str:
    """What a sentence that goes on with a number begins with: words beside it, quoted; empty without any."""
    return f"{', '.join(map(repr, words))} or " if words else ""


def is_word(value: Any, *words: str) -> bool:
    """Whether the value is one of these words; an array is none, and is not compared number by number."""
    return isinstance(value, str) and value in words


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """One of the given words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got {short(value)}.{nearest(value, choices)}"
        )
    return value


def nearest(value: Any, names: Collection[Any]) -> str:
    """The end of a sentence: which of the names a misspelt word is much like; empty where there is none.

    >>> nearest("Gradient-Tracking", ["next", "gradient_tracking"]), nearest("zebra", ["next"])
    (" Did you mean 'gradient_tracking'?", '')
    """
    if not isinstance(value, str):
        return ""
    plain = {name.lower().replace("-", "_").replace(" ", "_"): name for name in names if isinstance(name, str)}
    near = difflib.get_close_matches(value[:LONGEST].lower().replace("-", "_").replace(" ", "_"), list(plain), 1)
    return f" Did you mean {plain[near[0]]!r}?" if near else ""


def check_path(name: str, value: Any, what: str = "a file", hint: str = "") -> str:
    """The name of a file or folder as str, with what to do where it is something else.

    >>> check_path("path", np.zeros((50, 4)), hint="the path comes first")
    Traceback (most recent call last):
    ValueError: path must be the name of a file, got <ndarray of shape (50, 4)>: the path comes first.
    """
    if isinstance(value, str | os.PathLike):
        place = os.fspath(value)
        if isinstance(place, str) and place and "\0" not in place:
            return place
    raise ValueError(f"{name} must be the name of {what}, got {short(value)}{': ' if hint else ''}{hint}.")


def check_memory(what: str, n_bytes: int, advice: str) -> None:
    """MemoryError, before anything is allocated, if `what` needs more bytes than this machine has.

    Systems promise memory they do not have, and kill the process that touches it.
    """
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # nobody knows: the allocation itself will fail or not
        return
    if n_bytes > there > 0:
        raise MemoryError(f"{what} needs {n_bytes / 1e9:.3g} GB, but this machine has {there / 1e9:.3g} GB: {advice}.")


def check_random_state(random_state: Any) -> np.random.SeedSequence:
    """The one source of randomness, as a SeedSequence.

    An int gives the same sequence everywhere; None draws fresh entropy; a Generator (or RandomState) is asked for one
    number, so it moves on; a SeedSequence is taken as it is.
    """
    if random_state is None:
        return np.random.SeedSequence()
    if isinstance(random_state, np.random.SeedSequence):
        return random_state
    if isinstance(random_state, np.random.Generator):
        return np.random.SeedSequence(int(random_state.integers(2**63)))
    if isinstance(random_state, np.random.RandomState):
        return np.random.SeedSequence(int(random_state.randint(2**31)))
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool) and random_state >= 0:
        return np.random.SeedSequence(int(random_state))
    raise ValueError(
        f"random_state must be None, a whole number of at least 0, a numpy Generator or a SeedSequence, "
        f"got {short(random_state)}."
    )

"""Sums over the rows of all agents that do not depend on who holds which rows.

# Design:
#   Floating-point addition depends on its order. Here every number is cut into three whole numbers of 30 bits relative
#   to the largest number of its column, u = 2^e (a 2^-30 + b 2^-60 + c 2^-90), and whole numbers are added without
#   rounding. What is cut off is below 2^-90 of the largest number, the same for every row wherever it lies. So one
#   pool, any agents and any ranks give the same bits. The idea is that of J. Demmel, H. D. Nguyen, Fast reproducible
#   floating-point summation, IEEE Symposium on Computer Arithmetic (2013).
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnext.runtime import Runtime

BITS, LIMBS = 30, 3  # 2^32 rows of 30 bits fit into an int64
Array = NDArray[Any]


class NetworkSums:
    """Sums, largest values and quantiles over the rows of all agents; every method is collective.

    Parameters
    ----------
    runtime : Runtime
        Where the agents live.
    offsets : array of int (n_local + 1,)
        Agent i of this rank holds the rows ``offsets[i]:offsets[i + 1]``.
    """

    def __init__(self, runtime: Runtime, offsets: Array) -> None:
        self.runtime = runtime
        self.cuts = list(itertools.pairwise(offsets.tolist()))

    def largest(self, values: Array) -> Array:
        """The largest value of every column, (n, d) -> (d,); -inf without rows."""
        lowest = np.full(values.shape[1:], -np.inf)
        tops = [values[a:b].max(axis=0, initial=-np.inf) if b > a else lowest for a, b in self.cuts]
        return np.asarray(self.runtime.max_agents(np.array(tops)))

    def total(self, values: Array) -> list[Fraction]:
        """The sum of every column as an exact fraction, (n, d) -> d; values are finite."""
        exponents = self._exponents(values)
        limbs = split(values, exponents)
        sums = self.runtime.sum_agents(np.array([limbs[:, a:b].sum(axis=1) for a, b in self.cuts]))
        return [fraction(sums[:, k], e) for k, e in enumerate(exponents.tolist())]

    def total_by(self, codes: Array, weight: Array, n_codes: int) -> list[Fraction]:
        """The sum of weight over the rows of each code; codes (n,), -1 for none."""
        exponent = self._exponents(weight[:, None])
        limbs = split(weight[:, None], exponent)[:, :, 0]
        own = np.zeros((len(self.cuts), LIMBS, n_codes), dtype=np.int64)
        for i, (a, b) in enumerate(self.cuts):
            there = codes[a:b] >= 0
            for limb, sums in zip(limbs, own[i], strict=True):
                np.add.at(sums, codes[a:b][there], limb[a:b][there])
        total = self.runtime.sum_agents(own)
        return [fraction(total[:, k], int(exponent[0])) for k in range(n_codes)]

    def median(self, values: Array, weight: Array) -> float:
        """The weighted median of one column (n,) without NaN: for whole weights, that of the rows repeated so often.

        It is the mean of the smallest v with ``W(v) >= W / 2`` and the smallest with ``W(v) > W / 2``, where W(v) is
        the weight of the values up to v.
        """
        at_least, above = self._smallest(values, weight, [(Fraction(1, 2), False), (Fraction(1, 2), True)])
        return float((Fraction(at_least) + Fraction(above)) / 2)

    def quantiles(self, values: Array, weight: Array, shares: list[Fraction]) -> list[float]:
        """For every share q the smallest value v of one column (n,) with ``W(v) >= q W``, W as in `median`."""
        return self._smallest(values, weight, [(share, False) for share in shares])

    def _smallest(self, values: Array, weight: Array, tests: list[tuple[Fraction, bool]]) -> list[float]:
        """The smallest v with ``W(v) >= q W``, or ``> q W``, by bisection: counts travel, in 64 rounds for each."""
        exponent = self._exponents(weight[:, None])
        held = []
        for a, b in self.cuts:
            keys = _ordered(values[a:b])
            order = np.argsort(keys, kind="stable")
            limbs = split(weight[a:b][order, None], exponent)[:, :, 0]
            held.append(
                (keys[order], np.concatenate([np.zeros((LIMBS, 1), np.int64), np.cumsum(limbs, axis=1)], axis=1))
            )

        def up_to(key: int) -> Fraction:
            own = [sums[:, np.searchsorted(keys, key, side="right")] for keys, sums in held]
            return fraction(self.runtime.sum_agents(np.array(own)), int(exponent[0]))

        whole, found = up_to(2**63 - 1), []
        for share, beyond in tests:
            low, high = -(2**63), 2**63 - 1
            while low < high:
                middle = (low + high) // 2
                w = up_to(middle)
                low, high = (
                    (low, middle) if (w > share * whole if beyond else w >= share * whole) else (middle + 1, high)
                )
            found.append(_value(low))
        return found

    def _exponents(self, values: Array) -> NDArray[np.int64]:
        """e (d,) with every |value| < 2^e."""
        top = self.largest(np.abs(values))
        return np.where(top > 0, np.frexp(np.where(top > 0, top, 1.0))[1], 0).astype(np.int64)


def split(values: Array, exponents: Array) -> NDArray[np.int64]:
    """Three whole numbers for each value, (n, d) -> (3, n, d)."""
    rest = np.ldexp(values, -exponents.astype(np.int32))
    limbs = np.empty((LIMBS, *values.shape), dtype=np.int64)
    for limb in limbs:
        rest = np.ldexp(rest, BITS)
        whole = np.rint(rest)
        limb[...] = whole
        rest = rest - whole  # exact
    return limbs


def fraction(limbs: Any, exponent: int) -> Fraction:
    """The number that (sums of) three whole numbers stand for."""
    whole = 0
    for limb in limbs:
        whole = (whole << BITS) + int(limb)
    return Fraction(whole) * Fraction(2) ** (exponent - BITS * LIMBS)


def _ordered(values: Array) -> NDArray[np.int64]:
    """Whole numbers in the order of the floats."""
    bits = (values + 0.0).astype(np.float64).view(np.int64)
    return np.where(bits >= 0, bits, bits ^ np.int64(2**63 - 1))


def _value(key: int) -> float:
    """The float of a whole number of `_ordered`."""
    bits = np.array([key if key >= 0 else key ^ (2**63 - 1)], dtype=np.int64)
    return float(bits.view(np.float64)[0])

"""Words, messages and modelled time of a dense layer over P ranks: a row of ranks (1-D), a square (2-D), a cube (3-D).

Received words are counted, per rank, and they are the same on every rank; sizes that do not divide are padded. What the
layers of `dnnext.models.cube` count when they run is equal to these formulas.
"""

from typing import NamedTuple

from dnnext import _checks

__all__ = ["KINDS", "Volume", "messages", "step_time", "stored", "words"]

KINDS = ("1d-columns", "1d-rows", "2d", "3d")


class Volume(NamedTuple):
    """Words or messages of one pass in each direction.

    Examples
    --------
    >>> Volume(forward=3, backward=4).both
    7
    """

    forward: int
    backward: int

    @property
    def both(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward


def _parts(n: int, parts: int) -> int:
    return -(-n // parts)


def _side(kind: str, P: int) -> int:
    """Ranks along one side: P, its square root or its cube root."""
    _checks.check_choice("kind", kind, KINDS)
    P = _checks.check_count("P", P)
    power = {"2d": 2, "3d": 3}.get(kind, 1)
    side: int = round(P ** (1 / power))
    if side**power != P:
        raise ValueError(f"P must be a number of ranks p^{power} for {kind!r}, got {P}.")
    return side


def words(kind: str, M: int, K: int, N: int, P: int, *, bias: bool = False) -> Volume:
    """Words that every rank receives in one dense layer ``psi(X W + b)``, X (M, K), W (K, N).

    With sizes that divide: 3-D, P = p^3, ``(p - 1) / p^3 (MK + KN + MN)`` forward and the same backward; 2-D, P = q^2,
    ``(q - 1) / q^2 (MK + KN)`` forward and twice that backward; 1-D, ``2 (P - 1) / P MK`` backward where W is split by
    columns, ``2 (P - 1) / P MN`` forward where it is split by rows.

    Parameters
    ----------
    kind : {"1d-columns", "1d-rows", "2d", "3d"}
    M, K, N : int
        Rows, inputs and outputs.
    P : int
        Ranks; a square for "2d", a cube for "3d".
    bias : bool, default=False
        Count the biases, too.

    Returns
    -------
    Volume

    Raises
    ------
    ValueError
        If the kind is unknown, or P is no square or cube.

    References
    ----------
    Z. Bian, Q. Xu, B. Wang, Y. You, arXiv 2105.14450 (2021); derived here.

    Examples
    --------
    >>> words("3d", 64, 32, 48, 8)
    Volume(forward=832, backward=832)
    >>> words("2d", 64, 32, 48, 4).both, words("1d-rows", 64, 32, 48, 8).forward
    (2688, 5376)
    """
    p = _side(kind, P)
    if kind == "3d":
        m, k, n = (_parts(size, p * p) for size in (M, K, N))
        one = (p - 1) * p * (m * k + k * n) + (p - 1) * p * m * n
        biases = (p * p - 1) * _parts(n, p) if bias else 0
        return Volume(one + biases, one + biases)
    if kind == "2d":
        m, k, n = (_parts(size, p) for size in (M, K, N))
        one = (p - 1) * (m * k + k * n)
        biases = (p - 1) * _parts(n, p) if bias else 0
        return Volume(one + biases, 2 * one + biases)
    if kind == "1d-columns":
        return Volume(0, 2 * (P - 1) * _parts(M * K, P))
    return Volume(2 * (P - 1) * _parts(M * N, P) + ((P - 1) * _parts(N, P) if bias else 0), 0)


def messages(kind: str, P: int, *, bias: bool = False) -> Volume:
    """Messages that every rank receives in one dense layer.

    Parameters
    ----------
    kind : {"1d-columns", "1d-rows", "2d", "3d"}
    P : int
    bias : bool, default=False

    Returns
    -------
    Volume

    Examples
    --------
    >>> messages("3d", 8), messages("2d", 16)
    (Volume(forward=3, backward=3), Volume(forward=6, backward=12))
    """
    p = _side(kind, P)
    if kind == "3d":
        one = 3 * (p - 1) + (p * p - 1) * bias
        return Volume(one, one)
    if kind == "2d":
        return Volume(2 * (p - 1) + (p - 1) * bias, 4 * (p - 1) + (p - 1) * bias)
    return Volume(0, 2 * (P - 1)) if kind == "1d-columns" else Volume(2 * (P - 1) + (P - 1) * bias, 0)


def stored(kind: str, M: int, K: int, N: int, P: int) -> int:
    """Numbers of X, W and the result that one rank holds; in 1-D the whole input or result is one of them.

    Parameters
    ----------
    kind : {"1d-columns", "1d-rows", "2d", "3d"}
    M, K, N, P : int

    Examples
    --------
    >>> stored("3d", 64, 32, 48, 8) * 8 == 64 * 32 + 32 * 48 + 64 * 48
    True
    """
    p = _side(kind, P)
    if kind == "3d":
        m, k, n = (_parts(size, p * p) for size in (M, K, N))
        return p * (m * k + k * n + m * n)
    if kind == "2d":
        m, k, n = (_parts(size, p) for size in (M, K, N))
        return m * k + k * n + m * n
    k, n = (K, _parts(N, P)) if kind == "1d-columns" else (_parts(K, P), N)
    return M * k + k * n + M * n


def step_time(
    kind: str, M: int, K: int, N: int, P: int, *, alpha: float, beta: float, gamma: float, bias: bool = False
) -> float:
    """Modelled seconds of one layer, forward and backward: ``alpha messages + beta words + gamma 6 MKN / P``.

    Parameters
    ----------
    kind : {"1d-columns", "1d-rows", "2d", "3d"}
    M, K, N, P : int
    alpha, beta, gamma : float
        Seconds per message, per word and per floating-point operation.
    bias : bool, default=False

    Returns
    -------
    float

    Examples
    --------
    >>> step_time("3d", 64, 32, 48, 8, alpha=0.0, beta=1e-6, gamma=0.0)
    0.001664
    """
    flops = 6 * M * K * N / P
    return alpha * messages(kind, P, bias=bias).both + beta * words(kind, M, K, N, P, bias=bias).both + gamma * flops

"""The contract between a recipe and what averages its arrays: `mix`, what a mixer offers, how it is saved."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dnnext.network.messages import Refusal
from dnnext.runtime import Runtime

__all__ = ["Mixed", "Mixer", "MixerState"]

Array = NDArray[Any]


class Mixed(NamedTuple):
    """What `mix` returns.

    Attributes
    ----------
    arrays : tuple of (n_local, P)
        The mixed arrays, in the order given. They belong to the caller.
    received : (n_local,) or (n_local, S)
        Largest scalar received from the direct neighbours over all rounds of this call, own excluded; 0 where there was
        none.
    disagreement : (n_local,) float64
        ``||z_i - sum_j c_ij z_j|| / ||z_i||`` of the first array in the first round; 0 where z_i is 0, infinite
        where it is not a number.
    size : (n_local,) float64 or None
        ``||z_i||`` of the first array, where it was a by-product.

    Examples
    --------
    >>> from dnnext.network import Network, Topology
    >>> mixed = Network(Topology.complete(2)).mix(np.array([[0.0], [2.0]]), scalars=np.array([3.0, 5.0]))
    >>> mixed.arrays[0].ravel(), mixed.received
    (array([1., 1.]), array([5., 3.]))
    """

    arrays: tuple[Array, ...]
    received: Array
    disagreement: NDArray[np.float64]
    size: NDArray[np.float64] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Refuse to be an array: ``s.w = network.mix(z)`` forgets which one is meant."""
        raise TypeError("mix returns an object, not an array: take the averages from its arrays, as in arrays[0].")


class MixerState(NamedTuple):
    """All that the next call of `mix` depends on, beside its arguments.

    Attributes
    ----------
    agents : dict of name to array
        With one entry per local agent.
    shared : dict of name to array
        Equal on every rank.
    numbers : dict
        Plain values, equal on every rank, that JSON can hold.

    Examples
    --------
    >>> from dnnext.network import Network, Topology
    >>> Network(Topology.ring(3)).snapshot().numbers
    {'round': 0, 'bytes': 0}
    """

    agents: dict[str, Array]
    shared: dict[str, Array]
    numbers: dict[str, Any]


class Mixer(Protocol):
    """Averages the rows of the agents with those of their neighbours: ``w_i <- sum_j c_ij z_j``, C doubly stochastic.

    The mean over the agents is preserved and equal rows stay as they are. Results are equal bit for bit over threads
    and ranks. Ranks call the methods in the same order.

    Attributes
    ----------
    n_agents : int
        Agents of the whole network.
    runtime : Runtime
        Where they live.
    round : int
        Rounds done so far.
    bytes : int
        Bytes sent by all agents so far.
    offers : frozenset of str
        Keys of `dnnext._needs.WORDS`; a recipe's `needs` are compared with them once, before the run.
    refused : Refusal or None
        The first message that was refused since this was last set to None.

    Examples
    --------
    >>> from dnnext.network import Network, Topology
    >>> mixer: Mixer = Network(Topology.complete(2))
    >>> mixer.mix(np.array([[0.0], [2.0]])).arrays[0].tolist(), sorted(mixer.offers)
    ([[1.0], [1.0]], ['any_arrays', 'memoryless', 'scalars', 'shrinks', 'static', 'tree'])
    """

    n_agents: int
    runtime: Runtime
    round: int
    bytes: int
    refused: Refusal | None

    @property
    def offers(self) -> frozenset[str]:
        """What this mixer can do beside the contract, keys of `dnnext._needs.WORDS`."""

    def mix(self, *arrays: Array, scalars: Array | None = None, t: int = 0) -> Mixed:
        """All mixing rounds of one iteration; arrays (n_local, P), float64 or float32 alike, are not written to."""

    def restart(self) -> None:
        """Forget earlier messages: all agents begin again together, with y = grad."""

    def snapshot(self) -> MixerState:
        """What `restore` needs; copies."""

    def restore(self, state: MixerState) -> None:
        """Go on as the mixer went on that was saved, to the bit, on any number of ranks."""

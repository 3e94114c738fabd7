"""One round of mixing C Z on a random graph of about six neighbours. Limit: a copy of Z."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.speed.kernels.clock import Row, total
from dnnext import kernels
from dnnext.network import Topology

PLAIN = np.array([[1.0, 0.0, 0.0]])  # scale, shift, memory of one round
SHAPES = {
    "few agents": (10, 101, ("ratio", 1.0)),
    "32 agents": (32, 2000, ("ratio", 1.0)),
    "100 agents": (100, 2000, ("ratio", 2.0)),
    "400 agents": (400, 5000, ("ratio", 2.0)),
}


def rows(quick: bool) -> Iterator[Row]:
    for name, (agents, params, goal) in SHAPES.items():
        for dtype in (np.float64,) if quick else (np.float64, np.float32):
            yield mixing_row(name, agents, params, goal, dtype)


def mixing_row(name: str, agents: int, params: int, goal: Any, dtype: Any) -> Row:
    mixing = Topology.erdos_renyi(agents, p=min(0.9, 6 / agents), random_state=0).mixing.astype(dtype)
    mixing.sort_indices()
    dense = mixing.toarray()
    z = np.random.default_rng(0).standard_normal((agents, params)).astype(dtype)
    out, copy = np.empty_like(z), np.empty_like(z)
    csr = (mixing.indptr.astype(np.int64), mixing.indices.astype(np.int64), mixing.data)

    def ours() -> Any:
        kernels.network_mix(out, None, None, z, *csr, PLAIN)
        return (out,)

    numpy = {"dense": lambda: np.matmul(dense, z, out=copy), "SciPy CSR": lambda: mixing @ z}
    return Row(
        "mixing", f"{name}: A = {agents}, P = {params}", dtype, ours, {"NumPy": numpy}, {"kind": "mixing"},
        {"dense": dense, "rows": z, "indptr": mixing.indptr, "indices": mixing.indices, "data": mixing.data},
        lambda r: total(*r), lambda s: s["part: copy"], "a copy of Z", goal,
        {"copy": lambda: np.copyto(copy, z)},
    )  # fmt: skip

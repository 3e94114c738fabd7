"""Small runs of six agents, whole or cut, for the tests of checkpoints."""

import numpy as np

from dnnext.network import Topology
from dnnext.problem import L2, MLP, Problem, SquaredError
from dnnext.runtime import InProcess

RING = Topology.ring(6)


def make_shards(n_agents=6, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((10 + i % 3, 3)), rng.standard_normal((10 + i % 3, 1))) for i in range(n_agents)]


def make_problem(runtime=None, penalty=None, seed=0, layers=(3, 4, 1), **options):
    runtime = InProcess(6) if runtime is None else runtime
    shards = [make_shards(seed=seed)[i] for i in runtime.agents]
    return Problem(MLP(layers), SquaredError(), L2(alpha=1e-2) if penalty is None else penalty, shards,
                   runtime=runtime, **options)  # fmt: skip


def assert_same(result, other):
    np.testing.assert_array_equal(result.w, other.w)
    np.testing.assert_array_equal(result.y, other.y)
    np.testing.assert_array_equal(result.w_bar, other.w_bar)
    assert (result.n_iter, result.status) == (other.n_iter, other.status)
    for name in set(other.history) - {"seconds", "bytes_wire"}:
        np.testing.assert_array_equal(result.history[name], other.history[name], err_msg=name)


class Stop(Exception): ...


def killed_at(t):
    def callback(state, metrics):
        if state.t == t:
            raise Stop

    return callback

"""Small problems that the recipes are tested on."""

import numpy as np
import pytest

from dnnext.problem import L2, MLP, Problem, SquaredError


def make_problem(
    n_agents=4, rows=12, layers=(3, 5, 1), loss=None, penalty=None, seed=0, equal=False, activation="tanh", **options
):
    """A regression over n_agents shards of slightly different size (or all with the same data)."""
    rng = np.random.default_rng(seed)
    shards = []
    for i in range(n_agents):
        if equal and shards:
            shards.append(shards[0])
            continue
        x = rng.standard_normal((rows + (0 if equal else i % 3), layers[0]))
        y = np.sin(x @ rng.standard_normal((layers[0], layers[-1]))) + 0.1 * rng.standard_normal((len(x), layers[-1]))
        shards.append((x, y))
    return Problem(
        MLP(layers, activation=activation), SquaredError() if loss is None else loss,
        L2(alpha=1e-2) if penalty is None else penalty, shards, **options,
    )  # fmt: skip


@pytest.fixture(name="make_problem")
def _make_problem():
    return make_problem

"""The penalty of networks in depth: its derivative, its prox, and what it does to training."""

import numpy as np
import pytest

from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization
from dnnext.models import MLP, ResNet
from dnnext.network import Network, Topology
from dnnext.problem import Problem, SquaredError
from dnnext.problem.depth import DepthPenalty

MODEL = ResNet(5, 3, 2.0, n_inputs=2, n_outputs=2)
TERMS = [
    DepthPenalty(0.3, 0.0),
    DepthPenalty(0.0, 0.2, h=0.4),
    DepthPenalty(0.0, 0.0, output=0.5),
    DepthPenalty(0.1, 1e-3, 0.2, h=0.1),
]


@pytest.mark.parametrize("penalty", TERMS, ids=repr)
@pytest.mark.parametrize("layout", [MODEL.layout, MLP([3, 4, 4, 4, 2]).layout], ids=["resnet", "mlp"])
def test_the_prox_is_where_the_derivative_of_its_objective_is_zero(penalty, layout):
    rng = np.random.default_rng(0)
    r, v, s = penalty.bind(layout), rng.normal(size=(3, layout.n_params)), np.array([0.1, 1.0, 50.0])
    u = r.prox(v, s)
    for row, target, step in zip(u, v, s, strict=True):
        for d in (*rng.normal(size=(4, layout.n_params)), *np.eye(layout.n_params)[:6]):
            slope = (r.value(row + 1e-4 * d) - r.value(row - 1e-4 * d)) / 2e-4
            assert d @ (row - target) + step * slope == pytest.approx(0, abs=1e-6 * (1 + step))


def test_equal_layers_cost_nothing_and_steps_cost_what_they_are():
    r = DepthPenalty(0.0, 2.0, h=0.5).bind(MODEL.layout)
    w = np.zeros(MODEL.layout.n_params)
    layers = MODEL.split(w)[1]
    layers[:] = np.arange(12)
    assert r.value(w) == 0
    layers[3:] += 1.0
    assert r.value(w) == pytest.approx(2.0 / 2 * 12 / 0.25)


def test_training_with_it_gives_smoother_layers():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (40, 2))
    shards = [(x[i::2], np.sin(3 * x[i::2])) for i in range(2)]
    roughness = []
    for smoothness in (0.0, 1e-2):
        problem = Problem(MODEL, SquaredError(), DepthPenalty(1e-6, smoothness, h=MODEL.h), shards)
        result = NEXT(FullLinearization()).run(problem, Network(Topology.path(2)), max_iter=60, warn=False)
        roughness.append(np.sum(np.diff(MODEL.split(result.w_bar)[1], axis=0) ** 2))
        assert result.history["objective"][-1] < result.history["objective"][0]
    assert roughness[1] < 0.5 * roughness[0]


@pytest.mark.parametrize("arguments", [{"tikhonov": -1.0}, {"smoothness": np.nan}, {"h": 0.0}, {"output": "x"}])
def test_unfit_strengths_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        DepthPenalty(**arguments)

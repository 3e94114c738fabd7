"""Pools by maxima: derivatives that jump are no curvature, and training goes on."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dnnext import checkpoint
from dnnext.algorithms import NEXT
from dnnext.algorithms.kinks import EVERY, FIRST, _largest, limit_beta, missed_along
from dnnext.callbacks import Checkpoint
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.models import Chain, Conv2d, Dense, Flatten, MaxPool2d, Residual
from dnnext.models.inner_products import Euclidean
from dnnext.network import Network, Topology
from dnnext.problem import L2, Problem, Softmax
from dnnext.runtime import InProcess

LAYERS = [Conv2d(4, 3, padding=1, activation="tanh"), MaxPool2d(2), Conv2d(8, 3, padding=1, activation="tanh")]
LAYERS += [MaxPool2d(2), Flatten(), Dense()]


class Unlimited(Chain):
    """As if it had no kinks."""

    has_kinks = False


def make_problem(kind=Chain, shards=4, spread="iid"):
    digits = load_digits()
    order = np.argsort(digits.target[:120], kind="stable") if spread == "sorted" else np.arange(120)
    x, y = digits.images[order] / 16, np.eye(10)[digits.target[order]]
    parts = [slice(k, None, shards) if spread == "iid" else slice(20 * k, 20 * k + 20) for k in range(shards)]
    return Problem(kind(LAYERS, (8, 8), 10), Softmax(), L2(5 / 120), [(x[part], y[part]) for part in parts])


def run(kind=Chain, max_iter=300, surrogate=None, shards=4, spread="iid", **options):
    problem = make_problem(kind, shards, spread)
    network, options = Network(Topology.complete(shards)), {"tol": 0.0, "warn": False, **options}
    return NEXT(surrogate or FullLinearization()).run(
        problem, network, w0=problem.model.init(0), max_iter=max_iter, monitor_every=max_iter, **options
    )


def test_jumps_of_the_gradient_do_not_stop_the_run():
    limited, unlimited = run(), run(Unlimited)
    assert unlimited.state.tau.min() > 1e3 * unlimited.state.unit
    assert limited.state.tau.max() < 10 * limited.state.unit
    assert limited.history["objective"][-1] < 0.9 * unlimited.history["objective"][-1]


def test_models_with_curvature_train_on_unlike_rows():
    surrogate, options = PartialLinearization(), {"max_iter": 15, "shards": 6, "spread": "sorted"}
    limited, unlimited = run(surrogate=surrogate, **options), run(Unlimited, surrogate=surrogate, **options)
    assert limited.history["objective"][-1] < 0.9 * unlimited.history["objective"][-1]


@pytest.mark.parametrize("has_curvature", [False, True])
def test_what_a_model_missed_along_the_step(has_curvature):
    rng = np.random.default_rng(0)
    w, w_old, y, y_old, product = rng.normal(size=(5, 3, 7))
    w[2] = w_old[2] * (1 + 1e-13)
    problem = SimpleNamespace(n_agents=3, shards=None)
    state, model = SimpleNamespace(w=w, w_old=w_old), SimpleNamespace(problem=problem)
    found = missed_along(state, model, y, y_old, product if has_curvature else None)
    for i in range(2):
        step, missed = w[i] - w_old[i], 3 * (y[i] - y_old[i]) - has_curvature * product[i]
        quotient = abs(step @ missed) / (step @ step)
        both = np.sqrt(quotient * np.linalg.norm(missed) / np.linalg.norm(step))
        assert found[i] == pytest.approx(both if has_curvature else quotient, rel=1e-12)
    assert np.isinf(found[2])


def test_an_agent_that_did_not_move_keeps_its_tau_and_beta():
    s = run(max_iter=3).state
    tau, beta, s.tau, s.beta = s.tau.copy(), 1e9 * np.ones(4), s.tau.copy(), 1e9 * np.ones(4)
    problem = make_problem()
    limit_beta(s, FullLinearization().at(problem, s), np.array([np.inf, 1e8, np.inf, 1e8]), tau, beta)
    np.testing.assert_array_equal(s.beta, [1e9, 1e8, 1e9, 1e8])
    np.testing.assert_array_equal(s.tau == tau, [True, False, True, False])


def test_relays_that_are_given_rows_find_their_curvature():
    rows = np.random.default_rng(0).random((3, 20, 8, 8)), np.eye(10)[np.arange(60).reshape(3, 20) % 10]
    shards = list(zip(*rows, strict=True))
    net = Chain(LAYERS, (8, 8), 10)
    given = Problem(net, Softmax(), L2(0.1), shards)
    relays = given.with_shards([shards[0], (rows[0][0][:0], rows[1][0][:0]), shards[2]])
    s = NEXT(FullLinearization()).run(relays, Network(Topology.complete(3)), max_iter=FIRST + 2, warn=False).state
    before = s.memory["kinks.largest"]
    assert before[1] == 0
    assert before[0] > 0
    s.t = EVERY + 1  # no product is due at agents that had theirs
    found = [_largest(s, given) for _ in range(FIRST)]
    assert np.isinf([own[1] for own in found[:-1]]).all()
    assert 0.5 * before[0] < found[-1][1] < 2 * before[0]
    np.testing.assert_array_equal(found[-1][[0, 2]], before[[0, 2]])


def test_the_vectors_of_the_power_iteration_are_kept(tmp_path):
    half = EVERY + FIRST
    whole = run(max_iter=2 * half)
    run(max_iter=half, callbacks=[Checkpoint(tmp_path, every=half)])
    np.testing.assert_array_equal(run(max_iter=2 * half, resume=checkpoint.read(tmp_path, InProcess(4))).w, whole.w)


def test_metrics_have_units_of_their_own():
    metric = FullLinearization(metric=Euclidean())
    assert not [name for name in run(max_iter=2, surrogate=metric).state.memory if name.startswith("kinks")]


@pytest.mark.parametrize(("layers", "found"), [(LAYERS, True), ([Flatten(), Dense(2, "relu")], False)])
def test_which_chains_have_kinks(layers, found):
    assert Chain(layers, (8, 8), 10 if found else 2).has_kinks == found
    assert Residual([MaxPool2d(1)]).has_kinks
    assert not Residual([Dense(3)]).has_kinks

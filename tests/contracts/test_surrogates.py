"""Every surrogate with every loss, penalty and block split: the model's properties and where the recipe ends."""

import inspect
import itertools

import numpy as np
import pytest

from dnnext import local
from dnnext.algorithms import NEXT
from dnnext.algorithms.base import State
from dnnext.kernels import reference
from dnnext.local import FullLinearization, PartialLinearization, Surrogate
from dnnext.local.solvers import cut_blocks
from dnnext.network import Network, Topology
from dnnext.problem import MLP, Problem, losses, penalties
from dnnext.problem.losses import Loss
from dnnext.problem.penalties import NoPenalty, Penalty


def concrete(module, base):
    """Public classes of a module that can be made without arguments."""
    found = [getattr(module, name) for name in module.__all__]
    return [c for c in found if inspect.isclass(c) and issubclass(c, base) and not inspect.isabstract(c)]


LOSSES = concrete(losses, Loss)
PENALTIES = concrete(penalties, Penalty)
SURROGATES = concrete(local, Surrogate)
ALPHA = 1e-2


def make_penalty(kind):
    return kind(alpha=ALPHA) if "alpha" in inspect.signature(kind).parameters else kind()


def targets(loss, raw, rng):
    """Targets that the loss allows, made from raw outputs with some labels flipped."""
    noisy = raw + 0.1 * rng.standard_normal(raw.shape)
    kind = type(loss).__name__
    if kind == "Logistic":
        return (noisy > 0) * 1.0
    if kind == "Softmax":
        return np.eye(raw.shape[1])[np.argmax(noisy, axis=1)]
    if kind == "Poisson":
        return 1.0 + rng.poisson(np.exp(0.3 * raw))  # no zeros, so that best weights are finite
    if kind == "SquaredHinge":
        return np.where(noisy > 0, 1.0, -1.0)
    return noisy


def make_problem(loss, penalty, seed=0):
    """30 rows, at most 40 weights, three agents; targets of variance one.

    Without a penalty a network that separates the classes has no finite best weights; there every row is given twice,
    with contradicting targets, so that a best network exists.
    """
    rng = np.random.default_rng(seed)
    n_outputs = loss.n_outputs or 2
    model = MLP([2, 2, n_outputs])
    assert model.n_params <= 40
    x = rng.standard_normal((30, 2))
    raw = np.tanh(x @ rng.standard_normal((2, 2))) @ rng.standard_normal((2, n_outputs))
    target = targets(loss, raw / raw.std(axis=0), rng)
    flipped = {"Logistic": 1 - target, "Softmax": target[:, ::-1], "SquaredHinge": -target}.get(type(loss).__name__)
    if isinstance(penalty, NoPenalty) and flipped is not None:
        x[15:], target[15:] = x[:15], flipped[:15]
    shards = [(x[i::3], target[i::3]) for i in range(3)]
    return Problem(model, loss, penalty, shards)


def surrogates_with_blocks(**options):
    """One object per surrogate and block split."""
    for kind in SURROGATES:
        if "n_blocks" in inspect.signature(kind).parameters:
            yield kind(n_blocks=1, **options)
            yield kind(n_blocks=3, **options)
        else:
            yield kind()


PRODUCTS = list(itertools.product(LOSSES, PENALTIES))


def jacobian(problem, row, i):
    """J of agent i (rows, Q, P)."""
    rows = slice(problem.offsets[i], problem.offsets[i + 1])
    x, n_outputs = problem.x[rows], problem.target.shape[1]
    out = np.empty((len(x) * n_outputs, problem.n_params))
    reference.mlp_jacobian(
        out, row[None], x, np.ones((len(x), n_outputs)), problem.model.layers, problem.model.activation_code
    )
    return out.reshape(len(x), n_outputs, -1)


def model_slope(problem, surrogate, s, i, v):
    """Gradient of the smooth part of agent i's model at v, each block with the others fixed at w_i."""
    kappa = surrogate.kappas(problem)[i] if isinstance(surrogate, PartialLinearization) else 0.0
    n_blocks = getattr(surrogate, "n_blocks", 1)
    rows = slice(problem.offsets[i], problem.offsets[i + 1])
    j, d = jacobian(problem, s.w[i], i), problem.target[rows]
    f = problem.raw_output(s.w)[rows]
    slope = problem.n_agents * s.y[i] + s.tau[i] * (v - s.w[i])
    blocks = cut_blocks(problem.model.layout, problem.penalty, n_blocks)
    for start, stop in itertools.pairwise(blocks):
        moved = f + j[:, :, start:stop] @ (v - s.w[i])[start:stop]
        change = problem.loss.grad(moved, d) - problem.loss.grad(f, d)
        slope[start:stop] += kappa * problem.scale * np.einsum("mqp,mq->p", j[:, :, start:stop], change)
    return slope


def state_along_the_way(problem, surrogate):
    """A state after two iterations: agents differ, trackers are not the own gradients."""
    s = NEXT(surrogate).run(problem, Network(Topology.path(3)), max_iter=2, random_state=1).state
    assert isinstance(s, State)
    return s


@pytest.mark.parametrize(("loss", "penalty"), PRODUCTS)
def test_best_response_is_optimal_for_its_model(loss, penalty):
    problem = make_problem(loss(), make_penalty(penalty))
    for surrogate in surrogates_with_blocks(exact=True):
        s = state_along_the_way(problem, surrogate)
        w_hat = np.empty_like(s.w)
        surrogate.at(problem, s).argmin(out=w_hat)
        for i in range(3):
            slope = model_slope(problem, surrogate, s, i, w_hat[i])
            assert problem.penalty.subdiff_distance(w_hat[i], slope) < 1e-8, (surrogate, i)


@pytest.mark.parametrize(("loss", "penalty"), PRODUCTS)
@pytest.mark.parametrize("solver", ["primal", "dual", "cg", "fista"])
def test_solvers_agree_in_exact_mode(loss, penalty, solver):
    problem = make_problem(loss(), make_penalty(penalty))
    if problem.penalty.quadratic is None and solver in ("dual", "cg"):
        with pytest.raises(ValueError, match="no sum of squares"):
            state_along_the_way(problem, PartialLinearization(solver=solver))
        return
    s = state_along_the_way(problem, PartialLinearization())
    found = []
    for name in ("auto", solver):
        found.append(np.empty_like(s.w))
        PartialLinearization(solver=name, exact=True).at(problem, s).argmin(out=found[-1])
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("loss", "penalty"), PRODUCTS)
def test_anchor_gradient_and_strong_convexity(loss, penalty):
    problem = make_problem(loss(), make_penalty(penalty))
    rng = np.random.default_rng(0)
    for surrogate in surrogates_with_blocks():
        s = state_along_the_way(problem, surrogate)
        for i in range(3):
            np.testing.assert_array_equal(model_slope(problem, surrogate, s, i, s.w[i]), 3 * s.y[i])
            u, v = s.w[i] + rng.standard_normal((2, problem.n_params))
            difference = model_slope(problem, surrogate, s, i, u) - model_slope(problem, surrogate, s, i, v)
            assert difference @ (u - v) >= s.tau[i] * np.sum((u - v) ** 2) * (1 - 1e-9)


@pytest.mark.parametrize(("loss", "penalty"), PRODUCTS)
def test_product_with_the_model_is_the_block_diagonal_curvature(loss, penalty):
    problem = make_problem(loss(), make_penalty(penalty))
    v = np.random.default_rng(0).standard_normal((3, problem.n_params))
    for surrogate in surrogates_with_blocks():
        s = state_along_the_way(problem, surrogate)
        model = surrogate.at(problem, s)
        product = model.product(v)
        if product is None:
            assert isinstance(surrogate, FullLinearization)
            continue
        blocks = cut_blocks(problem.model.layout, problem.penalty, surrogate.n_blocks)
        for i in range(3):
            rows = slice(problem.offsets[i], problem.offsets[i + 1])
            root = model.sub.root[rows]
            root = root if root.ndim == 3 else root[:, :, None] * np.eye(root.shape[1])
            j = np.einsum("mqr,mqp->mrp", root, jacobian(problem, s.w[i], i)).reshape(-1, problem.n_params)
            for start, stop in itertools.pairwise(blocks):
                cut = j[:, start:stop]
                np.testing.assert_allclose(product[i, start:stop], cut.T @ (cut @ v[i, start:stop]), atol=1e-12)


@pytest.mark.parametrize(("loss", "penalty"), PRODUCTS)
def test_next_reaches_a_stationary_point(loss, penalty):
    problem = make_problem(loss(), make_penalty(penalty))
    # without a penalty the weights of counts run along a flat valley, where gradient steps gain like 1 / t only
    goal = 2e-3 if (loss.__name__, penalty.__name__) == ("Poisson", "NoPenalty") else 1e-4
    for surrogate in surrogates_with_blocks():
        first = []

        def reached(s, metrics, first=first):
            first.append(metrics["stationarity"])
            return metrics["stationarity"] <= goal * first[0]

        result = NEXT(surrogate).run(problem, Network(Topology.path(3)), max_iter=3000, callbacks=[reached])
        assert result.status == "callback", (surrogate, result.history["stationarity"][[0, -1]])

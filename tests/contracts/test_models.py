"""Properties of every model in dnnext.models.__all__; a new one brings its tests by standing there with examples()."""

import inspect
import pickle
from itertools import pairwise

import numpy as np
import pytest

from dnnext import models
from dnnext.local.solvers import Subproblem, cg
from dnnext.models import Rows
from dnnext.models.model import check_model, input_shape
from dnnext.problem import L1, L2, GroupLasso, Logistic, Problem, SquaredError


def is_model(thing):
    return inspect.isclass(thing) and hasattr(thing, "jvp") and not getattr(thing, "_is_protocol", False)


KINDS = [kind for kind in (getattr(models, name) for name in models.__all__) if is_model(kind)]
CONTRACT = [model for kind in KINDS for model in kind.examples()]  # what every model must do
TERMS = {  # what models promise besides, by what they offer
    name: [model for model in CONTRACT if name in model.offers] for name in ("loss_grad", "gauss_newton", "dual")
}

contract = pytest.mark.parametrize("model", CONTRACT, ids=repr)
both = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def terms(name):
    return pytest.mark.parametrize("model", TERMS[name], ids=repr)


def case(model, sizes=(4, 0, 1, 3), dtype=np.float64, seed=0, n_threads=1):
    """Weights of one row per agent, and their rows: a relay and a single row among them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(sum(sizes), *input_shape(model))).astype(dtype)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    w = np.stack([model.init(seed + i) for i in range(len(sizes))]).astype(dtype)
    w += (0.1 * rng.normal(size=w.shape)).astype(dtype)
    return w, Rows(x, offsets, n_threads), rng


@contract
def test_it_is_what_a_model_must_be(model):
    assert check_model(model) is model
    assert isinstance(model.offers, frozenset)
    assert model.sized(model.n_inputs, model.n_outputs).fingerprint() == model.fingerprint()
    layout, start = model.layout, 0
    for part in layout.parts:  # in order and without gaps
        assert part.start == start
        start += part.size
    assert start == layout.n_params == len(model.init(0))
    row = np.arange(layout.n_params, dtype=float)
    np.testing.assert_array_equal(layout.pack(layout.unpack(row)), row)
    np.testing.assert_array_equal(model.init(7), model.init(7))


@contract
def test_fingerprint_tells_models_apart_and_survives_pickling(model):
    assert pickle.loads(pickle.dumps(model)).fingerprint() == model.fingerprint()
    assert [other.fingerprint() for other in CONTRACT].count(model.fingerprint()) == 1


@contract
def test_jvp_and_vjp_are_adjoint(model):
    w, rows, rng = case(model)
    v, u = rng.normal(size=w.shape), rng.normal(size=(len(rows.x), model.n_outputs))
    along, back = model.jvp(w, rows, v), model.vjp(w, rows, u)
    assert along.shape == u.shape
    assert back.shape == w.shape
    for i in range(rows.n_agents):
        own = slice(rows.offsets[i], rows.offsets[i + 1])
        left, right = np.sum(along[own] * u[own]), np.sum(v[i] * back[i])
        scale = np.linalg.norm(along[own]) * np.linalg.norm(u[own])
        assert abs(left - right) <= 1e-12 * max(1, scale)
    assert not back[1].any()  # a relay


@contract
def test_jvp_is_the_derivative_along_v(model):
    w, rows, rng = case(model)
    v, h = rng.normal(size=w.shape), 1e-5  # small, so that pieces of piecewise models are not left
    difference = (model.forward(w + h * v, rows) - model.forward(w - h * v, rows)) / (2 * h)
    np.testing.assert_allclose(model.jvp(w, rows, v), difference, atol=1e-7, rtol=1e-6)


@contract
@both
def test_precision_shapes_and_out_are_respected(model, dtype):
    w, rows, rng = case(model, dtype=dtype)
    v = rng.normal(size=w.shape).astype(dtype)
    u = rng.normal(size=(len(rows.x), model.n_outputs)).astype(dtype)
    for method, extra, shape in ((model.forward, (), u.shape), (model.jvp, (v,), u.shape), (model.vjp, (u,), w.shape)):
        kept = [array.copy() for array in (w, rows.x, *extra)]
        made = method(w, rows, *extra)
        assert made.dtype == dtype
        out = np.full(shape, np.nan, dtype)
        assert method(w, rows, *extra, out) is out
        np.testing.assert_array_equal(out, made)
        for before, array in zip(kept, (w, rows.x, *extra), strict=True):
            np.testing.assert_array_equal(before, array)
        wide = method(w.astype(float), Rows(rows.x.astype(float), rows.offsets), *(a.astype(float) for a in extra))
        np.testing.assert_allclose(made, wide, atol=1e-10 if dtype == np.float64 else 2e-4)


@contract
def test_one_row_of_weights_serves_all_agents(model):
    w, rows, rng = case(model)
    one, each = w[:1], np.ascontiguousarray(np.broadcast_to(w[0], w.shape))
    v, u = rng.normal(size=w.shape), rng.normal(size=(len(rows.x), model.n_outputs))
    np.testing.assert_array_equal(model.forward(one, rows), model.forward(each, rows))
    np.testing.assert_array_equal(model.jvp(one, rows, v), model.jvp(each, rows, v))
    np.testing.assert_array_equal(model.vjp(one, rows, u), model.vjp(each, rows, u))


@contract
def test_agents_do_not_see_each_other(model):
    w, rows, rng = case(model, sizes=(4, 0, 1, 300))
    v, u = rng.normal(size=w.shape), rng.normal(size=(len(rows.x), model.n_outputs))
    whole = model.forward(w, rows), model.jvp(w, rows, v), model.vjp(w, rows, u)
    for agents in (slice(0, 2), slice(2, 3), slice(1, 4)):
        some, own = rows.some(agents), slice(rows.offsets[agents.start], rows.offsets[agents.stop])
        np.testing.assert_array_equal(model.forward(w[agents], some), whole[0][own])
        np.testing.assert_array_equal(model.jvp(w[agents], some, v[agents]), whole[1][own])
        np.testing.assert_array_equal(model.vjp(w[agents], some, u[own]), whole[2][agents])


@contract
def test_no_rows_at_all(model):
    w, rows, _ = case(model, sizes=(0, 0))
    assert model.forward(w, rows).shape == (0, model.n_outputs)
    assert model.jvp(w, rows, w).shape == (0, model.n_outputs)
    np.testing.assert_array_equal(model.vjp(w, rows, np.empty((0, model.n_outputs))), np.zeros_like(w))


@contract
@both
def test_threads_change_no_bit(model, dtype):
    made = []
    for n_threads in (1, 2, 3):
        w, rows, rng = case(model, sizes=(30, 0, 1, 70), dtype=dtype, n_threads=n_threads)
        v = rng.normal(size=w.shape).astype(dtype)
        u = rng.normal(size=(len(rows.x), model.n_outputs)).astype(dtype)
        made.append((model.forward(w, rows), model.jvp(w, rows, v), model.vjp(w, rows, u)))
    for others in made[1:]:
        for one, other in zip(made[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@contract
@pytest.mark.parametrize("penalty", [L2(1e-2), L1(1e-2), GroupLasso(1e-2)], ids=repr)
def test_a_problem_takes_it(model, penalty):
    w, rows, rng = case(model)
    shards = [(rows.x[a:b], rng.normal(size=(b - a, model.n_outputs))) for a, b in pairwise(rows.offsets)]
    problem = Problem(model, SquaredError(), penalty, shards)
    v, h = rng.normal(size=w.shape), 1e-5
    slope = (problem.local_values(w + h * v) - problem.local_values(w - h * v)) / (2 * h)
    np.testing.assert_allclose(np.sum(problem.grad(w) * v, axis=1), slope, atol=1e-7, rtol=1e-5)
    root = problem.root(w)
    energy = [np.sum(np.square(problem.jvp(w, v)[a:b] * root[a:b])) for a, b in pairwise(rows.offsets)]
    np.testing.assert_allclose(np.sum(v * problem.gauss_newton_product(w, root, v), axis=1), energy, rtol=1e-10)
    assert np.isfinite(problem.gauss_newton_trace(w, root)).all()


def jacobian(model, w, rows):
    """J of all rows, (M, Q, P)."""
    basis = np.eye(model.layout.n_params)
    return np.stack([model.jvp(w, rows, np.tile(e, (len(w), 1))) for e in basis], axis=2)


class Plain:
    """A model that offers jvp and vjp alone."""

    offers = frozenset()

    def __init__(self, model):
        self.layout, self.n_inputs, self.n_outputs = model.layout, model.n_inputs, model.n_outputs
        for name in ("sized", "init", "forward", "jvp", "vjp", "fingerprint"):
            setattr(self, name, getattr(model, name))


@contract
def test_conjugate_gradients_solve_the_linearised_problem_by_products_alone(model):
    """(J'S S'J + tau + l2) (v - w) = -(slope + l2 w), with an agent without rows and one with a single row."""
    w, rows, rng = case(model)
    shards = [(rows.x[a:b], rng.normal(size=(b - a, model.n_outputs))) for a, b in pairwise(rows.offsets)]
    problem = Problem(Plain(model), SquaredError(), L2(1e-2), shards)
    p, root, slope, tau = w.shape[1], problem.root(w), rng.normal(size=w.shape), 0.1 + rng.random(len(w))
    blocks, out = np.array([0, p]), np.empty_like(w)
    cg(Subproblem(problem, w, root, slope, tau, blocks, w, inner_iter=20 * p, tol=1e-13), out)
    j, l2 = jacobian(model, w, rows) * root[:, :, None], problem.penalty.quadratic
    for i, (a, b) in enumerate(pairwise(rows.offsets)):
        own = j[a:b].reshape(-1, p)
        step = np.linalg.solve(own.T @ own + np.diag(tau[i] + l2), -(slope[i] + l2 * w[i]))
        np.testing.assert_allclose(out[i], w[i] + step, rtol=1e-8, atol=1e-8)


@terms("loss_grad")
@pytest.mark.parametrize("loss", [SquaredError(), Logistic()], ids=repr)
def test_the_fused_pass_is_forward_and_vjp(model, loss):
    w, rows, rng = case(model)
    target = rng.integers(0, 2, (len(rows.x), model.n_outputs)).astype(float)
    weight, value, out = rng.random(len(rows.x)), np.empty(len(w)), np.empty_like(w)
    model.loss_grad(w, rows, target, weight, loss.kernel, loss.param, 0.5, value, out)
    f = model.forward(w, rows)
    each = 0.5 * weight * loss.value(f, target)
    np.testing.assert_allclose(value, [each[a:b].sum() for a, b in pairwise(rows.offsets)], rtol=1e-13)
    wanted = model.vjp(w, rows, loss.grad(f, target) * (0.5 * weight)[:, None])
    np.testing.assert_allclose(out, wanted, atol=1e-13)


@terms("gauss_newton")
@pytest.mark.parametrize("full", [False, True])
def test_gauss_newton_is_the_formula(model, full):
    w, rows, rng = case(model)
    p = model.layout.n_params
    root = rng.normal(size=(len(rows.x), model.n_outputs, *([2] if full else [])))
    j = jacobian(model, w, rows)
    half = np.einsum("mqp,mqr->mrp", j, root) if full else j * root[:, :, None]
    blocks = np.array([0, p // 2, p])
    made = model.gauss_newton(w, rows, root, blocks, np.empty((len(w), int(np.sum(np.diff(blocks) ** 2)))))
    v, product = rng.normal(size=w.shape), np.empty_like(w)
    assert model.gauss_newton_product(w, rows, root, v, blocks, product) is product
    for i, (a, b) in enumerate(pairwise(rows.offsets)):
        full_matrix = np.einsum("mrp,mrk->pk", half[a:b], half[a:b])
        place = 0
        for start, stop in pairwise(blocks):
            block, size = full_matrix[start:stop, start:stop], (stop - start) ** 2
            np.testing.assert_allclose(made[i, place : place + size], block.ravel(), atol=1e-11)
            np.testing.assert_allclose(product[i, start:stop], block @ v[i, start:stop], atol=1e-10)
            place += size
    costs = model.costs(np.diff(rows.offsets).astype(float), blocks, root.shape[-1], not full, True)
    assert all(cost.shape == (len(w),) and (cost > 0).all() for cost in costs)


@terms("dual")
@pytest.mark.parametrize("by_layer", [True, False])
def test_dual_solves_the_same_system(model, by_layer):
    w, rows, rng = case(model)
    p = model.layout.n_params
    root, rhs, tau = rng.normal(size=(len(rows.x), model.n_outputs)), rng.normal(size=w.shape), 0.5 + rng.random(len(w))
    l2 = 0.3 * model.layout.mask if by_layer else rng.random(p)
    blocks, out = np.array([0, p]), np.empty_like(w)
    status = model.dual_solve(w, rows, root, model.gram(rows), tau, l2, rhs, blocks, out)
    np.testing.assert_array_equal(status, np.zeros(len(w), np.int64))
    back = model.gauss_newton_product(w, rows, root, out, blocks, np.empty_like(w))
    np.testing.assert_allclose(back + (tau[:, None] + l2) * out, rhs, atol=1e-10)
    np.testing.assert_allclose(out[1], rhs[1] / (tau[1] + l2), rtol=1e-12)  # a relay

"""The dual solver against the primal one, over losses, outputs, relays, blocks, penalties and damping."""

import numpy as np
import pytest

from dnnext.local import PartialLinearization
from dnnext.local.solvers import Subproblem, cut_blocks, dual, primal
from dnnext.problem import (
    L2,
    MLP,
    Huber,
    Logistic,
    NoPenalty,
    Penalty,
    Problem,
    Softmax,
    SquaredError,
    SquaredHinge,
)  # fmt: skip

LOSSES = [(SquaredError(), 1), (SquaredError(), 3), (Huber(), 2), (Logistic(), 1), (Softmax(), 4), (SquaredHinge(), 1)]


def make_sub(loss, outputs, penalty, rows=(12, 0, 5), hidden=(6,), n_blocks=1, tau=0.1, dtype="float64"):
    """A subproblem as partial linearisation poses it, at random weights."""
    rng = np.random.default_rng(0)
    model, shards = MLP([9, *hidden, outputs]), []
    for n in rows:
        raw = rng.standard_normal((n, outputs))
        target = {
            "Logistic": (raw > 0) * 1.0,
            "Softmax": np.eye(outputs)[np.argmax(raw, axis=1)],
            "SquaredHinge": np.sign(raw),
        }.get(type(loss).__name__, raw)
        shards.append((rng.standard_normal((n, 9)), target))
    problem = Problem(model, loss, penalty, shards, dtype=dtype)
    w = rng.standard_normal((len(rows), problem.n_params)).astype(dtype)
    return Subproblem(
        problem, w=w, root=PartialLinearization().scaled_root(problem, w), start=w.copy(),
        slope=rng.standard_normal(w.shape).astype(dtype), tau=np.full(len(rows), tau, dtype),
        blocks=cut_blocks(model.layout, problem.penalty, n_blocks), centre=rng.standard_normal(w.shape).astype(dtype),
    )  # fmt: skip


def steps(sub):
    """What the dual and the primal solver answer, as steps from the centre."""
    found = []
    for solver in (dual, primal):
        out = np.empty_like(sub.w)
        solver(sub, out)
        found.append(out - sub.centre)
    return found


class Uneven(Penalty):
    """l2 that varies within a layer and is not zero on biases: only Python knows it."""

    def _l2(self):
        return 0.1 + 0.05 * (np.arange(self.layout.n_params) % 7)

    def value(self, w):
        return float(0.5 * np.sum(self._l2() * w * w))

    def prox(self, v, s):
        return v / (1 + s[:, None] * self._l2())

    @property
    def quadratic(self):
        return self._l2()


@pytest.mark.parametrize("penalty", [NoPenalty(), L2(alpha=0.3), L2(alpha=(0.3, 0.0)), Uneven()], ids=repr)
@pytest.mark.parametrize(("loss", "outputs"), LOSSES)
def test_every_loss_and_quadratic_penalty(loss, outputs, penalty):
    ours, wanted = steps(make_sub(loss, outputs, penalty))
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-12 * np.max(np.abs(wanted)))


@pytest.mark.parametrize("n_blocks", [1, 2, 5, 60])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 5), (4, 4, 4)])
def test_every_depth_and_cut(hidden, n_blocks):
    ours, wanted = steps(make_sub(Softmax(), 6, L2(alpha=0.3), hidden=hidden, n_blocks=n_blocks))
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-12 * np.max(np.abs(wanted)))


@pytest.mark.parametrize("tau", [1e-9, 1e-5, 1e6])
def test_little_and_much_damping(tau):
    """Each solver rounds B + tau I once, by some eps ||B||, and its inverse, of norm 1 / tau, passes that on."""
    sub = make_sub(SquaredError(), 1, NoPenalty(), tau=tau)
    ours, wanted = steps(sub)
    unit = np.eye(sub.w.shape[1])
    columns = [sub.product(np.broadcast_to(v, sub.w.shape).copy()) for v in unit]
    norms = np.linalg.norm(np.stack(columns, axis=1), ord=2, axis=(1, 2))
    assert norms.max() > 1
    bound = 2 * np.finfo(float).eps * (1 + norms / tau)
    assert (np.linalg.norm(ours - wanted, axis=1) <= bound * np.linalg.norm(wanted, axis=1)).all()


def test_single_precision():
    ours, wanted = steps(make_sub(Softmax(), 4, L2(alpha=0.3), dtype="float32"))
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5 * np.max(np.abs(wanted)))


@pytest.mark.parametrize("penalty", [NoPenalty(), Uneven()], ids=repr)
def test_damping_that_is_too_small_is_doubled(penalty):
    """A tau of zero leaves no strongly convex model; the smallest that counts beside the rounding of B is taken."""
    sub = make_sub(SquaredError(), 1, penalty, rows=(12, 5), tau=0.0)
    ours, _ = steps(sub)
    assert np.isfinite(ours).all()
    direct = sub.product(ours) + np.asarray(sub.problem.penalty.quadratic) * (ours + sub.centre) + sub.slope
    if isinstance(penalty, Uneven):
        np.testing.assert_allclose(direct, 0, atol=1e-10)


def test_a_diverged_state_is_not_a_number():
    sub = make_sub(SquaredError(), 1, L2(alpha=0.3))
    sub.slope[2, 3] = np.nan
    assert np.isnan(steps(sub)[0]).all()


@pytest.mark.parametrize("rows", [(12, 0, 5), (400, 3)])
def test_what_is_kept_of_the_inputs_is_no_larger_than_the_state(rows):
    sub = make_sub(SquaredError(), 1, L2(alpha=0.3), rows=rows)
    gram = sub.problem.gram
    assert (gram is None) == (max(rows) ** 2 > 16 * sub.problem.n_params)
    if gram is not None:
        x = sub.problem.x[: rows[0]]
        np.testing.assert_allclose(gram[: rows[0] ** 2].reshape(rows[0], -1), x @ x.T, atol=1e-12)
    ours, wanted = steps(sub)
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-11 * np.max(np.abs(wanted)))

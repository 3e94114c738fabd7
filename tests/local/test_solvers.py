"""Block cuts, the flop model and the solvers on problems with unequal agents."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnnext.local import PartialLinearization
from dnnext.local.solvers import SOLVERS, Subproblem, choose, cut_blocks, solve
from dnnext.problem import L1, L2, MLP, GroupLasso, NoPenalty, Penalty, Problem, SquaredError


def make_sub(penalty, rows=(9, 0, 4), layers=(3, 4, 2), n_blocks=1, dtype="float64", **options):
    """A subproblem at random weights; one agent is a relay."""
    rng = np.random.default_rng(0)
    shards = [(rng.standard_normal((n, layers[0])), rng.standard_normal((n, layers[-1]))) for n in rows]
    problem = Problem(MLP(layers), SquaredError(), penalty, shards, dtype=dtype)
    w = rng.standard_normal((len(rows), problem.n_params)).astype(dtype)
    return Subproblem(
        problem, w=w, root=problem.root(w), slope=rng.standard_normal(w.shape).astype(dtype),
        tau=np.array([0.1, 0.2, 0.3])[: len(rows)].astype(dtype),
        blocks=cut_blocks(problem.model.layout, problem.penalty, n_blocks), start=w.copy(), **options,
    )  # fmt: skip


def objective(sub, i, v):
    """The subproblem of agent i at v (P,), with A formed from the kernel's product."""
    d = np.zeros_like(sub.w)
    d[i] = v - sub.centre[i]
    smooth = 0.5 * d[i] @ sub.product(d)[i] + sub.slope[i] @ d[i] + 0.5 * sub.tau[i] * d[i] @ d[i]
    return smooth + sub.problem.penalty.value(v)


# dual and cg solve quadratic subproblems; that they say so otherwise is tested with the contracts
PAIRS = [(name, penalty) for name in SOLVERS for penalty in (NoPenalty(), L2(alpha=0.3))]
PAIRS += [(name, penalty) for name in ("primal", "fista") for penalty in (L1(alpha=0.3), GroupLasso(alpha=0.3))]


@pytest.mark.parametrize(("solver", "penalty"), PAIRS)
@pytest.mark.parametrize("n_blocks", [1, 4])
def test_no_point_nearby_is_better(solver, n_blocks, penalty):
    sub = make_sub(penalty, n_blocks=n_blocks, tol=1e-12, inner_iter=20_000)
    out = np.empty_like(sub.w)
    solve(sub, solver, out)
    rng = np.random.default_rng(1)
    for i in range(3):
        best = objective(sub, i, out[i])
        for size in (1e-3, 1e-1, 1):
            for _ in range(20):
                v = out[i] + size * rng.standard_normal(out.shape[1])
                assert objective(sub, i, v) >= best + 0.49 * sub.tau[i] * np.sum((v - out[i]) ** 2)


@pytest.mark.parametrize(("solver", "penalty"), PAIRS)
def test_an_agent_computes_the_same_whoever_shares_its_process(solver, penalty):
    sub = make_sub(penalty, rows=(9, 30, 4))
    together = np.empty_like(sub.w)
    solve(sub, solver, together)
    problem = sub.problem
    for i in range(3):
        rows = slice(problem.offsets[i], problem.offsets[i + 1])
        alone = Problem(
            problem.model, problem.loss, penalty, [(problem.x[rows], problem.target[rows])], n_total=problem.n_total
        )
        one = slice(i, i + 1)
        own = Subproblem(alone, sub.w[one], sub.root[rows], sub.slope[one], sub.tau[one], sub.blocks, sub.start[one])
        out = np.empty_like(own.w)
        solve(own, solver, out)
        np.testing.assert_array_equal(out[0], together[i])


class _Box(Penalty):
    """A penalty that only Python knows: weights within [-0.2, 0.2]."""

    def value(self, w):
        return 0.0 if np.all(np.abs(w * self.layout.mask) <= 0.2 + 1e-12) else np.inf

    def prox(self, v, s):
        return np.where(self.layout.mask > 0, np.clip(v, -0.2, 0.2), v)


@pytest.mark.parametrize("solver", ["auto", "primal", "fista"])
def test_a_penalty_written_in_python_works(solver):
    sub = make_sub(_Box(), tol=1e-12, inner_iter=5000)
    out = np.empty_like(sub.w)
    solve(sub, solver, out)
    mask = sub.problem.model.mask > 0
    assert np.all(np.abs(out[:, mask]) <= 0.2)
    d = out - sub.w
    slope = sub.product(d) + sub.slope + sub.tau[:, None] * d
    np.testing.assert_allclose(sub.problem.penalty.prox(out - slope, np.ones(3)), out, atol=1e-9)


@pytest.mark.parametrize("penalty", [L2(alpha=1e-2), L1(alpha=1e-2)])
def test_single_precision_solves_to_its_precision(penalty):
    exact, single = make_sub(penalty), make_sub(penalty, dtype="float32")
    for name in ("primal", "fista") if isinstance(penalty, L1) else SOLVERS:
        out = [np.empty_like(sub.w) for sub in (exact, single)]
        for sub, found in zip((exact, single), out, strict=True):
            sub.inner_iter = 500
            solve(sub, name, found)
        np.testing.assert_allclose(out[1], out[0], rtol=2e-3, atol=2e-3)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.data())
def test_blocks_cover_everything_and_cut_no_group(n_in, hidden, n_out, data):
    model = MLP([n_in, hidden, n_out])
    penalty = GroupLasso(alpha=1.0).bind(model.layout)
    most = len(model.groups) + hidden + n_out
    n_blocks = data.draw(st.integers(1, most))
    blocks = cut_blocks(model.layout, penalty, n_blocks)
    assert blocks[0] == 0
    assert blocks[-1] == model.n_params
    assert len(blocks) == n_blocks + 1
    assert np.all(np.diff(blocks) > 0)
    inside = np.concatenate([np.arange(a + 1, b) for a, b in model.groups])
    assert not set(inside.tolist()) & set(blocks.tolist())
    with pytest.raises(ValueError, match="at most"):
        cut_blocks(model.layout, penalty, most + 1)


def test_one_weight_per_block_is_allowed_without_groups():
    model = MLP([3, 4, 2])
    blocks = cut_blocks(model.layout, L1(alpha=1.0).bind(model.layout), model.n_params)
    np.testing.assert_array_equal(blocks, np.arange(model.n_params + 1))


def test_the_flop_model_prefers_the_small_side():
    assert choose(make_sub(L2(alpha=0.1), rows=(500, 500, 500))) == "primal"
    assert choose(make_sub(L2(alpha=0.1), rows=(500, 500, 500), takes_inexact=True)) == "cg"
    assert choose(make_sub(L2(alpha=0.1), rows=(500, 500, 500), takes_inexact=True, inner_iter=100)) == "primal"
    assert choose(make_sub(L2(alpha=0.1), rows=(500, 500, 500), takes_inexact=True, tol=1e-12)) == "primal"
    assert choose(make_sub(L2(alpha=0.1), rows=(3, 3, 3), layers=(200, 50, 1))) == "dual"
    assert choose(make_sub(L2(alpha=0.1), rows=(800, 0, 800), layers=(60, 40, 10))) == "cg"
    assert choose(make_sub(L1(alpha=0.1), rows=(500, 500, 500))) == "primal"
    assert choose(make_sub(L1(alpha=0.1), rows=(800, 0, 800), layers=(60, 40, 10))) == "fista"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kappa": -1}, "kappa"),
        ({"n_blocks": 0}, "n_blocks"),
        ({"solver": "qr"}, "solver"),
        ({"inner_iter": 0}, "inner"),
    ],
)
def test_bad_arguments_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        PartialLinearization(**options)

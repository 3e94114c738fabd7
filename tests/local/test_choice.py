"""The model of the cost: what it knows, what it must not know, and what it never proposes."""

from dataclasses import replace

import numpy as np
import pytest

from dnnext.algorithms import NEXT
from dnnext.local import PartialLinearization, choice
from dnnext.local.solvers import SOLVERS, Subproblem, choose, cut_blocks, solve
from dnnext.models import mlp_costs
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, MLP, Problem, Softmax, SquaredError


def make_sub(penalty=None, rows=(20, 0, 50), layers=(6, 5, 3), n_blocks=1, loss=None, n_threads=1, **options):
    rng = np.random.default_rng(0)
    target = lambda n: np.eye(layers[-1])[rng.integers(0, layers[-1], n)]  # noqa: E731
    shards = [(rng.standard_normal((n, layers[0])), target(n)) for n in rows]
    problem = Problem(MLP(layers), loss or SquaredError(), penalty or L2(alpha=0.1), shards, n_threads=n_threads)
    w = rng.standard_normal((len(rows), problem.n_params))
    blocks = cut_blocks(problem.model.layout, problem.penalty, n_blocks)
    return Subproblem(problem, w, problem.root(w), w.copy(), np.ones(len(rows)), blocks, w.copy(), **options)


@pytest.mark.parametrize("n_blocks", [1, 4])
@pytest.mark.parametrize("loss", [SquaredError(), Softmax()])
@pytest.mark.parametrize(
    ("penalty", "able"), [(L2(alpha=0.1), {"primal", "dual", "cg"}), (L1(0.1), {"primal", "fista"})]
)
def test_every_solver_that_can_has_a_cost(penalty, able, loss, n_blocks):
    sub = make_sub(penalty, loss=loss, n_blocks=n_blocks)
    cost = choice.costs(sub)
    assert set(cost) == able <= set(SOLVERS)
    assert all(0 < value < np.inf for value in cost.values())
    chosen, auto = np.empty_like(sub.w), np.empty_like(sub.w)
    solve(sub, choose(sub), chosen)
    solve(sub, "auto", auto)
    np.testing.assert_array_equal(auto, chosen)


def test_costs_grow_with_the_rows():
    for few, many in [((5, 5), (50, 5)), ((50, 5), (500, 500))]:
        less, more = choice.costs(make_sub(rows=few)), choice.costs(make_sub(rows=many))
        assert all(less[name] < more[name] for name in less)


def test_threads_and_the_agents_held_here_have_no_say():
    """Ranks hold some of the agents each; all know the rows of every agent, and choose alike."""
    whole = make_sub(rows=(200, 0, 50))
    for rows, n_threads in [((200, 0), 1), ((50,), 3), ((0,), 2)]:
        part = make_sub(rows=(*rows, 1), n_threads=n_threads)
        part.problem.agent_rows = whole.problem.agent_rows
        assert choice.costs(part) == choice.costs(whole)


def test_matrices_beyond_memory_are_not_proposed():
    wide = make_sub(rows=(5,), layers=(400, 40, 3))
    assert "primal" not in choice.costs(wide)
    sub = make_sub()
    sub.problem.agent_rows = np.array([6000, 0, 5])
    assert "dual" not in choice.costs(sub)


def test_the_answer_is_kept_per_problem_and_shape(monkeypatch):
    sub, asked = make_sub(), []
    monkeypatch.setattr(choice, "costs", lambda s: asked.append(s) or {"cg": 1.0, "primal": 2.0})
    assert [choose(sub) for _ in range(3)] == ["cg"] * 3
    assert len(asked) == 1
    choose(replace(sub, inner_iter=5))
    choose(replace(sub, tol=1e-12))
    choose(replace(sub, takes_inexact=True))
    choose(replace(sub, cg_steps=20))
    choose(replace(sub, blocks=np.array([0, 10, sub.problem.n_params])))
    choose(make_sub())
    assert len(asked) == 7


def test_steps_that_end_early_are_for_rules_that_take_them():
    """Equal agents choose as one does; a tau that the user gave asks for the minimiser."""
    data = make_sub(rows=(80,)).problem
    shards = [(data.x, data.target)]
    chosen = []
    for tau, agents in (("auto", 1), ("auto", 12), (0.1, 1), (0.1, 12), ("nielsen", 1)):
        problem = Problem(data.model, data.loss, L2(alpha=0.1), shards * agents)
        s = NEXT(tau=tau).run(problem, Network(Topology.complete(agents)), max_iter=1, warn=False).state
        chosen.append(PartialLinearization().at(problem, s).solver)
    assert chosen == ["cg", "cg", "primal", "primal", "primal"]
    one, other = make_sub(takes_inexact=True), make_sub()
    assert choice.costs(other)["cg"] > 2 * choice.costs(one)["cg"]


def test_blocks_are_cut_into_the_outer_products_of_the_kernel():
    """Boundaries within a row, at a layer's end and within its biases: csrc/pieces.c."""
    widths = list(mlp_costs._pieces((3, 4, 2), np.array([0, 6, 16, 17, 26])))
    assert widths == [4, 2, 2, 4, 1, 1, 2]

"""Agents that are cubes of ranks: the numbers of a network on one rank, in every recipe."""

import numpy as np
import pytest

from dnnext.algorithms import NEXT, GradientTracking
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.models import MLP, Rows
from dnnext.models.cube import CubeLinear
from dnnext.models.spread_model import SpreadModel, cube_mlp
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, Problem, Softmax, SquaredError
from dnnext.runtime import Cube, Grid, InProcess, threads

SIZES = (3, 5, 2)


def make_shards(agents, n_classes=0):
    shards = []
    for agent in agents:
        rng = np.random.default_rng([5, agent])
        x = rng.standard_normal((9 + agent, SIZES[0]))
        z = np.sin(x @ rng.standard_normal((SIZES[0], SIZES[-1])))
        shards.append((x, np.eye(SIZES[-1])[z.argmax(axis=1)] if n_classes else z))
    return shards


@pytest.mark.parametrize("p", [1, 2, 3])
def test_passes_are_those_of_one_rank(p):
    rng = np.random.default_rng(0)
    rows = Rows(rng.standard_normal((11, 3)), np.array([0, 6, 6, 11]))  # the second agent has none
    mlp = MLP(SIZES)
    w, v = (rng.standard_normal((3, mlp.n_params)) for _ in range(2))
    u = rng.standard_normal((11, 2))

    def program(comm):
        model = cube_mlp(Cube(comm, p), SIZES)
        np.testing.assert_array_equal(model.init(4), mlp.init(4))
        assert model.layout == mlp.layout
        return model.forward(w, rows), model.jvp(w, rows, v), model.vjp(w, rows, u), model.forward(w[:1], rows)

    wanted = mlp.forward(w, rows), mlp.jvp(w, rows, v), mlp.vjp(w, rows, u), mlp.forward(w[:1], rows)
    results = threads.run(p**3, program)
    for mine, other in zip(results[0], wanted, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-13)
    for result in results[1:]:
        for mine, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(mine, other)


RECIPES = {
    "tracking": (lambda: GradientTracking(step=0.05), SquaredError(), L2(1e-2)),
    "full": (lambda: NEXT(FullLinearization()), SquaredError(), L1(1e-2)),
    "partial": (lambda: NEXT(PartialLinearization(solver="cg", inner_iter=2)), SquaredError(), L2(1e-2)),
    "softmax": (lambda: NEXT(FullLinearization()), Softmax(), L2(1e-2)),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_agents_of_eight_ranks_are_the_run_on_one_rank(recipe):
    make, loss, penalty = RECIPES[recipe]
    n_classes = 2 if recipe == "softmax" else 0

    def run(model, runtime):
        problem = Problem(model, loss, penalty, make_shards(runtime.agents, n_classes), runtime=runtime)
        network = Network(Topology.complete(2), runtime=runtime)
        return make().run(problem, network, max_iter=20, monitor_every=10, tol=0.0, warn=False)

    def program(comm):
        grid = Grid(comm, agents=2)
        result = run(cube_mlp(Cube(grid.inner, 2), SIZES), grid.agents)
        return grid.agents.rank, result.w, result.w_bar, result.history["objective"]

    # the same Python passes on one rank: MLP's kernels would take other solvers
    whole = run(threads.run(1, lambda comm: cube_mlp(Cube(comm, 1), SIZES))[0], InProcess(2))
    for agent, w, w_bar, objective in threads.run(16, program):
        np.testing.assert_allclose(w[0], whole.w[agent], rtol=0, atol=1e-9)
        np.testing.assert_allclose(w_bar, whole.w_bar, rtol=0, atol=1e-9)
        np.testing.assert_allclose(objective, whole.history["objective"], rtol=1e-9)
    assert whole.history["objective"][-1] < whole.history["objective"][0]


def test_full_linearisation_is_that_of_the_compiled_network():
    def run(model, runtime):
        problem = Problem(model, SquaredError(), L2(1e-2), make_shards(runtime.agents), runtime=runtime)
        network = Network(Topology.complete(2), runtime=runtime)
        return GradientTracking(step=0.05).run(problem, network, max_iter=20, monitor_every=10, tol=0.0, warn=False)

    def program(comm):
        grid = Grid(comm, agents=2)
        return run(cube_mlp(Cube(grid.inner, 2), SIZES), grid.agents).w_bar

    whole = run(MLP(SIZES), InProcess(2)).w_bar
    for w_bar in threads.run(16, program):
        np.testing.assert_allclose(w_bar, whole, rtol=0, atol=1e-9)


def test_mistakes_are_one_sentence_on_every_rank():
    def program(comm):
        cube = Cube(comm, 2)
        with pytest.raises(ValueError, match=r"layer_sizes must be equal on all ranks, .* on rank 6"):
            cube_mlp(cube, (3, 4 + (comm.rank == 6), 1))
        with pytest.raises(ValueError, match="layer_sizes must hold"):
            cube_mlp(cube, (3,))
        with pytest.raises(ValueError, match="layer 2 must have 4"):
            SpreadModel([CubeLinear(cube, 2, 4), CubeLinear(cube, 3, 1, swapped=True)])
        with pytest.raises(ValueError, match="at least one layer"):
            SpreadModel([])
        model = cube_mlp(cube, (3, 4, 1))
        with pytest.raises(ValueError, match="the model has 3 inputs"):
            model.sized(2, 1)
        rows = Rows(np.full((2, 3), float(comm.rank == 7)), np.array([0, 2]))
        with pytest.raises(ValueError, match=r"the rows of the agent must be equal on all ranks, .* on rank 7"):
            model.forward(np.zeros((1, model.layout.n_params)), rows)

    threads.run(8, program)
    with pytest.raises(ValueError, match="agents must divide the number of ranks, got 2 agents for 3 ranks"):
        threads.run(3, lambda comm: Grid(comm, agents=2))

"""Agents that are cubes of ranks, whose weights are spread over them: the numbers of one rank, in every recipe."""

from itertools import pairwise

import numpy as np
import pytest

from dnnext import checkpoint
from dnnext.algorithms import DGD, NEXT, CentralizedSCA, GradientTracking
from dnnext.callbacks import Checkpoint
from dnnext.local import FullLinearization, Growing, PartialLinearization
from dnnext.models import MLP, Rows
from dnnext.models.cube import CubeLinear, Linear1D, Linear2D
from dnnext.models.inner_products import Euclidean
from dnnext.models.spread_model import SpreadModel, cube_mlp
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, ElasticNet, GroupLasso, Problem, Softmax, SparseGroup, SquaredError, row_parts
from dnnext.problem.final_step import final_prox
from dnnext.problem.spread_groups import SpreadGroups
from dnnext.runtime import Cube, Grid, InProcess, Square, threads

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
        np.testing.assert_array_equal(model.init(4), model.cut(mlp.init(4)))
        np.testing.assert_array_equal(model.whole(model.init(4)), mlp.init(4))
        assert model.whole_layout == mlp.layout
        own, along = (np.stack([model.cut(row) for row in rows]) for rows in (w, v))
        pulled = np.stack([model.whole(row) for row in model.vjp(own, rows, u)])
        return model.forward(own, rows), model.jvp(own, rows, along), pulled, model.forward(own[:1], rows)

    wanted = mlp.forward(w, rows), mlp.jvp(w, rows, v), mlp.vjp(w, rows, u), mlp.forward(w[:1], rows)
    results = threads.run(p**3, program)
    for mine, other in zip(results[0], wanted, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-13)
    for result in results[1:]:
        for mine, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(("p", "sizes"), [(2, (8, 16, 4)), (3, (27, 54, 9))])
def test_every_weight_is_stored_once(p, sizes):
    def program(comm):
        model = cube_mlp(Cube(comm, p), sizes)
        biases = sum(part.size for part in model.layout.parts if not part.penalised)
        return model.layout.n_params - biases, biases, model.n_whole

    held = threads.run(p**3, program)
    weights = sum(k * n for k, n in pairwise(sizes))
    assert {own for own, _, _ in held} == {weights // p**3}
    assert sum(own + biases for own, biases, _ in held) == held[0][2] == MLP(sizes).n_params


@pytest.mark.parametrize(("p", "n_rows"), [(2, 16), (3, 54)])
def test_every_row_of_data_is_stored_once(p, n_rows):
    x, y = np.arange(n_rows * p**2 * 2.0).reshape(n_rows, -1), np.arange(n_rows * 5.0).reshape(n_rows, 5)

    def program(comm):
        model, runtime = cube_mlp(Cube(comm, p), (x.shape[1], 4, 5)), Grid(comm, agents=1).agents
        held = Problem(model, SquaredError(), None, [(x, y, np.arange(1.0, n_rows + 1))], runtime=runtime)
        return held.x, held.target, held.weight, held.agent_rows.tolist(), held.n_total

    found = threads.run(p**3, program)
    for whole, place in ((x, 0), (y, 1), (np.arange(1.0, n_rows + 1), 2)):
        assert {part[place].size for part in found} == {whole.size // p**3}
        assert sorted(np.concatenate([part[place].ravel() for part in found])) == sorted(whole.ravel())
    assert {part[4] for part in found} == {n_rows * (n_rows + 1) / 2}
    assert all(part[3] == [n_rows] for part in found)


LAYOUTS = {
    "3d": (8, lambda comm: cube_mlp(Cube(comm, 2), SIZES).layers),
    "2d": (4, lambda comm: [Linear2D(Square(comm, 2), 3, 5, "tanh"), Linear2D(Square(comm, 2), 5, 2)]),
    "1d": (3, lambda comm: [Linear1D(comm, 3, 5, "tanh"), Linear1D(comm, 5, 2, split="rows")]),
    "1d, outputs apart": (3, lambda comm: [Linear1D(comm, 3, 2, split="columns")]),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_passes_over_parts_of_rows_are_those_over_whole_rows(kind):
    n_ranks, make = LAYOUTS[kind]
    rng = np.random.default_rng(0)
    rows = Rows(rng.standard_normal((12, 3)), np.array([0, 4, 4, 5, 12]))

    def program(comm):
        model = SpreadModel(make(comm))
        w, v = (rng.standard_normal((4, model.n_whole)) for rng in map(np.random.default_rng, (1, 2)))
        w, v = (np.stack([model.cut(row) for row in whole]) for whole in (w, v))
        u, part = np.random.default_rng(3).standard_normal((12, 2)), model.tiled(rows)
        np.testing.assert_array_equal(model.forward(w, part), part.cut(model.forward(w, rows), rows.offsets))
        np.testing.assert_array_equal(model.jvp(w, part, v), part.cut(model.jvp(w, rows, v), rows.offsets))
        np.testing.assert_array_equal(model.vjp(w, part, part.cut(u, rows.offsets)), model.vjp(w, rows, u))
        return [row for start, own in zip(rows.offsets, part.own, strict=False) for row in range(12)[start:][own]]

    assert sorted(row for rows in threads.run(n_ranks, program) for row in rows) == list(range(12))


RECIPES = {
    "tracking": (lambda: GradientTracking(step=0.05), SquaredError(), L2(1e-2)),
    "full": (lambda: NEXT(FullLinearization()), SquaredError(), L1(1e-2)),
    "dgd": (lambda: DGD(), SquaredError(), None),
    "partial": (lambda: NEXT(PartialLinearization(solver="cg", inner_iter=2)), SquaredError(), L2(1e-2)),
    "fista": (lambda: NEXT(PartialLinearization(inner_iter=3)), SquaredError(), ElasticNet(1e-2)),
    "groups": (lambda: NEXT(FullLinearization()), SquaredError(), GroupLasso(0.05)),
    "sparse groups": (lambda: GradientTracking(step=0.05), SquaredError(), SparseGroup(0.05)),
    "softmax": (lambda: NEXT(FullLinearization()), Softmax(), L2(1e-2)),
}


def run(recipe, model, runtime, max_iter=None, **options):
    """A run of two agents; tests/mpi/in_spread.py runs it over MPI, too."""
    make, loss, penalty = RECIPES[recipe]
    max_iter = max_iter or (4 if recipe in ("fista", "partial") else 20)
    shards = make_shards(runtime.agents, n_classes=2 if recipe == "softmax" else 0)
    problem = Problem(model, loss, penalty, shards, runtime=runtime)
    network = Network(Topology.complete(2), runtime=runtime)
    return make().run(problem, network, max_iter=max_iter, monitor_every=10, tol=0.0, warn=False, **options)


def alone(recipe):
    """The same Python passes on one rank: MLP's kernels would take other solvers."""
    return run(recipe, cube_mlp(Cube(threads.run(1, lambda comm: comm)[0], 1), SIZES), InProcess(2))


def assert_close(result, whole, agents):
    """The run of a grid and that of one process, to 1e-9."""
    model = result.problem.model
    for row, other in zip(result.w, whole.w[agents.start : agents.stop], strict=True):
        np.testing.assert_allclose(model.whole(row), other, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.whole(result.w_bar), whole.w_bar, rtol=0, atol=1e-9)
    for name in ("objective", "stationarity", "disagreement", "tracking_error", "tau"):
        np.testing.assert_allclose(result.history[name], whole.history[name], rtol=1e-7, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_agents_of_eight_ranks_are_the_run_on_one_rank(recipe):
    whole = alone(recipe)
    objective = whole.history["objective"]
    stepped = final_prox(whole.problem, whole.w_bar)[0]

    def program(comm):
        grid = Grid(comm, agents=2)
        result = run(recipe, cube_mlp(Cube(grid.inner, 2), SIZES), grid.agents)
        assert_close(result, whole, grid.agents.agents)
        own = final_prox(result.problem, result.w_bar)[0]
        np.testing.assert_allclose(result.problem.model.whole(own), stepped, rtol=0, atol=1e-9)

    threads.run(16, program)
    assert objective[-1] < objective[0]


def test_full_linearisation_is_that_of_the_compiled_network():
    def program(comm):
        grid = Grid(comm, agents=2)
        result = run("tracking", cube_mlp(Cube(grid.inner, 2), SIZES), grid.agents)
        return result.problem.model.whole(result.w_bar)

    whole = run("tracking", MLP(SIZES), InProcess(2)).w_bar
    for w_bar in threads.run(16, program):
        np.testing.assert_allclose(w_bar, whole, rtol=0, atol=1e-9)


def test_mixing_tracking_and_prox_add_no_message_inside_an_agent():
    def program(comm):
        grid, counts = Grid(comm, agents=2), []
        model = cube_mlp(Cube(grid.inner, 2), SIZES)
        result = run("tracking", model, grid.agents, max_iter=2)
        problem, s, network = result.problem, result.state, result.network
        inner = [grid.inner, *model.layers[0].cube.along.values(), *model.layers[0].cube.plane.values()]
        for work in (
            lambda: network.mix(s.w, s.y),
            lambda: problem.prox(s.w, np.ones(1)),
            lambda: s.track(s.values),
            lambda: row_parts.norms(problem, s.w),
        ):
            before = sum(sum(comm.tally.words.values()) for comm in inner)
            work()
            counts.append(sum(sum(comm.tally.words.values()) for comm in inner) - before)
        return counts

    assert threads.run(16, program) == [[0, 0, 0, 7]] * 16  # a norm: one number from each of seven others


def test_a_cube_resumes_to_the_bit(tmp_path):
    def program(comm):
        grid = Grid(comm, agents=2)
        model = cube_mlp(Cube(grid.inner, 2), SIZES)
        whole = run("full", model, grid.agents, max_iter=6)
        run("full", model, grid.agents, max_iter=3, callbacks=[Checkpoint(tmp_path, every=3)])
        rest = run("full", model, grid.agents, max_iter=6, resume=checkpoint.read(tmp_path, grid.agents))
        np.testing.assert_array_equal(rest.w, whole.w)

    threads.run(16, program)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"place-{place:03d}" for place in range(8)]


class Mine(GroupLasso):
    """What a penalty of one's own needs is not known."""

    def prox(self, v, s):
        return v


@pytest.mark.parametrize("penalty", [GroupLasso(0.3), GroupLasso([0.4, 0.0]), SparseGroup(0.2, 0.4)], ids=repr)
def test_groups_over_ranks_are_those_of_one_rank(penalty):
    mlp, rng = MLP(SIZES), np.random.default_rng(0)
    v, bound = rng.standard_normal((2, mlp.n_params)), penalty.bind(mlp.layout)
    v[:, :5] *= 0.01  # the first group becomes zero

    def program(comm):
        model = cube_mlp(Cube(comm, 2), SIZES)
        r = SpreadGroups(penalty, model).bind(model.layout)
        moved = r.prox(np.stack([model.cut(row) for row in v]), np.array([0.5, 2.0]))
        value = np.array(r.value(model.cut(v[0])))
        model.shards.allreduce(value)
        return np.stack([model.whole(row) for row in moved]), float(value)

    for moved, value in threads.run(8, program):
        wanted = bound.prox(v, np.array([0.5, 2.0]))
        np.testing.assert_allclose(moved, wanted, rtol=1e-13, atol=1e-15)
        np.testing.assert_array_equal(moved == 0, wanted == 0)
        np.testing.assert_allclose(value, bound.value(v[0]), rtol=1e-13)


def test_what_needs_whole_rows_is_refused():
    refused = {
        "solver 'primal'": NEXT(PartialLinearization(solver="primal")),
        "curvature='shared'": NEXT(PartialLinearization(curvature="shared")),
        "exact=True": NEXT(PartialLinearization(exact=True)),
        "n_blocks=2": NEXT(PartialLinearization(n_blocks=2)),
        r"metric=Euclidean\(\)": NEXT(FullLinearization(metric=Euclidean())),
        "CentralizedSCA": CentralizedSCA(),
        r"oracle=Growing\(\)": NEXT(FullLinearization(), oracle=Growing()),
    }

    def program(comm):
        model = cube_mlp(Cube(comm, 2), SIZES)
        runtime = Grid(comm, agents=1).agents
        shards, network = make_shards(range(1)), Network(Topology.complete(1), runtime=runtime)
        with pytest.raises(ValueError, match=r"penalty must act number by number.*got Mine"):
            Problem(model, SquaredError(), Mine(1e-2), shards, runtime=runtime)
        problem = Problem(model, SquaredError(), None, shards, runtime=runtime)
        for sentence, recipe in refused.items():
            with pytest.raises(ValueError, match=sentence):
                recipe.run(problem, network, max_iter=1)

    threads.run(8, program)


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
        with pytest.raises(ValueError, match=r"(?s)the rows of the agent must be equal on all ranks, .* on rank 7"):
            model.forward(model.init(0)[None], rows)
        grid = Grid(comm, agents=1)
        shards = [(np.full((2, 3), np.nan if comm.rank == 5 else 0.0), np.zeros(2))]
        with pytest.raises(ValueError, match="rank 5: X of agent 0 must be finite"):
            Problem(model, SquaredError(), None, shards, runtime=grid.agents)
        with pytest.raises(ValueError, match="inner must divide the number of ranks, got 3 for 8 ranks"):
            Grid(comm, agents=4, inner=3)
        with pytest.raises(ValueError, match="agents must be at least 4, one for each group, got 3"):
            Grid(comm, agents=3, inner=2)

    threads.run(8, program)
    with pytest.raises(ValueError, match="agents must divide the number of ranks, got 2 agents for 3 ranks"):
        threads.run(3, lambda comm: Grid(comm, agents=2))

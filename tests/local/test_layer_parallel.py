"""Training with inexact gradients from multigrid in depth: states kept, errors estimated, the switch."""

import numpy as np
import pytest

from dnnext.algorithms import DGD, NEXT, GradientTracking
from dnnext.local import FullLinearization, LayerParallel, PartialLinearization
from dnnext.models import MLP, ResNet
from dnnext.network import Network, Topology
from dnnext.problem import L2, Problem, Softmax, SquaredError
from dnnext.runs.state import State
from dnnext.runtime import Grid, InProcess, threads


def make_problem(n_layers=16, model=None, n_agents=3, agents=None, **options):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (48, 2))
    target = np.eye(2)[(np.sum(x**2, axis=1) > 0.6).astype(int)]
    shards = [(x[i::n_agents], target[i::n_agents]) for i in agents or range(n_agents)]
    model = ResNet(n_layers, 4, 2.0, n_inputs=2, n_outputs=2) if model is None else model
    return Problem(model, Softmax(), L2(1e-4), shards, **options)


def test_exact_cycles_are_the_gradient():
    problem = make_problem()
    w = np.stack([problem.model.init(seed) for seed in range(3)])
    exact, ours = np.empty_like(w), np.empty_like(w)
    values = problem.loss_grad(w, exact)
    for oracle in (LayerParallel(switch="serial"), LayerParallel(8, 8, switch="never")):
        memory = {}
        np.testing.assert_allclose(oracle(problem, w, ours, memory), values, rtol=1e-12)
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-12)


def test_kept_states_improve_from_call_to_call():
    problem, memory, errors = make_problem(64), {}, []
    w = np.repeat(problem.model.init(1)[None], 3, axis=0) * 3
    exact, ours = np.empty_like(w), np.empty_like(w)
    problem.loss_grad(w, exact)
    oracle = LayerParallel(1, 1, switch="never")
    for _ in range(4):
        oracle(problem, w, ours, memory)
        errors.append(np.linalg.norm(ours - exact) / np.linalg.norm(exact))
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_the_estimate_is_of_the_size_of_the_error():
    problem = make_problem(64)
    w = np.repeat(problem.model.init(1)[None], 3, axis=0) * 3
    exact, ours = np.empty_like(w), np.empty_like(w)
    problem.loss_grad(w, exact)
    for cycles in (1, 2, 3):
        memory = {}
        LayerParallel(cycles, cycles, switch="never")(problem, w, ours, memory)
        error = np.linalg.norm(ours - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert np.all(memory["measure.gradient_error"] > error)  # what the last cycle changed is more than what is left
        assert np.all(memory["measure.gradient_error"] < 100 * error)


def test_states_of_other_rows_are_forgotten():
    few, many, oracle = make_problem(), make_problem(), LayerParallel(1, 1)
    few = few.with_shards([(few.x[:5], few.target[:5])] * few.n_local)
    s = State.at(few, np.tile(few.model.init(0), (few.n_local, 1)), oracle)
    s.forget_rows()
    found, wanted = np.empty_like(s.w), np.empty_like(s.w)
    assert np.all(s.memory["layers.extra"] == 0)
    np.testing.assert_array_equal(oracle(many, s.w, found, s.memory), oracle(many, s.w, wanted, {}))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("algorithm", [NEXT, GradientTracking, DGD], ids=lambda kind: kind.__name__)
def test_training_over_a_ring_comes_to_where_exact_gradients_come(algorithm):
    surrogate = (FullLinearization(),) if algorithm is NEXT else ()
    ends = []
    for oracle in (None, LayerParallel(), LayerParallel(1, 1)):
        result = algorithm(*surrogate, oracle=oracle).run(
            make_problem(), Network(Topology.ring(3)), max_iter=40, warn=False
        )
        ends.append(result.history["objective"])
    for inexact in ends[1:]:
        assert inexact[-1] < 0.8 * inexact[0]
        assert inexact[-1] == pytest.approx(ends[0][-1], rel=0.05)


def test_the_error_is_in_the_history_and_resumes_exactly(tmp_path):
    from dnnext import checkpoint
    from dnnext.callbacks import Checkpoint

    problem, network = make_problem(n_agents=3), Network(Topology.ring(3))
    recipe = NEXT(FullLinearization(), oracle=LayerParallel(1, 1, switch="never"))
    whole = recipe.run(problem, network, max_iter=12, warn=False)
    assert np.all(whole.history["gradient_error"] > 0)
    recipe.run(problem, network, max_iter=6, warn=False, callbacks=[Checkpoint(tmp_path, every=6)])
    rest = recipe.run(problem, network, max_iter=12, warn=False, resume=checkpoint.read(tmp_path, problem.runtime))
    np.testing.assert_array_equal(rest.w, whole.w)
    np.testing.assert_array_equal(rest.history["gradient_error"], whole.history["gradient_error"])


def train_on_grid(grid, n_agents, oracle, **options):
    """A run of agents that are groups of ranks, each with a part of the layers; test_mpi.py runs it over MPI, too."""
    problem = make_problem(60, n_agents=n_agents, agents=grid.agents.agents, runtime=grid.agents)
    network = Network(Topology.complete(n_agents), runtime=grid.agents)
    recipe = NEXT(FullLinearization(), oracle=oracle)
    return recipe.run(problem, network, max_iter=5, warn=False, **options)


def assert_same_run(result, whole, agents):
    mine = slice(agents.start, agents.stop)
    np.testing.assert_array_equal(result.w, whole.w[mine])
    np.testing.assert_array_equal(result.y, whole.y[mine])
    for name in set(whole.history) - {"seconds", "bytes_wire"}:
        np.testing.assert_array_equal(result.history[name], whole.history[name], err_msg=name)


def train_alone(n_agents, oracle, **options):
    network = Network(Topology.complete(n_agents))
    recipe = NEXT(FullLinearization(), oracle=oracle)
    return recipe.run(make_problem(60, n_agents=n_agents), network, max_iter=5, warn=False, **options)


@pytest.mark.parametrize(("n_agents", "n_layer_ranks"), [(1, 2), (1, 4), (2, 2), (2, 3)])
@pytest.mark.parametrize("switch", ["never", "serial"])
def test_ranks_that_share_the_layers_give_the_bits_of_one_process(n_agents, n_layer_ranks, switch):
    oracle = LayerParallel(1, 2, switch=switch)
    whole = train_alone(n_agents, oracle)

    def program(comm):
        grid = Grid(comm, agents=n_agents)
        result = train_on_grid(grid, n_agents, oracle)
        assert_same_run(result, whole, grid.agents.agents)
        return result.state.memory["rows.layers.u"].shape[1]

    points = threads.run(n_agents * n_layer_ranks, program)
    assert sum(points[:n_layer_ranks]) == 64 + n_layer_ranks  # a part of the states each, ends shared


def test_a_grid_resumes_to_the_bit(tmp_path):
    from dnnext import checkpoint
    from dnnext.callbacks import Checkpoint

    oracle = LayerParallel(1, 1, switch="never")
    whole = train_alone(2, oracle)

    def program(comm):
        grid = Grid(comm, agents=2)
        problem = make_problem(60, n_agents=2, agents=grid.agents.agents, runtime=grid.agents)
        network, recipe = Network(Topology.complete(2), runtime=grid.agents), NEXT(FullLinearization(), oracle=oracle)
        recipe.run(problem, network, max_iter=3, warn=False, callbacks=[Checkpoint(tmp_path, every=3)])
        saved = checkpoint.read(tmp_path, grid.agents)
        assert_same_run(recipe.run(problem, network, max_iter=5, warn=False, resume=saved), whole, grid.agents.agents)

    threads.run(4, program)
    assert checkpoint.notes_of(tmp_path)[0] == 2
    with pytest.raises(ValueError, match="holds no checkpoint"):
        checkpoint.read(tmp_path, InProcess(2))
    with pytest.raises(ValueError, match="is of agents of 2 ranks each, not of 1"):
        checkpoint.read(tmp_path / "place-000", InProcess(2))


def test_the_wish_of_one_rank_inside_an_agent_ends_all():
    def program(comm):
        grid = Grid(comm, agents=2)
        wish = lambda state, metrics: comm.rank == 3 and state.t == 2  # noqa: E731
        result = train_on_grid(grid, 2, LayerParallel(1, 1), callbacks=[wish])
        return result.status, result.n_iter

    assert threads.run(4, program) == [("callback", 2)] * 4


def test_a_mistake_on_one_rank_is_raised_on_all():
    def program(comm):
        grid = Grid(comm, agents=2)
        shards = [(np.full((4, 2), np.nan if comm.rank == 3 else 0.0), np.eye(2)[[0, 1, 0, 1]])]
        with pytest.raises(ValueError, match="rank 3: X of agent 1 must be finite"):
            Problem(ResNet(8, 3, n_inputs=2, n_outputs=2), Softmax(), None, shards, runtime=grid.agents)
        shards = [(np.full((4, 2), float(comm.rank == 1)), np.eye(2)[[0, 1, 0, 1]])]
        problem = Problem(ResNet(8, 3, n_inputs=2, n_outputs=2), Softmax(), None, shards, runtime=grid.agents)
        w = problem.model.init(0)[None]
        if grid.agents.rank == 0:
            with pytest.raises(ValueError, match=r"(?s)X of the agents must be equal on all ranks, .* on rank 1"):
                LayerParallel()(problem, w, np.empty_like(w), {})

    threads.run(4, program)


def test_the_switch_goes_from_cycles_to_exact_propagation():
    problem, memory = make_problem(64), {}
    oracle, ours = LayerParallel(1, 1), np.empty((3, problem.n_params))
    extra, exact = [], np.empty_like(ours)
    for call in range(8):  # weights that jump: kept states are no good guess
        w = np.repeat(problem.model.init(call)[None], 3, axis=0) * 100
        oracle(problem, w, ours, memory)
        extra.append(int(memory["layers.extra"][0]))
        assert np.all(memory["measure.gradient_error"] <= 0.02)  # of the gradient that leaves: bad ones were mended
        problem.loss_grad(w, exact)
    assert extra[0] != 0
    assert extra[-1] == -1
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-12 * np.abs(exact).max())


def test_first_gradients_of_some_percent_error_are_mended():
    problem, errors = make_problem(64), []  # after such a start a run on a ring ended 6 % higher
    w = np.repeat(problem.model.init(1)[None], 3, axis=0) * 10
    exact, ours = np.empty_like(w), np.empty_like(w)
    problem.loss_grad(w, exact)
    for switch, extra in (("never", 0), ("auto", 1)):
        memory = {}
        LayerParallel(1, 1, switch=switch)(problem, w, ours, memory)
        assert np.all(memory["layers.extra"] == extra)
        assert np.all((memory["measure.gradient_error"] > 0.02) == (extra == 0))
        errors.append(np.linalg.norm(ours - exact, axis=1))
    assert np.all(errors[1] < 0.5 * errors[0])


def test_relays_and_weights():
    rng = np.random.default_rng(1)
    model = ResNet(8, 3, n_inputs=2, n_outputs=1)
    shards = [(rng.normal(size=(5, 2)), rng.normal(size=5), rng.uniform(size=5)), (np.empty((0, 2)), np.empty(0))]
    problem = Problem(model, SquaredError(), None, shards)
    w = np.stack([model.init(0), model.init(1)])
    exact, ours = np.empty_like(w), np.empty_like(w)
    values = problem.loss_grad(w, exact)
    np.testing.assert_allclose(LayerParallel(switch="serial")(problem, w, ours, {}), values, rtol=1e-12)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-14)
    assert not ours[1].any()


def test_what_does_not_fit_is_refused():
    problem = make_problem(model=MLP([2, 3, 2]))
    with pytest.raises(ValueError, match="model must be made of residual layers"):
        NEXT(FullLinearization(), oracle=LayerParallel()).run(problem, Network(Topology.path(3)), max_iter=1)
    with pytest.raises(ValueError, match="oracle must give the true gradient"):
        NEXT(PartialLinearization(), oracle=LayerParallel())
    for arguments, sentence in (({"switch": "always"}, "switch must be"), ({"forward_cycles": 0}, "forward_cycles")):
        with pytest.raises(ValueError, match=sentence):
            LayerParallel(**arguments)

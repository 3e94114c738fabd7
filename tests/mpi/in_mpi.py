"""What ranks do, held against one process; test_mpi.py starts this file under mpiexec."""

import sys
import warnings

import numpy as np
import pytest
from mpi4py import MPI

from dnnext import DecentralizedMLPRegressor, checkpoint
from dnnext.algorithms import DGD, NEXT, CentralizedSCA, GradientTracking
from dnnext.callbacks import Checkpoint, EarlyStopping
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network, Schedule, Topology
from dnnext.problem import (
    L1,
    L2,
    MLP,
    ElasticNet,
    GroupLasso,
    Huber,
    Logistic,
    NoPenalty,
    Problem,
    Softmax,
    SparseGroup,
    SquaredError,
    SquaredHinge,
)  # fmt: skip
from dnnext.runtime import AgentsLost, InProcess, machine, split_agents
from dnnext.runtime.mpi import OverMPI

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.rank, COMM.size
N_AGENTS = 9
NET = Topology.erdos_renyi(N_AGENTS, random_state=3)

GRAPHS = {
    "fixed": NET,
    "ring": Topology.ring(N_AGENTS),
    "failing": Schedule.link_failures(NET, p=0.4, random_state=0),
    "gossip": Schedule.gossip(NET, random_state=0),
    "one_peer": Schedule.one_peer_exponential(N_AGENTS),
    "turns": Schedule.alternating(NET, 3),
    "open": Schedule(lambda k: Topology.ring(N_AGENTS) if k % 2 else Topology.star(N_AGENTS)),
}
ALGORITHMS = {
    "next": NEXT(),
    "full": NEXT(FullLinearization()),
    "blocks": NEXT(PartialLinearization(n_blocks=3)),
    "fista": NEXT(PartialLinearization(solver="fista"), step=0.5, mu=0.02),
    "tracking": GradientTracking(),
    "diging": GradientTracking(form="diging"),
    "dgd": DGD(),
}
PENALTIES = {"l1": L1(alpha=1e-2), "l2": L2(alpha=1e-2)}


@pytest.fixture(scope="module")
def over_mpi():
    runtime = OverMPI(N_AGENTS, timeout=30)
    yield runtime
    runtime.close()


@pytest.fixture
def folder(tmp_path_factory):
    """One folder for all ranks."""
    name = np.zeros(1000, dtype="S1")
    path = str(tmp_path_factory.mktemp("shared")).encode()
    name[: len(path)] = np.frombuffer(path, dtype="S1")
    COMM.Bcast([name, MPI.CHAR])
    yield name.tobytes().rstrip(b"\0").decode()
    COMM.Barrier()


def make_shard(agent, loss, width=3, uneven=False):
    rng = np.random.default_rng([7, agent])
    x = rng.standard_normal((3 if uneven and agent < 5 else 90 if uneven else 8 + agent % 4, width))
    z = np.sin(x @ np.linspace(-1, 1, width * 3).reshape(width, 3)) + 0.1 * rng.standard_normal((len(x), 3))
    if isinstance(loss, Softmax):
        return x, np.eye(3)[z.argmax(axis=1)]
    if isinstance(loss, SquaredHinge):
        return x, np.sign(z[:, :1])
    return (x, (z[:, :1] > 0) * 1.0) if isinstance(loss, Logistic) else (x, z[:, :1])


def make_problem(runtime, loss=None, penalty=None, relays=(), uneven=False, **options):
    loss = SquaredError() if loss is None else loss
    shards = [make_shard(agent, loss, uneven=uneven) for agent in runtime.agents]
    shards = [(x[:0], d[:0]) if i in relays else (x, d) for i, (x, d) in zip(runtime.agents, shards, strict=True)]
    layers = (3, 4, 3 if isinstance(loss, Softmax) else 1)
    return Problem(
        MLP(layers), loss, L2(alpha=1e-2) if penalty is None else penalty, shards, runtime=runtime, **options
    )


def run(runtime, algorithm=None, graph=NET, mixing_rounds="auto", run=None, **options):
    problem = make_problem(runtime, **options)
    network = Network(graph, runtime=runtime, mixing_rounds=mixing_rounds)
    algorithm = NEXT() if algorithm is None else algorithm
    return algorithm.run(problem, network, **{"max_iter": 12, "warn": False, **(run or {})})


def assert_same(result, whole, runtime):
    """This rank's part of one process' result, bit for bit."""
    mine = slice(runtime.agents.start, runtime.agents.stop)
    np.testing.assert_array_equal(result.w, whole.w[mine])
    np.testing.assert_array_equal(result.y, whole.y[mine])
    np.testing.assert_array_equal(result.w_bar, whole.w_bar)
    assert (result.status, result.n_iter, result.warning) == (whole.status, whole.n_iter, whole.warning)
    assert list(result.history) == list(whole.history)
    for name in set(whole.history) - {"seconds", "bytes_wire"}:
        np.testing.assert_array_equal(result.history[name], whole.history[name], err_msg=name)


def test_the_job_has_the_ranks_it_should(over_mpi):
    assert (over_mpi.rank, over_mpi.n_ranks) == (RANK, SIZE)
    assert over_mpi.is_distributed == (SIZE > 1)
    assert repr(over_mpi).startswith(f"OverMPI(9): rank {RANK} of {SIZE} holds agents ")
    np.testing.assert_array_equal(over_mpi.bounds, split_agents(N_AGENTS, SIZE))


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_trajectories(over_mpi, algorithm, graph, penalty):
    short = {"max_iter": 3 if graph is GRAPHS["open"] else 8}
    options = {"algorithm": algorithm, "graph": graph, "penalty": penalty, "run": short}
    assert_same(run(over_mpi, **options), run(InProcess(N_AGENTS), **options), over_mpi)


@pytest.mark.parametrize("loss", [Huber(), Logistic(), Softmax(), SquaredHinge()], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("surrogate", [PartialLinearization(), FullLinearization()], ids=["partial", "full"])
def test_losses(over_mpi, loss, surrogate):
    options = {"algorithm": NEXT(surrogate), "loss": loss}
    assert_same(run(over_mpi, **options), run(InProcess(N_AGENTS), **options), over_mpi)


@pytest.mark.parametrize(
    "penalty", [NoPenalty(), ElasticNet(1e-2), GroupLasso(1e-2), SparseGroup(1e-2)], ids=lambda v: type(v).__name__
)
def test_penalties(over_mpi, penalty):
    assert_same(run(over_mpi, penalty=penalty), run(InProcess(N_AGENTS), penalty=penalty), over_mpi)


@pytest.mark.parametrize("options", [
    {"dtype": "float32"},
    {"n_threads": 2},
    {"mixing_rounds": 1},
    {"algorithm": NEXT(PartialLinearization(solver="cg"))},
    {"algorithm": NEXT(PartialLinearization(exact=True)), "loss": Logistic()},
    {"mixing_rounds": 3, "graph": GRAPHS["failing"]},
    {"relays": (0, 4, 8)},
    {"uneven": True},
    {"uneven": True, "penalty": L1(alpha=1e-2)},
    {"relays": tuple(range(3, 9))},
    {"run": {"monitor_every": 5}},
    {"run": {"tol": 1e-2, "max_iter": 200, "n_iter_no_change": 3}},
    {"algorithm": NEXT(FullLinearization(), tau=1e-3), "run": {"max_iter": 60}},
], ids=str)  # fmt: skip
def test_other_choices(over_mpi, options):
    assert_same(run(over_mpi, **options), run(InProcess(N_AGENTS), **options), over_mpi)


def test_blocks_of_any_size():
    if SIZE == 1:
        return
    bounds = [0, *range(1, SIZE), N_AGENTS]  # one agent each, the rest on the last
    runtime = OverMPI(N_AGENTS, bounds=bounds, timeout=30)
    assert_same(run(runtime), run(InProcess(N_AGENTS)), runtime)
    runtime.close()


def test_one_agent_per_rank():
    runtime, graph = OverMPI(SIZE, timeout=30), Topology.ring(SIZE)
    assert_same(run(runtime, graph=graph), run(InProcess(SIZE), graph=graph), runtime)
    runtime.close()


def test_callbacks_of_one_rank_end_all(over_mpi):
    whole = run(InProcess(N_AGENTS), run={"callbacks": [lambda s, m: s.t == 7]})
    mine = run(over_mpi, run={"callbacks": [lambda s, m: s.t == 7 and RANK == SIZE - 1]})
    assert_same(mine, whole, over_mpi)
    stop = {"run": {"max_iter": 300, "callbacks": [EarlyStopping(patience=5, tol=1e-2)]}}
    assert_same(run(over_mpi, **stop), run(InProcess(N_AGENTS), **stop), over_mpi)


def test_an_alarm_at_one_agent_is_heard_by_all(over_mpi):
    diverging = {"algorithm": NEXT(FullLinearization(), tau=1e-5), "run": {"max_iter": 200}}
    whole = run(InProcess(N_AGENTS), **diverging)
    assert whole.status == "diverged"
    assert_same(run(over_mpi, **diverging), whole, over_mpi)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, bool])
@pytest.mark.parametrize("shape", [(), (3,), (40, 7), (100_001,), (2, 40_000)])
def test_sums_keep_the_order_of_the_agents(over_mpi, dtype, shape):
    values = (np.random.default_rng(1).standard_normal((N_AGENTS, *shape)) * 1e3).astype(dtype)
    mine = values[over_mpi.agents.start : over_mpi.agents.stop]
    whole = InProcess(N_AGENTS)
    for name in ("sum_agents", "max_agents", "all_agents"):
        np.testing.assert_array_equal(getattr(over_mpi, name)(mine), getattr(whole, name)(values), err_msg=name)
    assert over_mpi.sum_agents(mine).dtype == whole.sum_agents(values).dtype


def test_words_of_all_ranks(over_mpi):
    assert over_mpi.all_ranks("x" * RANK + "é") == ["x" * r + "é" for r in range(SIZE)]
    over_mpi.agree("anything", ("equal", 1.5, None))


def test_disagreement_is_the_same_error_on_every_rank(over_mpi):
    if SIZE == 1:
        return
    with pytest.raises(ValueError, match=r"topology must be equal on all ranks, got .* on rank 1 and .* on rank 0"):
        Network(Topology.ring(9) if RANK == 1 else Topology.star(9), runtime=over_mpi)
    penalty = L2(alpha=0.5 if RANK == SIZE - 1 else 1.0)
    with pytest.raises(ValueError, match=rf"the problem .*got .*alpha=0.5.* on rank {SIZE - 1}"):
        make_problem(over_mpi, penalty=penalty)
    with pytest.raises(ValueError, match="callbacks must be equal"):
        run(over_mpi, run={"callbacks": [lambda s, m: None] * (RANK == 0)})


def test_a_bad_shard_of_one_rank_is_refused_on_all(over_mpi):
    shards = [make_shard(agent, SquaredError(), width=4 if agent == 8 else 3) for agent in over_mpi.agents]
    with pytest.raises(ValueError, match=r"agent 8.* 4"):
        Problem(MLP((3, 4, 1)), SquaredError(), None, shards, runtime=over_mpi)


def test_an_error_of_one_rank_is_raised_on_all(over_mpi):
    def fail():
        with over_mpi.together():
            if RANK == SIZE - 1:
                raise OSError("no such part")

    with pytest.raises(OSError, match="no such part"):
        fail()


def test_the_centralised_method_says_that_it_needs_all_rows(over_mpi):
    if SIZE > 1:
        with pytest.raises(ValueError, match="shards live on several ranks"):
            run(over_mpi, algorithm=CentralizedSCA())


def test_machines_that_compute_differently_are_named(monkeypatch):
    told = {**machine.machine(), **({"BLAS": "another"} if RANK == SIZE - 1 else {})}
    monkeypatch.setattr(machine, "machine", lambda: told)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        OverMPI(N_AGENTS).close()
    sentences = [str(warning.message) for warning in caught]
    assert len(sentences) == (RANK == 0 and SIZE > 1)
    assert all(f"BLAS is another on rank {SIZE - 1} and" in sentence for sentence in sentences)


def test_bounds_and_timeouts_are_checked():
    with pytest.raises(ValueError, match="bounds must rise from 0 to 9"):
        OverMPI(9, bounds=[0] * (SIZE + 1))
    with pytest.raises(ValueError, match="timeout must be"):
        OverMPI(9, timeout=0)
    if SIZE > 1:
        with pytest.raises(ValueError, match="n_ranks must be at most n_agents"):
            OverMPI(1)


@pytest.mark.parametrize("graph", ["fixed", "failing"])
def test_checkpoints_are_resumed_on_other_ranks(over_mpi, folder, graph):
    class Stop(Exception):
        pass

    def stop(state, metrics):
        if state.t == 17:
            raise Stop

    options, length = {"graph": GRAPHS[graph], "penalty": L1(alpha=1e-2)}, {"max_iter": 25}
    whole = run(InProcess(N_AGENTS), run=length, **options)
    with pytest.raises(Stop):
        run(over_mpi, run={**length, "callbacks": [Checkpoint(folder, every=6), stop]}, **options)
    assert_same(run(over_mpi, run={**length, "resume": checkpoint.read(folder, over_mpi)}, **options), whole, over_mpi)
    alone = InProcess(N_AGENTS)
    assert_same(run(alone, run={**length, "resume": checkpoint.read(folder, alone)}, **options), whole, alone)
    if SIZE > 1:
        part = COMM.Split(RANK == 0)
        if RANK:
            fewer = OverMPI(N_AGENTS, comm=part, timeout=30)
            assert_same(run(fewer, run={**length, "resume": checkpoint.read(folder, fewer)}, **options), whole, fewer)
        part.Free()


# What may leave a rank: the functions that hand numbers or words over, see the table in docs/ of what travels.
TRAVELS = {
    "the runtime": "processor path, versions of BLAS and NumPy",
    "dnnext.network.network.mix": "z, y, the rule's scalars: to neighbours only",
    "dnnext.network.network.__init__": "fingerprint of the graph, mixing_rounds",
    "dnnext.network.network._decide": "eigenvalues of the graph, rounded",
    "dnnext.network.network._load": "width and precision of a message",
    "dnnext.problem.objective.__init__": "N_i, rows per agent; layers, loss, penalty, dtype, N",
    "dnnext.problem.objective._check_memory": "whether memory is too small",
    "dnnext.problem.objective._gather": "whether a shard is unfit",
    "dnnext.problem.objective.smooth_value_grad": "g_i and its gradient at w_bar, for the history",
    "dnnext.algorithms.alarm.__init__": "mean loss at the start",
    "dnnext.algorithms.loop.loop": "number of callbacks",
    "dnnext.algorithms.loop.vote": "alarm, clock, Ctrl-C",
    "dnnext.algorithms.loop.ask": "wish to end, convergence",
    "dnnext.metrics.mean_over_agents": "w_i, for the mean",
    "dnnext.metrics.measure": "disagreement, tracking error, tau, step, bytes",
    "dnnext.local.surrogates.curvature_scale": "curvature at the common start",
    "dnnext.local.surrogates.mean_curvature": "curvature at the common start, and where that is flat",
}
TRAVELS_BEFORE = {  # beside these, from the estimators
    "dnnext.estimators.engine.open_runtime": "processor path, versions of BLAS and NumPy",
    "dnnext.estimators.engine.shared_seeds": "the seed",
    "dnnext.estimators.engine.same_everywhere": "parameters, names of features, fingerprints",
    "dnnext.estimators.ranks._fit_local": "number of agents, errors",
    "dnnext.estimators.regressor._learn_targets_of_all": "whether y is flat",
    "dnnext.estimators.data.network_moments": "N_i; sums of rows, of squares and of absolute deviations",
    "dnnext.estimators.data.hold_out": "rows held out per agent",
    "dnnext.estimators.base._problem": "N_i; whether there are weights",
    "dnnext.estimators.ranks.score": "sums that make the score",
    "dnnext.estimators.ranks.score_local": "sums that make the score",
    "dnnext.metrics.smoothness": "largest curvature of each agent, for the final step",
    "dnnext.problem.objective.value": "g_i at w_bar, for the final step",
}


class Recorder:
    """A communicator that notes what is handed over: who asked for it, and a copy."""

    def __init__(self, comm, log):
        self.comm, self.log = comm, log

    def __getattr__(self, name):
        method = getattr(self.comm, name)
        if name in ("rank", "size", "Irecv", "Free", "Split_type"):
            return method
        if name in ("Dup", "Create_dist_graph_adjacent"):
            return lambda *args: Recorder(method(*args), self.log)
        assert name in ("Ineighbor_alltoallv", "Iallgatherv", "Isend", "Ibcast"), name

        def note(data, *args):
            array = data[0] if isinstance(data, list) else data
            if name != "Ibcast" or args[0] == self.rank:
                self.log.append((_asked_by(), array.copy()))
            return method(data, *args)

        return note


def _asked_by():
    """The function of dnnext, above the runtime, that has something to tell."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals["__name__"]
        if name.startswith("dnnext.") and not name.startswith("dnnext.runtime"):
            return f"{name}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "the runtime"


def assert_no_row_leaves(log, *tables):
    rows = {np.ascontiguousarray(row).tobytes() for table in tables for row in table}
    for name, array in log:
        sent = array.tobytes()
        assert not any(row in sent for row in rows), name


@pytest.mark.parametrize("graph", ["fixed", "gossip"])
@pytest.mark.parametrize("surrogate", [PartialLinearization(), FullLinearization()], ids=["partial", "full"])
def test_only_what_is_listed_leaves_a_rank_and_never_a_row(graph, surrogate):
    log = []
    runtime = OverMPI(N_AGENTS, comm=Recorder(COMM, log), timeout=30)
    result = run(runtime, algorithm=NEXT(surrogate), graph=GRAPHS[graph], penalty=L1(alpha=1e-2))
    assert {name for name, _ in log} <= set(TRAVELS)
    assert sum(array.nbytes for _, array in log) == runtime.bytes_wire
    x, y = zip(*[make_shard(agent, SquaredError()) for agent in runtime.agents], strict=True)
    assert_no_row_leaves(log, *x, *y)
    if SIZE > 1:
        width = 2 * result.w.shape[1] + 1
        messages = [array for name, array in log if name.endswith("network.mix")]
        assert {array.shape[1] for array in messages} == {width}
        assert result.history["bytes_wire"][-1] > 0
    runtime.close()


def test_rows_stay_on_their_rank_in_fit_local():
    log = []
    comm, rng = Recorder(COMM, log), np.random.default_rng(RANK)
    x = rng.standard_normal((40, 4)) * [1, 5, 10, 100] + 3
    y = np.sin(x[:, 0]) + rng.standard_normal(40)
    options = {"penalty": "l1", "max_iter": 10, "tol": 0.0, "early_stopping": True, "topology": "ring", "n_jobs": 1}
    reg = DecentralizedMLPRegressor((4,), engine="mpi", engine_options={"comm": comm}, **options)
    reg.fit_local(x, y, agent=np.arange(40) % 2)
    reg.score_local(x, y)
    assert {name for name, _ in log} <= {*TRAVELS, *TRAVELS_BEFORE}
    moments = reg._network.moments
    assert_no_row_leaves(log, x, y, moments.inputs(x), moments.targets(y[:, None]))


def test_waiting_for_different_things_ends_with_a_sentence():
    if SIZE == 1:
        return
    runtime = OverMPI(SIZE, timeout=2)
    large = np.zeros((1, 1 << 20))
    with pytest.raises(AgentsLost, match="every rank answers: they wait for different things"):
        runtime.all_ranks("x") if RANK else runtime.sum_agents(large)

"""What ranks do, held against one process; test_mpi.py starts this file under mpiexec."""

import os
import warnings

import numpy as np
import pytest
from job import (
    ALGORITHMS,
    COMM,
    EXACT,
    GRAPHS,
    N_AGENTS,
    PENALTIES,
    RANK,
    SHARED,
    SIZE,
    assert_same,
    make_problem,
    make_shard,
    run,
)  # fmt: skip
from mpi4py import MPI

from dnnext.algorithms import NEXT, CentralizedSCA
from dnnext.estimators.choices import make_threads
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network, Topology
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
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint, EarlyStopping
from dnnext.runtime import AgentsLost, InProcess, machine, split_agents
from dnnext.runtime.mpi import OverMPI


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


def test_the_job_has_the_ranks_it_should(over_mpi):
    assert (over_mpi.rank, over_mpi.n_ranks) == (RANK, SIZE)
    assert over_mpi.is_distributed == (SIZE > 1)
    assert repr(over_mpi).startswith(f"OverMPI(9): rank {RANK} of {SIZE} holds agents ")
    np.testing.assert_array_equal(over_mpi.bounds, split_agents(N_AGENTS, SIZE))


def test_an_iteration_takes_its_rounds_and_one_more_call_whatever_is_measured(over_mpi):
    def calls(max_iter):
        before = dict(over_mpi.comm.tally.calls)
        options = {"max_iter": max_iter, "monitor_every": 1, "tol": 0, "callbacks": [EarlyStopping(patience=100)]}
        result = run(over_mpi, run=options)
        counts = {kind: n - before.get(kind, 0) for kind, n in over_mpi.comm.tally.calls.items()}
        return counts, result.history["round"][-1]

    (few, rounds), (many, more_rounds) = calls(4), calls(9)
    more = {kind: n - few[kind] for kind, n in many.items() if n != few[kind]}
    assert more == ({"exchange": more_rounds - rounds, "allgather": 5} if SIZE > 1 else {})


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_trajectories(over_mpi, algorithm, graph, penalty):
    short = {"max_iter": 3 if graph is GRAPHS["open"] else 8}
    options = {"algorithm": algorithm, "graph": graph, "penalty": penalty, "run": short}
    assert_same(run(over_mpi, **options), run(InProcess(N_AGENTS), **options), over_mpi)


def test_exact_curvature_and_its_resumed_run_are_those_of_one_process(over_mpi, folder):
    """Sums along the tree, acceptance test and roll-back; the matrix of a resumed run is formed again, not counted."""
    options = {"algorithm": EXACT, "penalty": PENALTIES["l2"], "relays": (4,)}
    whole = run(InProcess(N_AGENTS), **options)
    assert_same(run(over_mpi, **options), whole, over_mpi)
    run(over_mpi, **options, run={"max_iter": 7, "callbacks": [Checkpoint(folder, every=7)]})
    resumed = run(over_mpi, **options, run={"resume": checkpoint.read(folder, over_mpi)})
    assert_same(resumed, whole, over_mpi)


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
    {"algorithm": SHARED, "relays": (0, 4, 8), "loss": Softmax()},
    {"algorithm": SHARED, "dtype": "float32"},
    {"algorithm": NEXT(PartialLinearization(curvature_rows=6, curvature_slices="fresh")), "relays": (0, 4)},
    {"algorithm": NEXT(FullLinearization(growth=2.0)), "uneven": True},
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
    with pytest.raises(ValueError, match=rf"the problem .*penalty.*got .* on rank {SIZE - 1}"):
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


def test_ranks_share_the_cores(over_mpi, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    threads = COMM.allreduce(make_threads(None, over_mpi.n_here))
    assert SIZE <= threads <= max(SIZE, os.cpu_count())


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


def test_waiting_for_different_things_ends_with_a_sentence():
    if SIZE == 1:
        return
    runtime = OverMPI(SIZE, timeout=2)
    large = np.zeros((1, 1 << 20))
    with pytest.raises(AgentsLost, match="every rank answers: they wait for different things"):
        runtime.all_ranks("x") if RANK else runtime.sum_agents(large)

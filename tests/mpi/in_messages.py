"""What leaves a rank, and what is done with garbage that arrives; test_mpi.py starts this file under mpiexec."""

import base64
import re
import sys

import numpy as np
import pytest
from job import COMM, GRAPHS, N_AGENTS, NET, RANK, SIZE, make_problem, make_shard, run

from dnnext import DecentralizedMLPRegressor
from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Network
from dnnext.problem import L1, SquaredError
from dnnext.runtime import BadMessage
from dnnext.runtime.mpi import OverMPI

# What may leave a rank: the functions that hand numbers or words over, see the table in docs/ of what travels.
TRAVELS = {
    "the runtime": "processor path, versions of BLAS and NumPy",
    "dnnext.network.network.mix": "z, y, the rule's scalars: to neighbours only",
    "dnnext.network.network.__init__": "fingerprint of the graph, mixing_rounds",
    "dnnext.network.network._decide": "eigenvalues of the graph, rounded",
    "dnnext.network.rounds.__init__": "eigenvalues of the graph, rounded",
    "dnnext.network.lanes.load": "width and precision of a message",
    "dnnext.network.network._load": "width and precision of a message",
    "dnnext.problem.objective._what_all_hold": "N_i, rows per agent",
    "dnnext.problem.objective.__init__": "layers, loss, penalty, dtype, N",
    "dnnext.problem.objective._check_memory": "whether memory is too small",
    "dnnext.problem.objective._gather": "whether a shard is unfit",
    "dnnext.problem.objective.smooth_value_grad": "g_i and its gradient at w_bar, for the history",
    "dnnext.runs.alarm.__init__": "mean loss at the start",
    "dnnext.runs.loop.loop": "number of callbacks, max_iter, tol, n_iter_no_change, monitor_every",
    "dnnext.runs.loop.post": "alarm, clock, Ctrl-C, wish to end; where it is measured w_i, y_i, tau, step, bytes, g_i",
    "dnnext.runs.loop.finish": "wish to end",
    "dnnext.runs.history.mean_over_agents": "w_i, for the mean",
    "dnnext.runs.history.measure": "what an oracle measures, the tangent term",
    "dnnext.runs.history._totals": "w_i, y_i, or disagreement and tracking error, tau, step, bytes; at the start g_i",
    "dnnext.local.surrogates.scale": "curvature at the common start",
    "dnnext.local.full.scale": "curvature at the common start",
    "dnnext.local.unit.mean_curvature": "curvature at the common start, and where that is flat",
}
TRAVELS_BEFORE = {  # beside these, from the estimators
    "dnnext.estimators.engine.open_runtime": "processor path, versions of BLAS and NumPy",
    "dnnext.estimators.engine.later_seeds": "the seed",
    "dnnext.estimators.engine.same_everywhere": "parameters, names of features, fingerprints",
    "dnnext.estimators.ranks._trained": "the precision, number of agents, errors",
    "dnnext.estimators.ranks.fit_local": "what is left of these at the end",
    "dnnext.estimators.ranks._graph_of_all": "number of agents, errors",
    "dnnext.estimators.targets.of_ranks": "what y holds, whether it is flat",
    "dnnext.estimators.data._summed": "N_i; sums of rows, of squares and of absolute deviations",
    "dnnext.estimators.data.held_out": "rows held out per agent",
    "dnnext.estimators.training.make_problem": "N_i; whether there are weights",
    "dnnext.estimators.watch.__call__": "sums that make the score",
    "dnnext.estimators.watch._mean": "sums of losses on held-out rows",
    "dnnext.estimators.ranks.score_local": "sums that make the score",
    "dnnext.problem.final_step.smoothness": "largest curvature of each agent, for the final step",
    "dnnext.problem.objective.value": "g_i at w_bar, for the final step",
}
TRAVELS_SHARED = {  # with shared curvature only
    "dnnext.problem.synthetic.input_moments": "sums of inputs and of their products, per agent",
    "dnnext.problem.synthetic._with_synthetic_rows": "N_i; whether memory is too small",
}
TRAVELS_TEST = {  # with the acceptance test only
    "dnnext.algorithms.ratio._sums": "w_i, predictions, wishes for tau, two lengths, overflow; votes; y_i",
    "dnnext.algorithms.ratio._before": "w_i, for the mean",
    "dnnext.problem.objective.value": "g_i at w_bar, for the test",
}
TRAVELS_EXACT = {  # with exact curvature only
    "dnnext.network.tree._exchange": "sums of Gauss-Newton matrices over the agents below: to neighbours only",
    "dnnext.local.common.packed": "whether memory is too small",
    **TRAVELS_TEST,
}
TRAVELS_MOMENTS = {  # where a run may choose shared curvature
    **TRAVELS_SHARED,
    **TRAVELS_TEST,
    "dnnext.problem.synthetic.input_kind": "sums of the first four powers of the inputs, per agent",
}
SURROGATES = {
    "partial": PartialLinearization(),
    "full": FullLinearization(),
    "shared": PartialLinearization(curvature="shared"),
    "exact": PartialLinearization(curvature="exact"),
    "nothing": PartialLinearization(curvature="auto", share="nothing"),
    "moments": PartialLinearization(curvature="auto", share="moments"),
}


class Recorder:
    """A communicator that notes what is handed over: who asked for it, and a copy."""

    def __init__(self, comm, log):
        self.comm, self.log = comm, log

    def __getattr__(self, name):
        method = getattr(self.comm, name)
        if name in ("rank", "size", "Irecv", "Iprobe", "Ibarrier", "Free"):
            return method
        if name == "Idup":
            return self.duplicate
        assert name in ("Iallgatherv", "Isend", "Ibcast"), name

        def note(data, *args):
            array = data[0] if isinstance(data, list) else data
            if name != "Ibcast" or args[0] == self.rank:
                self.log.append((_asked_by(), array.copy()))
            return method(data, *args)

        return note

    def duplicate(self):
        copy, request = self.comm.Idup()
        return Recorder(copy, self.log), request


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
        for text in re.findall(rb"[A-Za-z0-9+/]{16,}", sent):  # arrays that travel with texts
            for begin in range(4):
                sent += base64.b64decode(text[begin : len(text) - (len(text) - begin) % 4])
        assert not any(row in sent for row in rows), name


@pytest.mark.parametrize("graph", ["fixed", "gossip"])
@pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=SURROGATES)
def test_only_what_is_listed_leaves_a_rank_and_never_a_row(graph, surrogate):
    log = []
    if graph != "fixed" and "curvature" in repr(surrogate) and surrogate.curvature != "shared":
        return
    runtime = OverMPI(N_AGENTS, comm=Recorder(COMM, log), timeout=30)
    result = run(runtime, algorithm=NEXT(surrogate), graph=GRAPHS[graph], penalty=L1(alpha=1e-2))
    name = next(key for key, value in SURROGATES.items() if value is surrogate)
    extra = {"shared": TRAVELS_SHARED, "exact": TRAVELS_EXACT, "moments": TRAVELS_MOMENTS}.get(name, {})
    assert {name for name, _ in log} - {*TRAVELS, *extra} == set()
    assert sum(array.nbytes for _, array in log) == runtime.bytes_wire
    x, y = zip(*[make_shard(agent, SquaredError()) for agent in runtime.agents], strict=True)
    assert_no_row_leaves(log, *x, *y)
    if SIZE > 1:
        rows = 2 * result.w.shape[1]
        messages = [array for name, array in log if name.endswith("network.mix")]
        assert {array.shape[1] for array in messages} == ({rows, rows + 2} if extra else {rows + 1})
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
    assert {name for name, _ in log} - {*TRAVELS, *TRAVELS_BEFORE} == set()
    moments = reg._network.moments
    assert_no_row_leaves(log, x, y, moments.inputs(x), moments.targets(y[:, None]))


GARBAGE = {"no numbers": np.nan, "infinite": np.inf, "wild": 1e40}


@pytest.mark.parametrize("graph", ["fixed", "failing"])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_on_every_rank(graph, garbage):
    if SIZE == 1:
        return
    runtime, states, begin = OverMPI(N_AGENTS, timeout=30), [], 30
    last, honest = RANK == SIZE - 1, runtime._parcel.pack
    network = Network(GRAPHS[graph], runtime=runtime)

    def pack(rows, plan):
        honest(rows, plan)
        if network.round >= begin and len(plan.send_rows):  # from some round on the last rank sends garbage
            runtime._parcel.out[0] = garbage

    def keep(state, metrics):
        states.append([state, state.t, *[getattr(state, name).copy() for name in ("w", "y", "grad")]])

    if last:
        runtime._parcel.pack = pack
    with pytest.raises(BadMessage) as caught:
        NEXT().run(make_problem(runtime), network, max_iter=100, warn=False, callbacks=[keep])
    error, told = caught.value, set(runtime.all_ranks(str(caught.value)))
    assert len(told) == 1
    assert runtime.bounds[-2] <= error.agent < N_AGENTS
    assert error.round >= begin
    assert f"agent {error.agent} sent agent" in str(error)
    assert f"in round {error.round}; it was refused" in str(error)
    state, t, *before = states[-1]
    assert state.t == t
    for name, rows in zip(("w", "y", "grad"), before, strict=True):
        np.testing.assert_allclose(getattr(state, name), rows, rtol=1e-13, atol=1e-15, err_msg=name)
    runtime.close()


def test_rows_of_another_width_are_refused_on_every_rank():
    if SIZE == 1:
        return
    runtime = OverMPI(N_AGENTS, timeout=30)
    network = Network(NET, runtime=runtime)
    with pytest.raises(ValueError, match=rf"width and precision of a message must be equal .* on rank {SIZE - 1}"):
        network.mix(np.zeros((len(runtime.agents), 4 + (RANK == SIZE - 1))))
    assert network.round == 0
    runtime.close()

"""Tangent training and direct feedback on ranks; test_mpi.py starts this file under mpiexec."""

import numpy as np
import pytest
from mpi4py import MPI

from dnnext import DecentralizedMLPRegressor
from dnnext.algorithms import NEXT
from dnnext.callbacks import Alignment
from dnnext.datasets import make_quadratic
from dnnext.local import Feedback, FullLinearization, PartialLinearization
from dnnext.models import MLP, Linearised, NeuralTangentKernel, Rows
from dnnext.network import Network, Topology
from dnnext.problem import L2, Problem, SquaredError
from dnnext.runtime import split_agents
from dnnext.runtime.mpi import OverMPI

COMM = MPI.COMM_WORLD
N = 600
X, Y, _ = make_quadratic(N, 3, random_state=0)
OWNER = np.arange(N) % 6
LOW, HIGH = split_agents(6, COMM.size)[[COMM.rank, COMM.rank + 1]]
OWN = np.flatnonzero((OWNER >= LOW) & (OWNER < HIGH))
COMMON = {"hidden_layer_sizes": (5,), "n_agents": 6, "topology": "ring", "random_state": 0, "n_jobs": 1}
ENGINE = {"engine": "mpi", "engine_options": {"timeout": 60}}


def test_tangent_training_is_the_pooled_closed_form():
    exact = {"algorithm": NEXT(PartialLinearization(exact=True)), "regime": "tangent", "alpha": 1e-2, "tol": 0.0}
    reg = DecentralizedMLPRegressor(**COMMON, **exact, **ENGINE, max_iter=600).fit(X, Y, agent=OWNER)
    network = reg._network
    model, x, d = network.model, network.moments.inputs(X), network.moments.targets(Y[:, None]).ravel()
    w0 = model.w0
    kernel = NeuralTangentKernel(model.model, w0)
    j = model.vjp(w0[None], Rows(x, np.arange(N + 1)), np.ones((N, 1)))
    np.testing.assert_allclose(kernel(x), j @ j.T, rtol=0, atol=1e-12 * np.max(j @ j.T))
    offset = model.forward(w0, x).ravel() - j @ w0
    curvature = j.T @ j / N + 1e-2 * np.diag(model.layout.mask)
    best = np.linalg.lstsq(curvature, j.T @ (d - offset) / N, rcond=None)[0]
    np.testing.assert_allclose(j @ network.row, j @ best, rtol=0, atol=1e-8 * np.max(np.abs(j @ best)))


@pytest.mark.parametrize("regime", ["tangent", "features"])
def test_ranks_and_one_process_give_the_same_bits(regime):
    parts = {**COMMON, "regime": regime, "max_iter": 8, "tol": 0.0}
    whole = DecentralizedMLPRegressor(**parts).fit(X, Y, agent=OWNER)
    every = DecentralizedMLPRegressor(**parts, **ENGINE).fit(X, Y, agent=OWNER)
    allowed = NEXT(PartialLinearization(curvature="auto"))  # to send what fit sends
    local = DecentralizedMLPRegressor(**parts, **ENGINE, algorithm=allowed).fit_local(X[OWN], Y[OWN], agent=OWNER[OWN])
    for fitted in (every, local):
        np.testing.assert_array_equal(fitted._network.row, whole._network.row)
        np.testing.assert_array_equal(fitted.predict(X), whole.predict(X))


def test_feedback_and_its_angles_are_the_same():
    algorithm, runs = NEXT(FullLinearization(), oracle=Feedback(0)), []
    for engine in ({}, ENGINE):
        angles = Alignment(every=4)
        reg = DecentralizedMLPRegressor(
            **COMMON | {"hidden_layer_sizes": (6, 4)}, **engine, algorithm=algorithm, max_iter=12, tol=0.0,
            callbacks=[angles],
        )  # fmt: skip
        reg.fit(X, Y, agent=OWNER)
        runs.append((reg._network.row, angles.history["mean"]))
    for mine, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_ranks_that_were_linearised_elsewhere_are_refused():
    base = MLP([3, 3, 1])
    model = Linearised(base, base.init(COMM.rank))
    runtime = OverMPI(6, comm=COMM)
    shards = [(X[i == OWNER], Y[i == OWNER]) for i in runtime.agents]
    with pytest.raises(ValueError, match="model"):
        Problem(model, SquaredError(), L2(1e-2), shards, runtime=runtime)
    assert Network(Topology.ring(6), runtime=runtime).n_agents == 6

"""Layers of a network over the ranks of an MPI job, bit for bit those of one process; test_mpi.py starts this file."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from dnnext.local import LayerParallel
from dnnext.models import ResNet
from dnnext.models.layer_parallel import Grid as Depth
from dnnext.models.layer_parallel import Propagation
from dnnext.runtime import Grid
from dnnext.runtime.mpi import MPICommunicator

path = Path(__file__).parents[1] / "local" / "test_layer_parallel.py"
spec = importlib.util.spec_from_file_location("dnnext_tests_layer_parallel", path)
training = importlib.util.module_from_spec(spec)
spec.loader.exec_module(training)


@pytest.fixture(scope="module")
def comm():
    with MPICommunicator(MPI.COMM_WORLD, timeout=60) as ranks:
        yield ranks


@pytest.mark.parametrize("n_ranks", [1, 2, 4])
def test_states_adjoints_and_gradients(comm, n_ranks):
    rng = np.random.default_rng(0)
    model = ResNet(256, 16, 5.0, n_inputs=2, n_outputs=3)
    x, delta, w = rng.normal(size=(20, 2)), rng.normal(size=(20, 3)), model.init(1) * 5

    def propagate(part):
        net, out = Propagation(model, w, x, Depth(), part), np.empty_like(w)
        u = net.start()
        residuals = [net.states(u, 2)]
        adjoint = np.repeat(net.first_adjoint(u, delta)[None], net.n_points, axis=0)
        residuals.append(net.adjoints(adjoint, u, delta, 2))
        net.gradient(u, adjoint, delta, out)
        net.gather(out)
        return residuals, net.outputs(u), out

    part = comm.split(comm.rank // n_ranks)
    for mine, whole in zip(propagate(part), propagate(None), strict=True):
        np.testing.assert_array_equal(mine, whole)


def test_agents_times_layers(comm):
    n_agents, oracle = max(comm.size // 2, 1), LayerParallel(1, 2, switch="never")
    grid = Grid(comm, agents=n_agents)
    result, whole = training.train_on_grid(grid, n_agents, oracle), training.train_alone(n_agents, oracle)
    training.assert_same_run(result, whole, grid.agents.agents)

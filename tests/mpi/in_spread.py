"""Layers over the ranks of an MPI job, bit for bit those over threads; test_mpi.py starts this file with 8 ranks."""

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from dnnext.algorithms import GradientTracking
from dnnext.models import MLP, volumes
from dnnext.models.cube import CubeLinear
from dnnext.models.spread_model import cube_mlp
from dnnext.network import Network, Topology
from dnnext.problem import L2, Problem, SquaredError
from dnnext.runtime import Cube, Grid, InProcess, threads
from dnnext.runtime.mpi import MPICommunicator

path = Path(__file__).parents[1] / "models" / "test_spread.py"
spec = importlib.util.spec_from_file_location("dnnext_tests_spread", path)
spread = importlib.util.module_from_spec(spec)
spec.loader.exec_module(spread)

WORLD = MPI.COMM_WORLD
LAYOUTS = {"3d": (8, 2), "2d": (4, 2), "1d": (8, 8)}


@pytest.fixture(scope="module")
def comm():
    with MPICommunicator(WORLD, timeout=60) as ranks:
        yield ranks


@pytest.mark.parametrize("kind", LAYOUTS)
def test_training_gives_the_bits_of_threads(comm, kind):
    n_ranks, p = LAYOUTS[kind]
    if comm.size < n_ranks:
        pytest.skip(f"{n_ranks} ranks")
    losses, weights = spread.train(comm.split(comm.rank // n_ranks), kind, p, 20)
    if comm.rank == 0:  # the others have the same, or the sums below would not be equal
        whole, held = threads.run(n_ranks, lambda part: spread.train(part, kind, p, 20))[0]
        assert losses == whole
        for mine, other in zip(weights, held, strict=True):
            np.testing.assert_array_equal(mine, other)
    comm.agree_on({"losses": losses, "weights": weights})


@pytest.mark.parametrize("kind", ["3d", "2d"])
def test_counted_words_are_the_formula(comm, kind):
    n_ranks, p = LAYOUTS[kind]
    if comm.size < n_ranks:
        pytest.skip(f"{n_ranks} ranks")
    m, sizes = 64, (32, 48, 24)
    _, counted, _ = spread.spread(kind, comm.split(comm.rank // n_ranks), p, m, sizes)
    wanted = [volumes.words(kind, m, k, n, n_ranks, bias=True) for k, n in pairwise(sizes)]
    assert counted == (sum(v.forward for v in wanted), sum(v.backward for v in wanted))


def test_an_agent_that_is_a_cube(comm):
    if comm.size < 8:
        pytest.skip("8 ranks")
    grid, mlp = Grid(comm, agents=1), MLP((3, 4, 2))
    rng = np.random.default_rng(0)
    shards = [(rng.standard_normal((11, 3)), rng.standard_normal((11, 2)))]

    def run(model, runtime):
        problem, network = Problem(model, SquaredError(), L2(1e-2), shards, runtime=runtime), Topology.complete(1)
        return GradientTracking(step=0.05).run(problem, Network(network, runtime=runtime), max_iter=20, warn=False)

    mine, whole = run(cube_mlp(Cube(grid.inner, 2), (3, 4, 2)), grid.agents), run(mlp, InProcess(1))
    np.testing.assert_allclose(mine.w, whole.w, rtol=0, atol=1e-9)
    comm.agree_on({"weights": mine.w})


def test_mistakes_are_one_sentence_on_every_rank(comm):
    if comm.size < 8:
        with pytest.raises(ValueError, match="p must give as many ranks as there are"):
            Cube(comm, 2)
        return
    cube = Cube(comm, 2)
    with pytest.raises(ValueError, match=r"n_inputs, .* must be equal on all ranks, .* on rank 5"):
        CubeLinear(cube, 4 + (comm.rank == 5), 4)
    with pytest.raises(ValueError, match=r"the shape and the precision of x must be equal on all ranks, .* on rank 3"):
        CubeLinear(cube, 4, 4).spread_input(np.ones((2 + (comm.rank == 3), 4)))

"""Layers over the ranks of an MPI job, bit for bit those over threads; test_mpi.py starts this file."""

import importlib.util
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from dnnext.models import volumes
from dnnext.models.cube import CubeLinear
from dnnext.models.spread_model import cube_mlp
from dnnext.runtime import Cube, Grid, threads
from dnnext.runtime.mpi import MPICommunicator


def beside(name):
    """A file of tests/models."""
    spec = importlib.util.spec_from_file_location(f"dnnext_{name}", Path(__file__).parents[1] / "models" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


spread, agents = beside("test_spread"), beside("test_spread_model")

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


def test_agents_that_are_cubes_are_the_run_on_one_rank(comm):
    if comm.size < 8:
        pytest.skip("8 ranks")
    grid, whole = Grid(comm, agents=2, inner=8), agents.alone("full")
    result = agents.run("full", cube_mlp(Cube(grid.inner, 2), agents.SIZES), grid.agents)
    agents.assert_close(result, whole, grid.agents.agents)


@pytest.mark.skipif(
    "DNNEXT_FULL" not in os.environ, reason="sixteen times scikit-learn; test_groups.py has it on threads"
)
def test_rows_of_two_groups_of_ranks_train_as_in_one_process():
    from dnnext import DecentralizedClassifier
    from dnnext.algorithms import NEXT
    from dnnext.local import FullLinearization
    from dnnext.models import MLP
    from dnnext.models import Cube as OfRanks

    if WORLD.size < 16:
        pytest.skip("16 ranks")
    x = np.random.default_rng(0).standard_normal((12, 3))
    y, options = np.tile([0, 1, 2], 4), {"max_iter": 2, "tol": 0.0, "random_state": 0, "n_jobs": 1}
    parts = [(x[::2], y[::2]), (x[1::2], y[1::2])]
    options["algorithm"] = NEXT(FullLinearization())
    whole = DecentralizedClassifier(MLP([None, 4, None]), **options).fit_agents(parts)
    engine = {"engine": "mpi", "engine_options": {"timeout": 60}}
    clf = DecentralizedClassifier(OfRanks(MLP([None, 4, None]), p=2), **engine, **options)
    clf.fit_local(*parts[WORLD.rank // 8]).gather_weights()
    for mine, other in zip(clf.coefs_ + clf.intercepts_, whole.coefs_ + whole.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9)


def test_mistakes_are_one_sentence_on_every_rank(comm):
    if comm.size < 8:
        with pytest.raises(ValueError, match="p must give as many ranks as there are"):
            Cube(comm, 2)
        return
    cube = Cube(comm.split(comm.rank // 8), 2)
    with pytest.raises(ValueError, match=r"n_inputs, .* must be equal on all ranks, .* on rank 5"):
        CubeLinear(cube, 4 + (comm.rank % 8 == 5), 4)
    with pytest.raises(ValueError, match=r"the shape and the precision of x must be equal on all ranks, .* on rank 3"):
        CubeLinear(cube, 4, 4).spread_input(np.ones((2 + (comm.rank % 8 == 3), 4)))

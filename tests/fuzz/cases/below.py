"""The rooms below the estimators: recipes on problems, checkpoints that may be anything, kernels on any shape."""

import itertools
import tempfile
from pathlib import Path

import numpy as np

from dnnext import kernels
from dnnext.algorithms import DGD, NEXT, CentralizedSCA, GradientTracking
from dnnext.kernels import reference
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.network import Faults, KnownLoss, Network, RunningSums, Schedule, Topology
from dnnext.problem import (
    L1,
    L2,
    MLP,
    ElasticNet,
    GroupLasso,
    Huber,
    Logistic,
    Problem,
    Softmax,
    SparseGroup,
    SquaredError,
    SquaredHinge,
)
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint

from .data import bulk, dressed
from .draw import need
from .files import damaged

LOSSES = [SquaredError(), Huber(), Logistic(), SquaredHinge(), Softmax()]
PENALTIES = [L2(1e-2), None, L1(1e-2), ElasticNet(1e-2), GroupLasso(1e-2), SparseGroup(1e-2), L2(0), L1(1e300)]


def a_problem(d):
    """A problem of a few agents, relays among them."""
    loss = d.pick(LOSSES)
    n_out = d.usual([1, 3, 2]) if not isinstance(loss, Softmax) else d.usual([3, 2, 1])
    shards = []
    for _ in range(d.usual([3, 1, 2, 6, 0])):
        n = d.usual([6, 0, 1, 20])
        x, target = bulk(d, (n, 2)), bulk(d, (n, n_out))
        if not isinstance(loss, (SquaredError, Huber)) and not d.chance(8):
            target = d.numbers().integers(0, 2, (n, n_out)).astype(float)
            target = 2 * target - 1 if isinstance(loss, SquaredHinge) else target
            if isinstance(loss, Softmax):
                target = np.eye(n_out)[d.numbers().integers(0, n_out, n)]
        shards.append((dressed(d, x), target) if d.chance(4) else (x, target))
    hidden = d.usual([(3,), (), (2, 2)])
    model = MLP([2, *hidden, n_out], activation=d.usual(["tanh", "relu", "softplus", "identity", "logistic"]))
    return Problem(model, loss, d.usual(PENALTIES), shards, dtype=d.usual(["float64", "float32"]))


def a_network(d, n):
    """A network for n agents, perhaps one that fails."""
    net = Topology.from_name(d.pick(["ring", "path", "star", "complete"]), n)
    how = d.usual(["plain", "one round", "gossip", "known", "sums"])
    faults = Faults(d.pick([0.3, 0.0, 0.9]), delay=d.pick([0, 2]), random_state=0) if how in ("known", "sums") else None
    if how == "gossip":
        return Network(Schedule.gossip(net, random_state=0))
    if how == "known":
        return KnownLoss(net, faults)
    if how == "sums":
        return RunningSums(net, faults)
    return Network(net, mixing_rounds=1 if how == "one round" else "auto")


def recipe(d):
    """algorithm.run(problem, network) from any start."""
    problem = a_problem(d)
    tau, step = d.usual(["auto", 1.0, 1e-6, 1e6, 1e-300]), d.usual(["auto", 1.0, 1e-3, 1e3])
    algorithm = d.usual([
        lambda: NEXT(d.usual([PartialLinearization(), FullLinearization(), PartialLinearization(exact=True)]), tau=tau),
        lambda: GradientTracking(step=step, form=d.pick(["atc", "diging"])),
        lambda: DGD(step=step),
        lambda: CentralizedSCA(tau=tau),
    ])()  # fmt: skip
    w0 = None if not d.chance(3) else bulk(d, (problem.n_params,))
    result = algorithm.run(problem, a_network(d, problem.n_agents), w0=w0, max_iter=d.usual([4, 1, 15]), warn=False)
    for name in ("w", "y", "w_bar"):
        need(np.isfinite(getattr(result, name)).all(), f"{name} not finite ({result.status})")
    need(np.isfinite(result.history["objective"]).all(), f"objective not finite: {result.history['objective']}")
    return result.status


_PROBLEM = Problem(
    MLP([2, 2, 1]), SquaredError(), L2(1e-2), [(np.eye(2), [1.0, 0.0]), (np.eye(2), [0.0, 1.0])]
)  # fmt: skip


def saved(d):
    """A folder of checkpoints in which files were cut, flipped, renamed or removed: a run goes on or a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"max_iter": d.pick([4, 6]), "warn": False}
        NEXT().run(_PROBLEM, Network(Topology.ring(2)), callbacks=[Checkpoint(folder, every=2)], **options)
        for file in sorted(Path(folder).iterdir()):
            how = d.usual(["damaged", "kept", "removed", "renamed"])
            if how == "damaged":
                file.write_bytes(damaged(d, file.read_bytes()))
            elif how == "removed":
                file.unlink()
            elif how == "renamed":
                file.rename(file.with_name(d.pick(["x.npz", "000009-agents-00000-00002.npz", "..npz"])))
        snapshot = checkpoint.read(folder, _PROBLEM.runtime)
        result = NEXT().run(_PROBLEM, Network(Topology.ring(2)), resume=snapshot, **{**options, "max_iter": 8})
    need(np.isfinite(result.w_bar).all(), "a resumed run is not finite")
    return "resumed"


def kernel(d):
    """A compiled kernel and its NumPy twin on any shape, empty ones too."""
    rng, dtype = d.numbers(), d.usual([np.float64, np.float32])
    layers = [d.pick([3, 1, 9]), *d.pick([[], [4], [1], [17, 2]]), d.pick([1, 3])]
    rows = [d.pick([5, 0, 1, 40]) for _ in range(d.pick([2, 1, 0, 5]))]
    offsets = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    n, m = len(rows), int(offsets[-1])
    p = sum((a + 1) * b for a, b in itertools.pairwise(layers))
    w, x = rng.standard_normal((n, p)).astype(dtype), rng.standard_normal((m, layers[0])).astype(dtype)
    target, threads = rng.standard_normal((m, layers[-1])).astype(dtype), d.pick([1, 2, 7])
    code = d.pick(sorted(kernels.ACTIVATIONS.values()))
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if dtype == np.float64 else {"rtol": 1e-3, "atol": 1e-3}
    outs = []
    for room in (kernels, reference):
        value, grad = np.empty(n), np.empty((n, p), dtype)
        extra = (threads,) if room is kernels else ()
        room.mlp_loss_grad(value, grad, w, x, target, None, offsets, layers, code, 0, 1.0, 0.5, *extra)
        out = np.empty((m, layers[-1]), dtype)
        room.mlp_jv(out, w, x, w, offsets, layers, code, *extra)
        outs.append((value, grad, out))
    for mine, twin in zip(*outs, strict=True):
        need(np.allclose(mine, twin, **tolerance), f"kernel and twin differ for {layers}, rows {rows}, {dtype}")
    return "equal"

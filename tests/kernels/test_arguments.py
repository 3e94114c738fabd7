"""Wrong arguments are a ValueError that names the argument, what it was and what is allowed; nothing is touched."""

import inspect

import numpy as np
import pytest

from dnnext import kernels
from dnnext.kernels import (
    reference,
    reference_conjugate,
    reference_dual,
    reference_layers,
    reference_lazy,
    reference_residual,
    reference_steps,
)

NAMES = [name for name in kernels.__all__ if name not in ("ACTIVATIONS", "LOSSES", "info") and name[:4] != "Step"]


def call(name, **arguments):
    """Call a kernel; the arguments of next_step are put into its four tuples."""
    if name == "next_step":
        kinds = kernels.StepState, kernels.StepProblem, kernels.StepMixing, kernels.StepRecipe
        parts = [kind(**{field: arguments.pop(field) for field in kind._fields}) for kind in kinds]
        kernels.next_step(*parts, **arguments)
    else:
        getattr(kernels, name)(**arguments)


TWINS = (
    reference_residual, reference_lazy, reference_layers, reference_dual, reference_steps, reference_conjugate,
    reference,
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_and_arguments_are_the_twins(name):
    twin = next(getattr(module, name) for module in TWINS if hasattr(module, name))
    mine, twin = inspect.signature(getattr(kernels, name)), inspect.signature(twin)
    assert list(mine.parameters) == list(twin.parameters)
    assert [p.default for p in mine.parameters.values()] == [p.default for p in twin.parameters.values()]
    assert getattr(kernels, name).__doc__


def test_every_twin_has_a_kernel():
    public = [
        n
        for m in TWINS
        for n, f in inspect.getmembers(m, inspect.isfunction)
        if n[0] != "_" and f.__module__ in (m.__name__, "itertools")
    ]
    assert set(public) - {"pairwise"} == set(NAMES)


@pytest.fixture
def good(network):
    """Right arguments of every kernel by name."""
    p = network(0, (3, 4, 2), (5, 0, 2))
    net = {"offsets": p.offsets, "layers": p.layers, "activation": 1}
    blocks = np.array([0, 10, p.params])
    packed = int(np.sum(np.diff(blocks) ** 2))
    b = np.concatenate([np.eye(size).ravel() for size in np.diff(blocks)])[None].repeat(3, 0)
    rows, status = np.empty((3, p.params)), np.empty(3, np.int64)
    penalty = {
        "l1": np.ones(p.params), "l2": np.ones(p.params), "groups": np.array([[0, 4], [6, 9]]), "strength": np.ones(2),
    }  # fmt: skip
    mlp, wide = {"w": p.w, "x": p.x}, np.empty((p.n, 2))
    root = {"root": p.u, "blocks": blocks}
    csr = {
        "indptr": np.array([0, 1, 1, 3]),
        "indices": np.array([0, 4, 1]),
        "data": np.ones(3),
        "previous": rows.copy(),
    }
    return {
        "loss_value_grad": {
            "value": np.empty(p.n), "delta": wide, "f": p.u, "target": p.target, "loss": 0, "param": 1.0,
        },
        "curvature_root": {
            "out": wide, "f": p.u, "target": p.target, "share": p.weight, "loss": 0, "param": 1.0,
        },
        "mlp_forward": {"out": wide, **mlp, **net},
        "mlp_loss_grad": {
            "value": np.empty(3), "grad": rows, **mlp, "target": p.target, "weight": p.weight, **net, "loss": 0,
            "param": 1.0, "scale": 1.0,
        },
        "mlp_feedback": {
            "value": np.empty(3), "grad": rows, **mlp, "feedback": np.ones((4, 2)), "target": p.target,
            "weight": p.weight, **net, "loss": 0, "param": 1.0, "scale": 1.0,
        },
        "mlp_tangent_kernel": {
            "out": np.zeros((14, 14)), "w": p.w[:1], "x": p.x, "y": p.x.copy(), "layers": p.layers, "activation": 1,
        },
        "mlp_jv": {"out": wide, **mlp, "v": p.v, **net},
        "mlp_jtu": {"out": rows, **mlp, "u": p.u, **net},
        **chains(p),
        **residual(),
        "mlp_jacobian": {
            "out": np.zeros((p.n * 2, p.params)), "w": p.w[:1], "x": p.x, "root": p.u, "layers": p.layers,
            "activation": 1,
        },
        "mlp_gauss_newton": {"out": np.zeros((3, packed)), **mlp, **root, **net},
        "mlp_gauss_newton_product": {"out": rows, **mlp, **root, "v": p.v, **net},
        "block_product": {"out": rows, "b": b, "v": p.v, "blocks": blocks},
        "spd_solve": {"out": rows, "status": status, "b": b, "diag": p.v**2, "rhs": p.v.copy(), "blocks": blocks},
        "cg_curve": {"curve": np.empty(3), "image": rows, "diag": p.v**2, "direction": p.v},
        "cg_step": {
            "energy": np.empty(3), "step": rows, "residual": rows.copy(), "direction": p.v, "image": p.v.copy(),
            "length": np.ones(3),
        },
        "cg_turn": {"direction": rows, "residual": p.v, "ratio": np.ones(3)},
        "mlp_cg_solve": {
            "out": rows, "n_done": status, **mlp, "root": p.u, "diag": p.v**2, "rhs": p.v.copy(), **net, "n_iter": 2,
            "tol": 0.0,
        },
        "mlp_dual_solve": {
            "out": rows, "status": status, **mlp, "root": p.u, "gram": np.ones(29), "tau": np.ones(3),
            "l2": np.ones(2), "rhs": p.v.copy(), **net, "blocks": blocks,
        },
        "rows_gram": {"out": np.empty(29), "x": p.x, "offsets": p.offsets},
        "descent_solve": {
            "v": rows, "n_done": status, "b": b, "tau": np.ones(3), "w": p.v, "g": p.v.copy(), **penalty,
            "blocks": blocks, "n_iter": 2, "tol": 0.0,
        },
        "penalty_prox": {"out": rows, "v": p.v, "s": np.ones(3), **penalty},
        **steps(p, penalty, net),
        "csr_mix": {"out": rows, "rows": np.ones((5, p.params)), **csr, "scale": 1.0, "shift": 0.0, "memory": 1.0},
    }  # fmt: skip


def residual():
    """The same for chains of residual layers: one of a layer of one unit."""
    one, size = np.zeros((1, 1), np.int64), np.full((1, 1), 0.5)
    u, layers = np.ones((2, 1, 16)), np.ones((1, 2))
    chain = {"layers": layers, "layer": one, "size": size, "apart": 2, "activation": 1}
    pushed = np.ones((1, 1, 16))
    network = {"w": np.ones(4), "fixed": np.ones((1, 1)), "x": np.ones((1, 1))}
    sizes = {"width": 1, "n_layers": 1, "h": 0.5, "opening": 1, "activation": 1}
    return {
        "residual_forward": {"u": u, **chain, "g": u.copy(), "a": u.copy()},
        "residual_tangent": {"u": u, "du": u.copy(), "direction": layers.copy(), **chain},
        "residual_backward": {
            "adjoint": u,
            "pushed": pushed,
            "u": u.copy(),
            "state": one,
            **chain,
            "g": u.copy(),
            "a": u.copy(),
        },
        "residual_outputs": {"out": np.empty((1, 1)), **network, **sizes},
        "residual_loss_grad": {
            "value": np.empty(1),
            "grad": np.empty(4),
            **network,
            "target": np.zeros((1, 1)),
            "weight": np.ones(1),
            **sizes,
            "loss": 0,
            "param": 0.0,
            "scale": 1.0,
        },
        "residual_gradient": {"grad": np.empty((1, 2)), "u": u, "pushed": pushed, "state": one},
    }


def chains(p):
    """The same for the kernels of chains of layers: a filter of two pixels, then two units."""
    layers = np.array(
        [[1, 1, 1, 1, 3, 2, 1, 2, 1, 1, 0, 0, 1, 1, 0], [0, 0, 4, 1, 1, 2, 1, 1, 1, 1, 0, 0, 1, 1, 0]], np.int64
    )
    rows = {"w": np.ones((3, 16)), "x": p.x, "directions": np.ones((2, p.n, 3))}
    tail, beta = {"offsets": p.offsets, "layers": layers}, np.ones((2, p.n, 2))
    return {
        "chain_forward": {"out": np.ones((p.n, 2)), "tangent": beta, **rows, **tail},
        "chain_jv": {
            "out": np.ones((p.n, 2)), "w": rows["w"], "x": p.x, "v": np.ones((3, 16)), **tail,
        },
        "chain_jtu": {"out": np.ones((3, 16)), **rows, "u": p.u, "t": beta, **tail},
        "chain_loss_grad": {
            "value": np.ones(3), "term": np.ones(3), "grad": np.ones((3, 16)), **rows, "target": p.target,
            "weight": p.weight, "beta": beta, **tail, "loss": 0, "param": 1.0, "scale": 1.0, "mu": 0.5,
        },
    }  # fmt: skip


def steps(p, penalty, net):
    """The same for the kernels of an iteration."""
    csr = {"indptr": np.array([0, 1, 1, 3]), "indices": np.array([0, 2, 1]), "data": np.ones(3)}
    rows = {name: np.ones((3, p.params)) for name in ("w", "y", "w_hat", "z", "grad", "w_old", "y_old", "grad_old")}
    sums = {name: np.ones(3) for name in ("value", "squares", "disagreement", "size", "received", "tau", "beta")}
    step, rounds = {"step": 1.0, "agents": 3.0}, {"rounds": np.array([[1.0, 0.0, 0.0]])}
    rule = {"growth": 3.0, "decay": 1.2, "low": 0.1, "high": 9.0}

    def some(names):
        return {name: (rows | sums)[name] for name in names.split()}

    return {
        "network_mix": {"out": rows["z"], **some("disagreement size"), "rows": rows["w"], **csr, **rounds},
        "row_change": {**some("disagreement size"), "before": rows["w"], "after": rows["z"], "factor": 1.0},
        "neighbour_max": {"received": np.ones((3, 2)), "scalars": np.ones((4, 2)), **csr},
        "proximal_step": {**some("z w_hat w y tau"), **step, **penalty},
        "tracker_update": some("y squares grad grad_old w"),
        "secant_rule": {
            **some("tau beta w w_old y y_old"), "received": np.ones(3), "model": rows["z"], "agents": 3.0, **rule,
        },
        "next_step": {
            **rows, **sums, **step, **penalty, **csr, **rounds, "x": p.x, "target": p.target, "weight": p.weight, **net,
            "loss": 0, "param": 1.0, "scale": 1.0, **rule,
            "n_threads": 1, "root": p.u, "status": np.zeros(3, np.int64), "group": 2, "steps": 0,
            "tol": 0.0, "share": None, "blocks": np.array([0, p.params]),
        },
    }  # fmt: skip


OUTPUTS = {"out", "value", "grad", "delta", "status", "n_done"}
WRITTEN = {
    "chain_forward": {"tangent"},
    "chain_loss_grad": {"term"},
    "spd_solve": {"b"},
    "descent_solve": {"v"},
    "network_mix": {"disagreement", "size"},
    "row_change": {"disagreement", "size"},
    "neighbour_max": {"received"},
    "proximal_step": {"z", "w_hat"},
    "tracker_update": {"y", "squares"},
    "secant_rule": {"tau", "beta"},
    "next_step": {"w", "y", "w_hat", "z", "squares", "disagreement", "size", "received", "tau", "beta"},
}
READ = {"tracker_update": {"grad"}}
MAY_BE_NONE = {
    ("mlp_loss_grad", "weight"), ("mlp_loss_grad", "grad"), ("csr_mix", "previous"), ("proximal_step", "z"),
    ("secant_rule", "model"), ("next_step", "weight"), ("next_step", "root"), ("next_step", "blocks"),
    ("mlp_dual_solve", "gram"),
    ("rows_gram", "gram"), ("mlp_feedback", "weight"), ("mlp_tangent_kernel", "y"),
    ("chain_forward", "tangent"), ("chain_forward", "directions"), ("chain_jtu", "directions"),
    ("chain_jtu", "t"), ("chain_loss_grad", "grad"), ("chain_loss_grad", "directions"), ("chain_loss_grad", "weight"),
    ("chain_loss_grad", "beta"), ("residual_forward", "g"), ("residual_backward", "g"), ("residual_backward", "pushed"),
    ("residual_forward", "a"), ("residual_backward", "a"), ("residual_loss_grad", "grad"),
    ("residual_loss_grad", "weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_right_arguments_pass(good, name):
    call(name, **good[name])


@pytest.mark.parametrize("name", NAMES)
def test_each_wrong_array_is_named(good, name):
    """Every array argument in turn: an axis too many, a wrong length, a wrong type, not in C order, not an array."""
    for argument, array in good[name].items():
        if not isinstance(array, np.ndarray):
            continue
        wrong = [
            array[..., None, None],
            array.astype(np.complex128),
            array.astype(object),
            array.tolist(),
            3,
            "text",
            None,
        ]
        wrong.append(array.astype(array.dtype.newbyteorder()))
        if array.dtype.kind == "i":
            wrong += [array.astype(float), array.astype(np.int16)]
        if array.ndim > 1 and min(array.shape) > 1:
            wrong.append(np.asfortranarray(array))
        if argument == "indices":
            wrong.append(array.astype(np.int32))
        for bad in wrong:
            if bad is None and (name, argument) in MAY_BE_NONE:
                continue
            with pytest.raises(ValueError, match=argument):
                call(name, **{**good[name], argument: bad})
        longer = np.zeros((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
        if argument not in ("indices", "data") and (name, argument) != ("rows_gram", "x"):
            with pytest.raises(ValueError, match=r"must"):  # may name the argument that it no longer fits
                call(name, **{**good[name], argument: longer})


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_is_refused(good, name):
    real = [k for k, v in good[name].items() if isinstance(v, np.ndarray) and v.dtype == np.float64 and k != "value"]
    for argument in real:
        with pytest.raises(ValueError, match=r"like the other arrays of this call|float64"):
            call(name, **{**good[name], argument: good[name][argument].astype(np.float32)})


@pytest.mark.parametrize("name", NAMES)
def test_outputs_must_be_writeable(good, name):
    written = (OUTPUTS | WRITTEN.get(name, set())) - READ.get(name, set())
    for argument in written & set(good[name]):
        frozen = good[name][argument].copy()
        frozen.flags.writeable = False
        with pytest.raises(ValueError, match=f"{argument} must be a writeable.*read-only"):
            call(name, **{**good[name], argument: frozen})


def _table(row, column, value):
    """The layers of `chains` with one wrong number."""
    layers = np.array([[1, 1, 1, 1, 3, 2, 1, 2, 1, 1, 0, 0, 1, 1, 0], [0, 0, 4, 1, 1, 2, 1, 1, 1, 1, 0, 0, 1, 1, 0]])
    layers[row, column] = value
    return layers


@pytest.mark.parametrize(
    ("name", "argument", "bad", "sentence"),
    [
        ("mlp_forward", "layers", (3,), "layers must hold 2 to 65 sizes"),
        ("mlp_forward", "layers", (3, 0, 2), "every size in layers must be an integer from 1"),
        ("mlp_forward", "layers", (3, 4.5, 2), "every size in layers must be an integer"),
        ("mlp_forward", "layers", (3, 2**20, 2**20, 2), "fewer than 2\\^31 parameters"),
        ("mlp_forward", "activation", 9, "activation must be an integer from 0 to 5, got 9"),
        ("mlp_loss_grad", "loss", -1, "loss must be an integer from 0 to 4, got -1"),
        ("mlp_loss_grad", "loss", "softmax", "loss must be an integer from 0 to 4, got 'softmax'"),
        ("mlp_forward", "n_threads", 0, "n_threads must be an integer from 1 to 1024, got 0"),
        ("mlp_forward", "offsets", np.array([0, 5, 4, 7]), "offsets must rise from 0 to the 7 rows of x"),
        ("mlp_forward", "offsets", np.array([1, 5, 5, 7]), "offsets must rise"),
        ("mlp_forward", "offsets", np.array([0, 5, 5, 8]), "offsets must rise"),
        ("mlp_forward", "offsets", np.array([], np.int64), "offsets must rise"),
        ("mlp_forward", "w", np.ones((2, 26)), "w must have one row for each of the 3 agents"),
        ("mlp_gauss_newton", "blocks", np.array([0, 10, 25]), "blocks must rise from 0 to the 26 parameters"),
        ("spd_solve", "blocks", np.array([0, 30, 26]), "blocks must rise"),
        ("mlp_dual_solve", "blocks", np.array([0, 27]), "blocks must rise"),
        ("rows_gram", "offsets", np.array([0, 5, 8]), "offsets must rise from 0 to the 7 rows of x"),
        ("penalty_prox", "groups", np.array([[0, 4], [3, 9]]), "group 1 was \\(3, 9\\)"),
        ("penalty_prox", "groups", np.array([[0, 4], [6, 27]]), "group 1 was \\(6, 27\\)"),
        ("penalty_prox", "groups", np.array([[-1, 4], [6, 9]]), "group 0 was \\(-1, 4\\)"),
        ("penalty_prox", "groups", np.array([[0, 4], [6, 6]]), "group 1 was \\(6, 6\\)"),
        ("descent_solve", "groups", np.array([[0, 4], [6, 11]]), "cross a boundary of blocks, got \\(6, 11\\)"),
        ("descent_solve", "n_iter", -1, "n_iter must be an integer from 0"),
        ("chain_forward", "w", np.ones((2, 16)), "w must have one row for each of the 3 agents"),
        ("chain_jv", "layers", _table(0, 12, -1), "layers must fit one after another, but layer 0 did not"),
        ("chain_jv", "layers", _table(0, 6, 2), "layer 0 did not"),
        ("chain_jv", "layers", _table(1, 2, 5), "layer 1 did not"),
        ("chain_jv", "layers", _table(1, 0, 4), "layer 1 did not"),
        ("chain_jv", "layers", _table(1, 0, 1), "layer 1 did not"),
        ("chain_jv", "layers", _table(0, 8, 2**40), "layer 0 did not"),
        ("chain_jv", "layers", _table(0, 5, 2**30), "layer 0 did not"),
        ("chain_jv", "layers", np.empty((0, 15), np.int64), "layer 0 did not"),
        ("csr_mix", "indices", np.array([0, 5, 1]), "indices\\[1\\] does not"),
        ("csr_mix", "indices", np.array([-1, 4, 1]), "indices\\[0\\] does not"),
        ("csr_mix", "indptr", np.array([0, 2, 1, 3]), "indptr\\[2\\] does not"),
        ("csr_mix", "indptr", np.array([0, 1, 1, 4]), "indptr\\[3\\] does not"),
    ],
)
def test_sentences(good, name, argument, bad, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(name, **{**good[name], argument: bad})


def test_shared_memory_is_refused_where_it_would_harm(good):
    for name, output, argument in [
        ("csr_mix", "out", "rows"), ("block_product", "out", "v"), ("descent_solve", "v", "w"),
        ("spd_solve", "out", "diag"),
    ]:  # fmt: skip
        arguments = good[name]
        same = arguments[argument]
        with pytest.raises(ValueError, match=r"shares?"):
            call(name, **{**arguments, output: same[: len(arguments[output])]})
    memory = np.ones((4, 26))
    for name, argument in (("penalty_prox", "v"), ("spd_solve", "rhs"), ("mlp_dual_solve", "rhs")):
        with pytest.raises(ValueError, match="share"):
            call(name, **{**good[name], "out": memory[1:], argument: memory[:-1]})


def test_refusals_release_their_arrays(good):
    """A refused call must leave no buffer locked: the array can still be resized."""
    x = np.ones((7, 3))
    with pytest.raises(ValueError, match="out"):
        kernels.mlp_forward(**{**good["mlp_forward"], "x": x, "out": np.ones(3)})
    x.resize((2, 3), refcheck=False)

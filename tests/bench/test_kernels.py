"""The table of kernels: what the peers compute is what we compute, and a row says what it found."""

import numpy as np
import pytest

from bench.speed.kernels import __main__ as table
from bench.speed.kernels import formulas
from bench.speed.kernels.clock import Child, Row, measure, summary, total
from bench.speed.kernels.curvature import one_agent
from bench.speed.kernels.gradient import flat, gradient_row, network
from bench.speed.kernels.residual import product_row, residual_row
from dnnext import kernels

TANH = kernels.ACTIVATIONS["tanh"]


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_formulas_are_those_of_the_kernels(outputs):
    t, layers = network(2, 40, (5, 7, outputs), np.float64), (5, 7, outputs)
    loss, *grads = formulas.gradient(np, *(t[k] for k in ("w1", "b1", "w2", "b2", "x", "target")), 0.25)
    value, grad = np.empty(2), np.empty_like(flat(t))
    code = kernels.LOSSES["softmax" if outputs > 1 else "squared_error"]
    rows = (t["x"].reshape(80, 5), t["target"].reshape(80, outputs))
    kernels.mlp_loss_grad(value, grad, flat(t), *rows, None, np.array([0, 40, 80]), layers, TANH, code, 1.0, 0.25)
    np.testing.assert_allclose(value, loss, rtol=1e-12)
    np.testing.assert_allclose(grad, np.concatenate([g.reshape(2, -1) for g in grads], axis=1), atol=1e-12)
    one = one_agent(30, layers, np.float64)
    j = formulas.jacobian(np, one["w1"], one["b1"], one["w2"], one["x"], one["root"], np.eye(outputs))
    ours = np.empty_like(j)
    kernels.mlp_jacobian(ours, flat({k: a[None] for k, a in one.items()}), one["x"], one["root"], layers, TANH)
    np.testing.assert_allclose(j, ours, atol=1e-12)


def test_a_row_is_measured_and_told(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNEXT_PEERS", str(tmp_path))
    children = {name: Child(peer) for name, peer in (("PyTorch", "torch"), ("JAX", "jax"))}
    found = summary(row := gradient_row("tiny", 2, 8, (3, 4, 1), np.float64, ("ratio", 1e9)), measure(row, children, 0))
    found["group"] = "gradient"
    line = dict(zip(table.HEADER, table.cells(found), strict=True))
    assert line["PyTorch us"] == line["JAX us"] == "missing"
    assert line["reached"] == "NO"
    assert found["ours"] > 0
    assert found["peers"]["NumPy"]["us"] > 0
    text = table.notes([found])
    assert "short of the reach" in text
    assert "without tanh" in text


def test_a_row_without_limit_or_reach():
    row = Row("path", "shape", np.float64, lambda: (np.ones(3),), {}, size=lambda r: total(*r))
    found = summary(row, measure(row, {}, 0))
    assert found["ratio"] is None
    assert found["limit"] is None
    assert found["reached"] is None
    assert table.cells(found)[-1] == "-"


@pytest.mark.parametrize("group", sorted(table.GROUPS))
def test_every_group_has_rows(group):
    rows = table.GROUPS[group].rows(True)
    first = next(iter(rows))
    assert first.task["kind"] in ("gradient", "curvature", "dual", "mixing", "step", "elementary", "residual")
    assert first.size is None or np.isfinite(first.size(first.ours()))


def test_the_arrays_of_a_residual_network_are_its_row():
    found = residual_row(3, 2, 20, np.float64, None)
    a, task = found.arrays, found.task
    u = np.tanh(a["x"] @ a["k"] + a["kb"])
    for weight, bias in zip(a["w"], a["b"], strict=True):
        u = u + task["h"] * np.tanh(u @ weight + bias)
    f = u @ a["c"] + a["cb"]
    loss = task["scale"] * (np.log(np.exp(f).sum(axis=1)).sum() - np.sum(a["target"] * f))
    np.testing.assert_allclose(found.ours()[0], loss, rtol=1e-12)
    assert product_row(3, 2, 20, np.float64).ours()[0].shape == (1, 3 * (4 + 1) + 2 * 3 * 4 + 5 * 4)

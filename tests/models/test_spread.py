"""Layers over ranks against one rank: numbers, counted words, storage; threads as ranks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnext.models import Dense, volumes
from dnnext.models.cube import CubeLinear, Linear1D, Linear2D
from dnnext.models.layer import adjoint_all, forward_all, tangent_all
from dnnext.models.spread import connected, softmax_loss, squared_loss
from dnnext.runtime import Cube, Square, threads

SIDES = {"3d": (1, 2, 3), "2d": (1, 2, 3), "1d": (1, 2, 4)}
ACTIVATIONS = ("tanh", "softplus", "identity")


def build(kind, comm, p, sizes, bias=True, activations=ACTIVATIONS):
    """(group, layers) of a chain with the sizes given."""
    pairs = list(zip(sizes[:-1], sizes[1:], activations, strict=False))
    if kind == "3d":
        cube = Cube(comm, p)
        return cube, [CubeLinear(cube, *pair, swapped=bool(k % 2), bias=bias) for k, pair in enumerate(pairs)]
    if kind == "2d":
        square = Square(comm, p)
        return square, [Linear2D(square, *pair, bias=bias) for pair in pairs]
    part = comm.split(0)  # with a tally of its own
    return part, [Linear1D(part, *pair, ("columns", "rows")[k % 2], bias) for k, pair in enumerate(pairs)]


def data(m, sizes, seed=0):
    rng = np.random.default_rng(seed)
    x, h = rng.standard_normal((m, sizes[0])), rng.standard_normal((m, sizes[-1]))
    weights = [[rng.standard_normal(pair) / np.sqrt(pair[0]), rng.standard_normal(pair[1])] for pair in pairwise(sizes)]
    return x, h, weights


def on_one_rank(m, sizes, bias=True, t=False):
    x, h, weights = data(m, sizes)
    layers = [Dense(n, a) for n, a in zip(sizes[1:], ACTIVATIONS, strict=False)]
    w = [a if k == 0 or bias else np.zeros_like(a) for pair in weights for k, a in enumerate(pair)]
    layers, keeps = [layer.sized((k,)) for layer, k in zip(layers, sizes[:-1], strict=True)], [{} for _ in layers]
    y = forward_all(layers, w, x, keeps)
    v = tangent_all(layers, w, keeps, x[::-1].copy(), None if t else [2 * a for a in w])
    if t:
        before, _, gradient = adjoint_all(layers, w, keeps, h, h[::-1].copy())
    else:
        before, _, gradient = adjoint_all(layers, w, keeps, h, None)
    return y, v, before, gradient


def spread(kind, comm, p, m, sizes, bias=True, t=False):
    """The same on ranks: whole arrays, and the words counted forward and backward."""
    group, layers = build(kind, comm, p, sizes, bias)
    x, h, weights = data(m, sizes)
    w = [a for layer, (weight, b) in zip(layers, weights, strict=True) for a in layer.spread_weights(weight, b)]
    keeps, tile, h_tile = [{} for _ in layers], layers[0].spread_input(x), layers[-1].spread_output(h)
    before_sweep = sum(group.tally.words.values())
    y = forward_all(layers, w, tile, keeps)
    forward = sum(group.tally.words.values()) - before_sweep
    reverse, seed = layers[0].spread_input(x[::-1].copy()), layers[-1].spread_output(h[::-1].copy()) if t else None
    v = tangent_all(layers, w, keeps, reverse, None if t else [2 * a for a in w])
    before_sweep = sum(group.tally.words.values())
    before, _, gradient = adjoint_all(layers, w, keeps, h_tile, seed)
    backward = sum(group.tally.words.values()) - before_sweep
    held, per = [], 1 + bias
    for k, layer in enumerate(layers):
        held += layer.whole_weights(gradient[per * k : per * k + per])
    whole = [layers[-1].whole_output(y, m), layers[-1].whole_output(v, m), layers[0].whole_input(before, m), held]
    numbers = [a.size for a in w[::per]] + [tile.size, *[keep["z"].size for keep in keeps]]
    return whole, (forward, backward), sum(numbers)


def check(kind, p, m, sizes, bias=True, t=False, tolerance=1e-12):
    n_ranks = {"3d": p**3, "2d": p**2, "1d": p}[kind]
    y, v, before, gradient = on_one_rank(m, sizes, bias, t)
    gradient = gradient if bias else gradient[::2]
    results = threads.run(n_ranks, lambda comm: spread(kind, comm, p, m, sizes, bias, t))
    for whole, _, _ in results:
        for mine, one in zip([*whole[:3], *whole[3]], [y, v, before, *gradient], strict=True):
            np.testing.assert_allclose(mine, one, rtol=0, atol=tolerance * max(np.abs(one).max(), 1))
    return n_ranks, [counted for _, counted, _ in results], [held for *_, held in results]


@pytest.mark.parametrize(("kind", "p"), [(kind, p) for kind, sides in SIDES.items() for p in sides])
@pytest.mark.parametrize("t", [False, True], ids=["first order", "second order"])
def test_numbers_of_one_rank(kind, p, t):
    check(kind, p, 12, (7, 11, 5, 3), t=t)  # no size divides


@settings(max_examples=6)
@given(
    kind=st.sampled_from(["3d", "2d", "1d"]), m=st.integers(1, 13), k=st.integers(1, 13), n=st.integers(1, 13),
    q=st.integers(1, 7), bias=st.booleans(),
)  # fmt: skip
def test_any_sizes(kind, m, k, n, q, bias):
    check(kind, 2, m, (k, n, q), bias)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kind", "p", "m", "sizes"), [
    ("3d", 2, 64, (32, 48, 24)), ("3d", 3, 108, (54, 81, 27)), ("3d", 2, 7, (5, 3, 11)), ("2d", 2, 64, (32, 48, 24)),
    ("2d", 3, 64, (31, 5, 24)), ("1d", 4, 16, (8, 12, 4)), ("1d", 3, 7, (5, 11, 2)),
])  # fmt: skip
def test_counted_words_are_the_formula_on_every_rank(kind, p, m, sizes, bias):
    n_ranks, counted, held = check(kind, p, m, sizes, bias)
    kinds = ["1d-columns", "1d-rows"] if kind == "1d" else [kind] * 2
    pairs = list(zip(kinds, sizes[:-1], sizes[1:], strict=True))
    volumes_ = [volumes.words(name, m, k, n, n_ranks, bias=bias) for name, k, n in pairs]
    assert set(counted) == {(sum(v.forward for v in volumes_), sum(v.backward for v in volumes_))}
    assert len(set(held)) == 1


@pytest.mark.parametrize(("p", "m", "sizes", "words", "numbers"), [
    (2, 64, (32, 48, 24), 3104, 1168), (3, 108, (54, 81, 27), 4860, 891),
])  # fmt: skip
def test_figures_of_the_derivation(p, m, sizes, words, numbers):
    _, counted, held = check("3d", p, m, sizes, bias=False)
    assert {sum(both) for both in counted} == {words}
    assert set(held) == {numbers}  # of all weights, inputs and outputs, exactly 1/P
    k, n, q = sizes
    assert numbers * p**3 == m * k + k * n + m * n + n * q + m * q


def test_words_fall_as_the_formulas_say():
    def counted(kind, p):
        return sum(check(kind, p, 36, (36, 36), bias=False)[1][0])

    size = 36 * 36
    assert [counted("3d", p) for p in (1, 2, 3)] == [6 * size * (p - 1) // p**3 for p in (1, 2, 3)]  # P^(-2/3)
    assert [counted("2d", p) for p in (1, 2, 3)] == [6 * size * (p - 1) // p**2 for p in (1, 2, 3)]  # P^(-1/2)
    assert [counted("1d", p) for p in (1, 2, 4)] == [2 * size * (p - 1) // p for p in (1, 2, 4)]  # constant


def test_a_forgotten_swap_is_refused():
    def program(comm):
        cube = Cube(comm, 2)
        first, last = CubeLinear(cube, 8, 8), CubeLinear(cube, 8, 4, swapped=True)
        assert connected([first, last, CubeLinear(cube, 4, 4)])
        with pytest.raises(ValueError, match="layer 2 must take its input where layer 1 leaves its output: swapped"):
            connected([first, CubeLinear(cube, 8, 4)])
        with pytest.raises(ValueError, match="layer 3 must take"):
            connected([Linear1D(comm, 4, 4), Linear1D(comm, 4, 4, split="rows"), Linear1D(comm, 4, 4, split="rows")])

    threads.run(8, program)


@pytest.mark.parametrize(("kind", "p"), [("3d", 2), ("2d", 2), ("1d", 2)])
@pytest.mark.parametrize("loss", [squared_loss, softmax_loss])
def test_losses(kind, p, loss):
    m, sizes = 7, (5, 6, 3)
    target = np.eye(3)[np.arange(m) % 3]
    z = np.random.default_rng(1).standard_normal((m, 3)) * 30
    if loss is squared_loss:
        value, gradient = 0.5 * np.sum((z - target) ** 2), z - target
    else:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        gradient = e / e.sum(axis=1, keepdims=True) - target
        value = -np.sum(target * np.log(e / e.sum(axis=1, keepdims=True)))

    def program(comm):
        last = build(kind, comm, p, sizes)[1][-1]
        mine, tile = loss(last, last.spread_output(z), last.spread_output(target), m)
        return mine, last.whole_output(tile, m)

    for mine, whole in threads.run({"3d": 8, "2d": 4, "1d": 2}[kind], program):
        assert mine == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(whole, gradient, rtol=1e-12, atol=1e-14)


def train(comm, kind, p, n_steps, softmax=True):
    """Gradient descent on a small problem: the losses of all steps, and the weights at the end."""
    m, sizes = 13, (5, 7, 3)
    layers = build(kind, comm, p, sizes)[1]
    x, _, _ = data(m, sizes)
    target = np.eye(3)[np.arange(m) % 3]
    rng = np.random.default_rng(4)
    w, losses = [a for layer in layers for a in layer.init(rng)], []
    tile, wanted = layers[0].spread_input(x), layers[-1].spread_output(target)
    for _ in range(n_steps):
        keeps = [{} for _ in layers]
        z = forward_all(layers, w, tile, keeps)
        value, gradient = (softmax_loss if softmax else squared_loss)(layers[-1], z, wanted, m)
        losses.append(value)
        for a, g in zip(w, adjoint_all(layers, w, keeps, gradient, None)[2], strict=True):
            a -= 0.05 * g
    return losses, [a for k, layer in enumerate(layers) for a in layer.whole_weights(w[2 * k : 2 * k + 2])]


@pytest.mark.parametrize(("kind", "p"), [("3d", 2), ("3d", 3), ("2d", 2), ("1d", 3)])
def test_training_is_that_of_one_rank(kind, p):
    losses, weights = threads.run(1, lambda comm: train(comm, kind, 1, 20))[0]
    for mine, held in threads.run({"3d": p**3, "2d": p**2, "1d": p}[kind], lambda comm: train(comm, kind, p, 20)):
        np.testing.assert_allclose(mine, losses, rtol=1e-11)
        assert mine[-1] < 0.8 * mine[0]
        for a, b in zip(held, weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("make", "match"), [
    (lambda comm: Cube(comm, 3), "p must give as many ranks as there are, .*, got p=3 for 8 ranks"),
    (lambda comm: Cube(comm, 2 if comm.rank else 1), r"rank 0: p must give as many ranks"),
    (lambda comm: CubeLinear(Cube(comm, 2), 4, 4 + (comm.rank == 5)), "n_inputs, .* must be equal on all ranks, .* 5"),
    (lambda comm: CubeLinear(Cube(comm, 2), 4, 4, swapped=comm.rank == 1), "swapped must be equal on all ranks"),
    (lambda comm: CubeLinear(Cube(comm, 2), 4, 0 if comm.rank == 7 else 4), "rank 7: n_outputs must be"),
    (lambda comm: CubeLinear(Cube(comm, 2), 4, 4).spread_input(np.ones((3, 5))), "x must have 4 columns, got shape"),
    (lambda comm: CubeLinear(Cube(comm, 2), 4, 4).spread_input(np.ones((3 + (comm.rank == 2), 4))), "shape .* rank 2"),
    (lambda comm: CubeLinear(Cube(comm, 2), 4, 4).spread_weights(np.ones((4, 3))), "weight must have the shape"),
    (lambda comm: Linear1D(comm, 4, 4, split="planes"), "split must be"),
])  # fmt: skip
def test_mistakes_are_one_sentence_on_every_rank(make, match):
    def program(comm):
        with pytest.raises(ValueError, match=match) as caught:
            make(comm)
        return str(caught.value)

    assert len(set(threads.run(8, program))) == 1

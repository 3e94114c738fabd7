import numpy as np
import pytest

from dnnext.problem import MLP


def test_layout_is_weights_then_biases_layer_by_layer():
    model = MLP([3, 4, 2])
    row = np.arange(model.n_params, dtype=float)
    (w1, b1), (w2, b2) = model.unpack(row)
    np.testing.assert_array_equal(w1, np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(b1, [12, 13, 14, 15])
    np.testing.assert_array_equal(w2, np.arange(16, 24).reshape(4, 2))
    np.testing.assert_array_equal(b2, [24, 25])
    assert model.n_params == 26
    assert model.layer_slices == (slice(0, 16), slice(16, 26))
    assert model.weight_slices == (slice(0, 12), slice(16, 24))
    assert model.bias_slices == (slice(12, 16), slice(24, 26))
    w2[0, 0] = -1  # a view
    assert row[16] == -1
    np.testing.assert_array_equal(model.pack(model.unpack(row)), row)


def test_mask_layers_and_groups():
    model = MLP([3, 4, 2])
    assert np.flatnonzero(model.mask == 0).tolist() == [12, 13, 14, 15, 24, 25]
    np.testing.assert_array_equal(model.layer_of, [0] * 16 + [1] * 10)
    assert model.groups.tolist() == [[0, 4], [4, 8], [8, 12], [16, 18], [18, 20], [20, 22], [22, 24]]
    covered = np.zeros(model.n_params)
    for start, stop in model.groups:
        covered[start:stop] += 1
    np.testing.assert_array_equal(covered, model.mask)
    for shared in (model.mask, model.layer_of, model.groups):
        with pytest.raises(ValueError, match="read-only"):
            shared[0] = 7


def test_a_zero_group_switches_its_unit_off():
    model = MLP([3, 4, 2])
    row, rng = model.init(0), np.random.default_rng(0)
    x = rng.normal(size=(5, 3))
    start, stop = model.groups[1]  # input 1
    row[start:stop] = 0
    other = x.copy()
    other[:, 1] += 10
    np.testing.assert_array_equal(model.forward(row, x), model.forward(row, other))
    start, stop = model.groups[3 + 2]  # unit 2 of the hidden layer
    row[start:stop] = 0
    changed = row.copy()
    changed[model.bias_slices[0]][2] += 3
    np.testing.assert_array_equal(model.forward(row, x), model.forward(changed, x))


PHI = {
    "identity": lambda z: z,
    "tanh": np.tanh,
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "relu": lambda z: np.maximum(z, 0),
    "softplus": lambda z: np.log1p(np.exp(z)),
    "square": np.square,
}


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("hidden", [(), (4,), (5, 3)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_forward_is_the_formula(activation, hidden, dtype):
    model = MLP([3, *hidden, 2], activation=activation)
    row, x = model.init(1, dtype=dtype), np.random.default_rng(0).normal(size=(7, 3)).astype(dtype)
    a = x
    for k, (weight, bias) in enumerate(model.unpack(row)):
        a = a @ weight + bias
        a = a if k == len(hidden) else PHI[activation](a)
    out = model.forward(row, x)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, a, rtol=1e-12 if dtype == np.float64 else 1e-4, atol=1e-6)
    assert model.forward(row, x[:0]).shape == (0, 2)


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_start_is_glorot_uniform_with_zero_biases(activation):
    model = MLP([60, 40, 5], activation=activation)
    row = model.init(3)
    for (weight, bias), (n_in, n_out) in zip(model.unpack(row), model.shapes, strict=True):
        bound = np.sqrt((2 if activation == "logistic" else 6) / (n_in + n_out))
        assert not bias.any()
        assert np.abs(weight).max() <= bound
        assert np.std(weight) == pytest.approx(bound / np.sqrt(3), rel=0.1)
    np.testing.assert_array_equal(row, model.init(3))
    np.testing.assert_array_equal(row, model.init(np.random.SeedSequence(3)))
    np.testing.assert_allclose(model.init(3, scale=0.5), 0.5 * row)
    assert not np.array_equal(row, model.init(4))
    assert not np.array_equal(model.init(), model.init())
    assert model.init(3, dtype=np.float32).dtype == np.float32
    rng = np.random.default_rng(0)
    assert not np.array_equal(model.init(rng), model.init(rng))


@pytest.mark.parametrize("layers", [[], [3], [3, 0, 1], [3, -1], [3, 2.5, 1], [3, True], ["3", 1], 5, None])
def test_bad_layers_are_refused(layers):
    with pytest.raises(ValueError, match="layers must be at least two positive integers"):
        MLP(layers)


def test_bad_words_and_shapes_are_refused():
    with pytest.raises(ValueError, match=r"activation must be one of .*'tanh'.*got 'tan'"):
        MLP([2, 1], activation="tan")
    model = MLP([2, 3, 1])
    with pytest.raises(ValueError, match=r"row must have shape \(13,\)"):
        model.unpack(np.zeros(12))
    with pytest.raises(ValueError, match="parts must have the shapes"):
        model.pack([(np.zeros((2, 3)), np.zeros(3))])
    with pytest.raises(ValueError, match=r"forward takes a row \(13,\) and x \(rows, 2\)"):
        model.forward(np.zeros(13), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="random_state must be"):
        model.init("seed")


def test_models_compare_by_what_they_are():
    assert MLP([2, 3, 1]) == MLP((2, np.int64(3), 1))
    assert MLP([2, 3, 1]) != MLP([2, 3, 1], activation="relu")
    assert len({MLP([2, 1]), MLP([2, 1])}) == 1
    assert repr(MLP([2, 1])) == "MLP([2, 1], activation='tanh')"

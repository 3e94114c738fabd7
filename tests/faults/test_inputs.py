"""Arrays of every kind hold the same numbers; every size of nothing or one is a model or a sentence."""

import numpy as np
import pytest
import scipy.sparse

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.round(np.random.default_rng(0).standard_normal((12, 3)) * 4)  # whole numbers that every type holds
Y = X[:, 0] - X[:, 1]


def fit(x, y, kind=DecentralizedMLPRegressor, **params):
    options = {"hidden_layer_sizes": (3,), "n_agents": 3, "max_iter": 4, "n_jobs": 1, "random_state": 0, **params}
    return kind(**options).fit(x, y)


def memmap(folder):
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r")


def read_only(folder):
    x = X.copy()
    x.setflags(write=False)
    return x


DRESSES = {
    **{kind: lambda folder, kind=kind: X.astype(kind) for kind in ("f2", "f4", "i1", "i8", ">f8", "longdouble", "O")},
    "fortran": lambda folder: np.asfortranarray(X),
    "strided": lambda folder: np.repeat(X, 2, axis=0)[::2],
    "list": lambda folder: X.tolist(),
    "csr": lambda folder: scipy.sparse.csr_array(X),
    "csc": lambda folder: scipy.sparse.csc_array(X),
    "read-only": read_only,
    "memmap": memmap,
}


@pytest.mark.parametrize("dress", DRESSES)
def test_the_same_numbers_give_the_same_model(dress, tmp_path):
    other, plain = fit(DRESSES[dress](tmp_path), Y), fit(X, Y)
    for mine, theirs in zip(other.coefs_, plain.coefs_, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6 if dress in ("f2", "f4") else 1e-12)


def test_truth_values_are_numbers():
    np.testing.assert_array_equal(fit(X > 0, Y).predict(X > 0), fit((X > 0) * 1.0, Y).predict((X > 0) * 1.0))


@pytest.mark.filterwarnings("ignore:n_agents=.* but there are .* rows")
@pytest.mark.parametrize(
    ("x", "y", "params"),
    [
        (np.c_[X[:, :2], np.full(12, 7.0)], Y, {}),
        (X, np.ones(12), {}),
        (np.zeros((12, 3)), Y, {}),
        (X, Y, {"n_agents": 40}),
        (X, Y, {"n_agents": 1}),
        (X[:1], Y[:1], {}),
        (X[:1], Y[:1], {"n_agents": 1}),
        (X[:, :1], Y, {}),
        (X, Y, {"hidden_layer_sizes": ()}),
        (X, Y, {"hidden_layer_sizes": (1,)}),
        (X, Y, {"max_iter": 1}),
    ],
    ids=["constant column", "constant y", "all zero", "more agents than rows", "one agent", "one row", "one of each",
         "one column", "no hidden layer", "one unit", "one iteration"],
)  # fmt: skip
def test_small_things_are_models(x, y, params):
    model = fit(x, y, **params)
    assert np.isfinite(model.predict(x)).all()
    assert all(np.isfinite(coef).all() for coef in model.coefs_)


@pytest.mark.parametrize(
    ("x", "y", "params", "words"),
    [
        (X[:0], Y[:0], {}, "0 sample"),
        (X[:, :0], Y, {}, "0 feature"),
        (X, np.empty((12, 0)), {}, "0 feature"),
        (X, Y, {"n_agents": 0}, "n_agents must be an integer >= 1, got 0"),
        (X, Y, {"hidden_layer_sizes": (0,)}, "hidden_layer_sizes must be"),
        (X, Y, {"max_iter": 0}, "max_iter must be an integer >= 1, got 0"),
        (X, np.zeros(12, int), {"kind": DecentralizedMLPClassifier}, "one class only"),
        (X.astype(complex), Y, {}, "(?i)complex"),
    ],
    ids=["rows", "columns", "outputs", "agents", "units", "iterations", "one class", "complex"],
)
def test_nothing_is_refused_by_a_sentence(x, y, params, words):
    with pytest.raises(ValueError, match=words):
        fit(x, y, **params)

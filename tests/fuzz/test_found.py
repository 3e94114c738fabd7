"""What the fuzz found once, kept as small cases."""

import io
import zipfile

import numpy as np
import pytest
import scipy.sparse

import dnnext
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor, Topology
from dnnext.local import PartialLinearization
from dnnext.network import Network
from dnnext.problem import L2, MLP, Problem, SquaredError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((30, 3)), RNG.standard_normal(30)
LABEL = (Y > 0).astype(int)


def small(kind=DecentralizedMLPRegressor, **params):
    return kind((3,), **{"n_agents": 3, "max_iter": 4, "n_jobs": 1, "random_state": 0, **params})


@pytest.mark.parametrize("scale", [1e-145, 1e-100, 1e100, 1e145])
@pytest.mark.parametrize("kind", [DecentralizedMLPRegressor, DecentralizedMLPClassifier])
def test_scales_do_not_matter_where_numbers_hold_them(kind, scale):
    plain, scaled = small(kind).fit(X, LABEL), small(kind).fit(X * scale, LABEL)
    np.testing.assert_allclose(plain.predict(X), scaled.predict(X * scale), rtol=1e-6)
    assert all(np.isfinite(coef).all() for coef in scaled.coefs_)


@pytest.mark.parametrize(
    ("dtype", "scale", "word"),
    [
        ("float64", 1e-160, "small"),
        ("float64", 1e160, "large"),
        ("float32", 1e-32, "small"),
        ("float32", 1e33, "large"),
    ],
)
def test_scales_beyond_the_precision_are_named(dtype, scale, word):
    x = X.copy()
    x[:, 1] *= scale
    with pytest.raises(ValueError, match=f"X has values in column 1 that are too {word} to standardise in {dtype}"):
        small(dtype=dtype).fit(x, Y)
    with pytest.raises(ValueError, match=f"y has values in column 0 that are too {word}"):
        small(dtype=dtype).fit(X, Y * scale)


def test_rows_far_from_the_training_data_are_refused_not_nan():
    model = small().fit(X * 1e-100, Y)
    with pytest.raises(ValueError, match="X holds values in row 2"):
        model.predict(np.array([[0, 0, 0], [1e-100, 0, 0], [1e300, -1e300, 1e300]]))


def test_largest_floats_add_up_to_no_warning():
    with pytest.raises(ValueError, match="too large"):
        small().fit(np.tile([[1.7e308], [-1.7e308]], (15, 3)), Y)


def test_a_tiny_tau_ends_in_an_alarm_and_the_best_model():
    for tau in (1e-300, 1e-12):
        model = small(algorithm=dnnext.algorithms.NEXT(tau=tau), max_iter=8).fit(X, np.c_[Y, Y])
        assert np.isfinite(model.history_["objective"]).all()
        assert np.isfinite(model.predict(X)).all()
    problem = Problem(MLP([3, 3, 1]), SquaredError(), L2(0.0), [(X[:5], Y[:5]), (X[5:], Y[5:])])
    surrogate = PartialLinearization(solver="dual")
    result = dnnext.algorithms.NEXT(surrogate, tau=1e-300).run(
        problem, Network(Topology.ring(2)), warn=False, max_iter=9
    )
    assert np.isfinite(result.w).all()
    assert np.isfinite(result.w_bar).all()


@pytest.mark.parametrize(
    ("kind", "params", "fit", "words"),
    [
        (DecentralizedMLPClassifier, {}, (X, np.array(["a", 1, 2] * 10, dtype=object)), "y mixes labels"),
        (DecentralizedMLPClassifier, {"class_weight": {0: np.nan}}, (X, LABEL), "class_weight must hold finite"),
        (DecentralizedMLPClassifier, {"class_weight": {0: -1}}, (X, LABEL), "class_weight must hold finite"),
        (DecentralizedMLPClassifier, {}, (X, LABEL, ["a"] * 30), "sample_weight must hold real numbers"),
        (DecentralizedMLPRegressor, {}, (X, np.array([["a"]] * 30)), "y must hold real numbers"),
        (DecentralizedMLPRegressor, {"early_stopping": True, "n_agents": 1}, (X[:5], Y[:5]), "too few for R2"),
    ],
)
def test_sentences_name_the_argument(kind, params, fit, words):
    with pytest.raises(ValueError, match=words):
        small(kind, **params).fit(*fit)


def test_sparse_targets_are_targets():
    model = small().fit(X, scipy.sparse.csr_array(np.c_[Y, Y]))
    np.testing.assert_array_equal(model.predict(X), small().fit(X, np.c_[Y, Y]).predict(X))


def test_agents_whose_arrays_cannot_be_joined():
    with pytest.raises(ValueError, match=r"X of agents\[1\] must hold numbers, got dates"):
        small().fit_agents([(X, Y), (X.astype("M8[s]"), Y)])


def test_partial_fit_on_rows_of_another_scale():
    model = small(standardize=False).fit(X, Y)
    with pytest.raises((ValueError, FloatingPointError)):
        model.partial_fit(X * 1e200, Y * 1e200)
    assert np.isfinite(model.predict(X)).all()


def test_complex_matrices_are_no_graphs():
    with pytest.raises(ValueError, match="adjacency must be a square matrix of numbers"):
        Topology(np.array([[0, 1j], [1j, 0]]))


def rewritten(data, **members):
    """The archive with members replaced (None: left out)."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            key = name.removesuffix(".npy")
            if key not in members:
                new.writestr(name, old.read(name))
        for name, content in members.items():
            if content is not None:
                new.writestr(name if "/" in name else name + ".npy", content)
    return target.getvalue()


def npy(array, allow_pickle=False):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"classes": None}, "classes"),
        ({"row": npy(np.full(16, np.nan))}, "row must be"),
        ({"row": npy(np.zeros(16, complex))}, "row holds complex"),
        ({"moments.x_scale": npy(np.zeros(3))}, "moments.x_scale must be above zero"),
        ({"history.objective": None}, "objective"),
        ({"classes": npy(np.array([0, 1, 2]))}, "3 classes"),
        ({"row": npy(np.array([{}], dtype=object), allow_pickle=True)}, "(?i)object|pickle"),
        ({"row": npy(np.zeros(2))[:-16].replace(b"(2,), ", b"(2000000000000,), ")}, "shorter|header|magic|EOF"),
        ({"../../evil": b"import os"}, "no array|not a complete|damaged"),
    ],
    ids=["no classes", "nan", "complex", "zero scale", "no history", "classes", "object", "long", "path"],
)
def test_model_files_that_lie(tmp_path, members, words):
    model = small(DecentralizedMLPClassifier).fit(X, LABEL)
    model.save(tmp_path / "m.npz")
    (tmp_path / "m.npz").write_bytes(rewritten((tmp_path / "m.npz").read_bytes(), **members))
    with pytest.raises(ValueError, match=words):
        dnnext.load(tmp_path / "m.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]


def two_agents(**options):
    return Problem(MLP([3, 3, 1]), SquaredError(), L2(0.0), [(X[:5], Y[:5]), (X[5:], Y[5:])], **options)


def test_a_tau_that_rounds_to_zero_does_not_hang():
    """Its doubles are zero too; the solver gives up or begins at the rounding of the matrix."""
    for solver in ("primal", "dual"):
        recipe = dnnext.algorithms.NEXT(PartialLinearization(solver=solver), tau=1e-300)
        result = recipe.run(two_agents(dtype="float32"), Network(Topology.ring(2)), warn=False, max_iter=9)
        assert np.isfinite(result.w_bar).all()


def test_alpha_beyond_single_precision_is_refused():
    with pytest.raises(ValueError, match=r"alpha of .* is too large for float32"):
        L2(1e300).bind(MLP([2, 1]).layout, dtype=np.float32)


def test_gradients_that_overflow_at_the_start_are_refused():
    problem = Problem(MLP([1, 1]), SquaredError(), L2(0.0), [([[1e200]], [1e200]), ([[1.0]], [1.0])])
    with pytest.raises(ValueError, match="at the start"):
        dnnext.algorithms.NEXT().run(problem, Network(Topology.ring(2)), w0=np.zeros(2), max_iter=3)


def test_a_flat_start_is_no_division_by_zero():
    problem = Problem(MLP([1, 1]), SquaredError(), L2(0.0), [([[0.0]], [0.0]), ([[0.0]], [0.0])])
    result = dnnext.algorithms.DGD().run(problem, Network(Topology.ring(2)), w0=np.zeros(2), max_iter=3, warn=False)
    assert (result.w == 0).all()

"""regime="tangent" and "features": what the estimators train, keep, write and refuse."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_iris

import dnnext
from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor, Schedule, SparsityDisplay, Topology
from dnnext.algorithms import NEXT, GradientTracking
from dnnext.datasets import make_quadratic
from dnnext.local import PartialLinearization
from dnnext.models import MLP, Linearised, ResNet, Rows
from dnnext.runs.callbacks import Checkpoint

X, Y = load_iris(return_X_y=True)
COMMON = {"hidden_layer_sizes": (5,), "n_agents": 4, "topology": "ring", "max_iter": 25, "tol": 0.0, "random_state": 0}
REGIMES = ["tangent", "features"]


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus"])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"penalty": "l1", "alpha": 1e-3}, {"penalty": "group", "alpha": 1e-3}, {"loss": "squared_hinge"},
        {"algorithm": "gradient_tracking"}, {"dtype": "float32"},
    ],
    ids=str,
)  # fmt: skip
def test_they_learn(regime, activation, options):
    clf = DecentralizedMLPClassifier(**{**COMMON, **options}, activation=activation, regime=regime).fit(X, Y)
    assert clf.history_["objective"][-1] < clf.history_["objective"][0]
    assert clf.score(X, Y) > 0.75


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore:The objective was still falling")
def test_models_whose_start_has_no_dtype_have_regimes(regime, dtype):
    """`Model.init` takes the random state alone."""
    options = {"n_agents": 3, "max_iter": 5, "random_state": 0, "dtype": dtype}
    model = dnnext.DecentralizedClassifier(ResNet(3, 4), regime=regime, **options).fit(X, Y)
    assert model.loss_ < 0.9 * model.loss_curve_[0]
    assert all(part.dtype == dtype for part in model.weights_.values())


FAILING = Schedule.link_failures(Topology.ring(4), 0.3, 0)


@pytest.mark.parametrize("topology", ["ring", FAILING], ids=["ring", "failing"])
def test_a_tangent_is_the_pooled_closed_form(topology):
    x, y, _ = make_quadratic(600, 3, random_state=0)
    options = {**COMMON, "topology": topology, "max_iter": 600, "alpha": 1e-2}
    reg = DecentralizedMLPRegressor(**options, regime="tangent", algorithm=NEXT(PartialLinearization(exact=True)))
    reg.fit(x, y)
    network = reg._network
    model, z, d = network.model, network.moments.inputs(x), network.moments.targets(y[:, None]).ravel()
    j = model.vjp(model.w0[None], Rows(z, np.arange(601)), np.ones((600, 1)))
    offset = model.forward(model.w0, z).ravel() - j @ model.w0
    curvature = j.T @ j / 600 + 1e-2 * np.diag(model.layout.mask)
    best = np.linalg.lstsq(curvature, j.T @ (d - offset) / 600, rcond=None)[0]
    for view in (reg, *reg.agents_):
        assert_allclose(j @ view._network.row, j @ best, rtol=0, atol=1e-8 * np.max(np.abs(j @ best)))


def test_random_features_keep_their_first_layer():
    clf = DecentralizedMLPClassifier(**COMMON, regime="features", standardize=False).fit(X, Y)
    start = clf._network.model.init(np.random.default_rng(0))
    assert clf._network.model == MLP([4, 5, 3])
    assert clf._network.row.shape == start.shape
    again = DecentralizedMLPClassifier(**COMMON | {"max_iter": 3}, regime="features", standardize=False).fit(X, Y)
    assert_array_equal(clf.coefs_[0], again.coefs_[0])
    assert not np.array_equal(clf.coefs_[1], again.coefs_[1])
    for view in clf.agents_:
        assert_array_equal(view.coefs_[0], clf.coefs_[0])
    assert_allclose(clf.to_sklearn().predict_proba(X), clf.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("regime", REGIMES)
def test_files_checkpoints_and_clones(regime, tmp_path):
    clf = DecentralizedMLPClassifier(**COMMON, regime=regime, callbacks=[Checkpoint(tmp_path / "c", every=10)])
    whole = clone(clf).set_params(callbacks=None).fit(X, Y)
    clf.set_params(max_iter=12).fit(X, Y)
    again = dnnext.resume(tmp_path / "c", X, Y, callbacks=[], max_iter=25)
    assert_array_equal(again.predict_proba(X), whole.predict_proba(X))
    whole.save(tmp_path / "m.npz")
    loaded = dnnext.load(tmp_path / "m.npz")
    assert loaded.regime == regime
    assert_array_equal(loaded.predict_proba(X), whole.predict_proba(X))
    for mine, other in zip(loaded.agents_, whole.agents_, strict=True):
        assert_array_equal(mine.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize("regime", REGIMES)
def test_agents_bring_their_own_rows(regime):
    parts = [(X[k::3], Y[k::3]) for k in range(3)]
    clf = DecentralizedMLPClassifier(**COMMON, regime=regime).fit_agents(parts, eval_set=(X, Y))
    assert clf.n_agents_ == 3
    assert len(clf.history_["validation_score"]) == len(clf.history_["objective"])


def test_a_tangent_says_what_it_is_not():
    clf = DecentralizedMLPClassifier(**COMMON, algorithm=GradientTracking()).fit(X, Y)
    assert hasattr(clf, "coefs_")
    clf.set_params(regime="tangent").fit(X, Y)
    assert isinstance(clf._network.model, Linearised)
    assert not hasattr(clf, "coefs_")
    assert not hasattr(clf.agents_[0], "n_active_units_")
    for name in ("to_sklearn", "to_onnx", "to_torch_state_dict"):
        with pytest.raises(ValueError, match=f"{name} needs a network, but regime='tangent'"):
            getattr(clf, name)()
    with pytest.raises(ValueError, match="SparsityDisplay needs a network, but regime='tangent'"):
        SparsityDisplay.from_estimator(clf)
    with pytest.raises(ValueError, match="warm_start=True needs a network, but regime='tangent'"):
        clf.set_params(regime="full", warm_start=True).fit(X, Y)


@pytest.mark.parametrize("regime", REGIMES)
def test_what_goes_on_from_a_network_is_refused(regime):
    clf = DecentralizedMLPClassifier(**COMMON, regime=regime)
    with pytest.raises(ValueError, match=f"partial_fit goes on from a trained network, but regime='{regime}'"):
        clf.partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=f"warm_start=True goes on from a trained network, but regime='{regime}'"):
        clf.set_params(warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="regime must be one of 'features', 'tangent', 'full', got 'lazy'"):
        DecentralizedMLPClassifier(**COMMON, regime="lazy").fit(X, Y)

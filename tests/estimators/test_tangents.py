"""The parameter `tangents`: derivatives along directions of raw inputs are held near targets."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning

import dnnext
from dnnext import (
    DecentralizedClassifier,
    DecentralizedMLPClassifier,
    DecentralizedMLPRegressor,
    DecentralizedRegressor,
)
from dnnext.algorithms import NEXT
from dnnext.callbacks import Checkpoint
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten, ResNet
from dnnext.problem import FeatureDirections, ImageShifts, Tangents

DIGITS = load_digits()
IMAGES, DIGIT = DIGITS.images[:120], DIGITS.target[:120]
NET = Chain([Conv2d(3, 3, activation="tanh"), AvgPool2d(2), Flatten(), Dense()])
QUICK = {"n_agents": 3, "topology": "ring", "max_iter": 6, "tol": 0, "random_state": 0}
FULL = {**QUICK, "algorithm": NEXT(FullLinearization()), "penalty": None}


def term(fitted, x, tangents, beta=0.0, scale=1.0):
    """``mu/2N sum |DF v - beta|^2 / scale^2`` with differences of raw outputs in place of derivatives."""
    v, h = tangents.at(x), 1e-5
    moved = np.stack([(fitted._raw(x + h * one) - fitted._raw(x - h * one)) / (2 * h) for one in v])
    return tangents.mu / 2 / len(x) * np.sum(((moved - beta) / scale) ** 2)


@pytest.mark.parametrize("images", [IMAGES, np.stack([IMAGES, 5 - 3 * IMAGES], axis=1)], ids=["grey", "two channels"])
def test_directions_are_those_of_raw_images(images):
    tangents = Tangents(1e-2, ImageShifts())
    clf = DecentralizedClassifier(NET, tangents=tangents, **FULL).fit(images, DIGIT)
    assert clf.history_["tangent_term"][-1] == pytest.approx(term(clf, images, tangents), rel=1e-6)
    shares = clf.history_["tangent_term"] / clf.history_["objective"]
    np.testing.assert_allclose(clf.history_["tangent_share"], shares)


@pytest.mark.parametrize(
    "directions", [0.1 * np.eye(10)[[0, 3]], FeatureDirections([0, 3], 0.1)], ids=["array", "made"]
)
def test_directions_and_targets_of_a_table(directions):
    x, y = load_diabetes(return_X_y=True)
    x, y = 3 + x[:100] * np.arange(1, 11), y[:100]
    tangents = Tangents(0.3, directions, 20.0)  # in units of y
    for options in ({}, {"standardize": False}):
        reg = DecentralizedMLPRegressor((4,), tangents=tangents, **options, **FULL).fit(x, y)
        scale = reg._network.moments.y_scale
        assert reg.history_["tangent_term"][-1] == pytest.approx(term(reg, x, tangents, 20.0, scale), rel=1e-5)


def test_outputs_move_less_whatever_the_recipe():
    flat, tangents = IMAGES.reshape(len(IMAGES), -1) / 16, Tangents(0.1, ImageShifts((8, 8)))
    for algorithm in ("next", NEXT(FullLinearization()), "gradient_tracking"):
        options = {**QUICK, "max_iter": 25, "algorithm": algorithm, "standardize": False}
        plain = DecentralizedMLPClassifier((8,), **options).fit(flat, DIGIT)
        held = DecentralizedMLPClassifier((8,), tangents=tangents, **options).fit(flat, DIGIT)
        assert term(held, flat, tangents) < 0.5 * term(plain, flat, tangents), algorithm
        assert "tangent_term" not in plain.history_


def test_one_run_however_it_is_begun(tmp_path):
    clf = DecentralizedClassifier(NET, tangents=Tangents(1e-2, ImageShifts()), alpha=1e-3, **QUICK)
    owner = np.arange(len(IMAGES)) % 3
    whole = clone(clf).fit(IMAGES, DIGIT, agent=owner)
    agents = clone(clf).fit_agents([(IMAGES[k::3], DIGIT[k::3]) for k in range(3)])
    np.testing.assert_array_equal(agents._agent_rows, whole._agent_rows)
    cut = clone(clf).set_params(max_iter=3, callbacks=[Checkpoint(tmp_path, every=2)])
    cut.fit(IMAGES, DIGIT, agent=owner)
    again = dnnext.resume(tmp_path, IMAGES, DIGIT, agent=owner, max_iter=6)
    np.testing.assert_array_equal(again._agent_rows, whole._agent_rows)
    assert again.tangents.fingerprint() == clf.tangents.fingerprint()
    stream = clone(clf)
    for _ in range(6):
        stream.partial_fit(IMAGES, DIGIT, classes=range(10), agent=owner)
    np.testing.assert_array_equal(stream._agent_rows, agents._agent_rows)
    whole.save(tmp_path / "m.npz")
    read = dnnext.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(read.predict_proba(IMAGES), whole.predict_proba(IMAGES))
    assert read.tangents.fingerprint() == clf.tangents.fingerprint()
    assert clone(clf).set_params(tangents__mu=2.0).tangents.mu == 2


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="tangents must be None or an object of"):
        DecentralizedClassifier(NET, tangents=0.1, **QUICK).fit(IMAGES, DIGIT)
    shifts, flat = Tangents(0.1, ImageShifts()), IMAGES.reshape(len(IMAGES), -1)
    with pytest.raises(ValueError, match="inputs must be images"):
        DecentralizedMLPClassifier(tangents=shifts, **QUICK).fit(flat, DIGIT)
    with pytest.raises(ValueError, match="directions must have shape"):
        DecentralizedClassifier(NET, tangents=Tangents(0.1, np.ones((1, 3))), **QUICK).fit(IMAGES, DIGIT)
    columns = Tangents(0.1, FeatureDirections([0]))
    for model, options in ((None, {"regime": "tangent"}), (ResNet(2, 4), {})):
        with pytest.raises(ValueError, match="tangents"):
            DecentralizedRegressor(model, tangents=columns, **options, **QUICK).fit(flat, DIGIT)


@pytest.mark.parametrize(("standardize", "mu"), [(True, 1.0), (False, 1e6)])
def test_a_term_too_strong_is_an_alarm_and_never_a_worse_model(standardize, mu):
    x, y = load_digits(return_X_y=True)
    x, y = x[:100], y[:100]
    model = DecentralizedMLPClassifier(
        (10,), n_agents=4, max_iter=20, tol=0, random_state=0, standardize=standardize,
        algorithm=NEXT(PartialLinearization(curvature="own")),  # the iterations of the default are tested
        tangents=Tangents(mu, ImageShifts(shape=(8, 8))),
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning, match="choose a smaller mu, got Tangents") as caught:
        model.fit(x, y)
    history = model.history_["objective"]
    assert np.isfinite(history).all()
    assert np.isfinite(model.predict_proba(x)).all()
    if history[-1] > 2 * history[0]:
        assert "whose model is kept" in str(caught[0].message)

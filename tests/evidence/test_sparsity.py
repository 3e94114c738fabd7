"""Penalties switch weights and inputs off, the accuracy stays: breast cancer, ten units, ten agents, else defaults."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold

from dnnext import DecentralizedMLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def fitted():
    """(penalty, alpha) -> (five fitted models, their mean test accuracy)."""
    X, y = load_breast_cancer(return_X_y=True)
    known = {}

    def fit(penalty, alpha):
        if penalty not in known:
            models, scores = [], []
            for seed, (train, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y)):
                model = DecentralizedMLPClassifier((10,), penalty=penalty, alpha=alpha, n_agents=10, random_state=seed)
                models.append(model.fit(X[train], y[train]))
                scores.append(model.score(X[test], y[test]))
            known[penalty] = models, np.mean(scores)
        return known[penalty]

    return fit


def zeros(model):
    """Share of the weights, biases apart, that are exactly zero."""
    return np.mean(np.concatenate([w.ravel() for w in model.coefs_]) == 0)


def test_l1_has_seventy_per_cent_zeros_at_an_accuracy_of_95(fitted):
    models, accuracy = fitted("l1", 1e-3)
    assert np.mean([zeros(model) for model in models]) >= 0.7
    assert accuracy >= 0.95


def test_group_switches_half_of_the_inputs_off_at_an_accuracy_of_94(fitted):
    models, accuracy = fitted("group", 1e-2)
    assert np.mean([1 - model.active_inputs_.mean() for model in models]) >= 0.5
    assert accuracy >= 0.94


@pytest.mark.parametrize(("penalty", "alpha"), [("l1", 1e-3), ("group", 1e-2)])
def test_coefs_agree_with_what_is_said_to_be_active(fitted, penalty, alpha):
    X, _ = load_breast_cancer(return_X_y=True)
    for model in fitted(penalty, alpha)[0]:
        np.testing.assert_array_equal(model.active_inputs_, np.any(model.coefs_[0] != 0, axis=1))
        assert model.n_active_units_ == np.sum(np.any(model.coefs_[1] != 0, axis=1))
        other = np.where(model.active_inputs_, X, 1e3 * (1 + X))  # an input that is off is not looked at
        np.testing.assert_array_equal(model.decision_function(other), model.decision_function(X))

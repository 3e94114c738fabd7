"""scikit-learn's own checks of an estimator, on the defaults and on one agent."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from dnnext import (
    DecentralizedClassifier,
    DecentralizedMLPClassifier,
    DecentralizedMLPRegressor,
    DecentralizedRegressor,
)
from dnnext.testing import expected_failed_checks

ESTIMATORS = [
    kind(**options)
    for kind in (DecentralizedMLPClassifier, DecentralizedMLPRegressor)
    for options in ({}, {"n_agents": 1, "alpha": 1e-3})
] + [kind(n_agents=1, alpha=1e-3) for kind in (DecentralizedClassifier, DecentralizedRegressor)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:n_agents=8, but there are")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failed_checks)
def test_scikit_learn_check(estimator, check):
    check(estimator)

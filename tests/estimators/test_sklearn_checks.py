"""scikit-learn's own checks of an estimator, on the defaults and on one agent."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor

REPEATED = (
    "a row repeated k times is dealt to several agents, a row of weight k to one: the partition differs, and with it "
    "the path to a minimum of a problem that has many; with one agent the check passes"
)


def expected_failures(estimator):
    if estimator.n_agents == 1 and estimator.alpha != "auto":
        return {}
    return {
        "check_sample_weight_equivalence_on_dense_data": REPEATED,
        "check_sample_weight_equivalence_on_sparse_data": REPEATED,
    }


ESTIMATORS = [
    kind(**options)
    for kind in (DecentralizedMLPClassifier, DecentralizedMLPRegressor)
    for options in ({}, {"n_agents": 1, "alpha": 1e-3})
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learn_check(estimator, check):
    check(estimator)

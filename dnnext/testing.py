"""For tests of programs that use the estimators."""

from __future__ import annotations

from typing import Any

from dnnext.estimators.online import check_online

__all__ = ["expected_failed_checks"]

DEALT_ANEW = (
    "a row that stands k times is dealt to several agents, a row of weight k to one: the partition differs, and so "
    "does the path to a minimum of a problem that has many"
)
ROWS_COUNT = (
    "alpha='auto' is 5 / N with N the number of rows, whatever the scale of the weights; a row that stands k times "
    "counts k times"
)
WEIGHTS = tuple(f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse"))
STREAMS = ("check_fit_score_takes_y", "check_n_features_in_after_fitting", "check_estimators_partial_fit_n_features")


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    """The checks of `sklearn.utils.estimator_checks` that an estimator of dnnext fails by design, and why.

    Parameters
    ----------
    estimator : DecentralizedClassifier, DecentralizedRegressor, or a kind of them

    Returns
    -------
    dict of str to str
        For the argument of that name of `check_estimator` and `parametrize_with_checks`. Checks of weights, unless
        there is one agent and a number as `alpha`; checks that call `partial_fit`, where parameters ask for more than
        one iteration; one whose targets are no counts. With none of these it is empty: all checks pass.

    Examples
    --------
    >>> from dnnext import DecentralizedMLPClassifier
    >>> from dnnext.testing import expected_failed_checks
    >>> list(expected_failed_checks(DecentralizedMLPClassifier()))
    ['check_sample_weight_equivalence_on_dense_data', 'check_sample_weight_equivalence_on_sparse_data']
    >>> expected_failed_checks(DecentralizedMLPClassifier(n_agents=1, alpha=1e-3))
    {}
    """
    reasons = [DEALT_ANEW] * (estimator.n_agents != 1) + [ROWS_COUNT] * isinstance(estimator.alpha, str)
    found = {name: "; ".join(reasons) for name in WEIGHTS if reasons}
    try:
        check_online(estimator)
    except ValueError as refusal:
        found |= dict.fromkeys(STREAMS, str(refusal))
    if estimator.loss == "poisson":
        found["check_regressor_multioutput"] = "its targets are negative, which the Poisson loss refuses"
    return found

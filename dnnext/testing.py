"""For tests of programs that use the estimators."""

from __future__ import annotations

from typing import Any

__all__ = ["expected_failed_checks"]

DEALT_ANEW = (
    "a row that stands k times is dealt to several agents, a row of weight k to one: the partition differs, and so "
    "does the path to a minimum of a problem that has many"
)
ROWS_COUNT = (
    "alpha='auto' is 5 / N with N the number of rows, whatever the scale of the weights; a row that stands k times "
    "counts k times"
)


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    """The checks of `sklearn.utils.estimator_checks` that an estimator of dnnext fails by design, and why.

    Parameters
    ----------
    estimator : DecentralizedClassifier, DecentralizedRegressor, or a kind of them

    Returns
    -------
    dict of str to str
        For the argument of that name of `check_estimator` and `parametrize_with_checks`. With ``n_agents=1`` and a
        number as `alpha` it is empty: all checks pass.

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
    names = [f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse")]
    return {name: "; ".join(reasons) for name in names if reasons}

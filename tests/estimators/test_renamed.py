"""Parameters that moved into the algorithm: what the old names do."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor
from dnnext.algorithms import DGD, NEXT, CentralizedSCA, GradientTracking
from dnnext.local import FullLinearization, PartialLinearization

X, Y = load_iris(return_X_y=True)
QUICK = {"hidden_layer_sizes": (4,), "n_agents": 3, "max_iter": 5, "tol": 0, "random_state": 0}


@pytest.mark.parametrize(
    ("old", "algorithm"),
    [
        ({"surrogate": "full"}, NEXT(FullLinearization())),
        ({"surrogate": FullLinearization(), "tau": 2.0}, NEXT(FullLinearization(), tau=2.0)),
        ({"n_blocks": 3, "solver": "primal"}, NEXT(PartialLinearization(n_blocks=3, solver="primal"))),
        ({"curvature": "shared", "step": 0.5}, NEXT(PartialLinearization(curvature="shared"), step=0.5)),
        ({"tau": 0.1, "algorithm": "centralized"}, CentralizedSCA(PartialLinearization(), tau=0.1)),
        ({"algorithm": "gradient_tracking", "step": 0.1}, GradientTracking(step=0.1)),
        ({"algorithm": "dgd", "step": 0.1}, DGD(step=0.1)),
    ],
    ids=str,
)
def test_an_old_name_warns_with_what_to_write_and_means_the_same(old, algorithm):
    with pytest.warns(FutureWarning, match="moved from DecentralizedMLPClassifier into the algorithm") as caught:
        model = DecentralizedMLPClassifier(**QUICK, **old)
    assert caught[0].filename == __file__
    assert repr(model.algorithm) == repr(algorithm)
    assert repr(algorithm) in str(caught[0].message)
    assert not set(model.get_params(deep=False)) & set(old) - {"algorithm"}
    new = DecentralizedMLPClassifier(**QUICK, algorithm=algorithm)
    np.testing.assert_array_equal(model.fit(X, Y).coefs_[0], new.fit(X, Y).coefs_[0])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_defaults_leave_the_algorithm_alone():
    assert DecentralizedMLPRegressor(surrogate="auto", tau="auto", n_blocks=1).algorithm == "next"


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ({"algorithm": "dgd", "tau": 1.0}, "tau must be given to the algorithm"),
        ({"algorithm": NEXT(), "step": 0.5}, "step must be given to the algorithm"),
        ({"surrogate": "full", "solver": "cg"}, "solver must be given to PartialLinearization"),
    ],
)
def test_old_names_that_do_not_fit_are_refused(old, words):
    with pytest.raises(TypeError, match=words):
        DecentralizedMLPClassifier(**old)


def test_set_params_says_where_they_are():
    with pytest.raises(ValueError, match=r"n_blocks, tau moved into the algorithm: set .*algorithm__tau"):
        DecentralizedMLPClassifier().set_params(tau=1.0, n_blocks=2)

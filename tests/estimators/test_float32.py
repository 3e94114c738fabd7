"""float32 from the rows to the predictions: what is given in single precision stays there."""

import threading

import numpy as np
import pytest

from dnnext.algorithms import NEXT, GradientTracking
from dnnext.estimators import DecentralizedMLPClassifier, DecentralizedMLPRegressor
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.preprocessing import NetworkPreprocessor
from dnnext.runtime import engines, threads

ALGORITHMS = [
    "next", GradientTracking(), NEXT(FullLinearization(growth=2.0)),
    NEXT(PartialLinearization(curvature="shared")), NEXT(PartialLinearization(curvature_rows=20)),
    NEXT(PartialLinearization(curvature_rows=20, curvature_slices="fresh")),
    NEXT(PartialLinearization(n_blocks=2)), NEXT(PartialLinearization(solver="cg")),
]  # fmt: skip


def agents(n_agents=3, rows=90, dtype=np.float32, classes=False):
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(n_agents):
        x = rng.standard_normal((rows, 3)).astype(dtype)
        y = np.sin(x[:, 0]) + x[:, 1]
        parts.append((x, (y > 0).astype(int) if classes else y))
    return parts


def test_ranks_of_two_precisions_compute_in_the_wider(monkeypatch, capsys):
    here = threading.local()
    monkeypatch.setitem(engines.ENGINES, "mpi", engines.Engine(lambda **options: here.comm, ("timeout",), True))

    def fit(dtypes):
        def program(comm):
            here.comm, (x, y) = comm, agents(2)[comm.rank]
            options = {"max_iter": 4, "tol": 0, "topology": "path", "random_state": 0, "n_jobs": 1, "verbose": 2}
            model = DecentralizedMLPRegressor((5,), engine="mpi", **options).fit_local(x.astype(dtypes[comm.rank]), y)
            return model._network.row

        return threads.run(2, program), capsys.readouterr()

    sentence = "dtype='auto' is 'float64' everywhere: X is float32 on rank 1 only."
    wide, without = fit(("float64", "float64"))
    mixed, shown = fit(("float64", "float32"))
    np.testing.assert_array_equal(mixed, wide)
    assert mixed[1].dtype == np.float64
    assert sentence in shown.out + shown.err
    assert sentence not in without.out + without.err


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=repr)
def test_all_that_a_run_keeps_and_sends_is_single(algorithm):
    seen = []

    def look(state, metrics):
        seen.append({name: getattr(state, name).dtype for name in ("w", "w_hat", "z", "y", "grad", "spare", "w_old")})

    parts, bytes_sent = agents(), []
    for dtype in ("float32", "float64"):
        rows = [(x.astype(dtype), y) for x, y in parts]
        model = DecentralizedMLPRegressor(
            (5,), algorithm=algorithm, max_iter=4, tol=0, random_state=0, callbacks=[look]
        )
        model.fit_agents(rows)
        assert {kind for row in seen for kind in row.values()} == {np.dtype(dtype)}
        assert all(c.dtype == dtype for c in (*model.coefs_, *model.intercepts_))
        assert model.predict(rows[0][0]).dtype == dtype
        assert all(np.isfinite(model.history_["objective"]))
        bytes_sent.append(model.history_["bytes"][-1])
        seen.clear()
    if not isinstance(algorithm, str):  # the sum of curvatures is sent in single precision either way
        assert bytes_sent[0] < 0.56 * bytes_sent[1]


def test_one_agent_in_double_precision_makes_all_double_and_prepared_rows_stay_single():
    parts = agents(classes=True)
    options = {"max_iter": 2, "random_state": 0, "tol": 0}
    model = DecentralizedMLPClassifier((4,), preprocess=NetworkPreprocessor(clip=0.01), **options).fit_agents(parts)
    assert model.coefs_[0].dtype == np.float32
    assert model.predict_proba(parts[0][0]).dtype == np.float32
    mixed = [(parts[0][0].astype(np.float64), parts[0][1]), *parts[1:]]
    assert DecentralizedMLPClassifier((4,), **options).fit_agents(mixed).coefs_[0].dtype == np.float64

"""`preprocess="auto"` over ranks: what is learnt from sums is what one process learns from all rows."""

import pytest

SCRIPT = """
import sys, warnings
import numpy as np, pandas
from mpi4py import MPI
from dnnext import DecentralizedMLPClassifier as Classifier
from dnnext.algorithms import NEXT
warnings.simplefilter("ignore")
rank = MPI.COMM_WORLD.rank
rng = np.random.default_rng(0)
X = pandas.DataFrame({"age": rng.normal(50, 10, 40), "ward": ["north"] * 20 + ["south"] * 20})
y = np.where(X["age"] > 50, "ill", "well")
X.loc[[3, 30], "age"] = np.nan
options = dict(hidden_layer_sizes=(3,), preprocess="auto", max_iter=5, tol=0, topology="complete", random_state=0)
one = Classifier(algorithm=NEXT(), **options).fit(X, y, agent=np.arange(40) // 20)
mine = slice(20 * rank, 20 * rank + 20)
each = Classifier(engine="mpi", engine_options={"timeout": 30}, **options).fit_local(X[mine], y[mine])
assert each.preprocessor_.columns_ == one.preprocessor_.columns_
np.testing.assert_array_equal(each.coefs_[0], one.coefs_[0])
assert each.score_local(X[mine], y[mine]) == one.score(X, y)
try:
    other = X[mine].rename(columns={"age": "x"} if rank else {})
    Classifier(engine="mpi", engine_options={"timeout": 30}, **options).fit_local(other, y[mine])
except ValueError as error:
    assert "columns must be equal on all ranks" in str(error), error
else:
    raise AssertionError("other columns were accepted")
print("rank", rank, "agrees")
"""


def test_ranks_learn_what_one_process_learns(launch, tmp_path):
    pytest.importorskip("pandas")
    (tmp_path / "ranks.py").write_text(SCRIPT)
    code, out, err = launch(2, tmp_path / "ranks.py", timeout=120)
    assert code == 0, err
    assert out.count("agrees") == 2

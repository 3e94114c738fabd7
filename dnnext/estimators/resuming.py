"""`dnnext.resume`: a run that was cut goes on from its checkpoint.

# Design:
#   A checkpoint of an estimator's run carries notes: the class, the parameters JSON can hold, the seeds and how the
#   rows came (fit or fit_local). The rows themselves must be given again, and so must parameters that are objects.
#   Which rows belong to which agent follows from the seeds; that they are the same rows is checked by fingerprint.
"""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import ArrayLike

import dnnext
from dnnext.estimators import ranks, training
from dnnext.estimators.choices import SHARE
from dnnext.estimators.data import Seeds
from dnnext.estimators.files import revive_params
from dnnext.estimators.rows import Matrix
from dnnext.estimators.training import Resumed
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint
from dnnext.sites import ENGINES

FREE = ("callbacks", "engine_options", "random_state")  # objects that need not be given again


def resume(
    path: str | os.PathLike[str], X: Matrix, y: Matrix, sample_weight: ArrayLike | None = None,
    agent: ArrayLike | None = None, eval_set: tuple[Matrix, Matrix] | None = None, **params: Any,
) -> Any:  # fmt: skip
    """Go on with a run from its newest whole checkpoint: the same model comes out as without the break.

    Parameters
    ----------
    path : str or path
        The folder that the callback `Checkpoint` filled.
    X, y, sample_weight, agent, eval_set : as in `fit`
        The rows as they were given to `fit` (or on this rank to `fit_local`), in the same order.
    **params
        Parameters to change, such as max_iter or engine, and those that are objects (a Topology, a Penalty, callbacks
        beside the checkpoint), which no file can hold. Without `callbacks` the run goes on writing to the same folder.

    Returns
    -------
    DecentralizedClassifier, DecentralizedRegressor, or a kind of them
        Fitted.

    Raises
    ------
    ValueError
        If there is no whole checkpoint, a file is damaged, the rows differ from those before, or an object is missing.

    Examples
    --------
    >>> import tempfile, dnnext
    >>> from dnnext.callbacks import Checkpoint
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf = dnnext.DecentralizedMLPClassifier((5,), max_iter=12, tol=0, callbacks=[Checkpoint(folder, every=5)])
    ...     clf = clf.fit(X, y)
    ...     again = dnnext.resume(folder, X, y, max_iter=20)
    >>> again.n_iter_
    20
    """
    _, kept = checkpoint.notes_of(path)
    if "class" not in kept:
        raise ValueError(
            f"{os.fspath(path)!r} was not written by an estimator's run; use dnnext.checkpoint.read and Algorithm.run."
        )
    missing = [name for name in kept["objects"] if name not in params and name not in FREE]
    if missing:
        values = ", ".join(f"{name} (was {kept['objects'][name]})" for name in missing)
        raise ValueError(f"a checkpoint cannot hold objects: give resume the parameters {values} again.")
    if kept["other callbacks"] and "callbacks" not in params:
        raise ValueError(
            f"the run had the callbacks {', '.join(kept['other callbacks'])}, which a checkpoint cannot hold: give "
            "resume callbacks=[...] again, or callbacks=[] to go on without them."
        )
    every = kept["every"][0] if kept["every"] else 20
    estimator = getattr(dnnext, kept["class"])(**revive_params(kept["params"]))
    estimator.set_params(**{"callbacks": [Checkpoint(path, every=every)], **params})
    # without the note the file is of a time when the default was own curvature
    share = SHARE[kept["method"]] if "algorithm" in params else kept.get("share")
    resumed = Resumed(path, Seeds.from_text(kept["seeds"]), checkpoint.run_of(path), kept["method"], share)
    is_local = kept["method"] == "fit_local" and ENGINES[estimator.engine].has_ranks
    fit = ranks.fit_local if is_local else training.fit
    return fit(estimator, X, y, sample_weight, agent, eval_set, resumed=resumed)

"""`dnnext.resume`: a run that was cut goes on from its checkpoint.

# Design:
#   A checkpoint of an estimator's run carries notes: the class, the parameters JSON can hold, the seeds and how the
#   rows came (fit or fit_local). The rows themselves must be given again, and so must parameters that are objects.
#   Which rows belong to which agent follows from the seeds; that they are the same rows is checked by fingerprint.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import dnnext
from dnnext.estimators.data import Seeds
from dnnext.estimators.files import revive_params, split_params
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint
from dnnext.runtime.engines import ENGINES

FREE = ("callbacks", "engine_options", "random_state")  # objects that need not be given again


@dataclass(frozen=True)
class Resumed:
    """Where to go on: the folder, the run that wrote it, and its seeds."""

    path: object
    seeds: Seeds
    run: str | None = None


def notes(estimator, seeds, method):
    """What `resume` needs beside the state of the run."""
    params, objects = split_params(estimator.get_params(deep=False))
    every = [c.every for c in estimator.callbacks or () if isinstance(c, Checkpoint)]
    others = [repr(c) for c in estimator.callbacks or () if not isinstance(c, Checkpoint)]
    return {
        "class": type(estimator).__name__, "params": params, "objects": objects, "seeds": seeds.told(),
        "method": method, "every": every[:1], "other callbacks": others,
    }  # fmt: skip


def resume(path, X, y, sample_weight=None, agent=None, eval_set=None, **params):
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
    DecentralizedMLPClassifier or DecentralizedMLPRegressor
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
    _, told = checkpoint.notes_of(path)
    if "class" not in told:
        raise ValueError(
            f"{os.fspath(path)!r} was not written by an estimator's run; use dnnext.checkpoint.read and Algorithm.run."
        )
    missing = [name for name in told["objects"] if name not in params and name not in FREE]
    if missing:
        values = ", ".join(f"{name} (was {told['objects'][name]})" for name in missing)
        raise ValueError(f"a checkpoint cannot hold objects: give resume the parameters {values} again.")
    if told["other callbacks"] and "callbacks" not in params:
        raise ValueError(
            f"the run had the callbacks {', '.join(told['other callbacks'])}, which a checkpoint cannot hold: give "
            "resume callbacks=[...] again, or callbacks=[] to go on without them."
        )
    every = told["every"][0] if told["every"] else 20
    estimator = getattr(dnnext, told["class"])(**revive_params(told["params"]))
    estimator.set_params(**{"callbacks": [Checkpoint(path, every=every)], **params})
    resumed = Resumed(path, Seeds.from_told(told["seeds"]), checkpoint.run_of(path))
    is_local = told["method"] == "fit_local" and ENGINES[estimator.engine].has_ranks
    fit = estimator._fit_local if is_local else estimator._fit
    return fit(X, y, sample_weight, agent, eval_set, resumed=resumed)

"""scikit-learn's own callbacks (from its version 1.9 on): a task for every fit, a subtask for every iteration.

# Design:
#   `fit` opens the task, `Iterations` is a callback of the run that tells of each iteration, and a true answer ends the
#   run. Who asks for a fitted estimator gets a copy with the mean model of that moment; over MPI nobody does, because
#   the mean is collective and ranks may have callbacks of their own.
"""

from __future__ import annotations

from contextlib import contextmanager
from numbers import Integral

import numpy as np

from dnnext.estimators.fitted import FittedNetwork
from dnnext.models import Linearised
from dnnext.runs.history import mean_over_agents

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:
        """Nothing to support."""

    def with_callbacks(method):
        """The method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "Iterations", "fit_task", "with_callbacks"]


@contextmanager
def fit_task(estimator, X, y, sample_weight):
    """The task of a whole fit, if somebody listens."""
    if not getattr(estimator, "_skl_callbacks", None) and not hasattr(estimator, "_parent_callback_ctx"):
        yield
        return
    most = estimator.max_iter if isinstance(estimator.max_iter, Integral) else None
    context = estimator._init_callback_context(max_subtasks=most)
    told = {
        "estimator": estimator, "X": X, "y": y,
        "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
    }  # fmt: skip
    context.call_on_fit_task_begin(**told)
    estimator._fit_task = context, told
    try:
        yield
    finally:
        del estimator._fit_task
    context.call_on_fit_task_end(**told, reconstruction_attributes={})


class Iterations:
    """Callback ``(state, metrics) -> bool``: tells scikit-learn's callbacks of an iteration, and ends the run if asked.

    Parameters
    ----------
    estimator : Decentralized
    moments : Moments
        Scaling of the rows that are trained on.
    """

    def __init__(self, estimator, moments):
        self.context, self.told = getattr(estimator, "_fit_task", (None, None))
        self.moments, self.run = moments, None

    def begin(self, run):
        """Remember the run."""
        self.run = run

    def end(self, run, status):
        """Forget the run: a cycle would keep the rows alive."""
        self.run = None

    def __call__(self, state, metrics):
        """One iteration is done."""
        if self.context is None:
            return False
        model = None if self.run.problem.runtime.is_distributed else lambda: self.model(state)
        subtask = self.context.subcontext(task_name="iteration")
        subtask.call_on_fit_task_begin(**self.told)
        return subtask.call_on_fit_task_end(**self.told, reconstruction_attributes=model)

    def model(self, state):
        """What a fitted estimator of this moment has: the mean of the agents' weights."""
        problem = self.run.problem
        network = FittedNetwork(problem.model, np.array(mean_over_agents(problem, state.w)), self.moments)
        if isinstance(network.model, Linearised):
            return {"_network": network, "_agent_rows": None}
        coefs, intercepts = network.fold()
        return {"_network": network, "coefs_": coefs, "intercepts_": intercepts, "_agent_rows": None}

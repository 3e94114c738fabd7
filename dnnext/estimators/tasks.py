"""scikit-learn's own callbacks (from its version 1.9 on): a task for every fit, a subtask for every iteration.

# Design:
#   `fit` opens the task, `Iterations` is a callback of the run that passes each iteration on, and a true answer ends
#   the run. A callback that asks for a fitted estimator gets a copy with the mean model of that moment; not over MPI,
#   because the mean is collective and ranks may have callbacks of their own.
"""

from __future__ import annotations

from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np

from dnnext.estimators.fitted import FittedNetwork
from dnnext.runs.history import mean_over_agents

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing to support."""

    def with_callbacks(method):
        """The method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "Iterations", "fit_task", "with_callbacks"]


@contextmanager
def fit_task(estimator, X, y, sample_weight):
    """The task of a whole fit, if there are callbacks for it."""
    if not getattr(estimator, "_skl_callbacks", None) and not hasattr(estimator, "_parent_callback_ctx"):
        yield
        return
    most = estimator.max_iter if isinstance(estimator.max_iter, Integral) else None
    context = estimator._init_callback_context(max_subtasks=most)
    arguments = {
        "estimator": estimator, "X": X, "y": y,
        "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
    }  # fmt: skip
    context.call_on_fit_task_begin(**arguments)
    estimator._fit_task = context, arguments
    try:
        yield
    finally:
        del estimator._fit_task
    context.call_on_fit_task_end(**arguments, reconstruction_attributes={})


class Iterations:
    """Callback ``(state, metrics) -> bool`` that passes iterations on to scikit-learn's callbacks.

    The run ends if one of them asks for it.

    Parameters
    ----------
    estimator : Decentralized
    moments : Moments
        Scaling of the rows that are trained on.
    """

    def __init__(self, estimator, moments):
        found: Any = getattr(estimator, "_fit_task", (None, None))
        self.context, self.arguments = found
        self.moments = moments
        self.run: Any = None

    @property
    def can_end(self):
        """Whether there are callbacks of scikit-learn, which may ask for an end."""
        return self.context is not None

    @property
    def only_looks(self):
        """Whether there are none, which may do anything."""
        return self.context is None

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
        model = (lambda: self.model(state)) if self.run.problem.runtime.is_alone else None
        subtask = self.context.subcontext(task_name="iteration")
        subtask.call_on_fit_task_begin(**self.arguments)
        return subtask.call_on_fit_task_end(**self.arguments, reconstruction_attributes=model)

    def model(self, state):
        """What a fitted estimator of this moment has: the mean of the agents' weights."""
        problem = self.run.problem
        network = FittedNetwork(problem.model, np.array(mean_over_agents(problem, state.w)), self.moments)
        found = {"_network": network, "_agent_rows": None}
        return found | dict(zip(("coefs_", "intercepts_"), network.fold(), strict=True) if network.can_fold else ())

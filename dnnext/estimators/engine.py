"""Where an estimator's agents live: all in this process, or in blocks on the ranks of an MPI job.

# Design:
#   `fit` and `fit_local` open two runtimes, one after the other. The first has one agent per rank and only compares
#   what the ranks were given (`same_everywhere`, `shared_seeds`): no rank may go on while another has refused its data.
#   The second has the agents. With engine="local" both are the one process, and nothing is compared.
"""

from __future__ import annotations

import hashlib

import numpy as np

from dnnext.estimators import choices
from dnnext.estimators.data import Seeds
from dnnext.runtime import InProcess

OWN = (
    "callbacks",
    "engine_options",
    "n_jobs",
    "random_state",
    "verbose",
)  # parameters that ranks may have of their own


def open_runtime(estimator, n_agents=None, bounds=None):
    """The runtime of n_agents agents, or of one per rank; use it in a with statement."""
    choices.check_engine(estimator.get_params(deep=False))
    if estimator.engine == "local":
        return InProcess(1 if n_agents is None else n_agents)
    from dnnext.runtime.mpi import OverMPI

    return OverMPI(n_agents, bounds=bounds, **(estimator.engine_options or {}))


def shared_seeds(ranks, random_state):
    """The Seeds of the first rank, on all; two different whole numbers are a mistake."""
    with ranks.together():
        seeds = Seeds(random_state)
    ranks.agree("random_state", int(random_state) if isinstance(random_state, (int, np.integer)) else None)
    return Seeds.from_told(ranks.all_ranks(seeds.told())[0]) if ranks.is_distributed else seeds


def same_everywhere(estimator, ranks, **fields):
    """ValueError on every rank if plain parameters, features or `fields` differ; arrays are compared by fingerprint."""
    if not ranks.is_distributed:
        return
    plain = (str, int, float, bool, type(None), tuple)
    params = {k: v for k, v in estimator.get_params(deep=False).items() if isinstance(v, plain) and k not in OWN}
    names = getattr(estimator, "feature_names_in_", None)
    params["the number of features"] = estimator.n_features_in_
    params["feature names"] = None if names is None else names.tolist()
    ranks.agree_on(params | {name: _told(value) for name, value in fields.items()})


def _told(value):
    if not isinstance(value, np.ndarray):
        return value
    data = np.ascontiguousarray(value) if value.dtype != object else np.array([repr(v) for v in value.ravel()])
    return f"{value.shape} {hashlib.sha256(data.tobytes()).hexdigest()[:16]}"

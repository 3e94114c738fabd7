"""Where an estimator's agents live: all in this process, or in blocks on the ranks of an engine.

# Design:
#   `fit` and `fit_local` put two runtimes on one communicator, one after the other. The first has one agent per rank
#   and only compares what the ranks were given (`same_everywhere`, `shared_seeds`): no rank may go on while another
#   has refused its data. The second has the agents. With engine="local" both are the one process, and nothing is
#   compared.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import sklearn

from dnnext._version import __version__
from dnnext.estimators import choices
from dnnext.estimators.data import Seeds
from dnnext.estimators.groups import grid_of, ranks_per_agent
from dnnext.runtime import AgentsLost, RanksLost, Runtime
from dnnext.sites import open_communicator

OWN = (
    "callbacks",
    "engine_options",
    "n_jobs",
    "random_state",
    "verbose",
)  # parameters that ranks may have of their own


def open_runtime(estimator, n_agents=None, bounds=None, ranks=None):
    """The runtime of n_agents agents, or of one per rank; use it in a with statement.

    It stands on the communicator of `ranks`, the runtime of `open_ranks`, or on a new one.
    """
    choices.check_engine(estimator.get_params(deep=False))
    if ranks is not None and ranks.inner.size == 1 and ranks_per_agent(estimator) > 1:
        return grid_of(estimator, ranks.comm, n_agents).agents
    if ranks is not None:
        return ranks.with_agents(n_agents, bounds)
    try:
        comm = open_communicator(estimator.engine, estimator.engine_options)
    except RanksLost as lost:
        raise AgentsLost(f"{lost}.", lost.ranks) from lost
    return Runtime(comm.size if n_agents is None else n_agents, comm, bounds)


@contextmanager
def open_ranks(estimator):
    """The runtime of one agent per rank, in a with statement that leaves its communicator open for `open_runtime`."""
    ranks = open_runtime(estimator)
    try:
        yield ranks
    except BaseException as error:
        ranks.comm.end(error)  # where no launcher ends the others
        raise


def shared_seeds(ranks, random_state):
    """The Seeds of the first rank, on all; two different whole numbers are a mistake."""
    return later_seeds(ranks, random_state)()


def later_seeds(ranks, random_state):
    """As `shared_seeds`, but what is sent may wait for the next message; call what is returned."""
    with ranks.together():
        seeds = Seeds(random_state)
    ranks.agree("random_state", int(random_state) if isinstance(random_state, (int, np.integer)) else None)
    get = ranks.later(seeds.as_text())
    return lambda: seeds if ranks.is_alone else Seeds.from_text(get()[0])


def same_everywhere(estimator, ranks, **fields):
    """ValueError on every rank if a version, a parameter, the features or `fields` differ, by their fingerprints."""
    if not ranks.is_distributed:
        return
    versions = {"dnnext": __version__, "scikit-learn": sklearn.__version__, "NumPy": np.__version__}
    params = {f"the version of {name}": version for name, version in versions.items()}
    params |= {k: v for k, v in estimator.get_params(deep=False).items() if k not in OWN}
    names = getattr(estimator, "feature_names_in_", None)
    params["the number of features"] = estimator.n_features_in_
    params["the labels of columns"] = getattr(estimator, "_labels", None)
    params["feature names"] = None if names is None else names.tolist()
    ranks.agree_on({name: getattr(value, "hash", value) for name, value in (params | fields).items()})

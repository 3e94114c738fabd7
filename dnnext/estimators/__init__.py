"""scikit-learn estimators over the layers below: check, build, run, expose.

# Design:
#   A package instead of one file, because one file would have 1500 lines. Read in this order:
#   general, mlp            the estimators; parameters holds what all of them document alike
#   targets                 what y holds: labels, sets of labels, numbers
#   base                    fit, partial_fit, agents_: the story both share
#   rows, graph, data       rows as handed in; the graph and who owns each row; shards, partitions, moments
#   choices                 parameters -> objects of the rooms below; what does not fit together is said here
#   watch, tasks, online    looks during a run, scikit-learn's callbacks among them; one iteration at a time
#   engine, ranks, resuming where the agents live; rows that stay on their rank; going on from a checkpoint
#   fitted, files, exports  the fitted network and its folded coefficients; the model file; other libraries' models
#   This is the only room that imports scikit-learn, so `import dnnext` loads it on first use.
"""

from dnnext.estimators.files import load
from dnnext.estimators.general import DecentralizedClassifier, DecentralizedRegressor
from dnnext.estimators.mlp import DecentralizedMLPClassifier, DecentralizedMLPRegressor
from dnnext.estimators.resuming import resume

__all__ = [
    "DecentralizedClassifier",
    "DecentralizedMLPClassifier",
    "DecentralizedMLPRegressor",
    "DecentralizedRegressor",
    "load",
    "resume",
]

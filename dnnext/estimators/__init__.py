"""scikit-learn estimators over the layers below: check, build, run, expose.

# Design:
#   Classes hold documentation, parameters and one line per method; functions of the other files do the work. Read in
#   this order:
#   general, mlp            the estimators; parameters: what they take, written once; documented: docstrings from it
#   base                    the methods that all estimators have
#   targets                 what y holds: labels, sets of labels, numbers
#   rows, inputs            rows as they are given; inputs of the network and codes of the targets
#   graph, data             the graph and the owner of each row; partitions, held-out rows, moments
#   choices, regimes        parameters -> objects of the packages below, with the checks of what does not fit together
#   training, ranks         the story of fit, and of fit_local, where rows stay on their rank
#   results, fitted         what a fit leaves; the fitted network and its folded coefficients
#   watch, tasks            looks during a run, scikit-learn's callbacks among them
#   online, progress        one iteration at a time
#   engine, resuming        where the agents live; going on from a checkpoint
#   files, exports          the model file; other libraries' models (onnx_graph, onnx_layers,
#                           torch_state)
#   Besides preprocessing this is the only package of the library that imports scikit-learn, so `import dnnext` loads it
#   on first use.
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

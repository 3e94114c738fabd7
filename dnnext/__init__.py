"""Decentralised training of neural networks: agents hold their own data and talk only to their neighbours."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dnnext._version import __version__

if TYPE_CHECKING:
    from dnnext.display import AlignmentDisplay, ConvergenceDisplay, SparsityDisplay, TopologyDisplay
    from dnnext.estimators import (
        DecentralizedClassifier,
        DecentralizedMLPClassifier,
        DecentralizedMLPRegressor,
        DecentralizedRegressor,
        load,
        resume,
    )
    from dnnext.model_selection import regularization_path
    from dnnext.network import Schedule, Topology


__all__ = [
    "AlignmentDisplay",
    "ConvergenceDisplay",
    "DecentralizedClassifier",
    "DecentralizedMLPClassifier",
    "DecentralizedMLPRegressor",
    "DecentralizedRegressor",
    "Schedule",
    "SparsityDisplay",
    "Topology",
    "TopologyDisplay",
    "__version__",
    "load",
    "regularization_path",
    "resume",
]

# Loaded on first use, so that `import dnnext` stays light: the estimators bring scikit-learn along.
_HOMES = {
    "AlignmentDisplay": "dnnext.display",
    "ConvergenceDisplay": "dnnext.display",
    "DecentralizedClassifier": "dnnext.estimators",
    "DecentralizedMLPClassifier": "dnnext.estimators",
    "DecentralizedMLPRegressor": "dnnext.estimators",
    "DecentralizedRegressor": "dnnext.estimators",
    "Schedule": "dnnext.network",
    "SparsityDisplay": "dnnext.display",
    "Topology": "dnnext.network",
    "TopologyDisplay": "dnnext.display",
    "load": "dnnext.estimators",
    "regularization_path": "dnnext.model_selection",
    "resume": "dnnext.estimators",
}


def __getattr__(name: str) -> Any:
    """The public name, imported from its package on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dnnext' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

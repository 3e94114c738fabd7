"""The general estimators with a multilayer perceptron as their model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from dnnext.estimators import choices
from dnnext.estimators.documented import documented, keep
from dnnext.estimators.general import DecentralizedClassifier, DecentralizedRegressor
from dnnext.estimators.parameters import ClassifierParameters, RegressorParameters
from dnnext.estimators.renamed import with_old_names
from dnnext.models import MLP


class MLPMixin:
    """Estimators whose model is an MLP given by `hidden_layer_sizes` and `activation`."""

    hidden_layer_sizes: int | Sequence[int]
    activation: str

    def _open_model(self) -> MLP:
        return MLP([None, *choices.make_hidden(self.hidden_layer_sizes), None], activation=self.activation)


@documented(ClassifierParameters)
class DecentralizedMLPClassifier(MLPMixin, DecentralizedClassifier):
    """A multilayer perceptron that classifies, trained by agents that keep their rows to themselves.

    {sections}

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from dnnext import DecentralizedMLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = DecentralizedMLPClassifier(n_agents=5, topology="ring", max_iter=50, tol=1e-3, random_state=0).fit(X, y)
    >>> clf.score(X, y) > 0.95
    True
    >>> len(clf.agents_), clf.agents_[0].n_samples
    (5, 30)
    """

    _kind = "classifier"

    @with_old_names
    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (20,),
        activation: str = "tanh",
        **parameters: Unpack[ClassifierParameters],
    ) -> None:
        keep(self, ClassifierParameters, dict(parameters), hidden_layer_sizes=hidden_layer_sizes, activation=activation)


@documented(RegressorParameters)
class DecentralizedMLPRegressor(MLPMixin, DecentralizedRegressor):
    """A multilayer perceptron that regresses, trained by agents that keep their rows to themselves.

    {sections}

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from dnnext import DecentralizedMLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = DecentralizedMLPRegressor((10,), n_agents=5, topology="ring", max_iter=60, tol=1e-3, random_state=0)
    >>> reg.fit(X, y).score(X, y) > 0.5
    True
    >>> len(reg.agents_), reg.agents_[0].n_samples
    (5, 89)
    """

    _kind = "regressor"

    @with_old_names
    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (20,),
        activation: str = "tanh",
        **parameters: Unpack[RegressorParameters],
    ) -> None:
        keep(self, RegressorParameters, dict(parameters), hidden_layer_sizes=hidden_layer_sizes, activation=activation)

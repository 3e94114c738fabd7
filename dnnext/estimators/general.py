"""Classification and regression by any model that agents train together."""

from __future__ import annotations

from typing import Any, Self, Unpack

from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if

from dnnext.estimators import online
from dnnext.estimators.base import Decentralized
from dnnext.estimators.documented import documented, keep
from dnnext.estimators.parameters import ClassifierParameters, RegressorParameters
from dnnext.estimators.rows import Matrix
from dnnext.models.model import Model


def _has_probabilities(estimator: Any) -> bool:
    if (estimator._y.loss if hasattr(estimator, "_y") else estimator.loss) == "squared_hinge":
        raise AttributeError("loss='squared_hinge' has no probabilities; use loss='log_loss', or decision_function.")
    return True


@documented(ClassifierParameters)
class DecentralizedClassifier(ClassifierMixin, Decentralized):
    """A classifier whose model is trained by agents that keep their rows and exchange messages with neighbours only.

    {sections}

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from dnnext import DecentralizedClassifier
    >>> from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten
    >>> digits = load_digits()
    >>> net = Chain([Conv2d(4, 3, activation="tanh"), AvgPool2d(2), Flatten(), Dense()])
    >>> clf = DecentralizedClassifier(net, n_agents=4, algorithm="gradient_tracking", max_iter=5, tol=0)
    >>> clf.fit(digits.images[:200], digits.target[:200]).predict(digits.images[:3]).shape
    (3,)
    """

    _kind = "classifier"

    def __init__(self, model: Model | None = None, **parameters: Unpack[ClassifierParameters]) -> None:
        keep(self, ClassifierParameters, dict(parameters), model=model)

    def partial_fit(
        self,
        X: Matrix,
        y: Matrix,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        agent: ArrayLike | None = None,
    ) -> Self:
        """One iteration on these rows in place of those seen before; moments stay those of the first call.

        The trackers move by ``y += grad_new(w) - grad_old(w)``, so that they keep tracking the network's gradient. The
        first call, if `fit` did not come before, fixes moments and graph: bring enough rows. Between calls with other
        rows tau stays as it is: gradients of different rows measure no curvature.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)
        y : array-like (n,)
        classes : array-like, optional
            All labels that may ever come; needed at the first call unless `fit` came before.
        sample_weight : array-like (n,), optional
        agent : array-like (n,), optional
            Labels known from the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For labels outside of classes, or classes that change, for parameters that ask for more than one iteration
            (early_stopping, callbacks, max_time) or that only `fit` can change (topology, loss).
        FloatingPointError
            If the objective is not finite.

        Warns
        -----
        ConvergenceWarning
            If an agent began to diverge; the weights of before are kept and tau is raised tenfold.
        """
        return online.partial_fit(self, X, y, sample_weight, agent, classes)

    def predict(self, X: Matrix) -> NDArray[Any]:
        """The most likely label of every row.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)

        Returns
        -------
        ndarray (n,)
        """
        raw = self._raw(X)
        return self._y.predicted(raw)

    def decision_function(self, X: Matrix) -> NDArray[Any]:
        """Raw outputs: (n,) log-odds or margins of ``classes_[1]`` for two classes, (n, n_classes) beyond.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)

        Returns
        -------
        ndarray
        """
        raw = self._raw(X)
        return raw[:, 0] if raw.shape[1] == 1 else raw

    @available_if(_has_probabilities)
    def predict_proba(self, X: Matrix) -> NDArray[Any]:
        """Probability of every class; only with ``loss='log_loss'``.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)

        Returns
        -------
        ndarray (n, n_classes)
        """
        raw = self._raw(X)
        return self._y.probabilities(raw)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Matrix) -> NDArray[Any]:
        """Logarithm of `predict_proba`, computed without leaving the log scale.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)

        Returns
        -------
        ndarray (n, n_classes)
        """
        raw = self._raw(X)
        return self._y.probabilities(raw, log=True)

    def _class_weights(self, y: Any, codes: Any, weight: Any) -> Any:
        if self.class_weight is None:
            return 1.0
        if isinstance(self.class_weight, str):
            if self._balance is None:
                self._balance = self._y.balanced(codes, weight)
            return self._y.factors(self._balance, codes)
        return self._y.factors(self._y.given_weights(self.class_weight), codes)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@documented(RegressorParameters)
class DecentralizedRegressor(RegressorMixin, Decentralized):
    """A regressor whose model is trained by agents that keep their rows and exchange messages with neighbours only.

    {sections}

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from dnnext import DecentralizedRegressor
    >>> from dnnext.models import MLP
    >>> X, y = load_diabetes(return_X_y=True)
    >>> reg = DecentralizedRegressor(MLP([None, 5, None]), n_agents=4, max_iter=40, tol=1e-2, random_state=0)
    >>> reg.fit(X, y).score(X, y) > 0.4
    True
    """

    _kind = "regressor"

    def __init__(self, model: Model | None = None, **parameters: Unpack[RegressorParameters]) -> None:
        keep(self, RegressorParameters, dict(parameters), model=model)

    def partial_fit(
        self, X: Matrix, y: Matrix, sample_weight: ArrayLike | None = None, agent: ArrayLike | None = None
    ) -> Self:
        """One iteration on these rows in place of those seen before; moments stay those of the first call.

        The trackers move by ``y += grad_new(w) - grad_old(w)``, so that they keep tracking the network's gradient. The
        first call, if `fit` did not come before, fixes moments and graph: bring enough rows. Between calls with other
        rows tau stays as it is: gradients of different rows measure no curvature.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)
        y : array-like (n,) or (n, Q)
        sample_weight : array-like (n,), optional
        agent : array-like (n,), optional
            Labels known from the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For targets of another width than before, and for parameters that ask for more than one iteration
            (early_stopping, callbacks, max_time) or that only `fit` can change (topology, loss).
        FloatingPointError
            If the objective is not finite.

        Warns
        -----
        ConvergenceWarning
            If an agent began to diverge; the weights of before are kept and tau is raised tenfold.
        """
        return online.partial_fit(self, X, y, sample_weight, agent)

    def predict(self, X: Matrix) -> NDArray[Any]:
        """Predicted targets.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)

        Returns
        -------
        ndarray (n,) or (n, Q), as y was in `fit`
        """
        raw = self._raw(X)
        return self._y.predicted(raw)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = isinstance(self.loss, str) and self.loss == "poisson"
        return tags

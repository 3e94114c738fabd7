"""The general estimators with a multilayer perceptron as their model."""

from __future__ import annotations

from dnnext.estimators import choices
from dnnext.estimators.general import DecentralizedClassifier, DecentralizedRegressor
from dnnext.estimators.parameters import documented, keep
from dnnext.estimators.renamed import with_old_names
from dnnext.models import MLP


class MLPMixin:
    """Estimators whose model is an MLP given by `hidden_layer_sizes` and `activation`."""

    def _open_model(self):
        return MLP([None, *choices.make_hidden(self.hidden_layer_sizes), None], activation=self.activation)

    @property
    def _takes_images(self):
        return False


@documented
class DecentralizedMLPClassifier(MLPMixin, DecentralizedClassifier):
    """A multilayer perceptron that classifies, trained by agents that keep their rows and talk to neighbours only.

    Minimises ``U(w) = (1/N) sum_i sum_(m in S_i) c_m loss(d_m, f(w; x_m)) + r(w)`` over the weights w, where agent i
    alone sees the rows S_i, by NEXT [1]_, [2]_: every agent minimises a strongly convex model of its own cost plus the
    tracked gradient of the others', then averages with its neighbours. No learning rate.

    Parameters
    ----------
    {hidden}
    loss : {'auto', 'log_loss', 'squared_hinge'}, default='auto'
        'auto' is 'log_loss': logistic for two classes and for each label of several, else softmax. 'squared_hinge' has
        no probabilities.
    {parameters}

    Attributes
    ----------
    {attributes}

    Raises
    ------
    ValueError
        In `fit`, for anything outside of what is stated here, before any iteration.

    References
    ----------
    {references}

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
        hidden_layer_sizes=(20,),
        activation="tanh",
        *,
        loss="auto",
        penalty="l2",
        alpha="auto",
        l1_ratio=0.5,
        n_agents=8,
        topology="erdos_renyi",
        mixing="metropolis",
        mixing_rounds="auto",
        algorithm="next",
        regime="full",
        preprocess=None,
        partition="iid",
        standardize=True,
        dtype="auto",
        max_iter=200,
        tol=1e-4,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        engine="local",
        engine_options=None,
        class_weight=None,
        max_time=None,
        monitor_every=1,
        n_jobs=None,
        warm_start=False,
        callbacks=None,
        verbose=0,
        random_state=None,
    ):
        keep(self, locals())


@documented
class DecentralizedMLPRegressor(MLPMixin, DecentralizedRegressor):
    """A multilayer perceptron that regresses, trained by agents that keep their rows and talk to neighbours only.

    Minimises ``U(w) = (1/N) sum_i sum_(m in S_i) c_m loss(d_m, f(w; x_m)) + r(w)`` over the weights w, where agent i
    alone sees the rows S_i, by NEXT [1]_, [2]_: every agent minimises a strongly convex model of its own cost plus the
    tracked gradient of the others', then averages with its neighbours. No learning rate.

    Parameters
    ----------
    {hidden}
    loss : {'auto', 'squared_error', 'huber', 'poisson'} or Loss, default='auto'
        'auto' is 'squared_error', ``1/2 |d - f|^2``; 'huber' bends at 1.35 standard deviations of the target; 'poisson'
        is for counts: the raw output is the logarithm of the mean.
    {parameters}

    Attributes
    ----------
    {attributes}

    Raises
    ------
    ValueError
        In `fit`, for anything outside of what is stated here, before any iteration.

    References
    ----------
    {references}

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
        hidden_layer_sizes=(20,),
        activation="tanh",
        *,
        loss="auto",
        penalty="l2",
        alpha="auto",
        l1_ratio=0.5,
        n_agents=8,
        topology="erdos_renyi",
        mixing="metropolis",
        mixing_rounds="auto",
        algorithm="next",
        regime="full",
        preprocess=None,
        partition="iid",
        standardize=True,
        dtype="auto",
        max_iter=200,
        tol=1e-4,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        engine="local",
        engine_options=None,
        max_time=None,
        monitor_every=1,
        n_jobs=None,
        warm_start=False,
        callbacks=None,
        verbose=0,
        random_state=None,
    ):
        keep(self, locals())

"""What all estimators share: their methods, with what they promise; the work is done by functions of the other files.

# Design:
#   What y holds is a Targets object (targets.py), `_y`; the fitted network is `_network` (fitted.py).
#   One agent's view is the estimator itself with that agent's weights (`agents_`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self

from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from dnnext.estimators import exports, files, groups, ranks, results, sites, training
from dnnext.estimators.engine import open_runtime
from dnnext.estimators.fitted import as_before_if_it_fails
from dnnext.estimators.inputs import checked, prepare_agents, takes_images
from dnnext.estimators.renamed import refuse_old_names, refuse_parts_of_words
from dnnext.estimators.rows import Matrix, check_pairs, join_agents, own_rows
from dnnext.estimators.tasks import CallbackSupportMixin, fit_task, with_callbacks
from dnnext.models import MLP

if TYPE_CHECKING:
    import onnx
    import torch


class Decentralized(CallbackSupportMixin, BaseEstimator):
    """Base of the estimators; see DecentralizedClassifier and DecentralizedRegressor."""

    _kind: ClassVar[str] = ""
    coefs_ = results.OfPerceptron()
    intercepts_ = results.OfPerceptron()
    active_inputs_ = results.OfPerceptron()
    n_active_units_ = results.OfPerceptron()
    _balance: Any  # weight of each class under class_weight="balanced"

    def set_params(self, **params: Any) -> Self:
        """As in scikit-learn; parameters that moved into the algorithm are refused with what to set instead."""
        refuse_old_names(params)
        refuse_parts_of_words(self, params)
        super().set_params(**params)
        return self

    @with_callbacks
    def fit(
        self,
        X: Matrix,
        y: Matrix,
        sample_weight: ArrayLike | None = None,
        agent: ArrayLike | None = None,
        eval_set: tuple[Matrix, Matrix] | None = None,
    ) -> Self:
        """Train on rows that belong to agents.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d), or images (n, h, w) or (n, c, h, w) for a model that takes them
            Inputs. Sparse input is made dense: standardising it would fill it anyway.
        y : array-like (n,), for the regressor also (n, Q)
            Targets.
        sample_weight : array-like (n,), optional
            Weights >= 0; rows of weight zero count as absent.
        agent : array-like (n,), optional
            Which agent owns each row, any labels. Without it rows are spread by `partition`.
        eval_set : (X, y), optional
            Rows to score along the way (``history_["validation_score"]``), and to stop by with ``early_stopping=True``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a parameter or data outside of what is allowed, before any iteration.

        Warns
        -----
        ConvergenceWarning
            If the objective was still falling by more than 1 % per ten iterations, or the run had to be stopped.
        """
        with fit_task(self, X, y, sample_weight), as_before_if_it_fails(self):
            return training.fit(self, X, y, sample_weight, agent, eval_set)

    def fit_agents(self, agents: Iterable[tuple[Any, ...]], eval_set: tuple[Matrix, Matrix] | None = None) -> Self:
        """Train on one pair per agent; the number of agents follows.

        Parameters
        ----------
        agents : sequence of (X_i, y_i) or (X_i, y_i, sample_weight_i)
            The rows of agent i; no agent may be empty.
        eval_set : (X, y), optional
            As in `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an agent is empty or its arrays do not fit the others'.
        """
        pairs, joined = check_pairs(agents), None
        if self.preprocess is not None:
            pairs, joined = prepare_agents(self.preprocess, pairs)
        X, y, sample_weight, agent = join_agents(pairs, self._kind == "classifier", takes_images(self))
        with own_rows(self, X):
            return self.fit(
                X if joined is None else joined, y, sample_weight=sample_weight, agent=agent, eval_set=eval_set
            )

    @with_callbacks
    def fit_local(
        self,
        X: Matrix,
        y: Matrix,
        sample_weight: ArrayLike | None = None,
        agent: ArrayLike | None = None,
        eval_set: tuple[Matrix, Matrix] | None = None,
    ) -> Self:
        """Train on the rows of this rank; the other ranks bring theirs, and nobody sees anybody's.

        Started on every rank, ``mpiexec -n 4 python -m mpi4py script.py``, with ``engine="mpi"``. Agents are counted in
        rank order; the graph must have as many nodes as there are agents. Where an agent is a group of ranks, with a
        `dnnext.models.Cube`, all ranks of the group bring the same rows, and each keeps a part of them in the run.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)
            The inputs of this rank, at least one row.
        y : array-like (n,), for the regressor also (n, Q)
            Their targets. A class may be missing here; the classes are those of all ranks.
        sample_weight : array-like (n,), optional
        agent : array-like (n,), optional
            Which agent of this rank owns each row, any labels; without it the rank is one agent.
        eval_set : (X, y), optional
            Rows of this rank to score by; all ranks bring some, or none does.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            On every rank, if one of them has unfit data or parameters, or disagrees; the sentence names rank and field.
        AgentsLost
            If a rank died or fell silent.
        """
        with fit_task(self, X, y, sample_weight), as_before_if_it_fails(self):
            return ranks.fit_local(self, X, y, sample_weight, agent, eval_set)

    def fit_sites(self) -> Self:
        """Train on the rows that the file dnnext.toml of this site's folder names; the other sites do the same.

        With ``engine="nats"`` and ``engine_options={"folder": ..., "run": ...}``. What leaves is written to
        ``audit.jsonl`` in the folder.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the site does not allow it, and as `fit_local`.
        AgentsLost
            If a site is lost or has ended.
        """
        return sites.fit_sites(self)

    def score_local(self, X: Matrix, y: Matrix, sample_weight: ArrayLike | None = None) -> float:
        """The score on the rows of all ranks together, each bringing its own; only sums travel.

        Parameters
        ----------
        X : array-like or sparse matrix (n, d)
            The inputs of this rank.
        y : array-like (n,), for the regressor also (n, Q)
        sample_weight : array-like (n,), optional

        Returns
        -------
        float
            Accuracy, or R2 (for several outputs their mean); the same on every rank.

        Raises
        ------
        ValueError
            On every rank, if one of them has unfit rows.
        """
        return ranks.score_local(self, X, y, sample_weight)

    def gather_weights(self) -> Self:
        """Make the fitted model whole on every rank, where `dnnext.models.Cube` spreads its weights. Collective.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        if isinstance(self._network, groups.Parted):
            with open_runtime(self) as all_ranks:
                network, self._agent_rows = groups.gather_weights(self, all_ranks.comm)
            results.set_network(self, network)
        return self

    @property
    def feature_importances_(self) -> NDArray[Any]:
        """Norm of each input's outgoing weights on standardised inputs, (d,), as shares that add up to 1."""
        return results.importances(self)

    @property
    def agents_(self) -> list[Self]:
        """Each agent's own fitted view, in graph order: an estimator of this class with that agent's weights.

        After `fit_local` these are the agents of this rank. Beside everything a fitted estimator has, a view carries
        `n_samples`, the rows of that agent, and `label`.
        """
        return results.views(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a file: npz arrays and a JSON header, no pickle. `dnnext.load` reads it."""
        check_is_fitted(self)
        files.save(self, path)

    def to_sklearn(self) -> Any:
        """The same network as a fitted `MLPClassifier` or `MLPRegressor` of scikit-learn.

        Its weights are `coefs_` and `intercepts_`, which act on raw inputs, so its predictions and probabilities agree
        with this model's up to rounding (a column whose mean is 10^k times its spread costs k digits).

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor

        Raises
        ------
        ValueError
            For the activations 'softplus' and 'square', which scikit-learn does not have, or
            ``loss='squared_hinge'``, whose outputs are no probabilities.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from dnnext import DecentralizedMLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = DecentralizedMLPClassifier((5,), max_iter=10, tol=0, random_state=0).fit(X, y)
        >>> np.allclose(clf.to_sklearn().predict_proba(X), clf.predict_proba(X), atol=1e-12)
        True
        """
        return exports.to_sklearn(self)

    def to_torch_state_dict(self) -> dict[str, torch.Tensor]:
        """The weights as the state dict of a ``torch.nn.Sequential``, which then acts on raw inputs.

        For an MLP, layer k is module 2 k, a Linear, with the activations between: ``{"0.weight": (n_out, n_in),
        "0.bias": (n_out,), "2.weight": ...}``. For a `Chain`, module 0 standardises: ``BatchNorm2d(channels, eps=0,
        affine=False)`` in evaluation mode, BatchNorm1d for tables; images (n, h, w) enter as (n, 1, h, w). Then comes
        one module per layer (Linear, Conv2d, AvgPool2d, MaxPool2d, Flatten), each followed by one for its activation
        if that is not "identity"; a `Residual` is a module of yours with its layers as a Sequential ``layers``. Arrays
        have the estimator's dtype; the outputs are raw: log-odds, logits, margins or targets.

        Returns
        -------
        dict of str to torch.Tensor

        Raises
        ------
        ImportError
            If torch is not installed.
        ValueError
            If the model is neither an MLP nor a Chain, or a layer has no equivalent.

        Examples
        --------
        >>> clf.to_torch_state_dict()  # doctest: +SKIP
        >>> net = torch.nn.Sequential(  # doctest: +SKIP
        ...     torch.nn.Linear(4, 20), torch.nn.Tanh(), torch.nn.Linear(20, 3)).double()
        >>> net.load_state_dict(clf.to_torch_state_dict())  # doctest: +SKIP
        """
        return exports.to_torch_state_dict(self)

    def to_onnx(self, path: str | os.PathLike[str] | None = None) -> onnx.ModelProto:
        """The network as an ONNX model (opset 17), standardisation included.

        The model is an MLP, or a `Chain` of Dense, Conv2d, AvgPool2d, MaxPool2d, Flatten and Residual. The input is
        ``X``, as in `predict`, in the estimator's dtype; in double precision convolutions and average pools are
        written with operators that onnxruntime has (its Conv is float32 only). A regressor has one output,
        ``variable`` (n, Q); a classifier has ``label`` (n,) and ``probabilities`` (n, n_classes), or ``scores`` with
        the raw margins in their place under ``loss='squared_hinge'``; with several labels per row both are (n, L).

        Parameters
        ----------
        path : str or path, optional
            Where to write; None writes nothing.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        ImportError
            If onnx is not installed.
        ValueError
            If class labels are neither text nor whole numbers, or a layer has no equivalent.

        Examples
        --------
        >>> clf.to_onnx("m.onnx")  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("m.onnx")  # doctest: +SKIP
        >>> label, probabilities = session.run(None, {"X": X})  # doctest: +SKIP
        """
        return exports.to_onnx(self, path)

    def _open_model(self) -> Any:
        """The model with its ends open."""
        return MLP([None, 20, None]) if self.model is None else self.model

    def _class_weights(self, y: Any, codes: Any, weight: Any) -> Any:
        """Factors of the rows' weights."""
        return 1.0

    def _raw(self, X: Matrix) -> Any:
        """Raw outputs (n, Q)."""
        check_is_fitted(self)
        return self._network.raw(checked(self, X))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.preprocess is None
        tags.input_tags.allow_nan = tags.input_tags.string = self.preprocess is not None
        return tags

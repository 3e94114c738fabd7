"""The first layer of a network: which inputs and units the penalty kept, which it switched off."""

from __future__ import annotations

import numpy as np

from dnnext._checks import short
from dnnext.display.frame import COLUMN, FAINT, count, drawing

ROW = 0.135  # inches per input


class SparsityDisplay:
    """First-layer weights with the inputs and units that were switched off.

    Rows are inputs, the strongest on top, columns are units of the first hidden layer, the strongest on the left.
    Weights act on standardised inputs, so that rows can be compared. Grey is what has no effect: exact zeros, and all
    weights into a unit that is off. Inputs and units without any weight left are named in grey.

    Use `from_estimator` to make one.

    Parameters
    ----------
    weights : array-like (d, n_units)
        First-layer weights on standardised inputs.
    active_units : array-like of bool (n_units,)
        Units with an outgoing weight that is not zero.
    feature_names : sequence of str (d,), optional
        None names them x0, x1, ...
    unit_name : str
        'unit', or 'output' for a network without hidden layers.

    Attributes
    ----------
    active_inputs : ndarray of bool (d,)
        Inputs with a weight that is not zero.
    order_, unit_order_ : ndarray of int
        The inputs and units from top to bottom and left to right.
    im_ : AxesImage
    colorbar_ : Colorbar
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> import numpy as np
    >>> from dnnext import SparsityDisplay
    >>> display = SparsityDisplay(np.array([[0.5, 0.0], [0.0, 0.0]]), [True, True], ["age", "sex"]).plot()
    >>> display.ax_.get_title()
    '1 of 2 inputs and 2 of 2 units in use'
    """

    def __init__(self, weights, active_units, feature_names=None, unit_name="unit"):
        self.weights = np.asarray(weights, dtype=float)
        self.active_units = np.asarray(active_units, dtype=bool)
        self.active_inputs = np.any(self.weights != 0, axis=1)
        n = len(self.weights)
        self.feature_names = [f"x{k}" for k in range(n)] if feature_names is None else [str(f) for f in feature_names]
        self.unit_name = unit_name
        if len(self.feature_names) != n:
            raise ValueError(
                f"feature_names must have one name per input, got {len(self.feature_names)} names for {n} inputs."
            )

    @classmethod
    def from_estimator(cls, estimator, *, feature_names=None, ax=None, **kwargs):
        """Draw the first layer of a fitted estimator.

        Parameters
        ----------
        estimator : DecentralizedMLPClassifier or DecentralizedMLPRegressor
            Fitted.
        feature_names : sequence of str, optional
            None takes `feature_names_in_`, or x0, x1, ...
        ax : Axes, optional
        **kwargs
            Passed to `plot`.

        Returns
        -------
        SparsityDisplay
        """
        from sklearn.utils.validation import check_is_fitted

        from dnnext.estimators.inputs import input_names
        from dnnext.estimators.regimes import check_network

        check_is_fitted(estimator)
        check_network(estimator, "SparsityDisplay")
        if not estimator._network.can_fold:
            raise ValueError(
                f"SparsityDisplay needs an MLP, whose inputs have weights, got {short(estimator._network.model)}."
            )
        layers = [weight for weight, _ in estimator._network.model.unpack(estimator._network.row)]
        if feature_names is None:
            feature_names = input_names(estimator)
        hidden = len(layers) > 1
        active = np.any(layers[1] != 0, axis=1) if hidden else np.ones(layers[0].shape[1], bool)
        return cls(layers[0], active, feature_names, "unit" if hidden else "output").plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, max_inputs=40, cmap="RdBu_r", colorbar=True):
        """Draw the weights.

        Parameters
        ----------
        ax : Axes, optional
            None makes a figure of one column's width, as high as the inputs need.
        max_inputs : int
            The strongest inputs that are shown; the title counts all.
        cmap : str or Colormap
            Diverging colours, from negative to positive weights.
        colorbar : bool

        Returns
        -------
        SparsityDisplay
        """
        from dnnext.display.frame import pyplot

        strength = np.linalg.norm(self.weights, axis=1)
        self.order_ = np.argsort(-strength, kind="stable")
        used = np.linalg.norm(self.weights, axis=0) * self.active_units
        self.unit_order_ = np.argsort(-used, kind="stable")
        shown = self.order_[:max_inputs]
        values = self.weights[np.ix_(shown, self.unit_order_)]
        height = 0.75 + ROW * max(len(shown), 5) + (0.15 if len(shown) < len(self.order_) else 0)
        colors = pyplot().get_cmap(cmap).with_extremes(bad=FAINT)
        limit = np.abs(values).max() or 1.0
        with drawing(ax, height=height, width=COLUMN) as (self.figure_, (self.ax_,)):
            self.im_ = self.ax_.imshow(
                np.ma.masked_where((values == 0) | ~self.active_units[self.unit_order_], values),
                aspect="auto",
                cmap=colors,
                vmin=-limit,
                vmax=limit,
                interpolation="none",
            )
            self._name_inputs(shown)
            self._name_units()
            self.ax_.set_title(self._title())
            self.ax_.tick_params(length=0)
            self.ax_.spines[:].set_visible(False)
            self.colorbar_ = None
            if colorbar:
                self.colorbar_ = self.figure_.colorbar(
                    self.im_, ax=self.ax_, pad=0.02, aspect=30, label="weight (grey: off)"
                )
                self.colorbar_.outline.set_visible(False)
        return self

    def _title(self):
        """How many inputs and units are in use."""
        inputs = f"{self.active_inputs.sum()} of {count(len(self.active_inputs), 'input')}"
        if self.unit_name != "unit":
            return f"{inputs} in use"
        return f"{inputs} and {self.active_units.sum()} of {count(len(self.active_units), 'unit')} in use"

    def _name_inputs(self, shown):
        self.ax_.set_yticks(np.arange(len(shown)), [self.feature_names[k] for k in shown])
        for k, label in zip(shown, self.ax_.get_yticklabels(), strict=True):
            label.set_fontsize(min(label.get_fontsize(), 7))
            if not self.active_inputs[k]:
                label.set_color("0.55")
        hidden = len(self.order_) - len(shown)
        if hidden:
            off = int(np.sum(~self.active_inputs[self.order_[len(shown) :]]))
            self.ax_.set_ylabel(f"{hidden} weaker inputs are not shown, {off} of them off", fontsize=6.5, color="0.35")

    def _name_units(self):
        n, kept = len(self.unit_order_), int(self.active_units.sum())
        step = max(1, int(np.ceil(n / 10)))
        ticks = np.arange(0, n, step)
        self.ax_.set_xticks(ticks, [str(k) for k in self.unit_order_[ticks]])
        self.ax_.tick_params(axis="x", labelsize=6.5)
        for place, label in zip(ticks, self.ax_.get_xticklabels(), strict=True):
            if place >= kept:
                label.set_color("0.55")
        where = "of the first hidden layer" if self.unit_name == "unit" else ""
        self.ax_.set_xlabel(f"{self.unit_name}s {where}".strip())
        if 0 < kept < n:
            self.ax_.axvline(kept - 0.5, color="0.2", lw=0.8, ls="--")

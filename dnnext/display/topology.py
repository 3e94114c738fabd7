"""A graph of agents: its links, their weights, and any value the agents have."""

from __future__ import annotations

import numpy as np

from dnnext._checks import short
from dnnext.display.frame import PALETTE, count, drawing, shade_of
from dnnext.display.layout import place
from dnnext.network import Schedule, Topology

LABELLED = 40  # agents up to which their numbers are shown
SAMPLED = 50  # rounds of a random schedule over which weights are averaged
LEGEND = 8  # categories up to which a legend is drawn
NAMES = {
    "erdos_renyi": "Erdős-Rényi",
    "watts_strogatz": "Watts-Strogatz",
    "barabasi_albert": "Barabási-Albert",
}
PER_AGENT = ("n_samples", "score", "distance")


class TopologyDisplay:
    """The graph of agents, coloured by any value per agent, its links as thick as their mixing weights.

    Use `from_topology` or `from_estimator` to make one.

    Parameters
    ----------
    topology : Topology or Schedule
        Of a schedule every link that is ever active is drawn, by its mean weight over the schedule's period,
        or over its first rounds.
    values : array-like (A,), optional
        Numbers (a colour bar) or texts (a legend), one per agent; NaN leaves an agent white.
    value_name : str
        What the values are, with their unit.
    positions : array-like (A, 2), optional
        Where the agents stand; None computes a layout from the graph.

    Attributes
    ----------
    nodes_ : PathCollection
    edges_ : LineCollection
    colorbar_, legend_ : Colorbar or None, Legend or None
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from dnnext import Topology, TopologyDisplay
    >>> display = TopologyDisplay.from_topology(Topology.ring(6))
    >>> print(display.ax_.get_title())
    ring: 6 agents, 6 links
    spectral gap 0.333
    """

    def __init__(self, topology, *, values=None, value_name="", positions=None):
        if not isinstance(topology, (Topology, Schedule)):
            raise ValueError(f"topology must be a Topology or a Schedule, got {type(topology).__name__}.")
        n = topology.n_agents
        self.topology, self.value_name = topology, value_name
        self.graph = topology.union if isinstance(topology, Schedule) else topology
        self.values = None if values is None else np.asarray(values)
        self.positions = place(self.graph) if positions is None else np.asarray(positions, dtype=float)
        if self.values is not None and self.values.shape != (n,):
            raise ValueError(f"values must have shape ({n},), one value per agent, got {self.values.shape}.")
        if self.positions.shape != (n, 2):
            raise ValueError(f"positions must have shape ({n}, 2), one point per agent, got {self.positions.shape}.")

    @classmethod
    def from_topology(cls, topology, *, values=None, value_name="", positions=None, ax=None, **kwargs):
        """Draw a graph.

        Parameters
        ----------
        topology : Topology or Schedule
        values : array-like (A,), optional
            Numbers or texts, one per agent.
        value_name : str
            What they are, with their unit.
        positions : array-like (A, 2), optional
            Where the agents stand.
        ax : Axes, optional
        **kwargs
            Passed to `plot`.

        Returns
        -------
        TopologyDisplay
        """
        return cls(topology, values=values, value_name=value_name, positions=positions).plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(
        cls, estimator, *, values="n_samples", X=None, y=None, value_name=None, positions=None, ax=None, **kwargs
    ):
        """Draw the graph an estimator was fitted on.

        Parameters
        ----------
        estimator : DecentralizedMLPClassifier or DecentralizedMLPRegressor
            Fitted.
        values : {'n_samples', 'score', 'distance'}, array-like (A,) or None
            'n_samples': the rows of each agent; an agent without any, a relay, stays white. 'score': of each agent's
            own view (`agents_`) on (X, y). 'distance': ``|w_i - w_bar|``, how far an agent is from the mean.
        X, y : array-like, optional
            Rows that 'score' is measured on.
        value_name : str, optional
            What the values are; None: a default for the three names above.
        positions : array-like (A, 2), optional
            Where the agents stand.
        ax : Axes, optional
        **kwargs
            Passed to `plot`.

        Returns
        -------
        TopologyDisplay
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator)
        name = value_name or ""
        if isinstance(values, str):
            values, name = per_agent(estimator, values, X, y)
            name = name if value_name is None else value_name
        return cls.from_topology(
            estimator.topology_, values=values, value_name=name, positions=positions, ax=ax, **kwargs
        )

    def plot(self, ax=None, *, cmap="viridis", vmin=None, vmax=None, node_size=None, labels="auto", title=True):
        """Draw the graph.

        Parameters
        ----------
        ax : Axes, optional
            None makes a figure of one column's width.
        cmap : str or Colormap
            Colours of numeric values.
        vmin, vmax : float, optional
            Range of the colours.
        node_size : float, optional
            Area of an agent in square points; None fits it to their number.
        labels : 'auto', bool or sequence of str
            Write the agents' numbers (or these texts) on them; 'auto' does up to 40 agents.
        title : bool
            Name, agents, links and spectral gap above the graph.

        Returns
        -------
        TopologyDisplay
        """
        n = self.graph.n_agents
        size = float(np.clip(2600 / n, 18, 170)) if node_size is None else node_size
        with drawing(ax, height=3.1) as (self.figure_, (self.ax_,)):
            self._draw_edges()
            colors = self._draw_nodes(size, cmap, vmin, vmax)
            if isinstance(labels, str):
                labels = n <= LABELLED
            if not isinstance(labels, bool) or labels:
                texts = range(n) if isinstance(labels, bool) else labels
                for point, text, color in zip(self.positions, texts, colors, strict=True):
                    look = {"ha": "center", "va": "center_baseline", "fontsize": 6.5 if n <= 20 else 5.5, "zorder": 4}
                    self.ax_.annotate(str(text), point, color=shade_of(color), **look)
            if title:
                self.ax_.set_title(self._title())
            self.ax_.set_aspect("equal")
            self.ax_.set_axis_off()
            self.ax_.margins(0.1)
        return self

    def _title(self):
        """Name, agents and links; spectral gap of a fixed graph, window of a schedule."""
        agents, links = count(self.graph.n_agents, "agent"), count(self.graph.n_edges, "link")
        if isinstance(self.topology, Schedule):
            rounds = count(self.topology.window, "round")
            return f"{words(self.topology.name)}: {agents}, up to {links}\njointly connected in {rounds}"
        return f"{words(self.graph.name)}: {agents}, {links}\nspectral gap {self.graph.spectral_gap:.3f}"

    def _draw_edges(self):
        from matplotlib.collections import LineCollection

        edges, weight = self._weights()
        share = weight / weight.max() if len(weight) and weight.max() > 0 else weight
        crowd = min(1.0, 3 * self.graph.n_agents / max(len(edges), 1))  # a dense graph gets thinner, paler links
        shades = np.zeros((len(edges), 4))
        shades[:, 3] = (0.2 + 0.5 * share) * (0.35 + 0.65 * crowd)
        self.edges_ = LineCollection(
            self.positions[edges], linewidths=(0.3 + 2.2 * share) * (0.4 + 0.6 * crowd), colors=shades, zorder=1
        )
        self.ax_.add_collection(self.edges_)

    def _weights(self):
        """(edges (E, 2), mean mixing weight (E,)): the mean of c_ij and c_ji, over the window of a schedule."""
        adjacency = self.graph.adjacency.tocoo()
        forward = adjacency.row < adjacency.col
        edges = np.column_stack([adjacency.row[forward], adjacency.col[forward]])
        if isinstance(self.topology, Schedule):
            rounds = range(self.topology.period or max(self.topology.window, SAMPLED))
            mixing = sum(self.topology.mixing(k) for k in rounds) / len(rounds)
        else:
            mixing = self.graph.mixing
        mixing = ((mixing + mixing.T) / 2).tocsr()
        return edges, np.array([mixing[i, j] for i, j in edges])

    def _draw_nodes(self, size, cmap, vmin, vmax):
        """Draw the agents; their face colours (A, 4)."""
        from matplotlib.colors import to_rgba

        self.colorbar_ = self.legend_ = None
        where = self.positions.T
        look = {"s": size, "edgecolors": "0.2", "linewidths": 0.7, "zorder": 3}
        if self.values is None:
            self.nodes_ = self.ax_.scatter(*where, color=PALETTE[0], **look)
            return np.tile(to_rgba(PALETTE[0]), (len(self.positions), 1))
        if self.values.dtype.kind in "OUb":
            return self._draw_kinds(where, look)
        values = np.where(np.isfinite(self.values.astype(float)), self.values.astype(float), np.nan)
        hollow = np.isnan(values)
        self.nodes_ = self.ax_.scatter(*where[:, ~hollow], c=values[~hollow], cmap=cmap, vmin=vmin, vmax=vmax, **look)
        if hollow.any():
            self.ax_.scatter(*where[:, hollow], color="white", **look)
        colors = np.ones((len(values), 4))
        colors[~hollow] = self.nodes_.to_rgba(values[~hollow])
        self.colorbar_ = self.figure_.colorbar(self.nodes_, ax=self.ax_, shrink=0.75, pad=0.02, label=self.value_name)
        self.colorbar_.outline.set_visible(False)
        distinct = np.unique(values[~hollow])
        if len(distinct) == 1 and vmin is None and vmax is None:
            self.colorbar_.set_ticks(distinct, labels=[f"{distinct[0]:.4g}"])
        elif np.all(distinct == np.round(distinct)):
            self.colorbar_.locator = _whole_numbers()
            self.colorbar_.update_ticks()
        return colors

    def _draw_kinds(self, where, look):
        from matplotlib.colors import to_rgba

        kinds, codes = np.unique([str(value) for value in self.values], return_inverse=True)
        if len(kinds) > LEGEND:
            raise ValueError(f"values must hold at most {LEGEND} different texts, got {len(kinds)} different texts.")
        table = np.array([to_rgba((*PALETTE, "#FFFFFF")[k]) for k in range(len(kinds))])
        colors = table[codes]
        self.nodes_ = self.ax_.scatter(*where, c=colors, **look)
        marks = [
            self.ax_.scatter([], [], color=table[k], s=40, edgecolors="0.2", linewidths=0.7) for k in range(len(kinds))
        ]
        self.legend_ = self.ax_.legend(
            marks, kinds, title=self.value_name or None, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
        return colors


def per_agent(estimator, kind, X, y):
    """(values (A,), what they are) of a fitted estimator."""
    from sklearn.base import is_classifier

    if kind not in PER_AGENT:
        raise ValueError(
            f"values must be one of {', '.join(PER_AGENT)}, an array with one value per agent or None, got "
            f"{short(kind)}."
        )
    if kind == "n_samples":
        n = np.array([view.n_samples for view in estimator.agents_], dtype=float)
        return np.where(n > 0, n, np.nan), "rows of the agent"
    if kind == "distance":
        mean = estimator._network.row.astype(float)
        return np.linalg.norm(estimator._agent_rows - mean, axis=1), r"distance $\|w_i - \bar w\|$"
    if X is None or y is None:
        raise ValueError("values='score' needs X and y, the rows that each agent's model is scored on.")
    name = "accuracy" if is_classifier(estimator) else "$R^2$"
    return np.array([view.score(X, y) for view in estimator.agents_]), f"{name} of the agent's model"


def words(name):
    """A name as people write it."""
    for plain, written in NAMES.items():
        name = name.replace(plain, written)
    return name.replace("_", " ")


def _whole_numbers():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, integer=True)

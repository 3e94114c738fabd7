"""Displays: what they show, on whose axes, and what they say when they cannot."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import NotFittedError

from dnnext import (
    ConvergenceDisplay,
    DecentralizedMLPClassifier,
    DecentralizedMLPRegressor,
    Schedule,
    SparsityDisplay,
    Topology,
    TopologyDisplay,
)
from dnnext.algorithms import NEXT
from dnnext.display import RegularizationPathDisplay
from dnnext.display.layout import place
from dnnext.model_selection import RegularizationPath
from dnnext.network import TOPOLOGIES, Network
from dnnext.problem import L2, MLP, Problem, SquaredError

plt = pytest.importorskip("matplotlib.pyplot")
X, Y = load_breast_cancer(return_X_y=True)
QUICK = {"max_iter": 8, "tol": 0.0, "n_agents": 4, "topology": "ring", "random_state": 0}


@pytest.fixture(autouse=True)
def _closed():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def dense():
    return DecentralizedMLPClassifier((6,), **QUICK).fit(X, Y, eval_set=(X, Y))


@pytest.fixture(scope="module")
def sparse():
    return DecentralizedMLPClassifier((6,), penalty="group", alpha=0.05, **QUICK | {"max_iter": 30}).fit(X, Y)


@pytest.mark.parametrize("x", ["round", "iteration", "bytes", "seconds"])
def test_the_curve_is_the_history(dense, x):
    display = ConvergenceDisplay.from_estimator(dense, x=x)
    line = display.lines_[0][0]
    np.testing.assert_array_equal(line.get_ydata(), dense.history_["objective"])
    lengths = line.get_xdata()
    np.testing.assert_allclose(lengths / lengths[-1], dense.history_[x] / dense.history_[x][-1], rtol=1e-12)
    assert display.ax_.get_legend() is None
    assert display.figure_ is display.ax_.figure


def test_units_follow_the_size(dense):
    for n_bytes, unit, value in ((5, "bytes", 5), (7000, "kB", 7), (2.5e6, "MB", 2.5), (3e9, "GB", 3)):
        history = {"bytes": np.array([0, n_bytes]), "objective": np.array([2.0, 1.0])}
        display = ConvergenceDisplay([history], x="bytes").plot()
        assert display.ax_.get_xlabel().endswith(f"({unit})")
        assert display.lines_[0][0].get_xdata()[-1] == value


def test_scales_follow_the_numbers():
    def scales(x, y, measure="objective"):
        histories = [{"round": np.array(a), measure: np.array(b)} for a, b in zip(x, y, strict=True)]
        ax = ConvergenceDisplay(histories, y=measure).plot().ax_
        return ax.get_xscale(), ax.get_yscale()

    assert scales([[0, 1, 2]], [[3.0, 2.0, 1.0]]) == ("linear", "linear")
    assert scales([[0, 1, 2]], [[30.0, 2.0, 1.0]]) == ("linear", "log")
    assert scales([[0, 1], [0, 100]], [[3.0, 1.0], [3.0, 1.0]]) == ("log", "linear")
    assert scales([[0, 1]], [[1.0, -1.0]]) == ("linear", "linear")
    assert scales([[0, 1]], [[0.0, 0.0]], "disagreement") == ("linear", "linear")
    assert scales([[0, 1, 2]], [[1e-33, 1e-3, 1e-5]], "disagreement") == ("linear", "log")


def test_rounding_at_the_common_start_is_not_drawn(dense):
    line = ConvergenceDisplay.from_estimator(dense, y="disagreement").lines_[0][0]
    assert len(line.get_xdata()) == len(dense.history_["round"]) - 1


def test_runs_are_named_by_what_differs(dense, sparse):
    texts = [text.get_text() for text in ConvergenceDisplay.from_estimators([dense, sparse]).ax_.get_legend().texts]
    assert texts == ["alpha=auto, max_iter=8, penalty=l2", "alpha=0.05, max_iter=30, penalty=group"]
    display = ConvergenceDisplay.from_estimators({"a": dense, "b": sparse}, y=["gap", "stationarity"])
    assert [text.get_text() for text in display.ax_.get_legend().texts] == ["a", "b"]
    assert len(display.axes_) == 2
    assert len(display.lines_[1]) == 2
    same = ConvergenceDisplay.from_estimators([dense, dense])
    assert [text.get_text() for text in same.ax_.get_legend().texts] == ["run 1", "run 2"]


def test_the_score_is_called_by_its_name(dense):
    assert ConvergenceDisplay.from_estimator(dense, y="score").ax_.get_ylabel() == "validation accuracy"
    inputs, y = load_diabetes(return_X_y=True)
    reg = DecentralizedMLPRegressor((4,), **QUICK).fit(inputs, y, eval_set=(inputs, y))
    assert "R^2" in ConvergenceDisplay.from_estimator(reg, y="score").ax_.get_ylabel()


def test_results_of_the_layer_below():
    x = np.linspace(-1, 1, 20)[:, None]
    problem = Problem(
        MLP([1, 3, 1]), SquaredError(), L2(alpha=1e-3), shards=[(x[::2], x[::2] ** 2), (x[1::2], x[1::2] ** 2)]
    )
    results = [NEXT(tau=tau).run(problem, Network(Topology.ring(2)), max_iter=5) for tau in ("auto", 1.0)]
    assert ConvergenceDisplay.from_result(results[0]).ax_.get_legend() is None
    display = ConvergenceDisplay.from_results(results)
    assert [text.get_text() for text in display.ax_.get_legend().texts] == ["run 1", "run 2"]
    assert ConvergenceDisplay.from_results({"auto": results[0]}).names == ["auto"]


def test_the_callers_axes_are_used(dense, sparse):
    figure, axes = plt.subplots(2)
    display = ConvergenceDisplay.from_estimator(dense, y=["objective", "tau"], ax=axes, color="k")
    assert display.figure_ is figure
    assert display.lines_[1][0].get_color() == "k"
    figure, axes = plt.subplots(2)
    for made in (SparsityDisplay.from_estimator(sparse, ax=axes[0]), TopologyDisplay.from_estimator(dense, ax=axes[1])):
        assert made.figure_ is figure
    assert len(plt.get_fignums()) == 2


def test_mistakes_are_sentences(dense):
    with pytest.raises(ValueError, match="x must be one of"):
        ConvergenceDisplay.from_estimator(dense, x="epochs")
    with pytest.raises(ValueError, match="y must be one of"):
        ConvergenceDisplay.from_estimator(dense, y="loss")
    with pytest.raises(ValueError, match="eval_set"):
        ConvergenceDisplay([{"round": [0], "objective": [1.0]}], y="score").plot()
    with pytest.raises(ValueError, match="got 1 entries for 2 runs"):
        ConvergenceDisplay.from_estimators([dense, dense], names=["a"])
    with pytest.raises(ValueError, match="at least one run"):
        ConvergenceDisplay([])
    with pytest.raises(ValueError, match="2 matplotlib Axes"):
        ConvergenceDisplay.from_estimator(dense, y=["objective", "tau"], ax=plt.subplots()[1])
    for display in (ConvergenceDisplay, SparsityDisplay, TopologyDisplay):
        with pytest.raises(NotFittedError):
            display.from_estimator(DecentralizedMLPClassifier())


def test_without_matplotlib_the_package_is_named(dense, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        ConvergenceDisplay.from_estimator(dense)


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
@pytest.mark.parametrize("n", [1, 2, 3, 16])
def test_every_graph_has_a_picture(name, n):
    if name == "hypercube" and n == 3:
        pytest.skip("a hypercube has a power of two")
    topology = Topology.from_name(name, n, random_state=0)
    p = place(topology)
    assert p.shape == (n, 2)
    assert np.abs(p).max() <= 1 + 1e-9
    apart = np.sqrt(((p[:, None] - p[None]) ** 2).sum(axis=2))[~np.eye(n, dtype=bool)]
    assert n == 1 or apart.min() > 0.1
    display = TopologyDisplay.from_topology(topology)
    assert len(display.edges_.get_segments()) == topology.n_edges
    assert f"spectral gap {topology.spectral_gap:.3f}" in display.ax_.get_title()
    assert len(display.ax_.texts) == n


def test_large_graphs_have_no_numbers_and_parts_stay_apart():
    topology = Topology.random_geometric(60, random_state=0)
    assert len(TopologyDisplay.from_topology(topology).ax_.texts) == 0
    assert len(TopologyDisplay.from_topology(topology, labels=[str(k) for k in range(60)]).ax_.texts) == 60
    halves = Topology(np.kron(np.eye(2), np.ones((2, 2))))
    assert np.linalg.norm(place(halves)[0] - place(halves)[3]) > 0.5


def test_links_are_as_thick_as_their_weights():
    net = Topology([[0, 1, 0], [1, 0, 1], [0, 1, 0]], weights=[[0.9, 0.1, 0], [0.1, 0.5, 0.4], [0, 0.4, 0.6]])
    display = TopologyDisplay.from_topology(net)
    thin, thick = display.edges_.get_linewidths()
    assert thin < thick
    np.testing.assert_allclose(display._weights()[1], [0.1, 0.4])


def test_a_schedule_shows_its_union():
    schedule = Schedule.alternating(Topology.ring(6), 2)
    display = TopologyDisplay.from_topology(schedule)
    assert len(display.edges_.get_segments()) == 6
    assert "jointly connected in 2 rounds" in display.ax_.get_title()


def test_values_color_the_agents(dense):
    rows = TopologyDisplay.from_estimator(dense)
    np.testing.assert_array_equal(rows.values, [view.n_samples for view in dense.agents_])
    assert rows.colorbar_.ax.get_ylabel() == "rows of the agent"
    scores = TopologyDisplay.from_estimator(dense, values="score", X=X, y=Y)
    np.testing.assert_allclose(scores.values, [view.score(X, Y) for view in dense.agents_])
    far = TopologyDisplay.from_estimator(dense, values="distance", value_name="far")
    assert far.colorbar_.ax.get_ylabel() == "far"
    kinds = TopologyDisplay.from_estimator(dense, values=list("abab"), value_name="site")
    assert kinds.colorbar_ is None
    assert [text.get_text() for text in kinds.legend_.texts] == ["a", "b"]
    assert TopologyDisplay.from_estimator(dense, values=None).colorbar_ is None


def test_relays_stay_white():
    clf = DecentralizedMLPClassifier((3,), **QUICK | {"topology": Topology.ring(4)})
    clf.fit(X, Y, agent=1 + np.arange(len(X)) % 3)
    display = TopologyDisplay.from_estimator(clf)
    assert np.isnan(display.values[0])
    np.testing.assert_array_equal(display.ax_.collections[2].get_facecolors(), [[1, 1, 1, 1]])


def test_graphs_that_cannot_be_drawn_are_said(dense):
    net = Topology.ring(4)
    with pytest.raises(ValueError, match="Topology or a Schedule"):
        TopologyDisplay.from_topology("ring")
    with pytest.raises(ValueError, match="one value per agent"):
        TopologyDisplay.from_topology(net, values=[1.0])
    with pytest.raises(ValueError, match="one point per agent"):
        TopologyDisplay.from_topology(net, positions=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="got 12 different texts"):
        TopologyDisplay.from_topology(Topology.ring(12), values=list("abcdefghijkl"))
    with pytest.raises(ValueError, match="needs X and y"):
        TopologyDisplay.from_estimator(dense, values="score")
    with pytest.raises(ValueError, match="values must be one of"):
        TopologyDisplay.from_estimator(dense, values="rows")


def test_what_group_sparsity_kept(sparse):
    names = [f"input {k}" for k in range(30)]
    display = SparsityDisplay.from_estimator(sparse, feature_names=names)
    np.testing.assert_array_equal(display.active_inputs, sparse.active_inputs_)
    assert display.active_units.sum() == sparse.n_active_units_
    kept = int(sparse.active_inputs_.sum())
    assert 0 < kept < 30
    assert display.ax_.get_title() == f"{kept} of 30 inputs and {sparse.n_active_units_} of 6 units in use"
    strength = np.linalg.norm(display.weights, axis=1)
    assert np.all(np.diff(strength[display.order_]) <= 0)
    labels = display.ax_.get_yticklabels()
    assert labels[0].get_text() == names[display.order_[0]]
    assert [label.get_color() == "0.55" for label in labels] == [k >= kept for k in range(30)]
    assert np.ma.getmaskarray(display.im_.get_array()).sum() == np.sum((display.weights == 0) | ~display.active_units)


def test_many_inputs_and_no_hidden_layer(dense):
    display = SparsityDisplay.from_estimator(dense, max_inputs=5)
    assert len(display.ax_.get_yticks()) == 5
    assert "25 weaker inputs are not shown, 0 of them off" in display.ax_.get_ylabel()
    linear = DecentralizedMLPClassifier((), penalty="l1", **QUICK).fit(X, Y)
    assert "outputs" in SparsityDisplay.from_estimator(linear).ax_.get_xlabel()
    assert SparsityDisplay(np.zeros((2, 2)), [False, False]).plot().ax_.get_title().startswith("0 of 2 inputs")
    with pytest.raises(ValueError, match="got 2 names for 3 inputs"):
        SparsityDisplay(np.zeros((3, 1)), [True], ["a", "b"])


def test_feature_names_of_a_frame():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X[:, :3], columns=["radius", "texture", "area"])
    clf = DecentralizedMLPClassifier((3,), **QUICK).fit(frame, Y)
    names = {label.get_text() for label in SparsityDisplay.from_estimator(clf).ax_.get_yticklabels()}
    assert names == {"radius", "texture", "area"}


def test_a_path_shows_score_and_sparsity():
    two = np.ones((3, 2), dtype=int)
    path = RegularizationPath(
        alphas=np.array([0.1, 1.0, 10.0]), scores=np.array([[0.5, 0.7], [0.8, 0.9], [0.8, 0.86]]),
        n_active_inputs=4 * two, n_active_units=2 * two, n_nonzero=5 * two, n_iter=two,
        n_inputs=8, n_units=4, n_weights=50,
    )  # fmt: skip
    assert path.best_alpha == 1.0
    assert path.sparsest_alpha == 10.0
    display = path.plot()
    assert isinstance(display, RegularizationPathDisplay)
    np.testing.assert_allclose(display.lines_[0].get_ydata(), [0.6, 0.85, 0.83])
    assert [line.get_ydata()[0] for line in display.lines_[1:]] == [50.0, 50.0, 10.0]

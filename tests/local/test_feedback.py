"""Direct feedback as an oracle: what it computes, where it is refused, and training by it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits

from dnnext import DecentralizedMLPClassifier
from dnnext.algorithms import DGD, NEXT, GradientTracking
from dnnext.callbacks import Alignment
from dnnext.display import AlignmentDisplay
from dnnext.local import Feedback, FullLinearization, PartialLinearization, alignment
from dnnext.models import Chain, Conv2d, Dense, Flatten, NeuralTangentKernel
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, MLP, Huber, Problem, Softmax, SquaredError, Tangents
from dnnext.runs import checkpoint
from dnnext.runs.callbacks import Checkpoint


def shards_of(rng, rows, d, q):
    return [(rng.standard_normal((n, d)), rng.standard_normal((n, q)), rng.random(n)) for n in rows]


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    return Problem(MLP([3, 8, 6, 2]), SquaredError(), L2(1e-3), shards_of(rng, (20, 0, 31), 3, 2))


def rows_of_weights(problem, seed=1):
    return np.random.default_rng(seed).standard_normal((problem.n_local, problem.n_params)).astype(problem.dtype)


def direction(problem, oracle, w):
    out = np.empty_like(w)
    return oracle(problem, w, out, {}), out


def test_the_last_layer_is_exact_and_the_others_follow_the_formula(problem):
    w, oracle = rows_of_weights(problem), Feedback(3)
    values, out = direction(problem, oracle, w)
    grad = problem.grad(w)
    last = problem.model.layer_slices[-1]
    assert_array_equal(out[:, last], grad[:, last])
    assert_array_equal(values, problem.local_values(w))
    b1, b2 = oracle.matrices(problem.model)
    (w1, c1), (w2, c2), (w3, c3) = problem.model.unpack(w[2])
    rows = slice(20, 51)
    x, c = problem.x[rows], problem.weight[rows] / problem.n_total
    a1 = np.tanh(x @ w1 + c1)
    a2 = np.tanh(a1 @ w2 + c2)
    e = (a2 @ w3 + c3 - problem.target[rows]) * c[:, None]
    d1, d2 = (e @ b1.T) * (1 - a1**2), (e @ b2.T) * (1 - a2**2)
    formula = problem.model.pack([(x.T @ d1, d1.sum(0)), (a1.T @ d2, d2.sum(0)), (a2.T @ e, e.sum(0))])
    assert_allclose(out[2], formula, rtol=1e-10, atol=1e-14)
    assert not out[1].any()


class PlainHuber(Huber):
    kernel = None


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_loss_in_python_and_a_chain_of_layers_give_the_same(dtype):
    shards = shards_of(np.random.default_rng(1), (30, 300), 3, 2)
    mlp = MLP([3, 8, 6, 2])
    kernel, python = (Problem(mlp, loss, None, shards, dtype=dtype) for loss in (Huber(0.5), PlainHuber(0.5)))
    w = rows_of_weights(kernel)
    (v1, g1), (v2, g2) = (direction(problem, Feedback(1), w) for problem in (kernel, python))
    close = {"rtol": 1e-10 if dtype == "float64" else 1e-3, "atol": 1e-12 if dtype == "float64" else 1e-6}
    assert_allclose(g1, g2, **close)
    assert_allclose(v1, v2, **close)


class PlainMLP(MLP):
    offers = MLP.offers - {"feedback", "tangent_kernel"}


def test_kernels_are_used_where_a_model_offers_them_and_layers_give_the_same(monkeypatch):
    shards = shards_of(np.random.default_rng(2), (30, 300), 3, 2)
    layers = [3, 8, 6, 2]
    fast, plain = (Problem(kind(layers), SquaredError(), None, shards) for kind in (MLP, PlainMLP))
    w, (x, y) = rows_of_weights(fast), (shard[0] for shard in shards)
    ours, theirs = (direction(problem, Feedback(1), w) for problem in (fast, plain))
    grams = [NeuralTangentKernel(problem.model, w[0])(x, y) for problem in (fast, plain)]
    for name in ("feedback", "tangent_kernel"):
        monkeypatch.setattr(MLP, name, lambda self, *args, **more: pytest.fail("not offered"))
    again = direction(plain, Feedback(1), w)
    for one, other, third in zip(ours, theirs, again, strict=True):
        assert_allclose(one, other, rtol=1e-10, atol=1e-12)
        assert_array_equal(other, third)
    assert_allclose(*grams, rtol=1e-10, atol=1e-12)
    assert_array_equal(NeuralTangentKernel(plain.model, w[0])(x, y), grams[1])


@pytest.mark.parametrize("n_threads", [1, 3])
def test_no_bit_depends_on_threads(problem, n_threads):
    many = problem.with_shards([(np.tile(problem.x, (400, 1)), np.tile(problem.target, (400, 1)))] * 3)
    many.n_threads = n_threads
    w = rows_of_weights(many)
    one = many.with_shards([(np.tile(problem.x, (400, 1)), np.tile(problem.target, (400, 1)))] * 3)
    for mine, its in zip(direction(many, Feedback(0), w), direction(one, Feedback(0), w), strict=True):
        assert_array_equal(mine, its)


def test_matrices_have_the_size_that_was_asked_for():
    model = MLP([5, 300, 200, 10])
    for distribution in ("gaussian", "orthogonal"):
        for scale, wanted in (("normalised", [3000**-0.5, 2000**-0.5]), (0.5, [0.5, 0.5])):
            found = Feedback(1, scale, distribution).matrices(model)
            assert_allclose([np.sqrt(np.mean(b**2)) for b in found], wanted, rtol=0.05)
    b = Feedback(1, "normalised", "orthogonal").matrices(model)[0]
    assert_allclose(b.T @ b, np.eye(10) / 10, atol=1e-12)
    shared = Feedback(1, 1.0, shared=True).matrices(model)
    assert_array_equal(shared[0][:200], shared[1])
    own = Feedback(1, 1.0).matrices(model)
    assert not np.array_equal(own[0][:200], own[1])
    again = Feedback(1, 1.0).matrices(MLP([5, 300, 20, 10]))
    assert_array_equal(own[0], again[0])  # no layer's matrix depends on the others
    assert not np.array_equal(Feedback(2, 1.0).matrices(model)[0], own[0])


def test_scale_zero_freezes_the_hidden_layers(problem):
    w = rows_of_weights(problem)
    _, out = direction(problem, Feedback(scale=0.0), w)
    assert not out[:, : problem.model.layer_slices[-1].start].any()


def test_alignment_with_the_true_transport_is_one():
    rng = np.random.default_rng(2)
    model = MLP([4, 7, 5, 3], "identity")
    w, x, e = model.init(0), rng.standard_normal((20, 4)), rng.standard_normal((20, 3))
    (_, _), (w2, _), (w3, _) = model.unpack(w)

    class Transport(Feedback):
        def matrices(self, model):
            return [w2 @ w3, w3]

    mean, std = alignment(model, w, x, e, Transport())
    assert_allclose(mean, 1, rtol=1e-12)
    assert_allclose(std, 0, atol=1e-7)
    mean, _ = alignment(model, w, x, e, Feedback(0))
    assert np.all(np.abs(mean) < 0.7)
    assert np.isnan(alignment(model, w, x, 0 * e, Feedback(0))[0]).all()


def test_feedback_goes_through_images():
    rng = np.random.default_rng(3)
    model = Chain([Conv2d(3, 3, activation="tanh"), Flatten(), Dense(6, "tanh"), Dense(2)], (6, 6))
    assert [b.shape for b in Feedback(0).matrices(model)] == [(48, 2), (6, 2)]
    w, x, e = model.init(0), rng.standard_normal((5, 1, 6, 6)), rng.standard_normal((5, 2))
    mean, std = alignment(model, w, x, lambda f: f - e, Feedback(0))
    assert mean.shape == std.shape == (2,)
    assert np.all(np.abs(mean) < 0.9)


@pytest.mark.parametrize(
    "algorithm",
    [
        NEXT(FullLinearization(), oracle=Feedback(0)),
        GradientTracking(oracle=Feedback(0)),
        GradientTracking(0.2, "diging", oracle=Feedback(0)),
        DGD(oracle=Feedback(0)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("penalty", [L2(1e-3), L1(1e-3)])
def test_recipes_train_by_feedback(algorithm, penalty):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((90, 3))
    y = np.sin(x.sum(axis=1))
    shards = [(x[k::3], y[k::3]) for k in range(3)]
    problem = Problem(MLP([3, 10, 6, 1]), SquaredError(), penalty, shards)
    result = algorithm.run(problem, Network(Topology.ring(3)), max_iter=80, warn=False)
    objective = result.history["objective"]
    assert objective[-1] < 0.8 * objective[0]
    assert np.all(np.isfinite(objective))


def test_where_a_gradient_is_needed_feedback_is_refused():
    with pytest.raises(
        ValueError, match=r"give the true gradient, because surrogate=PartialLinearization\(\) needs that, got Feedb"
    ):
        NEXT(PartialLinearization(), oracle=Feedback(0))
    with pytest.raises(ValueError, match=r"model must be made of layers, .*, because oracle=Feedback"):
        Feedback().matrices(object())


@pytest.mark.parametrize("model", [MLP([3, 4, 1]), Chain([Dense(4, "tanh"), Dense(1)], 3)], ids=repr)
def test_feedback_and_tangents_are_refused_together(model):
    shards = shards_of(np.random.default_rng(0), (9, 8), 3, 1)
    problem = Problem(model, SquaredError(), None, shards, tangents=Tangents(0.1, [[1.0, 0.0, 0.0]]))
    says = r"tangents must be None, because oracle=Feedback\(\) needs that, got Tangents\(mu=0\.1"
    for algorithm in (NEXT(FullLinearization(), oracle=Feedback()), GradientTracking(oracle=Feedback())):
        with pytest.raises(ValueError, match=says):
            algorithm.run(problem, Network(Topology.ring(2)), max_iter=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"scale": "unit"}, "scale must be 'normalised' or a finite number of at least 0"),
        ({"scale": -1.0}, "scale must be 'normalised' or a finite number of at least 0"),
        ({"distribution": "uniform"}, "distribution must be one of 'gaussian', 'orthogonal'"),
        ({"shared": 2}, "shared must be True or False"),
    ],
)
def test_unfit_parameters(arguments, says):
    with pytest.raises(ValueError, match=says):
        Feedback(**arguments)


def test_ranks_agree_to_the_bit(lockstep):
    rng = np.random.default_rng(5)
    shards = shards_of(rng, (20, 9, 31), 3, 2)

    def program(runtime):
        own = [shards[i] for i in runtime.agents]
        problem = Problem(MLP([3, 8, 2]), SquaredError(), L2(1e-3), own, runtime=runtime)
        network = Network(Topology.ring(3), runtime=runtime)
        angles = Alignment(every=5)
        algorithm = NEXT(FullLinearization(), oracle=Feedback(0))
        result = algorithm.run(problem, network, max_iter=15, callbacks=[angles], warn=False)
        return result.w_bar, angles.history["mean"]

    whole = Problem(MLP([3, 8, 2]), SquaredError(), L2(1e-3), shards)
    angles = Alignment(every=5)
    algorithm = NEXT(FullLinearization(), oracle=Feedback(0))
    alone = algorithm.run(whole, Network(Topology.ring(3)), max_iter=15, callbacks=[angles], warn=False)
    for w_bar, mean in lockstep(3, 2, program):
        assert_array_equal(w_bar, alone.w_bar)
        assert_array_equal(mean, angles.history["mean"])


def test_a_checkpoint_goes_on_with_the_angles(problem, tmp_path):
    network, algorithm = Network(Topology.ring(3)), GradientTracking(0.1, oracle=Feedback(0))
    whole, half, rest = Alignment(every=3), Alignment(every=3), Alignment(every=3)
    result = algorithm.run(problem, network, max_iter=12, callbacks=[whole], warn=False)
    algorithm.run(problem, network, max_iter=6, callbacks=[half, Checkpoint(tmp_path, every=6)], warn=False)
    saved = checkpoint.read(tmp_path, problem.runtime)
    callbacks = [rest, Checkpoint(tmp_path)]
    resumed = algorithm.run(problem, network, max_iter=12, resume=saved, callbacks=callbacks, warn=False)
    for name, column in whole.history.items():
        assert_array_equal(rest.history[name], column)
    for k in (1, 2):  # the newest record is in every row of the run's history, also after a resume
        column = [whole.history["mean"][t // 3, k - 1] for t in result.history["iteration"]]
        assert_array_equal(result.history[f"alignment_{k}"], column)
        assert_array_equal(resumed.history[f"alignment_{k}"], column)


def test_a_run_by_backpropagation_needs_matrices_named(problem):
    network = Network(Topology.ring(3))
    with pytest.raises(ValueError, match=r"Alignment needs feedback=Feedback\(...\), because oracle=Backprop\(\)"):
        NEXT(FullLinearization()).run(problem, network, max_iter=1, callbacks=[Alignment()], warn=False)
    angles = Alignment(feedback=Feedback(0), rows=(problem.x, problem.target))
    NEXT(FullLinearization()).run(problem, network, max_iter=1, callbacks=[angles], warn=False)
    assert angles.history["mean"].shape == (1, 2)
    with pytest.raises(ValueError, match="rows must be None or a pair"):
        Alignment(rows=3)
    with pytest.raises(ValueError, match="feedback must be None or a Feedback"):
        Alignment(feedback=3)


def test_digits_are_learnt_over_a_ring_and_the_angles_fall():
    plt = pytest.importorskip("matplotlib.pyplot")
    x, y = load_digits(return_X_y=True)
    angles = Alignment(every=20)
    algorithm = NEXT(FullLinearization(), oracle=Feedback(0))
    clf = DecentralizedMLPClassifier(
        (32, 32), algorithm=algorithm, n_agents=4, topology="ring", max_iter=120, tol=0, random_state=0,
        callbacks=[angles],
    )  # fmt: skip
    clf.fit(x[:1200], y[:1200])
    assert clf.score(x[1200:], y[1200:]) > 0.85
    first, last = angles.history["mean"][[0, -1]]
    assert np.all(last > first + 0.15)
    plt.switch_backend("agg")
    display = AlignmentDisplay.from_callback(angles)
    assert len(display.lines_) == 2
    assert_allclose(display.lines_[0].get_ydata()[-1], np.degrees(np.arccos(last[0])))
    curve = AlignmentDisplay.from_bottleneck([1, 2, 4], [0.1, 0.2, 0.3], [[0.5, 0.6]] * 3, score_labels=["DFA", "BP"])
    assert len(curve.lines_) == 3
    assert curve.ax_.get_xscale() == "log"
    plt.close("all")
    with pytest.raises(ValueError, match="one without records"):
        AlignmentDisplay.from_callback(Alignment())
    with pytest.raises(ValueError, match="one row for each"):
        AlignmentDisplay([1, 2], [[0.1]])


def test_softmax_and_single_precision(problem):
    rng = np.random.default_rng(6)
    shards = [(rng.standard_normal((40, 3)), np.eye(4)[rng.integers(0, 4, 40)]) for _ in range(2)]
    both = [Problem(MLP([3, 8, 4]), Softmax(), None, shards, dtype=dtype) for dtype in ("float64", "float32")]
    w = rows_of_weights(both[0])
    wide, narrow = (direction(p, Feedback(0), w.astype(p.dtype))[1] for p in both)
    assert_allclose(wide, narrow, rtol=1e-3, atol=1e-5)

"""The tangent term: value and gradient, directions, refusals, and what it is good for on digits."""

import numpy as np
import pytest
from scipy.ndimage import rotate
from scipy.optimize import minimize
from sklearn.datasets import load_digits

from dnnext import kernels
from dnnext.algorithms import NEXT, CentralizedSCA
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.models import MLP, AvgPool2d, Chain, Conv2d, Dense, Flatten
from dnnext.models.model import Rows
from dnnext.network import Network, Topology
from dnnext.problem import (
    L2,
    FeatureDirections,
    ImageRotations,
    ImageShifts,
    Logistic,
    Problem,
    SquaredError,
    Tangents,
)
from dnnext.runs.survival import _moved
from dnnext.runtime import InProcess


class Doubled(SquaredError):
    """A loss without a kernel."""

    kernel = None


NET = Chain([Conv2d(3, 3, activation="tanh"), AvgPool2d(2), Flatten(), Dense(5, "softplus"), Dense()])


def make(model=None, loss=None, tangents=None, weighted=False, dtype="float64", rows=(6, 0, 9)):
    rng = np.random.default_rng(0)
    model = NET.sized((6, 6), 2) if model is None else model
    shape = model.n_inputs if isinstance(model.n_inputs, tuple) else (model.n_inputs,)
    shards = [(rng.standard_normal((n, *shape)), rng.standard_normal((n, 2))) for n in rows]
    if weighted:
        shards = [(x, d, rng.random(len(x))) for x, d in shards]
    return Problem(model, SquaredError() if loss is None else loss, L2(1e-3), shards, tangents=tangents, dtype=dtype)


@pytest.mark.parametrize("loss", [SquaredError(), Doubled()], ids=["kernel", "python"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", [0, 0.5, lambda x: np.stack([x[:, 0, :2], x[:, 1, :2]])])
@pytest.mark.parametrize("compiled", [True, False])
def test_the_term_is_part_of_every_cost(loss, weighted, targets, compiled):
    model = NET.sized((6, 6), 2)
    if not compiled:
        model.table = None
    problem = make(model, loss, Tangents(0.7, ImageShifts(), targets), weighted)
    plain = make(model, loss, None, weighted)
    rng = np.random.default_rng(1)
    w = np.stack([model.init(seed) for seed in range(3)])
    terms = problem.local_values(w) - plain.local_values(w)
    np.testing.assert_allclose(problem.tangent_terms(w), terms, atol=1e-14)
    assert terms[0] > 0 == terms[1]
    h, v = 1e-5, ImageShifts()(problem.x)
    for k in range(2):  # the derivative along v, from two values of the network
        ends = [model.forward(w, problem.rows._replace(x=problem.x + s * v[k])) for s in (h, -h)]
        slope = (ends[0] - ends[1]) / (2 * h) - (0 if problem.beta is None else problem.beta[k])
        c = np.ones(15) if problem.weight is None else problem.weight
        terms = terms - problem.by_agent(0.35 / problem.n_total * c * np.sum(slope**2, axis=1))
    np.testing.assert_allclose(terms, 0, atol=1e-8)
    grad, dw = problem.grad(w), rng.standard_normal(w.shape)
    ends = [problem.local_values(w + s * dw) for s in (h, -h)]
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), np.sum(grad * dw, axis=1), rtol=1e-6, atol=1e-9)
    assert not grad[1].any()


def test_a_multilayer_perceptron_has_tangents():
    model = MLP([4, 5, 2])
    directions = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, -1.0]])
    chain = Chain([Dense(5, "tanh"), Dense(2)], 4)
    w, values = model.init(0), []
    for one in (model, chain):
        problem = make(one, tangents=Tangents(0.3, directions))
        values.append(problem.smooth_value_grad(w))
    assert values[0][0] == values[1][0]
    np.testing.assert_array_equal(values[0][1], values[1][1])
    before = model.fingerprint()
    make(model, tangents=Tangents(0.3, directions)).local_values(w)
    assert model.fingerprint() == before


@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
def test_a_perceptron_of_every_activation_has_the_tangents_of_its_chain(activation):
    found = []
    for one in (MLP([4, 5, 2], activation), Chain([Dense(5, activation), Dense(2)], 4)):
        problem = make(one, tangents=Tangents(0.3, np.ones((1, 4))))
        found.append(problem.smooth_value_grad(MLP([4, 5, 2]).init(0)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-13)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"directions": "x"}, "directions must hold real numbers"),
        ({"directions": [[1.0, 0], [1.0]]}, "directions must hold real numbers, in lists of one length"),
        ({"directions": [[np.nan, 0]]}, "directions must be finite"),
        ({"directions": lambda x: x}, r"directions must return an array of shape \(K, \*\(3, 2\)\), got \(3, 2\)"),
        ({"targets": "x"}, "targets must hold real numbers"),
        ({"targets": np.inf}, "targets must be finite"),
    ],
)
def test_what_is_no_direction_or_target_is_refused(given, sentence):
    tangents = Tangents(**{"mu": 1.0, "directions": [[1.0, 0.0]], "targets": 0} | given)
    x = np.zeros((3, 2))
    with pytest.raises(ValueError, match=sentence):
        tangents.beta(x, (len(tangents.at(x)), 3, 1))


def test_shapes_of_images_are_refused_by_name():
    for shape in (8, (8,), (1, 8), "88", (8.0, 8)):
        with pytest.raises(ValueError, match=r"shape must be None or \(height, width\)"):
            ImageShifts(shape)
    with pytest.raises(ValueError, match="shape must be None for inputs that are images"):
        ImageRotations((4, 4))(np.zeros((3, 4, 4)))


def test_directions():
    x = np.random.default_rng(0).standard_normal((4, 1, 5, 6))
    shifts = ImageShifts()(x)
    assert shifts.shape == (2, 4, 1, 5, 6)
    np.testing.assert_allclose(shifts[0][..., 1:-1, :], (x[..., :-2, :] - x[..., 2:, :]) / 2)
    np.testing.assert_array_equal(ImageShifts((5, 6))(x.reshape(4, 30)), shifts.reshape(2, 4, 30))
    bowl = (((np.arange(9) - 4.0) ** 2)[:, None] + (np.arange(9) - 4.0) ** 2)[None]  # turns into itself
    assert np.abs(ImageRotations()(bowl)[..., 1:-1, 1:-1]).max() < 1e-15
    stripe = np.tile(np.arange(9.0), (9, 1))[None]
    np.testing.assert_allclose(ImageRotations()(stripe)[0, 0, :, 3], -(np.arange(9) - 4) * np.pi / 180)
    assert FeatureDirections([0, 2], 3.0)(np.zeros((2, 3)))[1].tolist() == [[0, 0, 3.0]] * 2
    plain = Tangents(0.1, lambda x: ImageShifts()(x))
    np.testing.assert_array_equal(plain.at(x), shifts)
    assert ImageShifts().times(0.1).fingerprint() == Tangents(0.1, ImageShifts()).fingerprint()
    assert Tangents(0.1, ImageShifts((2, 3))).fingerprint() != Tangents(0.1, ImageShifts((3, 2))).fingerprint()


@pytest.mark.parametrize(
    ("make_it", "sentence"),
    [
        (lambda: Tangents(0.0, ImageShifts()), "mu must be"),
        (lambda: make(tangents=ImageShifts()), "tangents must be an object"),
        (lambda: make(tangents=Tangents(1.0, np.ones((2, 5)))), r"directions must have shape \(K, 6, 6\)"),
        (lambda: make(tangents=Tangents(1.0, lambda x: x)), "directions must return"),
        (lambda: make(tangents=Tangents(1.0, lambda x: np.full((1, *x.shape), np.nan))), "finite"),
        (lambda: make(tangents=Tangents(1.0, ImageShifts(), np.ones((3, 2)))), "targets must be"),
        (lambda: make(MLP([4, 2]), tangents=Tangents(1.0, ImageShifts())), "inputs must be images"),
        (lambda: make(MLP([4, 2]), tangents=Tangents(1.0, ImageShifts((3, 2)))), "shape must be that of images"),
        (lambda: make(MLP([4, 2]), tangents=Tangents(1.0, FeatureDirections([4]))), "columns must be columns"),
    ],
)
def test_refusals(make_it, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_it()


@pytest.mark.parametrize("surrogate", [FullLinearization(), PartialLinearization(solver="cg")])
def test_runs_carry_the_term(surrogate):
    problem = make(tangents=Tangents(0.3, ImageShifts()))
    start = problem.model.init(0)
    result = NEXT(surrogate).run(problem, Network(Topology.ring(3)), w0=start, max_iter=15)
    term, objective = result.history["tangent_term"], result.history["objective"]
    assert objective[-1] < objective[0]
    assert term[-1] == pytest.approx(problem.tangent_terms(result.w_bar).sum(), rel=1e-9)
    assert "tangent_term" not in NEXT(surrogate).run(make(), Network(Topology.ring(3)), w0=start, max_iter=1).history


def test_one_call_is_not_taken_with_a_term():
    directions = Tangents(0.3, np.eye(4)[:1])
    histories = []
    for model in (MLP([4, 5, 2]), Chain([Dense(5, "tanh"), Dense(2)], 4)):
        problem = make(model, tangents=directions)
        run = NEXT(FullLinearization(), tau=2.0).run(problem, Network(Topology.ring(3)), w0=model.init(0), max_iter=5)
        histories.append(run.history["objective"])
    np.testing.assert_allclose(*histories, rtol=1e-12)


def digits(n, mu, seed):
    """(accuracy on the last 797 digits, mean |DF v|^2 there) after L-BFGS on n of the first 1000."""
    x, y = load_digits(return_X_y=True)
    x = x / 16
    own = np.random.default_rng(seed).permutation(1000)[:n]
    shifts = ImageShifts((8, 8))
    tangents = Tangents(mu, shifts) if mu else None
    model = MLP([64, 40, 10])
    problem = Problem(model, SquaredError(), L2(1e-4), [(x[own], np.eye(10)[y[own]])], tangents=tangents)

    def cost(w):
        value, slope = problem.smooth_value_grad(w)
        return value + problem.penalty.value(w), slope + problem.penalty.quadratic * w

    w = minimize(cost, model.init(seed), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    test = problem.rows._replace(x=x[1000:], offsets=np.array([0, 797]))
    moved = model.tangent(w[None], test, shifts(x[1000:]))
    return np.mean(model.forward(w, x[1000:]).argmax(axis=1) == y[1000:]), np.mean(np.sum(moved**2, axis=(0, 2)))


@pytest.mark.parametrize("n", [100, 200])
def test_digits_are_learnt_better_from_few(n):
    """Eight paired seeds: at least a hundredth more are right, and the outputs move at most 1 / 2.5 as much."""
    plain, steady = (np.array([digits(n, mu, seed) for seed in range(8)]).mean(axis=0) for mu in (0, 0.1))
    assert steady[0] - plain[0] >= 0.01
    assert plain[1] >= 2.5 * steady[1]


def turned(x, angle):
    return rotate(x, angle, axes=(2, 1), reshape=False, order=1)


class Motions(ImageShifts):
    """Shifts, and rotations by ten degrees."""

    def __call__(self, x):
        return np.concatenate([super().__call__(x), 10 * ImageRotations()(x)])


def test_agents_whose_images_stand_at_angles_of_their_own_learn_for_all_angles():
    """Agent i sees its 100 digits turned by its own angle; tested is on all angles, three paired seeds."""
    x, y = load_digits(return_X_y=True)
    x, angles, gains = x.reshape(-1, 8, 8) / 16, (-30, -10, 10, 30), []
    model = Chain([Flatten(), Dense(40, "tanh"), Dense()]).sized((8, 8), 10)
    test, labels = np.concatenate([turned(x[1000:], a) for a in angles]), np.tile(y[1000:], 4)
    rows, ring = Rows.of(test), Network(Topology.ring(4))
    for seed in range(3):
        own = np.random.default_rng(seed).permutation(1000)[:400]
        shards = [(turned(x[own[i::4]], a), np.eye(10)[y[own[i::4]]]) for i, a in enumerate(angles)]
        scores = []
        for tangents in (None, Tangents(0.05, Motions())):
            problem = Problem(model, SquaredError(), L2(1e-4), shards, tangents=tangents)
            run = NEXT(FullLinearization()).run(problem, ring, w0=model.init(seed), max_iter=200)
            scores.append(np.mean(model.forward(run.w_bar[None], rows).argmax(axis=1) == labels))
        gains.append(scores[1] - scores[0])
    assert np.mean(gains) >= 0.005
    assert min(gains) > 0


def test_a_loss_of_other_kinds_takes_the_term():
    rng = np.random.default_rng(0)
    shards = [(rng.standard_normal((5, 3)), rng.integers(0, 2, 5)) for _ in range(2)]
    problem = Problem(MLP([3, 4, 1]), Logistic(), None, shards, tangents=Tangents(1.0, FeatureDirections([1])))
    assert (problem.tangent_terms(problem.model.init(0)) > 0).all()


def test_the_problem_of_those_who_survive_has_the_term():
    problem = make(MLP([4, 2]), tangents=Tangents(0.7, FeatureDirections([1])))
    w = problem.model.init(0)
    assert _moved(problem, InProcess(3)).value(w) == problem.value(w) > make(MLP([4, 2])).value(w)


def test_the_pooled_problem_of_the_centralised_method_has_the_term():
    problem = make(MLP([4, 3, 2]), tangents=Tangents(0.7, FeatureDirections([0, 2])), weighted=True)
    run = CentralizedSCA(FullLinearization()).run(problem, Network(Topology.path(3)), max_iter=2, warn=False)
    first = {name: column[0] for name, column in run.history.items()}
    assert first["tangent_term"] > 0
    np.testing.assert_allclose(first["objective"], problem.value(run.problem.model.init(0)), rtol=1e-12)

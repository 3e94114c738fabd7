"""Inner products, Riesz steps and their coordinates."""

import numpy as np
import pytest

from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization
from dnnext.models import Chain, inner_products
from dnnext.models import Dense as Layer
from dnnext.models.inner_products import Dense, Diagonal, Euclidean, InnerProduct, Kronecker
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, Problem, SquaredError

CHAIN = Chain([Layer(4, "tanh"), Layer(2)], 3)


def positive(n, seed=0):
    half = np.random.default_rng(seed).standard_normal((n, n + 2))
    return half @ half.T / n + np.eye(n)


def metrics():
    p = CHAIN.n_params
    factors = {"layer1.weight": (positive(3), positive(4, 1)), "layer2.weight": (positive(4, 2), positive(2, 3))}
    return [Euclidean(), Diagonal(np.linspace(1, 3, p)), Dense(positive(p)), Kronecker(factors)]


@pytest.mark.parametrize("metric", metrics(), ids=lambda m: type(m).__name__)
def test_inner_products(metric):
    metric.bind(CHAIN.layout)
    u, v, c = np.random.default_rng(0).standard_normal((3, 2, CHAIN.n_params))
    np.testing.assert_allclose(metric.inner(metric.riesz(c), v), np.sum(c * v, axis=1), rtol=1e-11)
    np.testing.assert_allclose(metric.inner(u, v), metric.inner(v, u), rtol=1e-12)
    np.testing.assert_allclose(metric.norm(2 * v), 2 * metric.norm(v), rtol=1e-12)
    np.testing.assert_allclose(np.sum(metric.coroot(c) * metric.root(v), axis=1), np.sum(c * v, axis=1), rtol=1e-11)
    np.testing.assert_allclose(np.linalg.norm(metric.coroot(c), axis=1), metric.norm(metric.riesz(c)), rtol=1e-11)
    single = metric.riesz(c.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, metric.riesz(c), rtol=1e-4, atol=1e-5)


def test_every_inner_product_is_tested():
    names = {type(metric).__name__ for metric in metrics()}
    assert names == {name for name in inner_products.__all__ if getattr(inner_products, name) is not InnerProduct}


def test_a_kronecker_product_is_the_dense_one():
    left, right = positive(3), positive(4, 1)
    metric = Kronecker({"layer1.weight": (left, right)})
    metric.bind(CHAIN.layout)
    whole = np.eye(CHAIN.n_params)
    whole[:12, :12] = np.kron(left, right)
    c = np.random.default_rng(0).standard_normal((2, CHAIN.n_params))
    np.testing.assert_allclose(metric.riesz(c), Dense(whole).riesz(c), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(metric.norm(c), Dense(whole).norm(c), rtol=1e-12)


class Turned:
    """The chain in other coordinates: f(phi; x) = F(C phi; x)."""

    def __init__(self, chain, c):
        self.chain, self.c = chain, c
        self.layout, self.n_inputs, self.n_outputs = chain.layout, chain.n_inputs, chain.n_outputs
        self.offers = frozenset()

    def _w(self, phi):
        return np.ascontiguousarray(phi @ self.c.T)

    def sized(self, n_inputs, n_outputs):
        return self

    def init(self, random_state=None):
        return np.linalg.solve(self.c, self.chain.init(random_state))

    def forward(self, w, rows, out=None):
        return self.chain.forward(self._w(w), rows, out)

    def jvp(self, w, rows, v, out=None):
        return self.chain.jvp(self._w(w), rows, self._w(v), out)

    def vjp(self, w, rows, u, out=None):
        found = self.chain.vjp(self._w(w), rows, u) @ self.c
        if out is None:
            return found
        out[...] = found
        return out

    def fingerprint(self):
        return "turned"


def make(model, penalty=None):
    rng = np.random.default_rng(0)
    shards = [(rng.standard_normal((8, 3)), rng.standard_normal((8, 2))) for _ in range(3)]
    return Problem(model, SquaredError(), penalty, shards)


@pytest.mark.parametrize("tau", [3.0, "auto"])
def test_descent_does_not_depend_on_coordinates(tau):
    """Under w = C phi with G = (C C')^-1, twenty iterations over a ring are those of the Euclidean metric in phi.

    With tau="auto" so is the rule that chooses it, started from one tau by scaling its unit.
    """
    c = np.eye(CHAIN.n_params) + 0.05 * np.random.default_rng(1).standard_normal((CHAIN.n_params,) * 2)
    metric = Dense(np.linalg.inv(c @ c.T))
    ring = Network(Topology.ring(3))
    turned = Turned(CHAIN, c)
    runs = []
    for model, surrogate in ((turned, FullLinearization()), (CHAIN, FullLinearization(metric=metric))):
        if tau == "auto":
            surrogate.scale = lambda problem, w: 0.5
        run = NEXT(surrogate, tau=tau).run(make(model), ring, w0=model.init(0), max_iter=20)
        runs.append(run)
    np.testing.assert_allclose(runs[1].w, runs[0].w @ c.T, rtol=0, atol=1e-12 * np.abs(runs[1].w).max())
    np.testing.assert_allclose(runs[1].history["objective"], runs[0].history["objective"], rtol=1e-12)


def test_only_weights_and_covectors_can_be_mixed():
    """With a metric of its own at every agent NEXT finds the minimiser; tracking Riesz gradients stops elsewhere."""
    model = Chain([Layer(2)], 3)
    problem, ring = make(model, L2(0.05)), Network(Topology.ring(3))
    weights = np.exp(np.random.default_rng(3).standard_normal((3, model.n_params)))

    class Mixed(Diagonal):
        """What is wrong: gradients are made directions before they are mixed."""

        def riesz(self, covector):
            return covector

    right = NEXT(FullLinearization(metric=Diagonal(weights)), tau=8.0)
    run = right.run(problem, ring, w0=model.init(0), max_iter=1500, tol=0)
    assert run.history["stationarity"][-1] < 1e-8

    class Riesz(type(problem)):
        def loss_grad(self, w, out):
            value = super().loss_grad(w, out)
            out += self.penalty.quadratic * w / self.n_agents
            out /= weights
            out -= self.penalty.quadratic * w / self.n_agents
            return value

    wrong_problem = Riesz(model, SquaredError(), L2(0.05), [(problem.x[i::3], problem.target[i::3]) for i in range(3)])
    assert len(wrong_problem.x) == len(problem.x)
    wrong = NEXT(FullLinearization(metric=Mixed(weights)), tau=8.0)
    stuck = wrong.run(wrong_problem, ring, w0=model.init(0), max_iter=1500, tol=0)
    honest = make(model, L2(0.05))
    slope = honest.smooth_value_grad(stuck.w_bar)[1] + honest.penalty.quadratic * stuck.w_bar
    assert np.linalg.norm(slope) > 1e-3


def test_the_rule_for_tau_works_in_the_metric():
    problem, p = make(CHAIN, L2(1e-3)), CHAIN.n_params
    badly = np.exp(np.linspace(-3, 3, p))
    run = NEXT(FullLinearization(metric=Diagonal(badly))).run(
        problem, Network(Topology.ring(3)), w0=CHAIN.init(0), max_iter=200
    )
    assert run.history["objective"][-1] < 0.7 * run.history["objective"][0]
    assert run.status != "diverged"


@pytest.mark.parametrize(
    ("make_it", "sentence"),
    [
        (lambda: FullLinearization(metric=np.eye(3)), "metric must be an object"),
        (lambda: Diagonal([1.0, 0.0]), "weights must be finite numbers above 0"),
        (lambda: Dense([[1.0, 2.0], [2.0, 1.0]]), "matrix must be a symmetric positive definite"),
        (lambda: Dense([[1.0, 0.5], [0.0, 1.0]]), "matrix must be a symmetric positive definite"),
        (lambda: Diagonal([1.0]).bind(CHAIN.layout), r"weights must have shape \(P,\)"),
        (lambda: Dense([[1.0]]).bind(CHAIN.layout), "matrix must have 26 rows"),
        (lambda: Kronecker({"layer1.weight": (np.eye(3), np.eye(3))}).bind(CHAIN.layout), "factors must fit the parts"),
        (lambda: Kronecker({"layer9": (np.eye(3), np.eye(3))}).bind(CHAIN.layout), "factors must fit the parts"),
        (lambda: Kronecker([np.eye(3)]), "factors must be a dict"),
        (lambda: Kronecker({"layer1.weight": 1.0}), "factors must be a dict"),
        (lambda: Kronecker({}).riesz(np.ones((1, 2))), "bind"),
        (
            lambda: NEXT(FullLinearization(metric=Euclidean())).run(
                make(CHAIN, L1(0.1)), Network(Topology.ring(3)), max_iter=1
            ),
            r"penalty must be a sum of squares of single weights \(L2\)",
        ),
    ],
)
def test_refusals(make_it, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_it()

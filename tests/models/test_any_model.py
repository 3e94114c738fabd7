"""A model of NumPy alone, without kernels, trains as the built-in one does."""

from itertools import product

import numpy as np
import pytest

from dnnext import _params
from dnnext.algorithms import NEXT
from dnnext.local import FullLinearization, PartialLinearization
from dnnext.models import Layout
from dnnext.network import Network, Topology
from dnnext.problem import L1, L2, MLP, GroupLasso, Logistic, Problem, Softmax, SquaredError

AGENTS = 5


class Bilinear:
    """``f(w; X) = a' X B + c`` of images X (H, W): a (H,), B (W, Q), c (Q,); rows of x are images."""

    offers = frozenset()

    def __init__(self, shape=(3, 4), n_outputs=2):
        self.n_inputs, self.n_outputs = shape, n_outputs
        left = [("left", (shape[0], 1), True, 0)]
        right = [("right", (shape[1], n_outputs), True, 0), ("bias", (n_outputs,), False, None)]
        self.layout = Layout([left, right])

    def sized(self, n_inputs, n_outputs):
        return Bilinear(n_inputs, n_outputs)

    def init(self, random_state=None):
        return 0.5 * np.random.default_rng(random_state).normal(size=self.layout.n_params)

    def _agents(self, w, rows):
        for i, (start, stop) in enumerate(zip(rows.offsets[:-1], rows.offsets[1:], strict=True)):
            parts = self.layout.unpack(w[i if len(w) > 1 else 0])
            yield i, slice(start, stop), rows.x[start:stop], parts["left"][:, 0], parts["right"], parts["bias"]

    def forward(self, w, rows, out=None):
        out = np.empty((len(rows.x), self.n_outputs), rows.x.dtype) if out is None else out
        for _, own, x, left, right, bias in self._agents(w, rows):
            out[own] = np.einsum("mhw,h,wq->mq", x, left, right) + bias
        return out

    def jvp(self, w, rows, v, out=None):
        out = np.empty((len(rows.x), self.n_outputs), rows.x.dtype) if out is None else out
        for i, own, x, left, right, _ in self._agents(w, rows):
            d = self.layout.unpack(v[i])
            out[own] = np.einsum("mhw,h,wq->mq", x, d["left"][:, 0], right) + d["bias"]
            out[own] += np.einsum("mhw,h,wq->mq", x, left, d["right"])
        return out

    def vjp(self, w, rows, u, out=None):
        out = np.empty((rows.n_agents, self.layout.n_params), rows.x.dtype) if out is None else out
        for i, own, x, left, right, _ in self._agents(w, rows):
            d = self.layout.unpack(out[i])
            d["left"][:, 0] = np.einsum("mhw,wq,mq->h", x, right, u[own])
            d["right"][:] = np.einsum("mhw,h,mq->wq", x, left, u[own])
            d["bias"][:] = u[own].sum(axis=0)
        return out

    def fingerprint(self):
        return f"Bilinear({_params.fingerprint((self.n_inputs, self.n_outputs))})"

    def __repr__(self):
        return f"Bilinear({self.n_inputs}, {self.n_outputs})"


def shards(n_agents=AGENTS, seed=0):
    rng = np.random.default_rng(seed)
    truth = Bilinear().init(1)
    made = []
    for i in range(n_agents):
        x = rng.normal(size=(0 if i == 2 else 6 + i, 3, 4))  # agent 2 is a relay
        d = np.einsum("mhw,h,wq->mq", x, truth[:3], truth[3:11].reshape(4, 2)) + 0.1 * rng.normal(size=(len(x), 2))
        made.append((x, d))
    return made


def train(problem, surrogate, max_iter=40):
    network = Network(Topology.ring(AGENTS), runtime=problem.runtime)
    return NEXT(surrogate).run(problem, network, max_iter=max_iter, random_state=3)


SURROGATES = [FullLinearization(), PartialLinearization(), PartialLinearization(n_blocks=2)]


@pytest.mark.parametrize(
    ("surrogate", "penalty"), list(product(SURROGATES, [L2(1e-3), L1(1e-3), GroupLasso(1e-3)])), ids=repr
)
def test_it_trains_alike_in_one_process_and_on_ranks(lockstep, surrogate, penalty):
    data = shards()

    def on(runtime, rows):
        problem = Problem(Bilinear(), SquaredError(), penalty, rows, runtime=runtime)
        return train(problem, surrogate)

    whole = on(None, data)
    values = whole.history["objective"]
    assert values[-1] < 0.2 * values[0]
    parts = lockstep(AGENTS, 2, lambda runtime: on(runtime, [data[i] for i in runtime.agents]))
    np.testing.assert_array_equal(np.concatenate([part.w for part in parts]), whole.w)


@pytest.mark.parametrize("loss", [Logistic(), Softmax()], ids=repr)
def test_it_takes_every_loss(loss):
    rng = np.random.default_rng(0)
    data = [(x, np.eye(2)[rng.integers(0, 2, len(x))]) for x, _ in shards()]
    problem = Problem(Bilinear(), loss, L2(1e-2), data)
    values = train(problem, PartialLinearization()).history["objective"]
    assert values[-1] < values[0]
    w = problem.model.init(0)
    h, v = 1e-6, rng.normal(size=w.shape)
    slope = (problem.smooth_value_grad(w + h * v)[0] - problem.smooth_value_grad(w - h * v)[0]) / (2 * h)
    assert problem.smooth_value_grad(w)[1] @ v == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("loss", [SquaredError(), Softmax()], ids=repr)
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_products_by_passes_are_those_of_the_kernels(loss, n_blocks):
    class Plain(MLP):
        offers = frozenset()

    rng = np.random.default_rng(0)
    data = [(rng.normal(size=(m, 3)), np.eye(2)[rng.integers(0, 2, m)]) for m in (4, 0, 7)]
    ours, plain = (Problem(kind([3, 4, 2]), loss, None, data) for kind in (MLP, Plain))
    w = np.stack([ours.model.init(k) for k in range(3)])
    v, root = rng.normal(size=w.shape), ours.root(w)
    blocks = np.linspace(0, ours.n_params, n_blocks + 1).astype(np.int64)
    np.testing.assert_allclose(plain.grad(w), ours.grad(w), atol=1e-14)
    wanted = ours.gauss_newton_product(w, root, v, blocks)
    np.testing.assert_allclose(plain.gauss_newton_product(w, root, v, blocks), wanted, atol=1e-13)
    trace = ours.gauss_newton_trace(w, root)
    np.testing.assert_allclose(plain.gauss_newton_trace(w, root), trace, rtol=0.3)
    assert trace[1] == plain.gauss_newton_trace(w, root)[1] == 0


@pytest.mark.parametrize(("solver", "words"), [("primal", "form Gauss-Newton"), ("dual", "solve in the space")])
def test_what_a_model_lacks_is_refused_by_name(solver, words):
    problem = Problem(Bilinear(), SquaredError(), L2(1e-3), shards())
    with pytest.raises(ValueError, match=rf"model must {words}.*'{solver}'.* needs that, got Bilinear\("):
        train(problem, PartialLinearization(solver=solver))


def test_models_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"model must be an object with layout, .* got 3 without layout"):
        Problem(3, SquaredError(), None, shards())
    with pytest.raises(ValueError, match=r"has open ends: .* sized"):
        Problem(MLP([None, 3, 1]), SquaredError(), None, shards())
    with pytest.raises(ValueError, match=r"X of agent 0 must have shape \(rows, 3, 4\), the rows of Bilinear"):
        Problem(Bilinear(), SquaredError(), None, [(np.ones((2, 3)), np.ones((2, 2)))])
    assert MLP([None, 3, None]).sized(2, 1) == MLP([2, 3, 1])
    with pytest.raises(ValueError, match="n_inputs must be 4 for"):
        MLP([4, 3, None]).sized(2, 1)

import numpy as np
import pytest

from dnnext._params import fingerprint
from dnnext.problem import L2, MLP, ElasticNet, Logistic, NoPenalty, Problem, Softmax, SquaredError, SquaredHinge

X, D = np.ones((4, 3)), np.ones((4, 2))
NAN, INF = np.where(np.eye(4, 3), np.nan, 1.0), np.where(np.eye(4, 2), np.inf, 1.0)
C = np.ones(4)


@pytest.mark.parametrize(
    ("shard", "sentence"),
    [
        ((NAN, D), r"X of agent 1 must be finite in float64, got nan at \(0, 0\)"),
        ((X, INF), r"the targets of agent 1 must be finite in float64, got inf"),
        ((X[0], D), r"X of agent 1 must have shape \(rows, 3\), one column per input of MLP.*got \(3,\)"),
        ((X[:, :2], D), r"X of agent 1 must have shape \(rows, 3\).*got \(4, 2\)"),
        ((X, D[:3]), r"the targets of agent 1 must have shape \(4, 2\), one row per row of X, got \(3, 2\)"),
        ((X, D[:, 0]), r"the targets of agent 1 must have shape \(4, 2\).*got \(4,\)"),
        ((X, D, -C), r"the sample weights of agent 1 must be >= 0, got -1"),
        ((X, D, C[:3]), r"the sample weights of agent 1 must have shape \(4,\), got \(3,\)"),
        ((X, D, C * np.nan), r"the sample weights of agent 1 must be finite"),
        ((X.astype(str), D), r"X of agent 1 must be an array of real numbers"),
        ((X * 1j, D), r"X of agent 1 must be an array of real numbers"),
        (([[1, 2, 3], [1]], D), r"X of agent 1 must be an array of real numbers, got list"),
        ((X, [object()] * 4), r"the targets of agent 1 must be an array of real numbers, got list"),
        ((X,), r"the shard of agent 1 must be a pair .* got tuple of length 1"),
        (X, r"the shard of agent 1 must be a pair .* got ndarray"),
    ],
)
def test_bad_shards_are_refused(shard, sentence):
    with pytest.raises(ValueError, match=sentence):
        Problem(MLP([3, 2]), SquaredError(), None, [(X, D), shard])


@pytest.mark.parametrize(
    ("loss", "q", "target", "sentence"),
    [
        (Logistic(), 1, [0, 1, 2, 1], "agent 0 do not fit: the logistic loss takes targets 0 and 1, got 2"),
        (SquaredHinge(), 1, [-1, 1, 0, 1], "agent 0 do not fit: the squared_hinge loss takes targets -1 and 1, got 0"),
        (Softmax(), 2, D, "agent 0 do not fit: the softmax loss takes one-hot rows that add up to 1, row 0 is"),
        (Softmax(), 1, C, "agent 0 do not fit: the softmax loss needs at least 2 outputs, got 1"),
    ],
)
def test_targets_that_do_not_fit_the_loss_are_refused(loss, q, target, sentence):
    with pytest.raises(ValueError, match=sentence):
        Problem(MLP([3, q]), loss, None, [(X, target)])


def test_bad_arguments_are_refused():
    model, loss, shards = MLP([3, 2]), SquaredError(), [(X, D)]
    for options, sentence in (
        ({"dtype": "float16"}, "dtype must be 'float64' or 'float32', got 'float16'"),
        ({"dtype": "wide"}, "dtype must be 'float64' or 'float32', got 'wide'"),
        ({"n_threads": 0}, "n_threads must be a whole number of at least 1, got 0"),
        ({"n_total": -1}, "n_total must be a finite number above 0, got -1"),
        ({"n_total": "many"}, "n_total must be a finite number above 0, got 'many'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Problem(model, loss, None, shards, **options)
    with pytest.raises(ValueError, match=r"loss must be an object of dnnext\.problem\.Loss, got 'squared_error'"):
        Problem(model, "squared_error", None, shards)
    with pytest.raises(ValueError, match=r"penalty must be an object of dnnext\.problem\.Penalty, got 'l2'"):
        Problem(model, loss, "l2", shards)
    with pytest.raises(ValueError, match=r"model must be an object with layout, .* got \[3, 2\]"):
        Problem([3, 2], loss, None, shards)
    with pytest.raises(ValueError, match="alpha of L2"):
        Problem(model, loss, L2(-1.0), shards)
    with pytest.raises(ValueError, match="l1_ratio of ElasticNet"):
        Problem(model, loss, ElasticNet(l1_ratio=2), shards)
    with pytest.raises(ValueError, match="sum of the sample weights of all agents must be a finite number above 0"):
        Problem(model, loss, None, [(X, D, 0 * C), (X[:0], D[:0])])
    problem = Problem(model, loss, None, [(X, D)] * 2)
    for w in (np.zeros(7), np.zeros((3, 8)), np.zeros((1, 1, 8))):
        with pytest.raises(ValueError, match=r"w must have shape \(2, 8\), one row per agent, or \(8,\), got"):
            problem.grad(w)
    with pytest.raises(ValueError, match="agents must be a slice of step 1"):
        problem.gauss_newton(np.zeros(8), problem.root(np.zeros(8)), agents=slice(None, None, -1))


def test_empty_targets_of_a_relay_may_have_any_shape():
    for empty in (np.empty(0), np.empty((0, 2)), []):
        problem = Problem(MLP([3, 2]), SquaredError(), None, [(X, D), (np.empty((0, 3)), empty)])
        assert problem.offsets.tolist() == [0, 4, 4]


def test_a_loss_with_its_own_number_of_outputs():
    class Pair(SquaredError):
        n_outputs = 2

    assert Problem(MLP([3, 2]), Pair(), None, [(X, D)]).n_samples == 4
    with pytest.raises(ValueError, match=r"Pair\(\) takes 2 outputs, but MLP\(\[3, 1\]"):
        Problem(MLP([3, 1]), Pair(), None, [(X, C)])


def on_two_ranks(lockstep, shards):
    """The problem of three agents on ranks that hold the first two and the last, and what they compared."""

    def on(runtime):
        compared, agree = [], runtime.agree
        runtime.agree = lambda name, value: (compared.append((name, value)), agree(name, value))
        own = [shards[i] for i in runtime.agents]
        return Problem(MLP([3, 2]), SquaredError(), None, own, runtime=runtime), compared

    return lockstep(3, 2, on, [0, 2, 3])


@pytest.mark.parametrize(("agent", "rank"), [(1, 0), (2, 1)])
def test_an_unfit_shard_is_refused_on_every_rank(lockstep, agent, rank):
    shards = [(X, D)] * 3
    shards[agent] = (NAN, D)
    with pytest.raises(ValueError, match=f"rank {rank}: X of agent {agent} must be finite"):
        on_two_ranks(lockstep, shards)


def test_a_part_of_the_agents_is_held_here(lockstep):
    for (problem, compared), held in zip(on_two_ranks(lockstep, [(X, D)] * 3), (2, 1), strict=True):
        assert (problem.n_local, problem.n_agents, problem.n_total) == (held, 3, 12)
        [(what, values)] = compared
        assert what == "the problem (model, loss, penalty, dtype, n_total, tangents)"
        parts = MLP([3, 2]), SquaredError(), NoPenalty()
        assert values == (*(part.fingerprint() for part in parts), "float64", 12.0, fingerprint(None))

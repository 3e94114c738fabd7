"""curvature="auto": what is chosen, why, alike on every rank, and said where the user looks."""

import re
from pathlib import Path

import numpy as np
import pytest

from dnnext import DecentralizedMLPRegressor
from dnnext.algorithms import NEXT, CentralizedSCA, Newton
from dnnext.local import PartialLinearization, sharing
from dnnext.local.sharing import EXACT_PARAMS, HEAVY, choose_curvature
from dnnext.network import Faults, KnownLoss, Network, Schedule, Topology
from dnnext.problem import L2, MLP, Huber, Problem, SquaredError
from dnnext.problem.synthetic import input_kind

RING = Topology.ring(4)
FIXED, TURNS = Network(RING), Network(Schedule.alternating(Topology.complete(4), 2))


def inputs(kind, n=240, d=3):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d))
    return {"near": x, "heavy": x * rng.standard_t(2, (n, 1)), "binary": (x > 0.4) * 1.0}[kind]


def make_problem(kind="near", hidden=4, loss=None, runtime=None, n_agents=4):
    x = inputs(kind)
    parts = [(x[i::n_agents], np.sin(x[i::n_agents, 0])) for i in range(n_agents)]
    mine = range(n_agents) if runtime is None else runtime.agents
    loss = SquaredError() if loss is None else loss
    return Problem(MLP([3, hidden, 1]), loss, L2(alpha=1e-2), [parts[i] for i in mine], runtime=runtime)


LOSSY = KnownLoss(RING, Faults(loss=0.1, random_state=0))


@pytest.mark.parametrize(
    ("problem", "network", "share", "wanted", "why"),
    [
        ({}, FIXED, "curvature", "exact", "21 weights, and a fixed graph"),
        ({"kind": "binary"}, FIXED, "curvature", "exact", "fixed graph"),
        ({"loss": Huber()}, FIXED, "curvature", "exact", "fixed graph"),
        ({}, TURNS, "curvature", "shared", "a graph that changes"),
        ({"hidden": 100}, FIXED, "curvature", "shared", "501 weights"),
        ({}, FIXED, "moments", "shared", "share='moments'"),
        ({"kind": "heavy"}, FIXED, "moments", "own", "heavy tails"),
        ({"kind": "binary"}, TURNS, "moments", "own", "100 % of the inputs have two values"),
        ({"loss": Huber()}, TURNS, "moments", "own", "depends on the targets"),
        ({}, FIXED, "nothing", "own", "share='nothing'"),
        ({}, LOSSY, "curvature", "own", "on KnownLoss no iteration can be taken back"),
        ({"n_agents": 1}, Network(Topology.complete(1)), "curvature", "own", "one agent"),
    ],
)
def test_what_is_chosen_and_why(problem, network, share, wanted, why):
    choice = choose_curvature(make_problem(**problem), network, share)
    assert choice.curvature == wanted
    assert why in choice.why
    assert EXACT_PARAMS < 501


def test_the_kind_of_inputs_is_that_of_the_pooled_rows():
    for kind in ("near", "heavy", "binary"):
        x = inputs(kind)
        found = input_kind(make_problem(kind))
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        assert found.kurtosis == pytest.approx(np.median(np.mean(z**4, axis=0)))
        assert found.binary == (kind == "binary")
    constant = Problem(MLP([1, 1]), SquaredError(), None, [(np.ones((3, 1)), np.ones(3))])
    assert input_kind(constant) == (0.0, 3.0)
    large = Problem(MLP([1, 1]), SquaredError(), None, [(1e100 * np.arange(9.0)[:, None], np.ones(9))])
    assert not input_kind(large).kurtosis < HEAVY  # a fourth power overflows: nothing is known, so own curvature


@pytest.mark.parametrize(("share", "same"), [("curvature", "exact"), ("moments", "shared"), ("nothing", "own")])
def test_a_run_is_that_of_the_recipe_chosen(share, same, lockstep):
    def run(curvature, runtime=None, tau="auto"):
        recipe = NEXT(PartialLinearization(curvature=curvature, share=share), tau=tau)
        network = Network(RING, runtime=runtime)
        return recipe.run(make_problem(runtime=runtime), network, max_iter=8, warn=False)

    chosen, plain = run("auto"), run(same, tau="ratio" if same == "shared" else "auto")
    np.testing.assert_array_equal(chosen.w, plain.w)
    assert chosen.network.contract_to == plain.network.contract_to
    assert set(chosen.history["curvature"]) == {("own", "shared", "exact").index(same)}
    assert "curvature" not in plain.history
    for part in lockstep(4, 2, lambda runtime: run("auto", runtime)):
        np.testing.assert_array_equal(part.w_bar, chosen.w_bar)
        np.testing.assert_array_equal(part.history["curvature"], chosen.history["curvature"])


def test_what_the_user_asked_for_stands():
    problem = make_problem()
    auto = PartialLinearization(curvature="auto")
    assert NEXT(auto, tau=0.3).chosen(problem, FIXED).tau == 0.3
    assert NEXT(auto, order="post").chosen(problem, FIXED).surrogate.curvature == "own"
    for options in ({"n_blocks": 2}, {"solver": "dual"}, {"exact": True}, {"kappa": 2.0}):
        recipe = NEXT(PartialLinearization(curvature="auto", **options)).chosen(problem, FIXED)
        assert recipe.surrogate == PartialLinearization(**options) or recipe.surrogate.curvature == "own"
    plain = NEXT()
    assert plain.chosen(problem, FIXED) is plain
    lm = CentralizedSCA(auto, damping="lm").run(problem, FIXED, max_iter=3, warn=False)
    same = CentralizedSCA(damping="lm").run(problem, FIXED, max_iter=3, warn=False)
    np.testing.assert_array_equal(lm.w, same.w)
    with pytest.raises(ValueError, match="share must be one of"):
        PartialLinearization(curvature="auto", share="all")
    for curvature, share in (("exact", "moments"), ("exact", "nothing"), ("shared", "nothing")):
        with pytest.raises(ValueError, match=f"share must allow what curvature='{curvature}' sends"):
            PartialLinearization(curvature=curvature, share=share)
    for curvature in ("exact", "shared"):
        with pytest.raises(ValueError, match="kappa must be 'auto' with curvature="):
            PartialLinearization(curvature=curvature, kappa=2.0)


def test_what_would_have_no_effect_is_refused_or_leads_to_own_curvature():
    problem = make_problem()
    for curvature in ("own", "exact"):
        with pytest.raises(ValueError, match=r"quasi_newton corrects curvature='shared', .* got 7: leave it out"):
            PartialLinearization(curvature=curvature, quasi_newton=7)
    with pytest.raises(ValueError, match="inner_iter must be None with curvature='exact' and a quadratic penalty"):
        NEXT(PartialLinearization(curvature="exact", inner_iter=3)).run(problem, FIXED, max_iter=2)
    steps = NEXT(PartialLinearization(curvature="auto", inner_iter=3)).chosen(problem, FIXED)
    assert (steps.surrogate.curvature, steps.surrogate.inner_iter) == ("own", 3)
    assert "inner_iter asks for a solver that iterates" in steps.why
    pairs = PartialLinearization(curvature="auto", quasi_newton=7)
    assert NEXT(pairs).chosen(problem, TURNS).surrogate.quasi_newton == 7
    assert repr(NEXT(pairs).chosen(problem, FIXED).surrogate) == "PartialLinearization(curvature='exact')"


def test_matrices_that_fill_the_memory_of_one_process_are_not_chosen(monkeypatch):
    problem = make_problem()
    monkeypatch.setattr(sharing, "MOST_BYTES", 8.0 * 4 * 3**2)  # 4 agents, 3 inputs
    assert choose_curvature(problem, FIXED, "curvature").curvature == "shared"
    monkeypatch.setattr(sharing, "MOST_BYTES", 8.0 * 4 * 3**2 - 1)
    assert "too many for their covariance at 4 agents" in choose_curvature(problem, FIXED, "curvature").why


@pytest.mark.parametrize("tau", ["ratio", "signed", "nielsen"])
def test_a_rule_for_models_that_agree_gives_way_to_own_curvature(tau):
    problem = make_problem()
    for share, wanted in (("nothing", "auto"), ("moments", tau), ("curvature", tau)):
        recipe = NEXT(PartialLinearization(curvature="auto", share=share), tau=tau).chosen(problem, FIXED)
        assert recipe.tau == wanted
        assert ("needs models that agree" in recipe.why) == (wanted == "auto")
        assert len(recipe.run(problem, FIXED, max_iter=2, warn=False).history["tau"]) == 3


PAGE = Path(__file__).parents[2] / "docs" / "planes.rst"
RECIPES = {
    "own": NEXT(PartialLinearization(curvature="auto", share="nothing")),
    "shared": NEXT(PartialLinearization(curvature="auto", share="moments")),
    "exact": NEXT(PartialLinearization(curvature="auto")),
    "newton": Newton(),
}


@pytest.mark.skipif(not PAGE.exists(), reason="the pages are not part of this copy")
@pytest.mark.parametrize("name", RECIPES)
def test_the_counts_on_the_page_of_what_is_sent(name, monkeypatch):
    """The example of docs/planes.rst: bytes per iteration, and sums over agents that hold more than it may send."""
    row = re.search(rf'^"{name}" .*$', PAGE.read_text("utf-8").partition("For example d = 10")[2], re.MULTILINE).group()
    numbers = [int(n) for n in re.findall(r"(?<= )\d+(?=  |$)|(?<== )\d+", row)]
    rng, n, d, p = np.random.default_rng(0), 10, 10, 121
    x = rng.standard_normal((200, d))
    shards = [(x[i::n], np.sin(x[i::n, 0])) for i in range(n)]
    problem, network = Problem(MLP([d, 10, 1]), SquaredError(), L2(alpha=1e-2), shards), Network(Topology.ring(n))
    gathered, all_agents = [], problem.runtime.all_agents
    monkeypatch.setattr(
        problem.runtime, "all_agents", lambda rows: gathered.append(np.asarray(rows)[0].size) or all_agents(rows)
    )
    history = RECIPES[name].run(problem, network, max_iter=4, warn=False).history
    assert set(np.diff(history["bytes"])[1:]) == {numbers[2]}
    rounds, tree = (0, 1) if name == "newton" else ({"own": 4}.get(name, 9), name == "exact")
    assert numbers[0] == {"own": 2 * p + 1, "newton": 0}.get(name, 2 * p + 2)
    assert numbers[1] == (p * p + p) // 2 * tree + (1 + p) * (name == "newton")
    width = 4 if name == "exact" else 8
    assert numbers[2] == 20 * rounds * numbers[0] * 8 + 2 * (n - 1) * numbers[1] * width
    once = {"shared": [d + 1, 3 * d, 1, d, d * d]}.get(name, [])  # how the inputs are, then their moments
    assert gathered[: len(once)] == once
    assert numbers[3] == sum(once[3:])
    assert max(gathered[len(once) :]) <= 2 * p + 5  # nothing of the size of a matrix goes to all


def test_an_estimator_says_what_was_chosen(capsys):
    x = inputs("near")
    options = {"n_agents": 4, "max_iter": 3, "tol": 0.0, "verbose": 1, "random_state": 0}
    reg = DecentralizedMLPRegressor((4,), **options).fit(x, np.sin(x[:, 0]))
    said = capsys.readouterr()
    assert "curvature='auto' is 'exact': 21 weights, and a fixed graph." in said.out + said.err
    assert set(reg.history_["curvature"]) == {2.0}
    reg.partial_fit(x, np.sin(x[:, 0]))
    assert np.isfinite(reg.history_["objective"]).all()

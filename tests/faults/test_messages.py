"""A neighbour that sends garbage is refused by name, on every rank, and nobody's numbers change."""

import numpy as np
import pytest

from dnnext.algorithms import NEXT
from dnnext.network import Network, Topology
from dnnext.problem import L2, MLP, Problem, SquaredError
from dnnext.runtime import BadMessage

A, ROUNDS = 6, 3
GARBAGE = {
    "nan": lambda row: row.fill(np.nan),
    "one infinity": lambda row: row.__setitem__(-1, np.inf),
    "wild": lambda row: row.__imul__(1e30),
    "flipped exponent": lambda row: row.view(np.uint64).__ixor__(np.uint64(1 << 62)),
}


def shards(agents):
    return [(np.random.default_rng([1, i]).standard_normal((6, 2)), np.random.default_rng([2, i]).standard_normal(6))
            for i in agents]  # fmt: skip


def spoil(runtime, agent, at, garbage, place=0):
    """From round `at` on, what this rank hears of `agent` is garbage, once."""
    honest, count = runtime.exchange, [0]

    def exchange(rows, plan):
        honest(rows, plan)
        if count[0] == at and agent in plan.ghosts:
            garbage(rows[place][plan.n_local + int(np.searchsorted(plan.ghosts, agent))])
        count[0] += 1

    runtime.exchange = exchange


def run(runtime, states, **options):
    problem = Problem(MLP([2, 3, 1]), SquaredError(), L2(1e-2), shards(runtime.agents), runtime=runtime)
    network = Network(Topology.ring(A), mixing_rounds=ROUNDS, runtime=runtime)

    def keep(state, metrics):
        states[runtime.rank] = state, {name: getattr(state, name).copy() for name in ("w", "y", "grad")}

    return NEXT(**options).run(problem, network, max_iter=20, warn=False, callbacks=[keep])


@pytest.mark.parametrize("place", [0, 1], ids=["z", "y"])
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_refused_on_every_rank(lockstep, garbage, place):
    states, said = {}, {}
    sender, at = 2, 7 * ROUNDS + 1

    def program(runtime):
        if runtime.rank == 1:  # hears agent 2 of rank 0
            spoil(runtime, sender, at, GARBAGE[garbage], place)
        with pytest.raises(BadMessage) as caught:
            run(runtime, states)
        said[runtime.rank] = caught.value

    lockstep(A, 2, program)
    assert {str(error) for error in said.values()} == {str(said[0])}
    assert f"agent {sender} sent agent 3" in str(said[0])
    assert f"in round {at}" in str(said[0])
    assert all((error.agent, error.round) == (sender, at) for error in said.values())
    for state, before in states.values():
        for name, rows in before.items():
            np.testing.assert_array_equal(getattr(state, name), rows, err_msg=name)


def test_scalars_that_are_no_numbers(lockstep):
    def program(runtime):
        if runtime.rank == 1:
            spoil(runtime, 2, 4, lambda row: row.fill(np.nan), place=2)
        with pytest.raises(BadMessage, match="agent 2 sent agent 3 a message that is not finite in round 4"):
            run(runtime, {})

    lockstep(A, 2, program)


def test_honest_divergence_is_the_alarm_s_business(lockstep):
    def program(runtime):
        return run(runtime, {}, tau=1e-9)

    one = run_alone(tau=1e-9)
    assert "diverge" in one.warning
    for result in lockstep(A, 2, program):
        assert result.warning == one.warning
        np.testing.assert_array_equal(result.w_bar, one.w_bar)


def run_alone(**options):
    problem = Problem(MLP([2, 3, 1]), SquaredError(), L2(1e-2), shards(range(A)))
    network = Network(Topology.ring(A), mixing_rounds=ROUNDS)
    return NEXT(**options).run(problem, network, max_iter=20, warn=False)


def test_messages_of_another_width_are_refused_before_the_first(lockstep):
    def program(runtime):
        network = Network(Topology.ring(A), runtime=runtime)
        rows = np.zeros((len(runtime.agents), 4 + runtime.rank))
        with pytest.raises(ValueError, match="the width and precision of a message must be equal on all ranks"):
            network.mix(rows)

    lockstep(A, 2, program)


def test_small_things_that_grow_are_believed(lockstep):
    def program(runtime):
        network = Network(Topology.ring(A), mixing_rounds=1, runtime=runtime)
        rows = np.zeros((len(runtime.agents), 2))
        for size in (0, 1e-9, 1.0, 1e6, 1e-3):
            network.mix(rows + size)
        assert network.refused is None

    lockstep(A, 2, program)

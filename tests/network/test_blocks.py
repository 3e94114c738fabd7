"""One process and any split of the agents into blocks give the same bits, with one message per rank pair and round."""

import numpy as np
import pytest

from dnnext.network import Network, Schedule, Topology
from dnnext.network.plan import localise, peers_of
from dnnext.runtime import InProcess

N, WIDTH, CALLS = 11, 23, 4
STATIC = {
    name: Topology.from_name(name, N, random_state=0)
    for name in ("ring", "path", "star", "complete", "erdos_renyi", "watts_strogatz")
}
MOVING = {
    "link_failures": Schedule.link_failures(STATIC["erdos_renyi"], 0.5, random_state=0),
    "gossip": Schedule.gossip(STATIC["erdos_renyi"], random_state=0),
    "one_peer": Schedule.one_peer_exponential(N),
    "alternating": Schedule.alternating(STATIC["watts_strogatz"], 3),
    "callable": Schedule(lambda k: STATIC["ring" if k % 2 else "star"]),
}
SOURCES = {**STATIC, **MOVING}
BOUNDS = {"2": [0, 6, 11], "3": [0, 4, 8, 11], "4": [0, 3, 6, 9, 11], "uneven": [0, 1, 9, 10, 11]}


def play(source, runtime, rounds, dtype, n_threads=1):
    """A few iterations in which w and y go round, as in a recipe."""
    mine = slice(runtime.agents.start, runtime.agents.stop)
    rng = np.random.default_rng(0)
    w, y, beta = (rng.standard_normal(shape).astype(dtype)[mine] for shape in ((N, WIDTH), (N, WIDTH + 2), (N, 2)))
    network = Network(source, mixing_rounds=rounds, runtime=runtime, n_threads=n_threads)
    out = []
    for t in range(CALLS):
        mixed = network.mix(w, y, scalars=beta if t % 2 else beta[:, 0], t=t)
        w, y = mixed.arrays
        out += [w.copy(), y.copy(), mixed.received.copy(), mixed.disagreement.copy()]
        w[:] = np.sin(3 * w)
        y += np.cos(w[:, :1])
        beta = np.abs(beta) + 0.5 * mixed.disagreement[:, None].astype(dtype)
        if t == 2:  # another kind of message in between
            out.append(network.mix(y).arrays[0].copy())
    return out, network.round, network.bytes, getattr(runtime, "messages", [])


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("rounds", ["auto", 2])
@pytest.mark.parametrize("name", SOURCES)
def test_blocks_are_bitwise_equal_to_one_process(lockstep, name, rounds, bounds):
    for dtype in (np.float64, np.float32):
        whole, n_rounds, n_bytes, _ = play(SOURCES[name], InProcess(N), rounds, dtype)
        ranks = lockstep(N, None, lambda runtime, d=dtype: play(SOURCES[name], runtime, rounds, d), BOUNDS[bounds])
        for step, array in enumerate(whole):
            np.testing.assert_array_equal(np.concatenate([rank[0][step] for rank in ranks]), array)
        for rank in ranks:
            assert rank[1:3] == (n_rounds, n_bytes)


def test_threads_and_blocks_together(lockstep):
    whole = play(STATIC["ring"], InProcess(N), "auto", np.float64)[0]
    ranks = lockstep(N, 2, lambda runtime: play(STATIC["ring"], runtime, "auto", np.float64, n_threads=2))
    for step, array in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([rank[0][step] for rank in ranks]), array)


@pytest.mark.parametrize("name", ["ring", "star", "erdos_renyi"])
def test_one_message_per_rank_pair_and_round_holds_whole_rows(lockstep, name):
    net = STATIC[name]

    def program(runtime):
        network = Network(net, mixing_rounds=1, runtime=runtime)
        mine = np.ones((len(runtime.agents), 5))
        network.mix(mine, np.ones((len(runtime.agents), 3)), scalars=mine[:, 0])
        return runtime.messages

    bounds = np.array(BOUNDS["3"])
    owner = np.searchsorted(bounds, np.arange(N), side="right") - 1
    for rank, messages in enumerate(lockstep(N, None, program, bounds)):
        peers = [peer for peer, _, _ in messages]
        assert peers == sorted(set(peers))
        for peer, shape, dtype in messages:
            crossing = {j for j in range(N) if owner[j] == rank and (owner[net.neighbours(j)] == peer).any()}
            assert shape == (len(crossing), 9)
            assert dtype == np.float64


@pytest.mark.parametrize("name", SOURCES)
def test_plans_fit_together(lockstep, name):
    source = SOURCES[name]
    mixing = source.mixing if isinstance(source, Topology) else source.mixing(1)
    union = source.adjacency if isinstance(source, Topology) else source.union.adjacency
    bounds = np.array(BOUNDS["4"])

    def program(runtime):
        return localise(mixing, runtime, peers_of(union, runtime), "key")

    locals_ = lockstep(N, None, program, bounds)
    for rank, local in enumerate(locals_):
        plan, first = local.plan, bounds[rank]
        assert (np.diff(plan.ghosts) > 0).all()
        assert plan.send_counts.sum() == len(plan.send_rows)
        assert plan.recv_counts.sum() == plan.n_ghost == len(plan.ghosts)
        rows = np.concatenate([np.arange(first, bounds[rank + 1]), plan.ghosts])
        dense = np.zeros((plan.n_local, N))
        for i in range(plan.n_local):
            places = rows[local.indices[local.indptr[i] : local.indptr[i + 1]]]
            assert (np.diff(places) > 0).all()  # ascending in global order
            dense[i, places] = local.data[local.indptr[i] : local.indptr[i + 1]]
        np.testing.assert_array_equal(dense, mixing.toarray()[first : bounds[rank + 1]])
        start = 0
        for peer, count in zip(plan.peers, plan.recv_counts, strict=True):
            other = locals_[peer].plan
            place = other.peers.index(rank)
            stop = other.send_counts[: place + 1].sum()
            sent = other.send_rows[stop - other.send_counts[place] : stop] + bounds[peer]
            np.testing.assert_array_equal(sent, plan.ghosts[start : start + count])
            start += count
    assert len({local.n_messages for local in locals_}) == 1


def test_ranks_with_different_graphs_are_told(lockstep):
    def program(runtime):
        return Network(Topology.erdos_renyi(N, random_state=runtime.rank), runtime=runtime)

    with pytest.raises(ValueError, match=r"topology must be equal on all ranks, got .* on rank 1"):
        lockstep(N, 3, program)


def test_a_schedule_that_fails_fails_on_every_rank(lockstep):
    schedule = Schedule(lambda k: np.full((4, 4), 0.25) if k == 0 else np.eye(4))

    def program(runtime):
        network = Network(schedule, runtime=runtime)
        z = np.ones((len(runtime.agents), 2))
        network.mix(z)
        with pytest.raises(ValueError, match="not jointly connected"):
            network.mix(z)
        return True

    assert lockstep(4, 2, program) == [True, True]

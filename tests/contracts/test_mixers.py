"""What every mixer must do: CONTRACT; what those that come with the package promise besides: TERMS."""

import numpy as np
import pytest

import dnnext.network
from dnnext._needs import WORDS, check_needs
from dnnext.algorithms import DGD, NEXT
from dnnext.local import PartialLinearization
from dnnext.network import Topology
from dnnext.problem import L2, MLP, Problem, SquaredError

A = 6
KINDS = [
    kind for name in dnnext.network.__all__ if hasattr(kind := getattr(dnnext.network, name), "examples")
    and hasattr(kind, "mix")
]  # fmt: skip
MIXERS = [(kind, place) for kind in KINDS for place in range(len(kind.examples()))]
each = pytest.mark.parametrize(("kind", "place"), MIXERS, ids=lambda value: getattr(value, "__name__", str(value)))


def rows(seed, width=3, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((A, width)).astype(dtype)


def tracker_total(mixer, y):
    """Sum over the agents of what they track, messages on their way included."""
    return mixer.tracked(y)[0] if hasattr(mixer, "tracked") else y.sum(axis=0)


def play(mixer, n_calls, own=slice(None), first=0, start=None, dtype=np.float64):
    """A run of calls with new parts of y in between: everything that came out, and where it stands."""
    z, y = (rows(0, 4, dtype)[own], rows(1, 3, dtype)[own]) if start is None else start
    out = []
    for t in range(first, first + n_calls):
        scalars = np.abs(rows(100 + t, 2, dtype)[own])
        mixed = mixer.mix(z, y, scalars=scalars, t=t)
        z, y = mixed.arrays
        out += [z, y, mixed.received, mixed.disagreement, np.array([mixer.round, mixer.bytes])]
        y = y + rows(200 + t, 3, dtype)[own]
    return out, (z, y)


@each
def test_the_mean_is_preserved(kind, place):
    mixer = kind.examples()[place]
    z, y = rows(0), rows(1)
    for t in range(12):
        z_new, y_new = mixer.mix(z, y, t=t).arrays
        if "any_arrays" in mixer.offers:
            np.testing.assert_allclose(z_new.mean(axis=0), z.mean(axis=0), atol=1e-14)
        np.testing.assert_allclose(tracker_total(mixer, y_new), rows(1).sum(axis=0), atol=1e-13)
        z, y = z_new, y_new
    assert np.ptp(y, axis=0).max() < np.ptp(rows(1), axis=0).max()


@each
def test_constants_stay_as_they_are(kind, place):
    mixer = kind.examples()[place]
    z, y = np.full((A, 2), 3.0), np.full((A, 1), -1.0)
    for t in range(6):
        z, y = mixer.mix(z, y, t=t).arrays
        np.testing.assert_allclose(z, 3.0, rtol=1e-14)
        np.testing.assert_allclose(y, -1.0, rtol=1e-14)


@each
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_belong_to_the_caller(kind, place, dtype):
    mixers = kind.examples()[place], kind.examples()[place]
    given = rows(0, 4, dtype), rows(1, 3, dtype)
    copies = [x.copy() for x in given]
    kept, seen = [], []
    pairs = [given, given]
    for t in range(8):
        mixed = [mixer.mix(*pair, t=t).arrays for mixer, pair in zip(mixers, pairs, strict=True)]
        kept += [*mixed[0]]
        seen += [x.copy() for x in mixed[0]]
        for x, other in zip(*mixed, strict=True):
            np.testing.assert_array_equal(x, other)
        pairs = [tuple(x.copy() for x in mixed[0]), tuple(x.copy() for x in mixed[1])]
        for x in mixed[1]:
            x[...] = np.nan  # the caller's own: no later call may be the worse for it
    for x, copy in zip(kept, seen, strict=True):
        np.testing.assert_array_equal(x, copy)
    for x, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(x, copy)


@each
def test_bytes_and_rounds_are_counted(kind, place):
    mixer = kind.examples()[place]
    assert (mixer.round, mixer.bytes) == (0, 0)
    before = 0
    for t in range(3):
        mixer.mix(rows(0), rows(1), t=t)
        assert mixer.bytes > before
        before = mixer.bytes
    other = kind.examples()[place]
    for t in range(3):
        other.mix(rows(0, 6), rows(1, 6), scalars=rows(2), t=t)
    assert other.round == mixer.round
    assert other.bytes > mixer.bytes


@each
def test_begun_anew_is_begun(kind, place):
    mixer = kind.examples()[place]
    wanted, _ = play(kind.examples()[place], 4)
    play(mixer, 3)
    mixer.round = mixer.bytes = 0
    mixer.restart()
    for x, y in zip(play(mixer, 4)[0], wanted, strict=True):
        np.testing.assert_array_equal(x, y)


@each
def test_saved_and_restored_it_goes_on_to_the_bit(kind, place):
    first, second = kind.examples()[place], kind.examples()[place]
    _, start = play(first, 5)
    start = tuple(x.copy() for x in start)
    state = first.snapshot()
    wanted, _ = play(first, 6, first=5, start=start)
    second.restart()
    second.restore(state)
    for x, y in zip(play(second, 6, first=5, start=start)[0], wanted, strict=True):
        np.testing.assert_array_equal(x, y)


@each
def test_offers_are_known_words(kind, place):
    assert kind.examples()[place].offers <= {word for word, what in WORDS.items() if what.of == "network"}


CONTRACT = (
    test_the_mean_is_preserved, test_constants_stay_as_they_are, test_arrays_belong_to_the_caller,
    test_bytes_and_rounds_are_counted, test_begun_anew_is_begun, test_saved_and_restored_it_goes_on_to_the_bit,
    test_offers_are_known_words,
)  # fmt: skip


@each
@pytest.mark.parametrize("n_ranks", [2, 3])
def test_ranks_and_one_process_give_the_same_bits(kind, place, n_ranks, lockstep):
    wanted, _ = play(kind.examples()[place], 8)

    def program(runtime):
        own = slice(runtime.agents.start, runtime.agents.stop)
        return play(kind.examples(runtime)[place], 8, own)[0]

    for results in zip(*lockstep(A, n_ranks, program), wanted, strict=True):
        *parts, whole = results
        joined = parts[0] if len(whole) != A else np.concatenate(parts)
        np.testing.assert_array_equal(joined, whole)


@each
def test_threads_change_no_bit(kind, place):
    wanted, _ = play(kind.examples()[place], 4)
    mixer = kind.examples()[place]
    mixer.n_threads = 3
    for x, y in zip(play(mixer, 4)[0], wanted, strict=True):
        np.testing.assert_array_equal(x, y)


@each
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_a_snapshot_goes_to_any_number_of_ranks(kind, place, n_ranks, lockstep):
    mixer = kind.examples()[place]
    _, start = play(mixer, 5)
    start = tuple(x.copy() for x in start)
    state = mixer.snapshot()
    wanted, _ = play(mixer, 4, first=5, start=start)

    def program(runtime):
        own = slice(runtime.agents.start, runtime.agents.stop)
        other = kind.examples(runtime)[place]
        other.restore(state._replace(agents={name: array[own] for name, array in state.agents.items()}))
        return play(other, 4, own, first=5, start=tuple(x[own] for x in start))[0]

    for results in zip(*lockstep(A, n_ranks, program), wanted, strict=True):
        *parts, whole = results
        np.testing.assert_array_equal(parts[0] if len(whole) != A else np.concatenate(parts), whole)


TERMS = (
    test_ranks_and_one_process_give_the_same_bits, test_threads_change_no_bit,
    test_a_snapshot_goes_to_any_number_of_ranks,
)  # fmt: skip


def problem_of(runtime=None):
    agents = range(A) if runtime is None else runtime.agents
    shards = [(rows([3, i])[:, :2], rows([4, i], 1)) for i in agents]
    return Problem(MLP([2, 3, 1]), SquaredError(), L2(1e-2), shards, runtime=runtime)


@each
def test_a_recipe_is_refused_in_one_sentence_where_its_needs_are_not_met(kind, place):
    mixer = kind.examples()[place]
    if "any_arrays" in mixer.offers:
        result = DGD().run(problem_of(), mixer, max_iter=3, warn=False)
        assert np.isfinite(result.w).all()
    else:
        with pytest.raises(ValueError, match=r"DGD\(.*\) needs that"):
            DGD().run(problem_of(), mixer, max_iter=3)
    with pytest.raises(ValueError, match="network must"):
        check_needs("a recipe", {"something else"}, mixer.offers, {"network": mixer})


@each
def test_shared_curvature_runs_on_every_mixer_and_on_ranks_alike(kind, place, lockstep):
    def run(runtime=None):
        algorithm = NEXT(PartialLinearization(curvature="shared"), step=0.5)
        network = kind.examples(runtime)[place]
        return algorithm.run(problem_of(runtime), network, max_iter=8, warn=False)

    wanted = run()
    assert wanted.history["objective"][-1] < wanted.history["objective"][0]
    for result in lockstep(A, 2, run):
        np.testing.assert_array_equal(result.w_bar, wanted.w_bar)


def test_a_network_contracts_as_far_as_the_algorithm_asks():
    graph = Topology.ring(A)
    shared = NEXT(PartialLinearization(curvature="shared"))
    network = dnnext.network.Network(graph)
    shared.run(problem_of(), network, max_iter=1, warn=False)
    assert network.contract_to == shared.contract_to < 0.25
    assert network.contraction <= shared.contract_to
    NEXT().run(problem_of(), network, max_iter=1, warn=False)
    assert network.contract_to == 0.25
    for options in ({"contract_to": 0.5}, {"mixing_rounds": 1}):
        network = dnnext.network.Network(graph, **options)
        before = network.rounds_per_mix
        shared.run(problem_of(), network, max_iter=1, warn=False)
        assert network.rounds_per_mix == before

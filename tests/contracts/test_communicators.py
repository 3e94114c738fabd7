"""What every communicator must do; tests/mpi/in_communicators.py runs the same list on the ranks of an MPI job."""

import time

import numpy as np
import pytest

from dnnext.runtime import Alone, RanksLost, threads
from dnnext.sites.links import memory_links
from dnnext.sites.over_sites import run_sites

DTYPES = (np.float64, np.float32, np.int64, np.uint8, bool)


def draw(rank, shape, dtype=np.float64):
    """Numbers of one rank, of very different sizes, so that another order of adding them shows."""
    rng = np.random.default_rng([17, rank])
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 7, shape)
    return np.asarray(values if np.dtype(dtype).kind == "f" else rng.integers(0, 2, shape)).astype(dtype)


def in_rank_order(arrays):
    total = arrays[0].copy()
    for a in arrays[1:]:
        total += a
    return total


def gathers_in_rank_order(comm):
    for dtype in DTYPES:
        for shape in ((), (3,), (2, 4), (0,), (5, 0)):
            every = np.zeros((comm.size, *shape), dtype=dtype)
            comm.allgather(draw(comm.rank, shape, dtype), every)
            np.testing.assert_array_equal(every, [draw(r, shape, dtype) for r in range(comm.size)])


def gathers_blocks_of_any_size(comm):
    counts = [(2 * r) % 3 for r in range(comm.size)]
    for tail in ((), (3,), (0,)):
        every = np.zeros((sum(counts), *tail))
        comm.allgather(draw(comm.rank, (counts[comm.rank], *tail)), every, counts)
        np.testing.assert_array_equal(every, np.concatenate([draw(r, (n, *tail)) for r, n in enumerate(counts)]))


def adds_in_rank_order(comm):
    for dtype in (np.float64, np.float32, np.int64):
        for shape in ((), (1,), (7, 3), (40_001,), (0,)):
            every = [draw(r, shape, dtype) for r in range(comm.size)]
            a = every[comm.rank].copy()
            comm.allreduce(a)
            np.testing.assert_array_equal(a, in_rank_order(every))
            a = every[comm.rank].copy()
            comm.allreduce(a, op="max")
            np.testing.assert_array_equal(a, np.max(every, axis=0))


def scatters_sums_in_rank_order(comm):
    for dtype in (np.float64, np.float32):
        for shape in ((4,), (3, 5), (0, 2)):
            into = np.empty(shape, dtype=dtype)
            comm.reduce_scatter(draw(comm.rank, (comm.size, *shape), dtype), into)
            every = [draw(r, (comm.size, *shape), dtype)[comm.rank] for r in range(comm.size)]
            np.testing.assert_array_equal(into, in_rank_order(every))


def overlaps_sums_with_other_calls(comm):
    first, second = np.empty(3), np.empty(2)
    finish = comm.start_reduce_scatter(draw(comm.rank, (comm.size, 3)), first)
    comm.reduce_scatter(draw(comm.rank + 50, (comm.size, 2)), second)
    finish()
    np.testing.assert_array_equal(first, in_rank_order([draw(r, (comm.size, 3))[comm.rank] for r in range(comm.size)]))
    every = [draw(r + 50, (comm.size, 2))[comm.rank] for r in range(comm.size)]
    np.testing.assert_array_equal(second, in_rank_order(every))


def exchanges_with_peers(comm):
    n = comm.size
    if n == 1:
        comm.exchange([], [])
        return
    left, right = (comm.rank - 1) % n, (comm.rank + 1) % n
    for length in (0, 1, 1000):
        out = draw(comm.rank, (2, length))
        from_left, from_right = np.zeros((2, length))
        comm.exchange([(right, out[0]), (left, out[1])], [(left, from_left), (right, from_right)])
        if n > 2:  # with two ranks both messages go to the same one, in order
            np.testing.assert_array_equal(from_left, draw(left, (2, length))[0])
            np.testing.assert_array_equal(from_right, draw(right, (2, length))[1])


def sends_in_order(comm):
    out = np.empty(3)
    if comm.rank + 1 < comm.size:
        for k in range(3):
            out[...] = comm.rank + k / 8
            comm.send(out, comm.rank + 1)  # and may be changed at once
    if comm.rank:
        for k in range(3):
            a = np.empty(3)
            comm.receive(a, comm.rank - 1)
            np.testing.assert_array_equal(a, comm.rank - 1 + k / 8)


def broadcasts_from_any_rank(comm):
    for root in range(comm.size):
        for shape in ((3, 2), (), (0,)):
            a = draw(comm.rank, shape, np.float32)
            comm.broadcast(a, root)
            np.testing.assert_array_equal(a, draw(root, shape, np.float32))


def hands_texts_to_all(comm):
    for length in (0, 1, 4087, 4088, 4089, 20_000):
        mine = "ä" + "x" * (length + comm.rank)
        assert comm.texts(mine) == ["ä" + "x" * (length + r) for r in range(comm.size)]
    assert comm.texts("") == [""] * comm.size


def splits_into_groups(comm):
    part = comm.split(comm.rank % 2)
    assert part.members == tuple(range(comm.rank % 2, comm.size, 2))
    assert (part.rank, part.size) == (comm.rank // 2, len(part.members))
    row = part.split(0)  # twice the same ranks, and two groups in turns
    a, b, c = (np.array([float(10**comm.rank)]) for _ in range(3))
    part.allreduce(a)
    row.allreduce(b)
    comm.allreduce(c)
    assert a[0] == b[0] == sum(10**r for r in part.members)
    assert c[0] == sum(10**r for r in range(comm.size))
    assert part.texts(str(comm.rank)) == [str(r) for r in part.members]
    alone = comm.split(comm.rank)
    assert (alone.rank, alone.size, alone.members) == (0, 1, (comm.rank,))


def counts_what_is_received(comm):
    part, n = comm.split(0), comm.size
    part.allgather(np.zeros(4), np.zeros((n, 4)))
    part.reduce_scatter(np.zeros((n, 5)), np.zeros(5))
    part.broadcast(np.zeros(6), 0)
    part.allreduce(np.zeros(2))
    part.allgather(np.zeros((0, 7)), np.zeros((n, 0, 7)))
    assert part.tally.words == {
        "allgather": 4 * (n - 1), "reduce_scatter": 5 * (n - 1), "broadcast": 6 * (comm.rank > 0),
        "allreduce": 2 * (n - 1),
    }  # fmt: skip
    others = n - 1
    assert part.tally.messages == {
        "allgather": others, "reduce_scatter": others, "broadcast": int(comm.rank > 0), "allreduce": others,
    }  # fmt: skip
    assert part.tally.calls == {"allgather": 2, "reduce_scatter": 1, "broadcast": 1, "allreduce": 1}
    assert part.tally.sent == (0 if n == 1 else 8 * (4 + 5 * others + 6 * (comm.rank == 0) + 2))


def raises_the_error_of_one_rank_on_all(comm):
    def fail(error, rank):
        with comm.together():
            if comm.rank == rank:
                raise error

    for kind in (ValueError, TypeError, OSError, MemoryError):
        with pytest.raises(kind, match="no such part"):
            fail(kind("no such part"), comm.size - 1)
    with pytest.raises((KeyError, RuntimeError), match="gone"):
        fail(KeyError("gone"), 0)
    fail(ValueError("of no rank"), comm.size)


def compares_values(comm):
    alike = [1, 1.0, np.float64(1), np.int32(1)]
    fields = {"a": alike[comm.rank % 4], "b": {"x": 0.1, "y": (1, None)}, "c": np.arange(3), "d": np.bool_(True)}
    comm.agree_on(fields)
    last = comm.rank == comm.size - 1
    if comm.size == 1:
        return
    for first, other in (
        (0.5, 0.25), ("ring", "star"), ({0: 1.0}, {0: 2.0}), (np.arange(3), np.arange(3) + 1), (True, np.bool_(False)),
        (None, "None"), ([1] * 100, [1] * 99 + [2]), (1.0, 1.5),
    ):  # fmt: skip
        sentence = rf"x must be equal on all ranks, got .* on rank {comm.size - 1} and .* on rank 0\."
        with pytest.raises(ValueError, match=sentence) as caught:
            comm.agree_on({"first": 0, "x": other if last else first})
        assert len(set(comm.texts(str(caught.value)))) == 1


def refuses_wrong_shapes(comm):
    with pytest.raises(ValueError, match=r"mine must have the shape \(2,\)"):
        comm.allgather(np.zeros(3), np.zeros((comm.size, 2)))
    with pytest.raises(ValueError, match=r"parts must have the shape"):
        comm.reduce_scatter(np.zeros((comm.size + 1, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="op must be"):
        comm.allreduce(np.zeros(2), op="min")


CONTRACT = (
    gathers_in_rank_order, gathers_blocks_of_any_size, adds_in_rank_order, scatters_sums_in_rank_order,
    overlaps_sums_with_other_calls, exchanges_with_peers, sends_in_order, broadcasts_from_any_rank, hands_texts_to_all,
    splits_into_groups, counts_what_is_received, raises_the_error_of_one_rank_on_all, compares_values,
    refuses_wrong_shapes,
)  # fmt: skip
ENGINES = {"alone": lambda program: [program(Alone())]}
ENGINES |= {f"{n} threads": lambda program, n=n: threads.run(n, program, timeout=20) for n in (1, 2, 3, 4)}
ENGINES |= {f"{n} sites": lambda program, n=n: run_sites(memory_links(n), program, timeout=20) for n in (2, 4)}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_contract(check, engine):
    engine(check)


def test_an_error_of_one_thread_ends_all():
    def program(comm):
        if comm.rank == 1:
            raise KeyError("mine")
        comm.texts("x")

    with pytest.raises(KeyError, match="mine"):
        threads.run(3, program)


def test_a_thread_that_sleeps_is_named():
    def program(comm):
        if comm.rank == 1:
            time.sleep(0.6)
            return
        with pytest.raises(RanksLost, match=r"rank 1 gave no sign of life for 0\.2 s") as caught:
            comm.texts("x")
        assert caught.value.ranks == (1,)

    threads.run(3, program, timeout=0.2)


def test_a_thread_that_has_ended_is_named():
    def program(comm):
        if comm.rank:
            with pytest.raises(RanksLost, match="rank 0 has ended"):
                comm.receive(np.zeros(1), 0)

    threads.run(2, program, timeout=30)


def test_threads_that_wait_for_different_things():
    def program(comm):
        with pytest.raises(RanksLost) as caught:
            comm.texts("x") if comm.rank else comm.receive(np.zeros(1), 1)
        return str(caught.value)

    sentences = threads.run(2, program, timeout=0.3)
    assert any("they wait for different things" in sentence for sentence in sentences)  # the other may see an end

"""Ranks as threads of one process: they share nothing but the messages they leave on a board."""

import threading

import numpy as np

from dnnext.runtime import Runtime, split_agents


class Board:
    """Where messages lie until the round is over."""

    def __init__(self, n_ranks):
        self.barrier = threading.Barrier(n_ranks, timeout=60)
        self.slots = {}


class ThreadRank(Runtime):
    """One rank. `messages` counts what it sent: (peer, shape, dtype) of every message."""

    def __init__(self, bounds, rank, board):
        self.bounds, self.rank, self.n_ranks = bounds, rank, len(bounds) - 1
        self.n_agents = int(bounds[-1])
        self.board = board
        self.messages = []

    def exchange(self, rows, plan):
        assert plan.n_local == len(self.agents)
        assert len({array.dtype for array in rows}) == 1
        stop = np.cumsum(plan.send_counts)
        for peer, end, count in zip(plan.peers, stop, plan.send_counts, strict=True):
            if count:
                mine = plan.send_rows[end - count : end]
                message = np.concatenate([array[mine] for array in rows], axis=1)
                self.messages.append((peer, message.shape, message.dtype))
                self.board.slots[self.rank, peer] = message
        self.board.barrier.wait()
        place = plan.n_local
        for peer, count in zip(plan.peers, plan.recv_counts, strict=True):
            if count:
                message = self.board.slots.pop((peer, self.rank))
                assert len(message) == count
                column = 0
                for array in rows:
                    array[place : place + count] = message[:, column : column + array.shape[1]]
                    column += array.shape[1]
                assert column == message.shape[1]
                place += count
        assert place == plan.n_local + plan.n_ghost
        self.board.barrier.wait()

    def _gather(self, value):
        self.board.slots["all", self.rank] = value
        self.board.barrier.wait()
        values = [self.board.slots["all", r] for r in range(self.n_ranks)]
        self.board.barrier.wait()
        return values

    def all_agents(self, values):
        return np.concatenate(self._gather(self._check_local(values).copy()))

    def all_ranks(self, text):
        return self._gather(text)


def run(n_agents, n_ranks, program, bounds=None):
    """[program(runtime) of every rank]; the first exception of a rank is raised here."""
    bounds = split_agents(n_agents, n_ranks) if bounds is None else np.asarray(bounds)
    n_ranks = len(bounds) - 1
    board = Board(n_ranks)
    results, errors = [None] * n_ranks, []

    def work(rank):
        try:
            results[rank] = program(ThreadRank(bounds, rank, board))
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            errors.append(error)
            board.barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(n_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results

"""Fixtures for all rooms."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from dnnext.runtime import Runtime, threads

# Few examples, none of them timed, nothing written to disk; the same ones every time where CI is set.
settings.register_profile(
    "dnnext", max_examples=25, deadline=None, database=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)


def pytest_configure(config):
    """bench/ is not installed: its folder is searched last, so that an installed dnnext comes first."""
    settings.load_profile("dnnext")
    root = str(Path(__file__).parents[1])
    if root not in sys.path:
        sys.path.append(root)


@pytest.fixture(scope="session")
def lockstep():
    """run(n_agents, n_ranks, program, bounds=None): program(runtime) on ranks that are threads of this process.

    `runtime.messages` has (peer, shape, dtype) of every message that the rank sent by `exchange`.
    """

    def run(n_agents, n_ranks, program, bounds=None):
        def on_one_rank(comm):
            runtime, exchange = Runtime(n_agents, comm, bounds), comm.exchange
            runtime.messages = []

            def note(out, into):
                runtime.messages += [(peer, a.shape, a.dtype) for peer, a in out if a.size]
                exchange(out, into)

            comm.exchange = note
            return program(runtime)

        return threads.run(n_ranks if bounds is None else len(bounds) - 1, on_one_rank)

    return run

"""Signals end a run after its iteration, with a checkpoint."""

import signal
import subprocess
import sys
import textwrap

import pytest

from dnnext.runs import checkpoint
from dnnext.runs.interruption import Interruption
from dnnext.runtime import InProcess

INTERRUPTED = """
    import signal, sys
    from dnnext.algorithms import NEXT
    from dnnext.runs.callbacks import Checkpoint
    from dnnext.network import Network, Topology
    from dnnext.problem import L2, MLP, Problem, SquaredError
    import numpy as np

    rng = np.random.default_rng(0)
    shards = [(rng.standard_normal((10, 3)), rng.standard_normal((10, 1))) for _ in range(4)]
    problem = Problem(MLP([3, 4, 1]), SquaredError(), L2(alpha=1e-2), shards)
    def hit(state, metrics):
        if state.t == 7:
            signal.raise_signal({signal})
    callbacks = [hit, Checkpoint({folder!r}, every=1000)]
    result = NEXT().run(problem, Network(Topology.ring(4)), max_iter=10**9, callbacks=callbacks, warn=False)
    print(result.status, result.n_iter)
"""


@pytest.mark.parametrize(("name", "code"), [("signal.SIGINT", 0), ("signal.SIGTERM", 0)])
def test_ctrl_c_and_the_batch_system_leave_a_checkpoint(tmp_path, name, code):
    text = textwrap.dedent(INTERRUPTED).format(signal=name, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert done.stdout == "interrupted 8\n"
    assert checkpoint.read(tmp_path, InProcess(4)).numbers["t"] == 8


def test_handlers_of_signals_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption:
        assert not interruption.is_asked
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before

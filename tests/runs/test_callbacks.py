"""Progress, early stopping and histories of one's own."""

import io
import re
import sys

import numpy as np
import pytest

from dnnext.algorithms import NEXT
from dnnext.network import Network, Topology
from dnnext.problem import L2, MLP, Problem, SquaredError
from dnnext.runs import callbacks
from dnnext.runs.callbacks import Checkpoint, EarlyStopping, History, Progress

RING = Topology.ring(6)


def make_problem():
    rng = np.random.default_rng(0)
    shards = [(rng.standard_normal((10, 3)), rng.standard_normal((10, 1))) for _ in range(6)]
    return Problem(MLP([3, 4, 1]), SquaredError(), L2(alpha=1e-2), shards)


def test_progress_prints_each_measured_iteration_once(capsys):
    NEXT().run(make_problem(), Network(RING), max_iter=4, monitor_every=2, callbacks=[Progress(bar=False)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("/")[0] for line in lines] == ["iteration    0", "iteration    2", "iteration    4"]


def test_progress_is_every_tenth_line_on_standard_error_without_a_terminal(capsys):
    NEXT().run(make_problem(), Network(RING), max_iter=23, tol=0, warn=False, callbacks=[Progress()])
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[1] for line in err.splitlines()] == ["1/23", "10/23", "20/23", "23/23"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("has_rich", [True, False])
def test_progress_is_one_line_on_a_terminal(monkeypatch, has_rich):
    if has_rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich", None)
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(callbacks, "REDRAW", 0.0)
    terminal = Terminal()
    NEXT().run(make_problem(), Network(RING), max_iter=4, callbacks=[Progress(file=terminal)])
    pictures = terminal.getvalue().split("\r\x1b[2K")[1:]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", picture) for picture in pictures]
    assert [picture.split("/")[0] for picture in plain] == [f"iteration    {t}" for t in (1, 2, 3, 4, 4)]
    assert all("  objective " in picture and len(picture.rstrip("\n")) < 80 for picture in plain)
    assert "\n" not in "".join(plain[:-1])
    assert plain[-1].endswith("\n")
    assert ("#" * callbacks.BAR in plain[-1]) is not has_rich


def test_progress_of_a_second_run_counts_to_its_own_end():
    out = io.StringIO()
    progress = Progress(file=out, bar=False)
    for n in (2, 3):
        NEXT().run(make_problem(), Network(RING), max_iter=n, warn=False, callbacks=[progress])
    shown = [line.split()[1] for line in out.getvalue().splitlines()]
    assert shown == ["1/2", "2/2", "1/3", "2/3", "3/3"]
    assert progress.total is None


def test_early_stopping_can_count_absolutely():
    scores = [0.5, 0.6, 0.605, 0.606, 0.607]
    stop = EarlyStopping("score", patience=2, tol=0.01, mode="max", relative=False)
    assert [stop(None, {"iteration": t, "score": u}) for t, u in enumerate(scores)] == [False, False, False, True, True]


def test_history_keeps_columns_of_ones_own():
    history = History(largest=lambda s, m: float(np.abs(s.w).max()))
    result = NEXT().run(make_problem(), Network(RING), max_iter=5, callbacks=[history])
    assert history.rows["iteration"] == [1, 2, 3, 4, 5]
    assert history.rows["largest"][-1] == np.abs(result.w).max()


def test_mistakes_with_callbacks_are_sentences():
    with pytest.raises(ValueError, match="every must be a whole number"):
        Checkpoint("x", every=0)
    with pytest.raises(ValueError, match="monitor must be one of iteration"):
        NEXT().run(make_problem(), Network(RING), max_iter=2, callbacks=[EarlyStopping("loss")])
    with pytest.raises(ValueError, match="mode must be one of"):
        EarlyStopping(mode="down")
    with pytest.raises(ValueError, match="largest must be a function"):
        History(largest=3)
    with pytest.raises(ValueError, match="callbacks must be a list of callables"):
        NEXT().run(make_problem(), Network(RING), max_iter=2, callbacks=[EarlyStopping])


def test_callbacks_print_as_what_makes_them():
    assert repr([EarlyStopping("objective", patience=3), Progress(), History(largest=max)]) == (
        "[EarlyStopping('objective', patience=3, tol=0.0001), Progress(), History(largest=...)]"
    )


@pytest.mark.parametrize("max_iter", [1, 4, 9])
def test_a_run_cut_early_is_compared_with_its_start(max_iter):
    result = NEXT().run(make_problem(), Network(RING), max_iter=max_iter, tol=1e-4, warn=False)
    assert "still falling" in result.warning

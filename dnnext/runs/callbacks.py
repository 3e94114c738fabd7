"""What looks at a run while it goes on: ``callback(state, metrics) -> bool | None``, True asks to end.

Design
------
The loop calls every callback after every iteration, on every rank; the wish of one rank ends all. `state` holds the
arrays of the local agents, `metrics` the newest row of the history. Five more methods are looked for and may be left
out: ``begin(run)`` before the first iteration, ``end(run, status)`` after the last, ``measures(run) -> dict``, numbers
that join each row of the history (the same names in each, equal on every rank), ``lasting() -> Snapshot`` and
``resume(snapshot)``, what a checkpoint should hold of the callback itself. A callback with ``comes_last = True`` is
called after the others, so that a checkpoint holds what they have learnt; one with ``can_end = False`` cannot be the
reason why a resumed run is finished. Between ranks the next step is taken before all is known of this one, if every
callback has ``only_looks = True``; between sites always. Callbacks must not change the state then.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from dnnext import _checks
from dnnext._checks import short
from dnnext.runs import checkpoint
from dnnext.runs.notebook import NotebookBar, in_notebook
from dnnext.runs.snapshot import Snapshot, data_marks

if TYPE_CHECKING:
    from dnnext.runs.loop import Run
    from dnnext.runs.state import State

__all__ = ["Checkpoint", "EarlyStopping", "History", "Progress"]

Array = np.ndarray[Any, np.dtype[Any]]
Metrics = dict[str, float]
REDRAW = 0.1  # seconds between two pictures of a bar
LINES = 10  # iterations between two lines where there is no terminal
BAR = 24  # letters


class Checkpoint:
    """Write the run down every few iterations and when it ends or is interrupted; `dnnext.resume` goes on from there.

    Parameters
    ----------
    path : str or path
        A folder, made if it is missing; each rank writes its own agents into it. The last two checkpoints are kept.
    every : int
        Iterations between checkpoints.

    Raises
    ------
    ValueError
        If path is no name, or every is not a whole number of at least 1.
    OSError
        During the run, on every rank, if one of them cannot write; the checkpoints written before are left alone.

    Examples
    --------
    >>> import tempfile
    >>> from dnnext.runs import checkpoint
    >>> from dnnext.algorithms import NEXT
    >>> from dnnext.network import Network, Topology
    >>> from dnnext.problem import L2, MLP, Problem, SquaredError
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> problem = Problem(MLP([1, 3, 1]), SquaredError(), L2(alpha=1e-3), shards=[(x, x**2), (-x, x**2)])
    >>> network = Network(Topology.ring(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     whole = NEXT().run(problem, network, max_iter=30, callbacks=[Checkpoint(folder, every=10)])
    ...     half = NEXT().run(problem, network, max_iter=15, callbacks=[Checkpoint(folder, every=10)])
    ...     rest = NEXT().run(problem, network, max_iter=30, resume=checkpoint.read(folder, problem.runtime))
    >>> bool((rest.w == whole.w).all())
    True
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 20) -> None:
        _checks.check_path("path", path, "a folder")
        self.path, self.every = path, _checks.check_count("every", every)
        self._run: Run | None = None
        self._id, self._marks = "", dict[str, Array]()
        self._written = -1

    comes_last = only_looks = True

    def begin(self, run: Run) -> None:
        """Remember the run and its data."""
        self._run, self._written = run, run.s.t if run.is_resumed else -1
        self._id = checkpoint.run_id(run.problem.runtime)
        self._marks = {"data": data_marks(run.problem)}

    def __call__(self, state: State, metrics: Metrics) -> None:
        """Write if it is time."""
        if state.t % self.every == 0:
            self._write()

    def end(self, run: Run, status: str) -> None:
        """Write what the last regular checkpoint lacks, unless the run diverged: also that a callback ended the run."""
        is_new = run.s.t != self._written or (status == "callback" and not run.was_finished)
        if run.is_whole and status != "diverged" and is_new:
            self._write()
        self._run = None

    def _write(self) -> None:
        if self._run is None:
            raise RuntimeError("Checkpoint must be among the callbacks of a run; it cannot be called by itself.")
        snapshot = self._run.snapshot()
        snapshot.agents |= self._marks
        checkpoint.write(self.path, snapshot, self._run.problem.runtime, self._run.notes, self._id)
        self._written = self._run.s.t

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}

    def __repr__(self) -> str:
        return f"Checkpoint({os.fspath(self.path)!r}, every={self.every})"


class EarlyStopping:
    """Ask to end when a measure has not become better for some iterations.

    Parameters
    ----------
    monitor : str
        A column of the history, such as "objective" or "stationarity".
    patience : int
        Iterations without progress after which the run ends.
    tol : float
        What counts as progress: better than the best so far by more than ``tol * |best|``.
    mode : {"min", "max"}
        Whether small or large values are good.
    relative : bool
        False: better by more than ``tol`` itself, as scikit-learn counts scores.

    Raises
    ------
    ValueError
        For a value outside of what is stated here, or a measure the run does not have.

    Examples
    --------
    >>> stop = EarlyStopping("objective", patience=2)
    >>> [stop(None, {"iteration": t, "objective": u}) for t, u in enumerate([3.0, 2.0, 2.0, 2.0])]
    [False, False, False, True]
    """

    only_looks = True

    def __init__(
        self,
        monitor: str = "objective",
        patience: int = 10,
        tol: float = 1e-4,
        mode: str = "min",
        relative: bool = True,
    ) -> None:
        self.monitor, self.relative = monitor, relative
        self.mode = _checks.check_choice("mode", mode, ("min", "max"))
        self.patience = _checks.check_count("patience", patience)
        self.tol = _checks.check_positive("tol", tol, allow_zero=True)
        self.best, self.best_iteration = np.inf, 0

    def __repr__(self) -> str:
        return f"EarlyStopping({self.monitor!r}, patience={self.patience}, tol={self.tol})"

    def begin(self, run: Run) -> None:
        """Forget an earlier run."""
        if not run.is_resumed:
            self.best, self.best_iteration = np.inf, 0

    def __call__(self, state: State | None, metrics: Metrics) -> bool:
        """True once there was no progress for `patience` iterations."""
        if self.monitor not in metrics:
            raise ValueError(f"monitor must be one of {', '.join(metrics)}, got {short(self.monitor)}.")
        value = metrics[self.monitor] if self.mode == "min" else -metrics[self.monitor]
        size = abs(self.best) if self.relative and np.isfinite(self.best) else 1.0
        if value < self.best - self.tol * size:
            self.best, self.best_iteration = value, int(metrics["iteration"])
        return bool(metrics["iteration"] - self.best_iteration >= self.patience)

    def lasting(self) -> Snapshot:
        """The best value and when it was."""
        return Snapshot({}, {"best": np.array(self.best)}, {"iteration": self.best_iteration})

    def resume(self, saved: Snapshot) -> None:
        """Go on from `lasting`."""
        if saved.numbers:
            self.best, self.best_iteration = float(saved.shared["best"]), int(saved.numbers["iteration"])


class Progress:
    """Show the progress of a run: a bar on a terminal and in notebooks, elsewhere every tenth iteration as a line.

    The bar is one line that is written anew, by rich where that is installed, else in plain letters, or one output of a
    cell. Under MPI the first rank alone prints.

    Parameters
    ----------
    total : int or None
        Iterations to come, shown beside the number; None takes the run's `max_iter`.
    file : text file or None
        Where to; None is the standard output if it is a terminal, else the standard error.
    bar : bool or None
        True writes one line anew, False a line for every measured iteration (None for `file` is then the standard
        output); None is True on a terminal and in a notebook, and else writes the first, every tenth and the last.

    Examples
    --------
    >>> from dnnext.algorithms import NEXT
    >>> from dnnext.network import Network, Topology
    >>> from dnnext.problem import MLP, Problem, SquaredError
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> problem = Problem(MLP([1, 1]), SquaredError(), None, shards=[(x, 2 * x), (x, 2 * x)])
    >>> result = NEXT().run(problem, Network(Topology.ring(2)), max_iter=2, callbacks=[Progress(bar=False)])
    iteration    1/2  objective ... stationarity ... disagreement ... s
    iteration    2/2  objective ... stationarity ... disagreement ... s
    """

    only_looks = True

    def __init__(self, total: int | None = None, file: TextIO | None = None, bar: bool | None = None) -> None:
        self.total, self.file, self.bar = total, file, bar
        self._last = total  # iteration of this run
        self._prints, self._shown, self._started = True, -1, time.perf_counter()
        self._words: list[str] = []  # of the bar on the terminal
        self._waiting, self._has_begun = "", False  # a line that is shown if no other follows
        self._drawn = -np.inf
        self._cell: NotebookBar | None = None

    def __repr__(self) -> str:
        return "Progress()" if self.total is None else f"Progress(total={self.total})"

    def begin(self, run: Run) -> None:
        """Note whether this rank prints, and the number of iterations."""
        self._last = run.limits.max_iter if self.total is None else self.total
        self._prints, self._shown, self._started = run.problem.runtime.is_first, -1, time.perf_counter()
        self._words, self._drawn = [], -np.inf
        self._waiting, self._has_begun = "", False
        self._cell = NotebookBar() if self.file is None and self.bar is not False and in_notebook() else None
        if run.recipe.why:
            self.say(run.recipe.why)

    def say(self, sentence: str) -> None:
        """A line of its own, before the first row."""
        if self._prints:
            print(sentence, file=self._out(), flush=True)

    def __call__(self, state: State | None, metrics: Metrics, *more: str) -> None:
        """Show the newest row, once, and more words if there are any."""
        if not self._prints or metrics["iteration"] == self._shown:
            return
        self._shown = int(metrics["iteration"])
        out = self._out()
        if not (self._cell is not None or out.isatty() if self.bar is None else self.bar):
            is_first, self._waiting = not self._has_begun, self.line(metrics, *more)
            self._has_begun = True
            if self.bar is False or is_first or self._shown % LINES == 0:
                print(self._waiting, file=out, flush=True)
                self._waiting = ""
            return
        number, objective, stationarity, disagreement, *extra, seconds = self.words(metrics, *more)
        # a narrow terminal shows the first of them
        self._words = [number, *extra, objective, seconds, stationarity, disagreement]
        if time.perf_counter() - self._drawn >= REDRAW:
            self._draw()

    def end(self, run: Run, status: str) -> None:
        """Keep the last row on the terminal."""
        if self._words:
            self._draw()
            if self._cell is None:
                print(file=self._out(), flush=True)
            self._words = []
        if self._waiting:
            print(self._waiting, file=self._out(), flush=True)
            self._waiting = ""

    def _out(self) -> TextIO:
        if self.file is not None:
            return self.file
        shown = self.bar is not None or self._cell is not None or sys.stdout.isatty()
        return sys.stdout if shown else sys.stderr

    def words(self, metrics: Metrics, *more: str) -> list[str]:
        """The parts of a line: the number of the iteration, three measures, more words, the time."""
        measures = [f"{name} {metrics[name]:.4g}" for name in ("objective", "stationarity", "disagreement")]
        number = f"iteration {int(metrics['iteration']):4d}/{self._last}"
        return [number, *measures, *more, f"{time.perf_counter() - self._started:.1f} s"]

    def line(self, metrics: Metrics, *more: str) -> str:
        """``iteration   7/100  objective 0.42  stationarity 0.01  disagreement 1e-05  0.3 s``."""
        return "  ".join(self.words(metrics, *more))

    def _draw(self) -> None:
        """The line of the bar, in place of the one before; what others print in between is kept."""
        out, (number, *rest), text = self._out(), self._words, ""
        done = min(1.0, self._shown / self._last) if self._last else 0.0
        if self._cell is not None:
            self._cell.draw(done, "  ".join(self._words))
            self._drawn = time.perf_counter()
            return
        for word in rest:
            if len(number) + BAR + len(text) + len(word) + 5 < shutil.get_terminal_size().columns:
                text += f"  {word}"
        out.write("\r\x1b[2K")  # to the start of the line, and clear it
        try:
            from rich.console import Console
            from rich.progress_bar import ProgressBar
        except ImportError:
            filled = round(BAR * done)
            out.write(f"{number}  {'#' * filled}{'.' * (BAR - filled)}{text}")
        else:
            console = Console(file=out, highlight=False)
            for part in (f"{number}  ", ProgressBar(total=1.0, completed=done, width=BAR), text):
                console.print(part, end="", soft_wrap=isinstance(part, str))
        out.flush()
        self._drawn = time.perf_counter()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_drawn": -np.inf, "_words": [], "_waiting": "", "_cell": None}


class History:
    """Keep more than the run's own history: numbers of your own, one per iteration.

    Parameters
    ----------
    **columns : callables
        ``name=function(state, metrics) -> number`` or array; of the agents held here, unless the function asks all.

    Attributes
    ----------
    rows : dict of lists
        ``iteration`` and the columns.

    Examples
    --------
    >>> history = History(largest=lambda state, metrics: abs(state.w).max())
    """

    only_looks = True

    def __init__(self, **columns: Callable[[Any, Metrics], Any]) -> None:
        for name, column in columns.items():
            if not callable(column):
                raise ValueError(f"{name} must be a function of (state, metrics), got {short(column)}.")
        self.columns = columns
        self.rows: dict[str, list[Any]] = {name: [] for name in ("iteration", *columns)}

    def __repr__(self) -> str:
        return f"History({', '.join(f'{name}=...' for name in self.columns)})"

    def begin(self, run: Run) -> None:
        """Forget an earlier run."""
        if not run.is_resumed:
            self.rows = {name: [] for name in ("iteration", *self.columns)}

    def __call__(self, state: State, metrics: Metrics) -> None:
        """One row."""
        self.rows["iteration"].append(state.t)
        for name, column in self.columns.items():
            self.rows[name].append(column(state, metrics))

    def lasting(self) -> Snapshot:
        """The rows so far, where all values of a column have one shape and are numbers."""
        columns = dict[str, Array]()
        for name, values in self.rows.items():
            if len({np.shape(value) for value in values}) == 1 and np.asarray(values).dtype.kind in "biuf":
                columns[name] = np.asarray(values)
        return Snapshot({}, columns)

    def resume(self, saved: Snapshot) -> None:
        """Go on from `lasting`."""
        kept = {name: list(column) for name, column in saved.shared.items() if name in self.rows}
        self.rows = {name: kept.get(name, []) for name in self.rows}

"""Rows of the table, the peers' processes, and interleaved repetitions of everybody on one row."""

import json
import selectors
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import child_environment
from bench.rivals.peers import environments
from bench.speed.kernels.child import burst

HERE = Path(__file__).parent
Function = Callable[[], Any]
COLUMNS = ("NumPy", "scikit-learn", "PyTorch", "JAX")


@dataclass
class Row:
    """One path at one shape: our call, those of the peers in this process, the task of the others.

    limit: seconds that nobody can beat, after these measurements; reach: ("ratio" to the best peer, or "limit", the
    fraction of it), least value, or None; parts: further calls of ours, measured to explain a shortfall.
    """

    path: str
    shape: str
    dtype: Any
    ours: Function
    here: dict[str, dict[str, Function]]
    task: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    size: Callable[[Any], float] | None = None
    limit: Callable[[dict[str, float]], float] | None = None
    limit_words: str = ""
    reach: tuple[str, float] | None = None
    parts: dict[str, Function] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.path} | {self.shape} | {np.dtype(self.dtype).name}"


class Child:
    """A peer in a process of its own, on one thread, without any pin of an older BLAS path."""

    def __init__(self, peer: str) -> None:
        self.peer, self.version = peer, "missing"
        self.process: subprocess.Popen[str] | None = None
        python = environments.interpreter(peer)
        if python is None:
            self.why = "missing"
            return
        clean = {k: v for k, v in child_environment().items() if k != "PYTHONPATH"}
        threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        self.process = subprocess.Popen(
            [python, str(HERE / f"child_{peer}.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env={**clean, **dict.fromkeys(threads, "1")},
        )  # fmt: skip
        self.why = "no answer"

    def ask(self, order: dict[str, Any], timeout: float = 120) -> dict[str, Any]:
        """Send one line, await one line."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            with selectors.DefaultSelector() as ready:
                ready.register(self.process.stdout, selectors.EVENT_READ)
                line = self.process.stdout.readline() if ready.select(timeout) else ""
        except BrokenPipeError:
            line = ""
        if not line:
            self.close()
            return {"error": "no answer"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def total(*arrays: Any) -> float:
    """The sum of magnitudes, in double: what all contenders of a row must agree on."""
    return float(sum(np.abs(np.asarray(a, np.float64)).sum() for a in arrays))


def timed(function: Function, n: int) -> float:
    start = time.process_time()
    for _ in range(n):
        function()
    return (time.process_time() - start) / n


def measure(row: Row, children: dict[str, Child], seconds: float) -> dict[str, Any]:
    """Medians of interleaved bursts, in seconds, per contender; a peer that disagrees or is missing is noted."""
    calls: dict[str, Function] = {"ours": row.ours, **{f"part: {name}": f for name, f in row.parts.items()}}
    for column, variants in row.here.items():
        calls |= {f"{column}: {name}": function for name, function in variants.items()}
    counts = {name: burst(function) for name, function in calls.items()}
    said: dict[str, str] = {}
    distant: dict[str, tuple[Child, str]] = {}
    want = row.size(row.ours()) if row.size else None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "arrays.npz")
        np.savez(file, **row.arrays)  # type: ignore[arg-type]
        for column, child in children.items() if row.task else ():
            if child.process is None:
                said[column] = child.why
                continue
            answer = child.ask({"make": row.task, "file": str(file)})
            if "error" in answer:
                said[column] = answer["error"]
            child.version = answer.get("version", child.version)
            for name, size in answer.get("sizes", {}).items():
                if want is not None and not abs(size - want) <= {8: 1e-8, 4: 2e-3}[np.dtype(row.dtype).itemsize] * want:
                    said[column] = f"{name} disagrees: {size} and not {want}"
                else:
                    distant[f"{column}: {name}"] = (child, name)
    times: dict[str, list[float]] = {name: [] for name in (*calls, *distant)}
    end = time.perf_counter() + seconds
    while len(times["ours"]) < 5 or (time.perf_counter() < end and len(times["ours"]) < 200):
        for name, function in calls.items():
            times[name].append(timed(function, counts[name]))
        for name, (child, variant) in distant.items():
            times[name].append(child.ask({"time": variant}).get("seconds", float("nan")))
    return {"medians": {name: statistics.median(t) for name, t in times.items()}, "said": said,
            "repetitions": len(times["ours"])}  # fmt: skip


def summary(row: Row, measured: dict[str, Any]) -> dict[str, Any]:
    """What the table and the JSON hold of one row, in microseconds."""
    medians, ours = measured["medians"], measured["medians"]["ours"]
    columns: dict[str, Any] = {}
    for column in COLUMNS:
        mine = {name.split(": ", 1)[1]: t for name, t in medians.items() if name.startswith(f"{column}: ")}
        best = min(mine, key=lambda k: mine[k], default=None)
        why = {"why": measured["said"].get(column, "-")}
        columns[column] = why if best is None else {"us": 1e6 * mine[best], "variant": best}
    found = {name: entry["us"] for name, entry in columns.items() if "us" in entry}
    peer = min(found, key=lambda k: found[k], default=None)
    parts = {name[6:]: 1e6 * t for name, t in medians.items() if name.startswith("part: ")}
    limit = row.limit({**medians, **{f"part: {k}": v / 1e6 for k, v in parts.items()}}) if row.limit else None
    ratio = found[peer] / (1e6 * ours) if peer else None
    fraction = limit / ours if limit else None
    reached = None
    if row.reach:
        got = ratio if row.reach[0] == "ratio" else fraction
        reached = None if got is None else bool(got >= row.reach[1])
    return {
        "path": row.path, "shape": row.shape, "dtype": np.dtype(row.dtype).name, "ours": 1e6 * ours, "peers": columns,
        "best": peer, "ratio": ratio, "limit": None if limit is None else 1e6 * limit, "limit_words": row.limit_words,
        "fraction": fraction, "reach": row.reach, "reached": reached, "parts": parts,
        "repetitions": measured["repetitions"],
        "all": {name: 1e6 * t for name, t in medians.items()}, "said": measured["said"],
    }  # fmt: skip

"""One contestant of experiment f, in a process of its own: python large_child.py WHO data.npz settings-as-JSON.

Prints JSON: the scores along the way with wall and CPU seconds (looking excluded), peak memory above the loaded data.
Ends at the goal ("search") or some time after it ("clock"), or when the limit is used up: of CPU seconds in a search,
of seconds by the clock, of looks where "looks" is set. Stands on NumPy and the contestant alone.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np


def accuracy(raw: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((raw > 0) == y))


def average_precision(raw: np.ndarray, y: np.ndarray) -> float:
    hits = y[np.argsort(-raw, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(np.sum(precision * hits) / np.sum(hits))


SCORES = {"accuracy": accuracy, "average precision": average_precision}


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory(what: str) -> float:
    """Megabytes: VmRSS now or VmHWM at most. (getrusage's maximum is inherited from the parent on Linux.)"""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(float(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith(what))


class Trace:
    """(seconds, CPU seconds, score) along a run; decides when to stop."""

    def __init__(self, table: dict, settings: dict) -> None:
        self.x, self.y, self.settings = table["x_test"], table["y_test"], settings
        self.score = SCORES[settings["score"]]
        self.rows: list[tuple[float, float, float]] = []
        self.reached: float | None = None

    def start(self) -> None:
        self.wall, self.cpu = time.perf_counter(), cpu()

    def __call__(self, predict) -> bool:
        wall, used = time.perf_counter() - self.wall, cpu() - self.cpu
        self.rows.append((wall, used, self.score(np.asarray(predict(self.x)).ravel(), self.y)))
        self.wall, self.cpu = time.perf_counter() - wall, cpu() - used
        return self._enough(wall, used)

    def _enough(self, wall: float, used: float) -> bool:
        search, limit = self.settings["what"] == "search", self.settings["seconds"]
        if len(self.rows) >= self.settings.get("looks", np.inf):
            return True
        if self.reached is None and self.rows[-1][2] >= self.settings["goal"]:
            self.reached = wall
        if self.reached is not None and (search or wall > 3 * self.reached + 2):
            return True
        return (used if search else wall) > limit


def dnnext(table: dict, settings: dict, trace: Trace) -> None:
    from dnnext.algorithms import NEXT
    from dnnext.local import FullLinearization, PartialLinearization
    from dnnext.network import Network, Topology
    from dnnext.problem import L2, MLP, Logistic, Problem

    x, y = table["x"], table["y"].astype(float)
    owner = np.random.default_rng(0).permutation(len(x)) % settings["agents"]
    shards = [(x[owner == i], y[owner == i]) for i in range(settings["agents"])]
    model = MLP([x.shape[1], settings["hidden"], 1])
    problem = Problem(model, Logistic(), L2(alpha=5 / len(x)), shards, n_threads=settings["threads"])
    network = Network(Topology.erdos_renyi(settings["agents"], random_state=0), n_threads=settings["threads"])
    surrogate = {"PL": PartialLinearization, "FL": FullLinearization}[settings["surrogate"]]()
    marks = set(np.unique(np.geomspace(1, 2000, 120).astype(int)).tolist())

    def callback(state, metrics) -> bool:
        return state.t in marks and trace(lambda test: model.forward(state.w.mean(axis=0), test))

    trace.start()
    NEXT(surrogate).run(
        problem, network, max_iter=2000, monitor_every=2000, callbacks=[callback], random_state=0, warn=False
    )


def sklearn(table: dict, settings: dict, trace: Trace) -> None:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((settings["hidden"],), activation="tanh", learning_rate_init=settings["lr"],
                          batch_size=settings["batch"], random_state=0)  # fmt: skip
    trace.start()
    while True:
        model.partial_fit(table["x"], table["y"], classes=[0, 1])
        if trace(lambda test: model.predict_proba(test)[:, 1] - 0.5):
            return


def torch(table: dict, settings: dict, trace: Trace) -> None:
    import torch as t

    t.manual_seed(0)
    t.set_num_threads(settings["threads"])
    x, y = t.tensor(table["x"], dtype=t.float32), t.tensor(table["y"], dtype=t.float32)[:, None]
    model = t.nn.Sequential(
        t.nn.Linear(x.shape[1], settings["hidden"]), t.nn.Tanh(), t.nn.Linear(settings["hidden"], 1)
    )
    optimiser = t.optim.Adam(model.parameters(), lr=settings["lr"])
    loss = t.nn.BCEWithLogitsLoss()

    def predict(test):
        with t.no_grad():
            return model(t.tensor(test, dtype=t.float32)).numpy()

    trace.start()
    while True:
        order = t.randperm(len(x))
        for rows in order.split(settings["batch"]):
            optimiser.zero_grad(set_to_none=True)
            loss(model(x[rows]), y[rows]).backward()
            optimiser.step()
        if trace(predict):
            return


def main() -> None:
    who, path, text = sys.argv[1:]
    settings = json.loads(text)
    with np.load(path) as file:
        table = dict(file)
    before = memory("VmRSS")
    trace = Trace(table, settings)
    {"dnnext": dnnext, "sklearn": sklearn, "torch": torch}[who](table, settings, trace)
    print(json.dumps({"trace": trace.rows, "mb": memory("VmHWM") - before}))


if __name__ == "__main__":
    main()

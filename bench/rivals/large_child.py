"""One contestant of experiment f, in a process of its own: python large_child.py WHO data.npz settings-as-JSON.

Prints JSON: the scores along the way with CPU seconds (of the busiest thread; looking excluded), rounds and bytes, and
peak memory above the loaded data. Ends when its CPU seconds are used up, or its looks where "looks" is set. Stands on
NumPy and the contestant alone.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np


def accuracy(raw: np.ndarray, y: np.ndarray) -> float:
    chosen = raw.argmax(axis=1) if raw.shape[1] > 1 else raw[:, 0] > 0
    return float(np.mean(chosen == y))


def average_precision(raw: np.ndarray, y: np.ndarray) -> float:
    hits = y[np.argsort(-raw.ravel(), kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(np.sum(precision * hits) / np.sum(hits))


def r2(raw: np.ndarray, y: np.ndarray) -> float:
    return float(1 - np.mean((raw[:, 0] - y) ** 2) / np.var(y))


PARTIAL = {"curvature": "curvature", "curvature_rows": "rows"}  # of PartialLinearization, from settings
SCORES = {"accuracy": accuracy, "average precision": average_precision, "R2": r2}


def thread_seconds() -> dict[int, float]:
    """CPU seconds of every thread of this process."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        return {0: time.process_time()}
    found = {}
    for task in os.listdir(tasks):
        try:
            found[int(task)] = time.clock_gettime((~int(task) << 3) | 6)  # Linux: the clock of that thread
        except OSError:  # it has ended
            continue
    return found


def memory(what: str) -> float:
    """Megabytes: VmRSS now or VmHWM at most. (getrusage's maximum is inherited from the parent on Linux.)"""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(float(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith(what))


class Trace:
    """(CPU seconds, score, rounds, bytes) along a run; decides when to stop."""

    def __init__(self, table: dict, settings: dict) -> None:
        self.x, self.y, self.settings = table["x_test"], table["y_test"], settings
        self.score = SCORES[settings["score"]]
        self.rows: list[tuple[float, float, int, int]] = []
        self.used: dict[int, float] = {}

    def start(self) -> None:
        self.last = thread_seconds()

    def __call__(self, predict, rounds: int = 0, sent: int = 0) -> bool:
        for thread, seconds in thread_seconds().items():
            self.used[thread] = self.used.get(thread, 0.0) + seconds - self.last.get(thread, 0.0)
        used = max(self.used.values())
        raw = np.asarray(predict(self.x))
        self.rows.append((used, self.score(raw.reshape(len(raw), -1), self.y), rounds, sent))
        self.last = thread_seconds()
        return used > self.settings["seconds"] or len(self.rows) >= self.settings.get("looks", np.inf)


def dnnext(table: dict, settings: dict, trace: Trace) -> None:
    from dnnext.algorithms import NEXT
    from dnnext.local import FullLinearization, PartialLinearization
    from dnnext.network import Network, Topology
    from dnnext.problem import L2, MLP, Logistic, Problem, Softmax, SquaredError

    x, y, agents = table["x"], table["y"], settings["agents"]
    outputs = 1 if settings["score"] != "accuracy" else int(y.max()) + 1
    loss = SquaredError() if settings["score"] == "R2" else Logistic() if outputs <= 2 else Softmax()
    targets = np.eye(outputs)[y] if outputs > 2 else y[:, None].astype(float)
    owner = np.random.default_rng(settings["seed"]).permutation(len(x)) % agents
    shards = [(x[owner == i], targets[owner == i]) for i in range(agents)]
    model = MLP([x.shape[1], settings["hidden"], targets.shape[1]])
    penalty, options = L2(alpha=settings["alpha"] / len(x)), {"n_threads": settings["threads"]}
    problem = Problem(model, loss, penalty, shards, dtype=settings["dtype"], **options)
    network = Network(Topology.erdos_renyi(agents, random_state=settings["seed"]), n_threads=settings["threads"])
    full = settings["surrogate"] == "FL"
    options = {key: settings[name] for key, name in PARTIAL.items() if name in settings}
    surrogate = FullLinearization() if full else PartialLinearization(**options)
    marks = set(np.unique(np.geomspace(1, 20000, 160).astype(int)).tolist())
    test = trace.x.astype(settings["dtype"])

    def callback(state, metrics) -> bool:
        if state.t not in marks:
            return False
        w = state.w.mean(axis=0)
        return trace(lambda _: model.forward(w, test), network.round, network.bytes)

    trace.start()
    NEXT(surrogate).run(
        problem, network, max_iter=20000, monitor_every=20000, callbacks=[callback], random_state=settings["seed"],
        warn=False,
    )  # fmt: skip


def sklearn(table: dict, settings: dict, trace: Trace) -> None:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind, more = (
        (MLPRegressor, {}) if settings["score"] == "R2" else (MLPClassifier, {"classes": np.unique(table["y"])})
    )
    model = kind(hidden_layer_sizes=(settings["hidden"],), activation="tanh", learning_rate_init=settings["lr"],
                 batch_size=settings["batch"], random_state=settings["seed"])  # fmt: skip
    x, y = table["x"].astype(settings["dtype"]), table["y"]
    y = y.astype(settings["dtype"]) if settings["score"] == "R2" else y
    test = trace.x.astype(settings["dtype"])

    def predict(_):
        if settings["score"] == "R2":
            return model.predict(test)
        found = model.predict_proba(test)
        return found if found.shape[1] > 2 else found[:, 1:] - 0.5

    trace.start()
    while True:
        model.partial_fit(x, y, **more)
        if trace(predict):
            return


def torch(table: dict, settings: dict, trace: Trace) -> None:
    import torch as t

    t.manual_seed(settings["seed"])
    t.set_num_threads(settings["threads"])
    dtype = getattr(t, settings["dtype"])
    outputs = 1 if settings["score"] != "accuracy" else int(table["y"].max()) + 1
    x, many = t.tensor(table["x"], dtype=dtype), outputs > 2
    y = t.tensor(table["y"]) if many else t.tensor(table["y"], dtype=dtype)[:, None]
    model = t.nn.Sequential(
        t.nn.Linear(x.shape[1], settings["hidden"]),
        t.nn.Tanh(),
        t.nn.Linear(settings["hidden"], outputs if many else 1),
    ).to(dtype)
    optimiser = t.optim.Adam(model.parameters(), lr=settings["lr"])
    loss = t.nn.MSELoss() if settings["score"] == "R2" else (
        t.nn.CrossEntropyLoss() if many else t.nn.BCEWithLogitsLoss()
    )  # fmt: skip
    test = t.tensor(trace.x, dtype=dtype)

    def predict(_):
        with t.no_grad():
            return model(test).numpy()

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

"""Direct feedback alignment on digits, beside backpropagation: ``python -m bench.feedback [--quick | --speed]``.

1400 rows to train, 397 to test; SGD in float32, step .05, batches of 32, 60 epochs, means of two seeds. Alignment:
mean cosine on the test rows between feedback and backpropagation's signal at the end. Entries of B ~ N(0, 1)
unless stated otherwise (N(0, .01) for the chain of convolutions). Then the bottleneck 128-k-128,
a convolutional chain, a ring of four agents against one, turning B towards the true transport by forward gradients,
and the seconds of one gradient. Writes bench/results/feedback*.md, .csv and .png; ends with 1 if a bound is broken:
DFA >= backpropagation - .02 and >= frozen + .03 (3x128), >= frozen + .15 (6x64: six
frozen layers keep more than elsewhere was seen, .80); the layer below the bottleneck aligned
by .35 at k = 128, by .15 at most at k <= 2, rank correlation .9; convolutions aligned by .25 at most and DFA within .02
of frozen ones; networks that feedback did not train within .1 of 0; the ring as good as one agent.
"""

import argparse
import functools
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

from bench.speed.kernels import gradient
from bench.study import save_figure, write_table
from dnnext import AlignmentDisplay, DecentralizedMLPClassifier, kernels
from dnnext.algorithms import NEXT
from dnnext.callbacks import Alignment
from dnnext.local import Feedback, FullLinearization, alignment
from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten
from dnnext.problem import MLP, Problem, Softmax

STEP, BATCH, EPOCHS, SEEDS = 0.05, 32, 60, (0, 1)
SOFTMAX = kernels.LOSSES["softmax"]
Row = dict[str, Any]
Array = np.ndarray[Any, Any]
Direction = Callable[[Array, Array, Array], Array]


@functools.cache
def digits() -> tuple[Array, Array, Array, Array]:
    """Standardised pixels and one-hot labels: training, then test rows."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, d = x[order].astype(np.float32), np.eye(10, dtype=np.float32)[y[order]]
    x = (x - x[:1400].mean(0)) / (x[:1400].std(0) + 0.1)
    return x[:1400], d[:1400], x[1400:], d[1400:]


def sgd(w: Array, direction: Direction, seed: int, epochs: int) -> Array:
    """Plain SGD along the direction of a batch."""
    x, d, *_ = digits()
    rng = np.random.default_rng([seed, 1])
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            w -= np.float32(STEP) * direction(w, x[rows], d[rows])
    return w


def by_kernel(model: MLP, feedback: Feedback | None) -> Direction:
    """The mean gradient of a batch by backpropagation, or by feedback."""
    b = None
    if feedback is not None:
        b = np.ascontiguousarray(np.concatenate(feedback.matrices(model)), np.float32)
    value, grad = np.empty(1), np.empty((1, model.n_params), np.float32)

    def direction(w: Array, x: Array, d: Array) -> Array:
        tail = (d, None, np.array([0, len(x)]), model.layers, model.activation_code, SOFTMAX, 0.0, 1 / len(x))
        if b is None:
            kernels.mlp_loss_grad(value, grad, w[None], x, *tail)
        else:
            kernels.mlp_feedback(value, grad, w[None], x, b, *tail)
        return grad[0]

    return direction


def error_of(d: Array) -> Callable[[Array], Array]:
    return lambda f: Softmax().grad(f, d)


def judged(model: Any, w: Array, feedback: Feedback) -> tuple[float, Array]:
    """Test accuracy and cosines per layer."""
    _, _, x, d = digits()
    f = model.forward(w, x) if isinstance(model, MLP) else chain_outputs(model, w, x)
    return float(np.mean(f.argmax(1) == d.argmax(1))), alignment(model, w, x, error_of(d), feedback)[0]


METHODS: dict[str, Callable[[int], Any]] = {
    "backpropagation": lambda seed: None,
    "DFA": lambda seed: Feedback(seed, 1.0),
    "frozen": lambda seed: Feedback(seed, 0.0),
}


def trained(hidden: tuple[int, ...], activation: str, make: Callable[[int], Any], seed: int, epochs: int) -> Any:
    model = MLP([64, *hidden, 10], activation)
    feedback = make(seed)
    w = sgd(model.init(seed).astype(np.float32), by_kernel(model, feedback), seed, epochs)
    measured = feedback if feedback is not None and feedback.scale != 0 else Feedback(seed)
    return judged(model, w, measured)


def row(name: str, network: str, activation: str, runs: list[Any]) -> Row:
    accuracy, cosine = np.mean([r[0] for r in runs]), np.mean([r[1] for r in runs], axis=0)
    found = {"network": network, "activation": activation, "method": name, "test accuracy": round(float(accuracy), 4)}
    found["alignment per layer"] = " ".join(f"{c:.2f}" for c in cosine)
    print(found, flush=True)
    return found


def networks(seeds: tuple[int, ...], epochs: int) -> list[Row]:
    """3x128 and 6x64: methods, activations, scales and kinds of B."""
    found = []
    for network, hidden in (("3x128", (128,) * 3), ("6x64", (64,) * 6)):
        for activation in ("tanh", "relu"):
            for name, make in METHODS.items():
                if name == "frozen" and activation != "tanh":
                    continue
                runs = [trained(hidden, activation, make, seed, epochs) for seed in seeds]
                found.append(row(name, network, activation, runs))
    kinds = {
        "DFA, normalised B": Feedback,
        "DFA, B ~ N(0, .001^2)": lambda seed: Feedback(seed, 0.001),
        "DFA, orthogonal B": lambda seed: Feedback(seed, 1.0, "orthogonal"),
        "DFA, shared B": lambda seed: Feedback(seed, 1.0, shared=True),
    }
    for name, make in kinds.items():
        found.append(row(name, "3x128", "tanh", [trained((128,) * 3, "tanh", make, s, epochs) for s in seeds]))
    found.append(
        row("DFA", "3x128", "softplus", [trained((128,) * 3, "softplus", METHODS["DFA"], s, epochs) for s in seeds])
    )
    return found


def bottleneck(seeds: tuple[int, ...], epochs: int) -> list[Row]:
    found = []
    for k in (1, 2, 3, 5, 8, 18, 46, 128):
        kinds = ("DFA", "backpropagation")
        dfa, bp = ([trained((128, k, 128), "tanh", METHODS[m], s, epochs) for s in seeds] for m in kinds)
        cosine = float(np.mean([r[1][0] for r in dfa]))
        accuracies = [round(float(np.mean([r[0] for r in runs])), 4) for runs in (dfa, bp)]
        found.append({"k": k, "alignment of layer 1": round(cosine, 3), **dict(zip(kinds, accuracies, strict=True))})
        print(found[-1], flush=True)
    return found


def chain_outputs(model: Chain, w: Array, x: Array) -> Array:
    from dnnext.models import Rows

    return model.forward(w[None], Rows(x.reshape(len(x), 8, 8), np.array([0, len(x)])))


def convolutions(epochs: int, seed: int = 0) -> list[Row]:
    """conv 8 - conv 16 - 64: convolutions do not align, and DFA is as good as leaving them as they started."""
    layers = [Conv2d(8, 3, activation="tanh"), Conv2d(16, 3, activation="tanh"), AvgPool2d(2), Flatten()]
    model = Chain([*layers, Dense(64, "tanh"), Dense(10)], (8, 8))
    feedback, found = Feedback(seed, 0.1), []
    first_dense = next(p.start for p in model.layout.parts if len(p.shape) == 2)
    for name in ("backpropagation", "DFA", "convolutions frozen"):

        def direction(w: Array, x: Array, d: Array, name: str = name) -> Array:
            problem = Problem(model, Softmax(), None, [(x.reshape(-1, 8, 8), d)], dtype="float32")
            out = np.empty((1, len(w)), np.float32)
            if name == "DFA":
                feedback(problem, w[None], out, {})
            else:
                problem.loss_grad(w[None], out)
            if name == "convolutions frozen":
                out[:, :first_dense] = 0
            return out[0]

        w = sgd(model.init(seed).astype(np.float32), direction, seed, epochs)
        found.append(row(name, "conv 8 - conv 16 - 64", "tanh", [judged(model, w, feedback)]))
    return found


def decentralised(max_iter: int) -> list[Row]:
    """Four agents on a ring against one that holds all rows; the same iterations of NEXT, fully linearised."""
    x, d, x_test, d_test = digits()
    found = []
    for name, oracle in (("DFA", Feedback(0)), ("backpropagation", None)):
        for n_agents, topology in ((1, "complete"), (4, "ring")):
            angles = Alignment(every=20, feedback=Feedback(0))
            clf = DecentralizedMLPClassifier(
                (64, 64), algorithm=NEXT(FullLinearization(), oracle=oracle), n_agents=n_agents, topology=topology,
                standardize=False, max_iter=max_iter, tol=0, random_state=0, callbacks=[angles],
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                clf.fit(x, d.argmax(1))
            found.append({
                "agents": n_agents, "method": name, "test accuracy": round(clf.score(x_test, d_test.argmax(1)), 4),
                "disagreement": f"{clf.history_['disagreement'][-1]:.1e}",
                "alignment per layer": " ".join(f"{c:.2f}" for c in angles.history["mean"][-1]), "angles": angles,
            })  # fmt: skip
            print({k: v for k, v in found[-1].items() if k != "angles"}, flush=True)
    return found


class Turning:
    """DFA whose B turn towards the true transport: rank-one estimates v (J v)' from forward passes, rare anchors.

    In the spirit of forward-gradient feedback: with v standard normal in the outputs of a layer and J the mean Jacobian
    of the network's outputs in them, E v (J v)' = J', the matrix that backpropagation would use on average.
    """

    def __init__(self, model: MLP, seed: int, rate: float = 0.02, anchor: int | None = 200) -> None:
        self.model, self.rate, self.anchor = model, np.float32(rate), anchor
        self.b = [m.astype(np.float32) for m in Feedback(seed).matrices(model)]
        self.rng, self.t = np.random.default_rng([seed, 7]), 0

    def transported(self, parts: list[Any], a: list[Array], k: int, v: Array) -> Array:
        """Mean over the batch of J v, v (n, h_k) in the outputs of hidden layer k."""
        for j in range(k + 1, len(parts)):
            v = v @ parts[j][0]
            if j < len(parts) - 1:
                v = v * (1 - a[j + 1] ** 2)
        return v

    def __call__(self, w: Array, x: Array, d: Array) -> Array:
        parts, a = self.model.unpack(w), [x]
        for j, (weight, bias) in enumerate(parts):
            z = a[-1] @ weight + bias
            a.append(np.tanh(z) if j < len(parts) - 1 else z)
        for k in range(len(self.b)):
            h = self.b[k].shape[0]
            if self.anchor and self.t % self.anchor == 0:
                slopes = np.mean([self.transported(parts, [row[m : m + 1] for row in a], k, np.eye(h, dtype=np.float32))
                                  for m in range(4)], axis=0)  # fmt: skip
                self.b[k] = slopes
            else:
                v = self.rng.standard_normal(h).astype(np.float32)
                moved = self.transported(parts, a, k, np.broadcast_to(v, (len(x), h))).mean(0)
                self.b[k] += self.rate / h * np.outer(v, moved - v @ self.b[k])  # least squares along v
        self.t += 1
        e = Softmax().grad(a[-1], d) / np.float32(len(x))
        deltas = [e @ b.T * (1 - a[k + 1] ** 2) for k, b in enumerate(self.b)] + [e]
        return self.model.pack([(a[k].T @ g, g.sum(0)) for k, g in enumerate(deltas)]).astype(np.float32)

    def matrices(self, model: Any) -> list[Array]:
        return self.b


def turning(seeds: tuple[int, ...], epochs: int) -> list[Row]:
    found = []
    for name, anchor in (("DFA, B turned by forward gradients", None), ("the same, anchored every 200 steps", 200)):
        runs = []
        for seed in seeds:
            model = MLP([64, 128, 128, 128, 10])
            turn = Turning(model, seed, 1.0, anchor)
            w = sgd(model.init(seed).astype(np.float32), turn, seed, epochs)
            runs.append(judged(model, w, turn))  # type: ignore[arg-type]
        found.append(row(name, "3x128", "tanh", runs))
    return found


DEEP = {
    "3x128": (1, 1400, (64, *[128] * 3, 10)),
    "6x64": (1, 1400, (64, *[64] * 6, 10)),
    "8x256": (1, 2000, (100, *[256] * 8, 10)),
    "16x128": (1, 1400, (64, *[128] * 16, 10)),
}


def speed(repeats: int) -> list[Row]:
    """Seconds of one gradient, one thread, both ways in turn; medians."""
    found = []
    shapes = {name: tuple(shape[:3]) for name, shape in gradient.SHAPES.items()} | DEEP
    for name, (agents, n, layers) in shapes.items():
        for dtype in (np.float64, np.float32):
            model, rng = MLP(layers), np.random.default_rng(0)
            w = np.tile(model.init(0).astype(dtype), (agents, 1))
            x, d = (rng.standard_normal((agents * n, size)).astype(dtype) for size in (layers[0], layers[-1]))
            b = np.ascontiguousarray(np.concatenate([np.empty((0, layers[-1])), *Feedback(0).matrices(model)]), dtype)
            value, grad = np.empty(agents), np.empty((agents, model.n_params), dtype)
            tail = (d, None, n * np.arange(agents + 1), layers, model.activation_code, 0, 0.0, 1 / n)
            seconds: dict[str, list[float]] = {"backpropagation": [], "DFA": []}
            for _ in range(repeats):
                for kind, took in seconds.items():
                    begin = time.perf_counter()
                    if kind == "DFA":
                        kernels.mlp_feedback(value, grad, w, x, b, *tail)
                    else:
                        kernels.mlp_loss_grad(value, grad, w, x, *tail)
                    took.append(time.perf_counter() - begin)
            bp, dfa = (float(np.median(took)) for took in seconds.values())
            found.append({"shape": name, "dtype": np.dtype(dtype).name, "backpropagation (ms)": round(1e3 * bp, 4),
                          "DFA (ms)": round(1e3 * dfa, 4), "DFA / backpropagation": round(dfa / bp, 3)})  # fmt: skip
            print(found[-1], flush=True)
    return found


def report(name: str, title: str, rows: list[Row], notes: str) -> None:
    rows = [{k: v for k, v in r.items() if k != "angles"} for r in rows]
    write_table(name, title, list(rows[0]), [list(r.values()) for r in rows], notes)


def broken(found: list[Row], necks: list[Row], conv: list[Row], ring: list[Row]) -> Iterator[str]:
    """The bounds that do not hold."""
    score = {(r["network"], r["activation"], r["method"]): r["test accuracy"] for r in found}
    for network, gain in (("3x128", 0.03), ("6x64", 0.15)):
        bp, dfa, frozen = (score[network, "tanh", m] for m in METHODS)
        if dfa < bp - 0.02 or dfa < frozen + gain:
            yield f"{network}: DFA {dfa}, backpropagation {bp}, frozen {frozen}"
    for r in found:
        largest = max(abs(float(c)) for c in r["alignment per layer"].split())
        if r["method"] in ("backpropagation", "frozen") and largest > 0.1:
            yield f"control {r}"
    cosines = [r["alignment of layer 1"] for r in necks]
    if necks and (cosines[-1] < 0.35 or max(cosines[:2]) > 0.15 or spearmanr(range(len(cosines)), cosines)[0] < 0.9):
        yield f"bottleneck {cosines}"
    if conv:
        _, dfa, frozen = (r["test accuracy"] for r in conv)
        first, second, *_ = map(float, conv[1]["alignment per layer"].split())
        if max(first, second) > 0.25 or abs(dfa - frozen) > 0.02:
            yield f"convolutions: aligned by {first}, {second}; DFA {dfa}, frozen {frozen}"
    if abs(ring[0]["test accuracy"] - ring[1]["test accuracy"]) > 0.01 or float(ring[1]["disagreement"]) > 1e-5:
        yield f"ring: {ring[:2]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, a few epochs, no files")
    parser.add_argument("--speed", action="store_true", help="the seconds alone")
    options = parser.parse_args()
    notes = __doc__.split("\n\n", 1)[1]
    if options.speed:
        report("feedback_speed", "Seconds of one gradient", speed(41), "One thread; medians of runs in turn.")
        return 0
    seeds, epochs = ((0,), 8) if options.quick else (SEEDS, EPOCHS)
    found = networks(seeds, epochs)
    ring = decentralised(60 if options.quick else 600)
    necks = bottleneck(seeds[:2], epochs)
    conv = convolutions(2 if options.quick else 12)
    turned = turning(seeds[:1], epochs)
    if options.quick:
        return 0
    report("feedback", "Direct feedback alignment on digits", found + conv + turned, notes)
    report("feedback_ring", "Feedback over a ring", ring, notes)
    report("feedback_bottleneck", "The layer below a bottleneck", necks, notes)
    score = [[r["DFA"], r["backpropagation"]] for r in necks]
    widths, cosine = [r["k"] for r in necks], [r["alignment of layer 1"] for r in necks]
    shown = AlignmentDisplay.from_bottleneck(widths, cosine, score, score_labels=["DFA", "backpropagation"])
    save_figure(shown.figure_, "feedback_bottleneck", "digits, 128-k-128, tanh, two seeds")
    shown = AlignmentDisplay.from_callback(ring[1]["angles"])
    save_figure(shown.figure_, "feedback_angles", "digits, 64-64-64-10, four agents on a ring, NEXT, fully linearised")
    bad = list(broken(found, necks, conv, ring))
    print("\n".join(bad) or "all bounds hold")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())

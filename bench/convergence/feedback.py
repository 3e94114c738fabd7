"""Direct feedback alignment on digits: ``python -m bench.convergence.feedback [--quick]``.

1400 rows to train, 397 to test; SGD in float32, step .05, batches of 32, 60 epochs, means of two seeds. Weights start
uniform within 1 / sqrt(3) of Glorot's bound, which is 1 / sqrt(inputs) for layers as wide as their inputs, and B is
normalised, unless stated otherwise. Alignment: mean cosine on the test rows between feedback and backpropagation's
signal at the end. Then the bottleneck 128-k-128, a convolutional chain (12 epochs, Glorot's start, B ~ N(0, .01)), a
ring of four agents against one, and turning B towards the true transport by forward gradients. Writes
bench/results/feedback*.md, .csv and .png; ends with 1 if a bound is broken: with tanh DFA >= backpropagation - .02, and
>= frozen + .03 (3x128) or + .25 (6x64), with ReLU the same beside frozen layers; the layer below the bottleneck aligned
by .35 at k = 128, by .15 at most at k <= 2, rank correlation .9; convolutions aligned by .25 at most and DFA within .02
of frozen ones; networks that feedback did not train within .1 of 0; the ring as good as one agent.

From Glorot's own start six frozen layers keep so much that .25 more than they is out of reach. ReLU bounds no signal:
in 6x64 it trains while the hidden layers' step, .05 times the size of B, is about .002, and diverges from .005 on.
"""

import argparse
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

from bench.study import save_figure, write_table
from dnnext import AlignmentDisplay, DecentralizedMLPClassifier, kernels
from dnnext.algorithms import NEXT
from dnnext.callbacks import Alignment
from dnnext.local import Feedback, FullLinearization, alignment
from dnnext.models import AvgPool2d, Chain, Conv2d, Dense, Flatten
from dnnext.problem import MLP, Problem, Softmax

STEP, BATCH, EPOCHS, SEEDS = 0.05, 32, 60, (0, 1)
START = 3**-0.5  # beside Glorot's bound
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
    "DFA": Feedback,
    "frozen": lambda seed: Feedback(seed, 0.0),
}
KINDS: dict[str, Callable[[int], Any]] = {
    "DFA, B ~ N(0, 1)": lambda seed: Feedback(seed, 1.0),
    "DFA, B ~ N(0, .001^2)": lambda seed: Feedback(seed, 0.001),
    "DFA, orthogonal B": lambda seed: Feedback(seed, "normalised", "orthogonal"),
    "DFA, shared B": lambda seed: Feedback(seed, shared=True),
}
SIZES = {"3x128": (128,) * 3, "6x64": (64,) * 6}


def trained(
    hidden: tuple[int, ...], activation: str, make: Callable[[int], Any], seed: int, epochs: int, start: float = START
) -> Any:
    model = MLP([64, *hidden, 10], activation)
    feedback = make(seed)
    with np.errstate(all="ignore"):  # one that diverges
        w = sgd(model.init(seed, start).astype(np.float32), by_kernel(model, feedback), seed, epochs)
        measured = feedback if feedback is not None and feedback.scale != 0 else Feedback(seed)
        return judged(model, w, measured)


def row(name: str, network: str, activation: str, runs: list[Any]) -> Row:
    accuracy, cosine = np.mean([r[0] for r in runs]), np.mean([r[1] for r in runs], axis=0)
    found = {"network": network, "activation": activation, "method": name, "test accuracy": round(float(accuracy), 4)}
    found["alignment per layer"] = " ".join(f"{c:.2f}" for c in cosine)
    print(found, flush=True)
    return found


def networks(seeds: tuple[int, ...], epochs: int) -> list[Row]:
    """3x128 and 6x64: methods, activations, scales and kinds of B, Glorot's start."""

    def runs(network: str, activation: str, make: Callable[[int], Any], start: float = START) -> list[Any]:
        return [trained(SIZES[network], activation, make, seed, epochs, start) for seed in seeds]

    found = []
    for network in SIZES:
        for activation in ("tanh", "relu"):
            for name, make in METHODS.items():
                found.append(row(name, network, activation, runs(network, activation, make)))
    for name, make in KINDS.items():
        found.append(row(name, "3x128", "tanh", runs("3x128", "tanh", make)))
    found.append(row("DFA", "3x128", "softplus", runs("3x128", "softplus", METHODS["DFA"])))
    for network, activation in (("3x128", "tanh"), ("6x64", "tanh"), ("6x64", "relu")):
        for name, make in METHODS.items():
            found.append(row(f"{name}, Glorot's start", network, activation, runs(network, activation, make, 1.0)))
    found.append(row("DFA, B ~ N(0, 1)", "6x64", "tanh", runs("6x64", "tanh", KINDS["DFA, B ~ N(0, 1)"])))
    found.append(row("DFA, B ~ N(0, .1^2)", "6x64", "relu", runs("6x64", "relu", lambda seed: Feedback(seed, 0.1))))
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
            w = sgd(model.init(seed, START).astype(np.float32), turn, seed, epochs)
            runs.append(judged(model, w, turn))  # type: ignore[arg-type]
        found.append(row(name, "3x128", "tanh", runs))
    return found


def report(name: str, title: str, rows: list[Row], notes: str) -> None:
    rows = [{k: v for k, v in r.items() if k != "angles"} for r in rows]
    write_table(name, title, list(rows[0]), [list(r.values()) for r in rows], notes)


def broken(found: list[Row], necks: list[Row], conv: list[Row], ring: list[Row]) -> Iterator[str]:
    """The bounds that do not hold."""
    score = {(r["network"], r["activation"], r["method"]): r["test accuracy"] for r in found}
    for network, gain in (("3x128", 0.03), ("6x64", 0.25)):
        for activation in ("tanh", "relu"):
            bp, dfa, frozen = (score[network, activation, m] for m in METHODS)
            if dfa < frozen + gain or (activation == "tanh" and dfa < bp - 0.02):
                yield f"{network}, {activation}: DFA {dfa}, backpropagation {bp}, frozen {frozen}"
    for r in found:
        largest = max(abs(float(c)) for c in r["alignment per layer"].split())
        if r["method"].startswith(("backpropagation", "frozen")) and largest > 0.1:
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
    options = parser.parse_args()
    notes = __doc__.split("\n\n", 1)[1]
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

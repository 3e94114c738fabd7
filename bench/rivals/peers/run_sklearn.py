"""scikit-learn's loss and gradient of the pooled rows (what one of its L-BFGS steps calls), the same network."""

import numpy as np
import sklearn
from shared import answer, task, timed
from sklearn.neural_network import MLPRegressor


def main():
    t = task()
    x, y = t.x.reshape(-1, t.n_inputs), t.y.ravel()
    model = MLPRegressor(hidden_layer_sizes=(t.hidden,), activation="tanh", alpha=0.0)
    units = [t.n_inputs, t.hidden, 1]
    model._random_state = np.random.RandomState(0)
    model.n_outputs_, model.out_activation_ = 1, "identity"
    model._initialize(y[:, None], units, np.float64)
    a, b, c = t.cuts()
    w = t.w0
    coefs = [w[:a].reshape(t.n_inputs, t.hidden), w[b:c].reshape(t.hidden, 1)]
    packed = np.concatenate([*[m.ravel() for m in coefs], w[a:b], w[c:]])
    model._coef_indptr, model._intercept_indptr = [], []
    at = 0
    for m in coefs:
        model._coef_indptr.append((at, at + m.size, m.shape))
        at += m.size
    for size in (t.hidden, 1):
        model._intercept_indptr.append((at, at + size))
        at += size
    n = len(x)
    activations = [x, *[np.empty((n, u)) for u in units[1:]]]
    deltas = [np.empty_like(v) for v in activations[1:]]
    grads = [np.empty_like(m) for m in coefs], [np.empty(t.hidden), np.empty(1)]
    got = {}

    def step(k):
        got["value"], got["slope"] = model._loss_grad_lbfgs(packed, x, y[:, None], None, activations, deltas, *grads)

    ms, seconds = timed(step, t.n_iter)
    slope = got["slope"]
    flat = np.concatenate([slope[: coefs[0].size], slope[-t.hidden - 1 : -1],
                           slope[coefs[0].size : coefs[0].size + t.hidden], slope[-1:]])  # fmt: skip
    answer(ms, seconds, flat, f"scikit-learn {sklearn.__version__}")


if __name__ == "__main__":
    main()

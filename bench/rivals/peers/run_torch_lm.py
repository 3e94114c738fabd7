"""Levenberg-Marquardt of torch-levenberg-marquardt on the pooled rows of one task (MIT; used, not copied), one thread.

Arguments: the task, and the package's damping mode. Its loss is a mean of squared residuals of rows, so the penalty is
one row more per weight: with N rows, sum_m (f_m - y_m)^2 / (2 N) + alpha/2 |w|^2 is the sum of squares of the residuals
f_m - y_m and sqrt(alpha N) w_k, times 1 / (2 N).
"""

import sys
import time
from importlib.metadata import version

import numpy as np
import torch
from shared import answer, task
from torch_levenberg_marquardt.damping import StandardDampingStrategy
from torch_levenberg_marquardt.training import LevenbergMarquardtModule


class Network(torch.nn.Module):
    """One hidden layer of tanh units, weights in a flat row; a row (x, k) with k >= 0 is the penalty of weight k."""

    def __init__(self, t):
        super().__init__()
        self.w = torch.nn.Parameter(torch.from_numpy(t.w0))
        self.n_inputs, self.hidden, self.cuts = t.n_inputs, t.hidden, t.cuts()
        self.root = float(np.sqrt(t.alpha * t.n_total))

    def forward(self, rows):
        w, (a, b, c) = self.w, self.cuts
        x, k = rows[:, :-1], rows[:, -1:].long()
        f = torch.tanh(x @ w[:a].reshape(self.n_inputs, self.hidden) + w[a:b]) @ w[b:c, None] + w[c:]
        return torch.where(k < 0, f, self.root * w[k.clamp(min=0)])


def main():
    t, mode = task(), sys.argv[2]
    torch.set_num_threads(1)
    a, b, c = t.cuts()
    punished = np.r_[0:a, b:c]  # biases are not
    x, y = t.x.reshape(-1, t.n_inputs), t.y.ravel()
    rows = np.zeros((len(x) + len(punished), t.n_inputs + 1))
    rows[: len(x), :-1], rows[: len(x), -1], rows[len(x) :, -1] = x, -1, punished
    rows = torch.from_numpy(rows)
    target = torch.from_numpy(np.r_[y, np.zeros(len(punished))])[:, None]
    module = LevenbergMarquardtModule(
        Network(t), damping_strategy=StandardDampingStrategy(damping_mode=mode), solve_method="cholesky"
    )
    loss = module.loss_fn(module.forward(rows), target).item() * len(rows) / (2 * len(x))
    path, trials, cpu = [t.w0.tolist()], [0], [0.0]
    begin = time.perf_counter()
    for _ in range(t.n_iter):
        before = time.process_time()
        stopped, logs = module.training_step(rows, target)[2:]
        cpu.append(cpu[-1] + time.process_time() - before)
        trials.append(trials[-1] + int(logs["attempts"]))
        path.append(module.flat_params.tolist())
        if stopped or trials[-1] >= t.n_iter:
            break
    seconds = time.perf_counter() - begin
    name = f"torch-levenberg-marquardt {version('torch-levenberg-marquardt')}"
    answer(1e3 * seconds / len(path), seconds, path[-1], name, path=path, trials=trials, cpu=cpu, loss=loss)


if __name__ == "__main__":
    main()

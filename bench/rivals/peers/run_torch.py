"""Gradient tracking written in PyTorch: a loop over agents in eager mode, or vmapped over them (argument "vmap")."""

import sys

import torch
from shared import answer, task, timed


def main():
    t, vmapped = task(), "vmap" in sys.argv
    torch.set_num_threads(1)
    x, y, mixing = (torch.from_numpy(a) for a in (t.x, t.y, t.mixing))
    a, b, c = t.cuts()

    def value(w, x, y):
        h = torch.tanh(x @ w[:a].reshape(t.n_inputs, t.hidden) + w[a:b])
        return 0.5 * torch.sum((h @ w[b:c] + w[c:] - y) ** 2) / t.n_total

    batched = torch.func.vmap(torch.func.grad(value))

    def gradients(w):
        if vmapped:
            return batched(w, x, y)
        rows = []
        for i in range(t.n_agents):
            own = w[i].detach().requires_grad_()
            rows.append(torch.autograd.grad(value(own, x[i], y[i]), own)[0])
        return torch.stack(rows)

    s = {"w": torch.from_numpy(t.w0).repeat(t.n_agents, 1)}
    s["g"] = gradients(s["w"])
    s["y"] = s["g"]

    def step(k):
        with torch.no_grad():
            s["w"], s["y"] = mixing @ (s["w"] - t.step * t.n_agents * s["y"]), mixing @ s["y"]
        g = gradients(s["w"])
        s["y"], s["g"] = s["y"] + g - s["g"], g

    ms, seconds = timed(step, t.n_iter)
    answer(ms, seconds, s["w"].numpy(), f"torch {torch.__version__}{', vmap' if vmapped else ''}")


if __name__ == "__main__":
    main()

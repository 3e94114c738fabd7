"""PyTorch's side of bench.speed.kernels, one thread: formulas on tensors made before, autograd and vmap."""

import formulas
import torch
from child import serve

torch.set_num_threads(1)
torch.set_flush_denormal(False)


def make(task, arrays):
    t = {name: torch.from_numpy(a) for name, a in arrays.items()}
    kinds = {"gradient": gradient, "curvature": curvature, "dual": dual, "mixing": mixing, "step": step,
             "elementary": elementary, "residual": residual, "residual_product": residual_product}  # fmt: skip
    return kinds[task["kind"]](task, t)


def gradient(task, t):
    net = [t[k] for k in ("w1", "b1", "w2", "b2")]
    scale = task["scale"]

    def of_agent(w1, b1, w2, b2, x, target):
        f = torch.tanh(x @ w1 + b1) @ w2 + b2
        if f.shape[-1] == 1:
            return 0.5 * scale * torch.sum((f - target) ** 2)
        return scale * (torch.logsumexp(f, -1).sum() - torch.sum(target * f))

    both = torch.func.grad_and_value(of_agent, argnums=(0, 1, 2, 3))
    batched = torch.func.vmap(both)

    def vmapped():
        grads, loss = batched(*net, t["x"], t["target"])
        return (loss, *grads)

    def loop():
        results = []
        for i in range(len(t["x"])):
            own = [w[i].detach().requires_grad_() for w in net]
            loss = of_agent(*own, t["x"][i], t["target"][i])
            results.append((loss.detach(), *torch.autograd.grad(loss, own)))
        return [r for row in results for r in row]

    def by_hand():
        with torch.no_grad():
            return formulas.gradient(torch, *net, t["x"], t["target"], scale)

    def by_hand_loop():
        with torch.no_grad():
            rows = [
                formulas.gradient(torch, *(w[i] for w in net), t["x"][i], t["target"][i], scale)
                for i in range(len(t["x"]))
            ]
        return [r for row in rows for r in row]

    return {"vmap": vmapped, "autograd": loop, "formulas": by_hand, "formulas, loop": by_hand_loop}


def residual(task, t):
    names = ("k", "kb", "w", "b", "c", "cb")

    def eager():
        own = {name: t[name].detach().requires_grad_() for name in names}
        u = torch.tanh(t["x"] @ own["k"] + own["kb"])
        for weight, bias in zip(own["w"].unbind(), own["b"].unbind(), strict=True):
            u = u + task["h"] * torch.tanh(u @ weight + bias)
        f = u @ own["c"] + own["cb"]
        loss = task["scale"] * (torch.logsumexp(f, -1).sum() - torch.sum(t["target"] * f))
        return (loss.detach(), *torch.autograd.grad(loss, list(own.values())))

    parts = [[a[i].clone() for a in (t["w"], t["b"])] for i in range(len(t["w"]))]
    flat = [t[name] for name in ("k", "kb", "c", "cb")] + [a for pair in parts for a in pair]

    def apart():  # every layer's arrays leaves of their own, as the parameters of modules are
        own = [a.detach().requires_grad_() for a in flat]
        u = torch.tanh(t["x"] @ own[0] + own[1])
        for weight, bias in zip(own[4::2], own[5::2], strict=True):
            u = u + task["h"] * torch.tanh(torch.addmm(bias, u, weight))
        f = torch.addmm(own[3], u, own[2])
        loss = task["scale"] * (torch.logsumexp(f, -1).sum() - torch.sum(t["target"] * f))
        return (loss.detach(), *torch.autograd.grad(loss, own))

    return {"stacked": eager, "a leaf per layer": apart}


def residual_product(task, t):
    names = ("k", "kb", "w", "b", "c", "cb")
    own = tuple(t[name] for name in names)

    def network(k, kb, w, b, c, cb):
        u = torch.tanh(t["x"] @ k + kb)
        for weight, bias in zip(w.unbind(), b.unbind(), strict=True):
            u = u + task["h"] * torch.tanh(u @ weight + bias)
        return u @ c + cb

    def product():
        _, along = torch.func.jvp(network, own, own)
        _, pull = torch.func.vjp(network, *own)
        return pull(along)

    return {"jvp, vjp": product}


def jacobian(t):
    eye = torch.eye(t["root"].shape[1], dtype=t["x"].dtype)
    return formulas.jacobian(torch, t["w1"], t["b1"], t["w2"], t["x"], t["root"], eye)


def curvature(task, t):
    def product():
        j = jacobian(t)
        return (j.T @ j,)

    return {"J'J": product}


def dual(task, t):
    def solve():
        j, d = jacobian(t), t["diagonal"]
        scaled = j / d
        k = scaled @ j.T
        k.diagonal().add_(1)
        right = t["rhs"] / d
        return (right - scaled.T @ torch.cholesky_solve((j @ right)[:, None], torch.linalg.cholesky(k))[:, 0],)

    return {"J J', Cholesky": solve}


def mixing(task, t):
    out = torch.empty_like(t["rows"])
    sparse = torch.sparse_csr_tensor(t["indptr"], t["indices"], t["data"], tuple(t["dense"].shape))
    return {"dense": lambda: (torch.mm(t["dense"], t["rows"], out=out),), "CSR": lambda: (sparse @ t["rows"],)}


def step(task, t):
    shrink = torch.nn.functional.softshrink
    one = float(t["threshold"].flatten()[0])

    def fused():
        v = torch.sub(t["w"], t["y"], alpha=task["agents"])
        return (torch.lerp(t["w"], shrink(v, one).mul_(task["shrink"]), task["step"]),)

    return {"softshrink, lerp": fused}


def elementary(task, t):
    out = torch.empty_like(t["z"])
    function = {"tanh": torch.tanh, "logistic": torch.sigmoid}.get(task["name"])
    if function is None:
        return {task["name"]: lambda: (torch.nn.functional.softplus(t["z"], threshold=1e3),)}
    return {task["name"]: lambda: (function(t["z"], out=out),)}


def block(result, fast=False):
    return None if fast else float(sum(r.double().abs().sum() for r in result))


serve(make, block, torch.__version__)

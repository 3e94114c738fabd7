"""JAX's side of bench.speed.kernels: everything jitted and warmed up, on one processor of this process."""

import os

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import formulas
import jax
import jax.numpy as jnp
from child import serve

jax.config.update("jax_enable_x64", True)


def make(task, arrays):
    t = {name: jnp.asarray(a) for name, a in arrays.items()}
    kind = {"gradient": gradient, "curvature": curvature, "dual": dual, "mixing": mixing, "step": step,
            "elementary": elementary}[task["kind"]]  # fmt: skip
    jitted = {name: (jax.jit(function), args) for name, (function, args) in kind(task, t).items()}
    return {name: (lambda f=function, a=args: f(*a)) for name, (function, args) in jitted.items()}


def gradient(task, t):
    scale, names = task["scale"], ("w1", "b1", "w2", "b2", "x", "target")
    args = tuple(t[k] for k in names)

    def of_agent(w1, b1, w2, b2, x, target):
        f = jnp.tanh(x @ w1 + b1) @ w2 + b2
        if f.shape[-1] == 1:
            return 0.5 * scale * jnp.sum((f - target) ** 2)
        return scale * (jax.nn.logsumexp(f, -1).sum() - jnp.sum(target * f))

    both = jax.value_and_grad(of_agent, argnums=(0, 1, 2, 3))
    by_hand = lambda *a: formulas.gradient(jnp, *a, scale)  # noqa: E731
    return {"vmap": (jax.vmap(both), args), "formulas": (by_hand, args)}


def rows_of_jacobian(t):
    return lambda w1, b1, w2, x, root: formulas.jacobian(
        jnp, w1, b1, w2, x, root, jnp.eye(root.shape[1], dtype=root.dtype)
    )


def curvature(task, t):
    j = rows_of_jacobian(t)

    def product(*a):
        rows = j(*a)
        return (rows.T @ rows,)

    return {"J'J": (product, tuple(t[k] for k in ("w1", "b1", "w2", "x", "root")))}


def dual(task, t):
    j = rows_of_jacobian(t)

    def solve(w1, b1, w2, x, root, d, rhs):
        rows = j(w1, b1, w2, x, root)
        scaled = rows / d
        k = scaled @ rows.T + jnp.eye(len(rows), dtype=rows.dtype)
        right = rhs / d
        return (right - scaled.T @ jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(k), rows @ right),)

    return {"J J', Cholesky": (solve, tuple(t[k] for k in ("w1", "b1", "w2", "x", "root", "diagonal", "rhs")))}


def mixing(task, t):
    return {"dense": (lambda c, rows: (c @ rows,), (t["dense"], t["rows"]))}


def step(task, t):
    args = tuple(t[k] for k in ("w", "y", "threshold"))
    function = lambda w, y, cut: (formulas.respond(jnp, w, y, cut, task["shrink"], task["step"], task["agents"]),)  # noqa: E731
    return {"jit": (function, args)}


def elementary(task, t):
    function = {"tanh": jnp.tanh, "logistic": jax.nn.sigmoid, "softplus": jax.nn.softplus}[task["name"]]
    return {task["name"]: (lambda z: (function(z),), (t["z"],))}


def block(result, fast=False):
    jax.block_until_ready(result)
    return None if fast else float(sum(jnp.abs(r.astype(jnp.float64)).sum() for r in jax.tree_util.tree_leaves(result)))


serve(make, block, jax.__version__)

"""Gradient tracking written in JAX: vmapped over agents, one jitted step, warmed up."""

import jax
import jax.numpy as jnp
from shared import answer, task, timed

jax.config.update("jax_enable_x64", True)


def main():
    t = task()
    x, y, mixing = (jnp.asarray(a) for a in (t.x, t.y, t.mixing))
    a, b, c = t.cuts()

    def value(w, x, y):
        h = jnp.tanh(x @ w[:a].reshape(t.n_inputs, t.hidden) + w[a:b])
        return 0.5 * jnp.sum((h @ w[b:c] + w[c:] - y) ** 2) / t.n_total

    gradients = jax.vmap(jax.grad(value))

    @jax.jit
    def step(state):
        w, track, g = state
        w, track = mixing @ (w - t.step * t.n_agents * track), mixing @ track
        new = gradients(w, x, y)
        return w, track + new - g, new

    w = jnp.tile(jnp.asarray(t.w0), (t.n_agents, 1))
    g = jax.jit(gradients)(w, x, y)
    s = {"state": (w, g, g)}
    jax.block_until_ready(step(s["state"]))

    def once(k):
        s["state"] = jax.block_until_ready(step(s["state"]))

    ms, seconds = timed(once, t.n_iter)
    answer(ms, seconds, s["state"][0], f"jax {jax.__version__}")


if __name__ == "__main__":
    main()

"""One hidden tanh layer, written once for NumPy, PyTorch and JAX (`xp`); leading axes are agents. No imports: the
peers' processes read this file too.

w1 (..., d, h), b1 (..., 1, h), w2 (..., h, Q), b2 (..., 1, Q); x (..., n, d); target (..., n, Q).
"""


def value(xp, w1, b1, w2, b2, x, target, scale):
    """scale sum of half squares (Q = 1), or of cross-entropies of softmax (one-hot targets)."""
    f = xp.tanh(x @ w1 + b1) @ w2 + b2
    if f.shape[-1] == 1:
        return 0.5 * scale * ((f - target) ** 2).sum((-1, -2))
    f = f - f.max() if xp.__name__ == "numpy" else f
    return scale * (xp.log(xp.exp(f).sum(-1)).sum(-1) - (target * f).sum((-1, -2)))


def gradient(xp, w1, b1, w2, b2, x, target, scale):
    """The value and its gradient in w1, b1, w2, b2, by hand."""
    a = xp.tanh(x @ w1 + b1)
    f = a @ w2 + b2
    if f.shape[-1] == 1:
        delta = f - target
        loss = 0.5 * scale * (delta * delta).sum((-1, -2))
    else:
        e = xp.exp(f - f.max())
        total = e.sum(-1)
        loss = scale * ((xp.log(total) + f.max()).sum(-1) - (target * f).sum((-1, -2)))
        delta = e / total[..., None] - target
    delta = delta * scale
    back = (delta @ w2.swapaxes(-1, -2)) * (1 - a * a)
    return (
        loss,
        x.swapaxes(-1, -2) @ back,
        back.sum(-2)[..., None, :],
        a.swapaxes(-1, -2) @ delta,
        delta.sum(-2)[..., None, :],
    )


def jacobian(xp, w1, b1, w2, x, root, eye):
    """Rows S_m' J_m of one agent, (n Q, P), with S diagonal: root (n, Q); eye (Q, Q)."""
    n, q = root.shape
    a = xp.tanh(x @ w1 + b1)
    slope = 1 - a * a
    delta = root[:, :, None] * w2.T[None] * slope[:, None, :]  # (n, Q, h)
    out = root[:, :, None] * eye  # (n, Q, Q)
    parts = (
        (x[:, None, :, None] * delta[:, :, None, :]).reshape(n * q, -1),
        delta.reshape(n * q, -1),
        (a[:, None, :, None] * out[:, :, None, :]).reshape(n * q, -1),
        out.reshape(n * q, q),
    )
    return xp.concatenate(parts, 1)


def respond(xp, z, y, threshold, shrink, step, agents):
    """w + step (prox(w - agents y / tau) - w) with the soft threshold of an l1 penalty."""
    v = z - agents * y
    hat = xp.sign(v) * xp.clip(xp.abs(v) - threshold, 0, None) * shrink
    return z + step * (hat - z)

"""Arrays of every kind, and what comes beside them."""

import tempfile
import warnings

import numpy as np
import scipy.sparse


def bulk(d, shape):
    """Values of many kinds."""
    rng = d.numbers()
    kind = d.usual(
        ["normal", "constant", "zeros", "few", "integers", "huge", "tiny", "mixed", "spread", "edge", "hole"]
    )
    x = rng.standard_normal(shape)
    if kind == "constant":
        x = np.full(shape, d.pick([1.0, 0.1, -3e7, 1e-300, 1e300]))
    elif kind == "zeros":
        x = np.zeros(shape)
    elif kind == "few":
        x = np.round(x)
    elif kind == "integers":
        x = rng.integers(-5, 6, shape).astype(float)
    elif kind in ("huge", "tiny"):
        x = x * 10.0 ** ((1 if kind == "huge" else -1) * d.pick([150, 20, 8, 160, 300, 307]))
    elif kind == "mixed" and len(shape) == 2:
        x = x * 10.0 ** rng.integers(-150, 151, shape[1:])
    elif kind == "spread":
        x = x * 10.0 ** rng.integers(-150, 151, shape)
    elif kind == "edge":
        info = np.finfo(float)
        x = rng.choice([info.max, info.min, info.tiny, 5e-324, 0.0, -0.0, 1.0], shape)
    elif kind == "hole" and x.size:
        x.flat[int(rng.integers(x.size))] = d.pick([np.nan, np.inf, -np.inf])
    return x


def dressed(d, x):
    """The same numbers as another dtype, layout or container."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dtype = d.usual(
            ["f8", "f4", "f2", "i8", "i1", "u1", "bool", "O", "U", "S", "c16", "M8[s]", "longdouble", ">f8"]
        )
        if dtype != "f8" and d.chance(2):
            x = x.astype(dtype)
    how = d.usual(
        ["plain", "fortran", "strided", "read-only", "memmap", "list", "csr", "csc", "coo", "nested", "masked"]
    )
    if how == "fortran":
        return np.asfortranarray(x)
    if how == "strided":
        return np.repeat(x, 2, axis=0)[::2][::-1]
    if how == "read-only":
        x = x.copy()
        x.setflags(write=False)
    elif how == "memmap" and x.size and x.dtype != object:
        with tempfile.TemporaryFile() as file:
            mapped = np.memmap(file, dtype=x.dtype, mode="w+", shape=x.shape)
            mapped[...] = x
            mapped.flags.writeable = False
            return mapped
    elif how == "list":
        return x.tolist()
    elif how in ("csr", "csc", "coo") and x.ndim == 2 and x.dtype.kind in "biufc" and x.dtype.itemsize in (1, 4, 8):
        return scipy.sparse.coo_array(x).asformat(how)
    elif how == "nested":
        return x[None] if d.chance(2) else x[..., None]
    elif how == "masked":
        return np.ma.masked_array(x, mask=np.zeros(x.shape, bool))
    return x


def labels(d, n):
    """Targets of a classifier."""
    rng, many = d.numbers(), d.pick([2, 3, 1, 5, 12])
    y = rng.integers(0, many, n)
    kind = d.usual(["int", "text", "object", "bool", "float", "negative", "column", "far", "half", "mixed", "hole"])
    if kind == "text":
        return np.array([f"class {v}" for v in y])
    if kind == "object":
        return np.array([f"é{v}" for v in y], dtype=object)
    if kind == "bool":
        return y > 0
    if kind == "float":
        return y.astype(d.pick(["f8", "f4", "f2"]))
    if kind == "negative":
        return -y - 1
    if kind == "column":
        return y[:, None]
    if kind == "far":
        return y * (2**62 // many)
    if kind == "half":
        return y + 0.5
    if kind == "mixed":
        return np.array([str(v) if v else int(v) for v in y], dtype=object)
    if kind == "hole":
        return np.where(y > 0, np.nan, y.astype(float))
    return y


def rows(d):
    """(n, d) of a data set, the edges more often than they come."""
    n = d.usual([12, 30, 1, 2, 3, 0, 5, 8, 17])
    return n, d.usual([3, 1, 2, 0, 6, 20])


def beside(d, n):
    """sample_weight and agent, sometimes."""
    extra, rng = {}, d.numbers()
    if d.chance(4):
        w = rng.random(n)
        odd = d.usual(
            ["random", "zeros", "some", "huge", "tiny", "negative", "nan", "short", "text", "scalar", "column"]
        )
        extra["sample_weight"] = {
            "random": w, "zeros": 0 * w, "some": (w > 0.5) * 1.0, "huge": w * 1e300, "tiny": w * 1e-300,
            "negative": -w, "nan": w * np.nan, "short": w[:-1], "text": ["a"] * n, "scalar": 2.0, "column": w[:, None],
        }[odd]  # fmt: skip
    if d.chance(4):
        a = rng.integers(0, 4, n)
        odd = d.usual(["int", "text", "float", "sparse", "short", "none", "nan", "mixed", "one", "each"])
        extra["agent"] = {
            "int": a, "text": [f"site {v}" for v in a], "float": a / 2, "sparse": a * 1000, "short": a[:-1],
            "none": [None] * n, "nan": a * np.nan, "mixed": np.array([1, *"ab"] * n, dtype=object)[:n], "one": 0 * a,
            "each": np.arange(n),
        }[odd]  # fmt: skip
    return extra

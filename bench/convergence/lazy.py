"""The risks of lazy and of full training, against theory: ``python -m bench.convergence.lazy [--quick]``.

``y = x'Bx - Tr B`` with eigenvalues from Exp(1), and a mixture of two centred Gaussians of ||Delta|| = 1.5; square
activation. Population: exact risks of one first layer against their mean and limit, d = 450. Samples: least squares on
12 000 rows, d = 40. Trained: `regime` of DecentralizedMLPRegressor over a ring of four agents, d = 20, 12 000 rows,
scored on 40 000 others. Writes bench/results/lazy.md, .csv and .png; ends with 1 if a figure is out of bounds: features
within .02 of theory, tangent within .01, full exact; samples within .03 or 10 %; mixtures within 1e-3 of an optimiser.
"""

import argparse
import sys
import warnings
from typing import Any

import numpy as np
from scipy.optimize import minimize

from bench.study import save_figure, write_table
from dnnext import DecentralizedMLPRegressor
from dnnext.algorithms import NEXT
from dnnext.datasets import make_centered_mixture, make_quadratic
from dnnext.models import risks
from dnnext.models.risks import REGIMES

NAMES = {"features": "random features", "tangent": "tangent", "full": "fully trained"}
AGENTS, D_TRAINED, ROWS, TESTS = 4, 20, 12_000, 40_000
Row = dict[str, Any]


def first_layer(d: int, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, n]).standard_normal((d, n)) / np.sqrt(d)


def population(d: int, seed: int = 0) -> list[Row]:
    """Exact risks of one draw of the first layer beside their mean at this d and their limit."""
    _, _, b = make_quadratic(1, d, random_state=seed)
    found = []
    for rho in (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 2.0):
        n = round(rho * d)
        w = first_layer(d, n, seed)
        for regime, bound in (("features", 0.02), ("tangent", 0.01), ("full", 1e-12)):
            risk, theory = risks.quadratic_risk(regime, b, w), risks.quadratic_risk_mean(regime, b, n)
            limit = risks.quadratic_risk_limit(regime, rho)
            found.append(row("population", f"quadratic, d = {d}", rho, regime, risk, theory, bound, limit))
    return found


def rank_five(d: int = 200) -> list[Row]:
    """A target of rank five: full training is exact from five units on, lazy training is not."""
    b, found = np.diag(np.r_[np.ones(5), np.zeros(d - 5)]), []
    for n in (5, 100, 180):
        for regime in REGIMES:
            theory = risks.quadratic_risk_mean(regime, b, n)
            risk = np.mean([risks.quadratic_risk(regime, b, first_layer(d, n, s)) for s in range(20)])
            found.append(row("population", f"rank 5, d = {d}, mean of 20", n / d, regime, risk, theory, 0.02))
    return found


def samples(d: int, seed: int = 1) -> list[Row]:
    """Least squares on 12 000 rows, scored on fresh ones, against the population risk of the same first layer."""
    x, y, b = make_quadratic(ROWS, d, spectrum=exponential(d), random_state=seed)
    x_test, y_test, _ = make_quadratic(TESTS, d, spectrum=exponential(d), random_state=seed + 1)
    found = []
    for rho in (0.25, 0.5, 1.0):
        w = first_layer(d, round(rho * d), seed)
        for regime, features in (("features", squares), ("tangent", products)):
            coef = np.linalg.lstsq(features(w, x), y, rcond=None)[0]
            risk, theory = np.mean((y_test - features(w, x_test) @ coef) ** 2), risks.quadratic_risk(regime, b, w)
            found.append(row("samples", f"quadratic, d = {d}", rho, regime, risk, theory, max(0.03, 0.1 * theory)))
    return found


def exponential(d: int) -> np.ndarray:
    """The quantiles of Exp(1): one target for training and test rows."""
    return -np.log1p(-(np.arange(d) + 0.5) / d)


def squares(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.column_stack([(x @ w) ** 2, np.ones(len(x))])


def products(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A basis of {S W' + W S'}: after QR of W, products of two coordinates, the first within its span."""
    q = np.linalg.qr(w, mode="complete")[0]
    z, n = x @ q, min(w.shape)
    return np.column_stack([np.ones(len(x))] + [z[:, i] * z[:, j] for i in range(n) for j in range(i, z.shape[1])])


def mixtures(d: int = 16) -> list[Row]:
    """The exact forms for mixtures against BFGS on the risk itself."""
    found = []
    for norm in (1.0, 1.5):
        _, _, delta = make_centered_mixture(1, d, norm, exponential(d), random_state=0)
        for n in (4, 8):
            w = first_layer(d, n, 3)
            for regime in REGIMES:
                theory = risks.mixture_risk(regime, delta, w)
                name = f"mixture, d = {d}, norm {norm:g}, BFGS"
                found.append(row("population", name, n / d, regime, lowest(regime, delta, w), theory, 1e-3))
    return found


def lowest(regime: str, delta: np.ndarray, w: np.ndarray) -> float:
    """The smallest (1 + Tr M Delta)^2 + 2 Tr M^2 + 2 Tr M Delta M Delta that BFGS finds in a regime's class."""
    d, n = w.shape

    def matrix(v: np.ndarray) -> np.ndarray:
        if regime == "features":
            return (w * v) @ w.T
        s = v.reshape(d, n)
        return s @ w.T + w @ s.T if regime == "tangent" else -s @ s.T

    def slope(v: np.ndarray) -> tuple[float, np.ndarray]:
        m = matrix(v)
        t = 1 + np.sum(m * delta)
        g = 2 * t * delta + 4 * m + 4 * delta @ m @ delta
        by = {"features": lambda: np.einsum("ij,ij->j", w, g @ w), "tangent": lambda: (2 * g @ w).ravel()}
        value = t * t + 2 * np.sum(m * m) + 2 * np.sum((delta @ m) * (m @ delta))
        return value, by.get(regime, lambda: (-2 * g @ v.reshape(d, n)).ravel())()

    start = np.random.default_rng(0).standard_normal(n if regime == "features" else d * n) / 4
    return float(minimize(slope, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-14}).fun)


def trained(target: str, rhos: tuple[float, ...], max_iter: int) -> list[Row]:
    """Networks trained over a ring, scored on fresh rows, against the population risk of their own first layer."""
    d, found = D_TRAINED, []
    x, y, matrix = made(target, ROWS, 5)
    x_test, y_test, _ = made(target, TESTS, 6)
    for rho in rhos:
        for regime in REGIMES:
            reg = DecentralizedMLPRegressor(
                (round(rho * d),), activation="square", regime=regime, penalty=None, standardize=False,
                max_iter=max_iter, n_agents=AGENTS, topology="ring", tol=1e-7, random_state=3, n_jobs=1,
                algorithm=NEXT(),
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reg.fit(x, y)
            network = reg._network
            base = network.model if regime != "tangent" else network.model.model
            start = network.row if regime != "tangent" else network.model.w0
            w = base.unpack(start)[0][0]  # the first layer that stays, or the number of its units
            risk = np.mean((reg.predict(x_test) - y_test) ** 2)
            theory = exact(target, regime, matrix, w)
            bound = max(0.03, 0.1 * theory)
            found.append(row("trained", f"{target}, d = {d}", rho, regime, risk, theory, bound))
            print(f"{target} {rho:g} {regime}: {risk:.4f} ({theory:.4f}), {reg.n_iter_} iterations", flush=True)
    return found


def made(target: str, n: int, seed: int) -> Any:
    """Rows of the target, always of the same matrix."""
    if target == "quadratic":
        return make_quadratic(n, D_TRAINED, exponential(D_TRAINED), seed)
    return make_centered_mixture(n, D_TRAINED, 1.5, exponential(D_TRAINED), seed)


def exact(target: str, regime: str, matrix: np.ndarray, w: np.ndarray) -> float:
    return (risks.quadratic_risk if target == "quadratic" else risks.mixture_risk)(regime, matrix, w)


def row(
    kind: str, target: str, rho: float, regime: str, risk: Any, theory: float, bound: float, limit: Any = ""
) -> Row:
    return {
        "kind": kind, "target": target, "N/d": rho, "regime": NAMES[regime], "risk": float(risk), "theory": theory,
        "distance": abs(float(risk) - theory), "bound": bound, "limit": limit,
        "within": abs(float(risk) - theory) <= bound,
    }  # fmt: skip


def ordered(found: list[Row]) -> bool:
    """Whether features > tangent > full at every 0 < N / d < 1 of the population."""
    order = list(NAMES.values())
    groups: dict[Any, dict[str, float]] = {}
    for r in found:
        if r["kind"] == "population" and r["N/d"] < 1:
            groups.setdefault((r["target"], r["N/d"]), {})[r["regime"]] = r["risk"]
    return all(g[order[0]] > g[order[1]] > g[order[2]] - 1e-12 for g in groups.values())


TITLES = {"quadratic": "quadratic target", "mixture": "two classes with unlike covariances"}


def figure(found: list[Row]) -> Any:
    """Curves of theory at d = 20, dots of trained networks."""
    import matplotlib.pyplot as plt

    from dnnext.display.frame import STYLE, STYLES, look

    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(7.0, 2.8), sharey=True, layout="constrained")
        for ax, target in zip(axes, ("quadratic", "mixture"), strict=True):
            matrix = made(target, 1, 0)[2]
            units = np.arange(1, 2 * D_TRAINED + 1)
            for k, regime in enumerate(REGIMES):
                draws = [[exact(target, regime, matrix, first_layer(D_TRAINED, n, s)) for n in units] for s in range(5)]
                style = look("dnnext" if regime == "full" else regime, k) | {"ls": STYLES[k]}
                ax.plot(units / D_TRAINED, np.mean(draws, axis=0), label=NAMES[regime], **style)
                dots = [r for r in found if r["kind"] == "trained" and r["target"].startswith(target)]
                dots = [r for r in dots if r["regime"] == NAMES[regime]]
                ax.plot([r["N/d"] for r in dots], [r["risk"] for r in dots], "o", color=style["color"], ms=4)
            ax.set(title=f"{TITLES[target]}, {D_TRAINED} inputs", xlabel="units per input, N / d", ylim=(-0.02, 1.02))
        axes[0].set_ylabel("risk")
        axes[0].legend(title="line: theory, dot: trained")
    return fig


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one width, smaller d: a minute")
    quick = parser.parse_args().quick
    found = population(200 if quick else 450) + rank_five() + samples(20 if quick else 40) + mixtures()
    rhos = (0.5,) if quick else (0.25, 0.5, 0.75, 1.0, 1.5)
    for target in ("quadratic", "mixture"):
        found += trained(target, rhos, 60 if quick else 150)
    if not quick:
        header = list(found[0])
        notes = __doc__.split("\n\n", 1)[1]
        write_table("lazy", "Lazy and full training against theory", header, [list(r.values()) for r in found], notes)
        facts = f"square activation, {ROWS} rows at {AGENTS} agents on a ring, scored on {TESTS} others"
        save_figure(figure(found), "lazy", facts)
    bad = [r for r in found if not r["within"]]
    for r in bad:
        print("out of bounds:", r)
    print(f"{len(found) - len(bad)} of {len(found)} within bounds; strict order: {ordered(found)}")
    return int(bool(bad) or not ordered(found))


if __name__ == "__main__":
    sys.exit(main())

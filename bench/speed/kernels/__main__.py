"""``python -m bench.speed.kernels [group ...] [--only WORD] [--quick] [--seconds S]``: every hot path beside its peers.

One thread each. Groups: gradient, curvature, dual, mixing, steps, elementary, residual. Peers run their fast paths:
NumPy a loop over agents and all agents at once, scikit-learn `_backprop` on arrays made before, PyTorch eager, vmapped
and by hand, JAX jitted and warm; PyTorch and JAX live in processes of their own (DNNEXT_PEERS names the folder of the
environments, see bench.rivals.peers). No BLAS path is pinned. All are timed in turn, and medians are compared; one that
computes something else than we do is left out by name. bench/results/kernels.json keeps the groups that were measured
before; --quick writes nothing.
"""

import argparse
import datetime
import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from threadpoolctl import ThreadpoolController, threadpool_limits

from bench.machine import software, start_again_unpinned
from bench.speed.kernels import curvature, dual, elementary, gradient, mixing, residual, steps
from bench.speed.kernels.clock import COLUMNS, Child, measure, summary
from bench.study import RESULTS, markdown
from dnnext import kernels

GROUPS: dict[str, ModuleType] = {
    "gradient": gradient, "curvature": curvature, "dual": dual, "mixing": mixing, "steps": steps,
    "elementary": elementary, "residual": residual,
}  # fmt: skip
HEADER = ("path", "shape", "dtype", "ours us", *(f"{c} us" for c in COLUMNS), "limit us", "best peer / ours",
          "limit / ours", "reach", "reached")  # fmt: skip


def measured(
    group: str, only: str, quick: bool, seconds: float, children: dict[str, Child]
) -> Iterator[dict[str, Any]]:
    for row in GROUPS[group].rows(quick):
        if only not in row.name:
            continue
        found = summary(row, measure(row, children, seconds))
        found["group"] = group
        print(" | ".join(str(c) for c in cells(found)), flush=True)
        for name, why in found["said"].items():
            print(f"    {name}: {why}", flush=True)
        yield found


def number(x: float | None, digits: int = 3) -> str:
    return "-" if x is None else f"{x:.{digits}g}" if x < 1000 else f"{x:.0f}"


def cells(r: dict[str, Any]) -> list[str]:
    """One line of the table."""
    peers = [f"{number(p['us'])} ({p['variant']})" if "us" in p else p["why"] for p in (r["peers"][c] for c in COLUMNS)]
    goal = "-" if not r["reach"] else f"{r['reach'][1]:g}x" if r["reach"][0] == "ratio" else f"{r['reach'][1]:.0%}"
    fraction = "-" if r["fraction"] is None else f"{r['fraction']:.0%}"
    ratio = "-" if r["ratio"] is None else f"{r['ratio']:.2f}x"
    reached = {None: "-", True: "yes", False: "NO"}[r["reached"]]
    return [r["path"], r["shape"], r["dtype"], number(r["ours"]), *peers, number(r["limit"]), ratio, fraction, goal,
            reached]  # fmt: skip


def notes(rows: list[dict[str, Any]]) -> str:
    """What the columns mean, and for each row that falls short where its time goes, measured beside it."""
    limits = "; ".join(dict.fromkeys(f"{r['path']}: {r['limit_words']}" for r in rows if r["limit_words"]))
    rates: dict[str, list[float]] = {}
    for r in rows:
        if "1000^3 product" in r["parts"]:
            rates.setdefault(r["dtype"], []).append(2e6 / r["parts"]["1000^3 product"])
    product = ", ".join(f"{min(v):.0f} to {max(v):.0f} GF/s in {k}" for k, v in rates.items())
    lines = [
        "Microseconds, medians of interleaved bursts, one thread each, arrays and compilation made before; processor "
        "time for residual networks, which other programs disturb less, the time of day for groups measured before. A "
        f"peer's best variant is named. Limits: {limits}. NumPy's 1000^3 product ran at {product}: where "
        "that range is wide the host was shared, so compare within a row, whose contenders took turns.",
        "",
    ]
    for r in rows:
        if r["reached"] is not False:
            continue
        parts = "; ".join(f"{name} {number(us)} us" for name, us in r["parts"].items())
        got = f"{r['ratio']:.2f}x {r['best']}" if r["reach"][0] == "ratio" else f"{r['fraction']:.0%} of the limit"
        line = (
            f"* {r['path']}, {r['shape']}, {r['dtype']}: {got}, short of the reach. Our call {number(r['ours'])} us; "
        )
        lines.append(line + f"measured beside it: {parts}. {WHY.get(r['path'], '')}".rstrip())
    return "\n".join(lines)


WHY = {
    "loss + gradient": "The difference to the call without tanh is what the activation costs, which no product does.",
    "Gauss-Newton matrix": "Beside products our call makes features and panels and mirrors the triangle.",
    "residual loss + gradient": "Beside products our call packs weights, and computes and keeps phi of all layers.",
    "mixing": "A copy bounds the round; a dense product wins where every row fits a cache.",
    "PL dual solve": "The Cholesky factor alone bounds the solve from below.",
    "prox fused with the step": "Ours writes w_hat beside z, which the next iteration needs, and peers write z alone.",
}


def architectures() -> str:
    found = {
        f"{p['internal_api']} {p['version']} {p['architecture']}"
        for p in ThreadpoolController().info()
        if p["user_api"] == "blas"
    }
    return ", ".join(sorted(found))


def write(rows: list[dict[str, Any]], versions: dict[str, str]) -> None:
    """Merge with the groups of other runs, and write JSON and Markdown."""
    path = RESULTS / "kernels.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    key = lambda r: (r["group"], r["shape"], r["dtype"])  # noqa: E731
    new = {key(r) for r in rows}
    rows = [r for r in kept if key(r) not in new] + rows
    rows.sort(key=lambda r: list(GROUPS).index(r["group"]))
    facts = f"{software()}; BLAS {architectures()}; {', '.join(f'{k} {v}' for k, v in versions.items())}"
    path.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1, default=str) + "\n")
    table = markdown(HEADER, [cells(r) for r in rows])
    (RESULTS / "kernels.md").write_text(f"# Kernels beside their peers\n\n{table}\n\n{notes(rows)}\n\n{facts}.\n")


def main() -> None:
    start_again_unpinned()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="group", help="default: all")
    parser.add_argument("--only", default="", help="rows whose path, shape and dtype contain this word")
    parser.add_argument("--quick", action="store_true", help="fewer shapes, less time, nothing written")
    parser.add_argument("--seconds", type=float, default=None, help="for each row: 1, or 0.3 if quick")
    options = parser.parse_args()
    seconds = options.seconds or (0.3 if options.quick else 1.0)
    print(f"BLAS: {architectures()}; kernels: {kernels.info()['cpu_path']}; {datetime.date.today()}")
    children = {"PyTorch": Child("torch"), "JAX": Child("jax")}
    try:
        with threadpool_limits(1):
            rows = [
                r for g in options.groups or GROUPS for r in measured(g, options.only, options.quick, seconds, children)
            ]
    finally:
        versions = {name: c.version for name, c in children.items()}
        for child in children.values():
            child.close()
    if options.quick:
        print(notes(rows))
    else:
        write(rows, versions)


if __name__ == "__main__":
    main()

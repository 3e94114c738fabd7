"""docs/reliability.md from what the other studies of bench.robustness left in bench/results.

python -m bench.robustness.report
"""

import json
from pathlib import Path

from bench.machine import software
from bench.study import RESULTS, markdown

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"

HEAD = """# Reliability, in figures

This page is written by `python -m bench.robustness.report` from what the other studies of `bench.robustness` measured.
The threat model is in [SECURITY.md](../SECURITY.md).
"""


def read(name):
    place = RESULTS / name
    return json.loads(place.read_text()) if place.exists() else None


def fuzz(kept):
    """Cases tried, and how they ended."""
    rows, broken = [], []
    for name, kind in kept.items():
        out = kind["outcomes"]
        refused = sum(n for word, n in out.items() if word.startswith("refused") or word in ("nothing", "exit 2"))
        bad = out.get("broken", 0)
        total = sum(out.values())
        rows.append([name, total, total - refused - bad, refused, bad])
        broken += kind["broken"]
    rows.append(["**all**", *[sum(row[k] for row in rows) for k in range(1, 5)]])
    text = f"""## Bad input

Generated cases: estimators with odd parameters and data (empty, constant, 1e±300, every dtype, sparse, read-only),
agents of every size, graphs, schedules, files cut, flipped and foreign for the command line, models and checkpoints,
recipes on failing networks, kernels beside their NumPy twins. An outcome must be a result with finite numbers or a
documented exception; a crash, a hang, a NaN or a warning of NumPy counts as broken.

{markdown(["kind", "cases", "results", "refused by a sentence", "broken"], rows)}
"""
    return text + "".join(f"\n* broken: `{line}`" for line in broken) + ("\n" if broken else "")


def faults(kept):
    """Objectives on failing networks."""
    rows = [
        [r["problem"], r["graph"], r["answer"], f"{r['loss']:.0%}", r["messages"], r["missing"],
         f"{r['ratio']:.4f}", r["reached"] or "not", f"{r['rounds']} of {r['budget']}", r["status"]]
        for r in kept["rows"]
    ]  # fmt: skip
    inside = sum(abs(r["ratio"] - 1) <= 0.01 or r["ratio"] < 1 for r in kept["rows"])
    return f"""## Networks that lose messages

{kept["setting"]} Objective over that of the lossless run; the budget is four times its rounds. {inside} of {len(rows)}
runs end within 1 % of the lossless objective or below it.

{
        markdown(
            [
                "data",
                "graph",
                "answer",
                "loss",
                "messages",
                "lost",
                "objective / lossless",
                "within 1 % at round",
                "rounds",
                "ended",
            ],
            rows,
        )
    }
"""


def soak(kept):
    """Long runs."""
    rows = [
        [r["network"], f"{r['iterations']:,}", f"{r['memory_first']:.1f} to {r['memory_last']:.1f}",
         f"{r['files_first']} to {r['files_last']}", f"{r['drift']:.1e}", f"{r['seconds']:.0f}"]
        for r in kept["runs"]
    ]  # fmt: skip
    kills = kept.get("kills")
    words = f"""
A run that writes a checkpoint every iteration was killed (SIGKILL) {kills["kills"]} times at random moments:
{kills["loaded"]} times the folder held a checkpoint that loads, {kills["none"]} times none had been written yet,
{kills["broken"]} times it was damaged. {kills["bitwise"]} of {kills["resumed"]} resumed runs end in the same bits as
the uninterrupted one.
""" if kills else ""  # fmt: skip
    return f"""## Long runs

Memory (MB, resident) and open files after the first tenth of the run and at its end; the drift of the tracker is
`max |mean y - mean grad| / max |mean grad at the start|`.

{markdown(["network", "iterations", "memory", "files", "drift", "seconds"], rows)}
{words}"""


def write_page():
    """The page, of the parts that were measured."""
    parts = [HEAD]
    for name, section in (("fuzz.json", fuzz), ("faults.json", faults), ("soak.json", soak)):
        kept = read(name)
        if kept is not None:
            parts.append(section(kept))
    parts.append(f"---\n\n{software()}\n")
    PAGE.write_text("\n".join(parts))
    print(f"written to {PAGE}")


if __name__ == "__main__":
    write_page()

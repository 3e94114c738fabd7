"""Generated cases by the thousand: every outcome is a result or a documented sentence.

nice python -m bench.robustness.fuzz [--cases 20000] [--only fit,cli] [--fresh]

The cases are those of tests/fuzz/cases, here drawn from seeds. Progress is kept in bench/results/fuzz.json: a second
call goes on where the first one stopped, and a case that took the process down with it is counted as a crash.
"""

import argparse
import collections
import importlib.util
import json
import signal
import sys
import time
from pathlib import Path

from bench.robustness.report import RESULTS, write_page

PATIENCE = 120  # seconds after which a case counts as a hang; the machine may be busy
BATCH = 50
PLACE = RESULTS / "fuzz.json"
HERE = RESULTS / "fuzz.current"


def load_cases():
    folder = Path(__file__).parents[2] / "tests" / "fuzz" / "cases"
    spec = importlib.util.spec_from_file_location(
        "dnnext_fuzz_cases", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hang(number, frame):
    raise TimeoutError(f"no end after {PATIENCE} s")


def one(cases, name, seed):
    """The outcome of one case, or what was broken."""
    signal.alarm(PATIENCE)
    try:
        return cases.judged(cases.CASES[name], cases.Draw([seed])), None
    except cases.Broken as error:
        return "broken", f"{name} {seed}: {error}"[:300]
    finally:
        signal.alarm(0)


def go_on(done, names, fresh):
    """Progress so far, a crash of the last call included."""
    if PLACE.exists() and not fresh:
        done |= json.loads(PLACE.read_text())
    if HERE.exists():
        name, seed = HERE.read_text().split()
        kept = done.setdefault(name, {"next": 0, "outcomes": {}, "broken": []})
        if int(seed) >= kept["next"]:
            kept["broken"].append(f"{name} {seed}: the process ended")
            kept["outcomes"]["broken"] = kept["outcomes"].get("broken", 0) + 1
            kept["next"] = int(seed) + 1
        HERE.unlink()
    for name in names:
        done.setdefault(name, {"next": 0, "outcomes": {}, "broken": []})
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20000, help="cases in all, so many of each kind in equal parts")
    parser.add_argument("--only", default="", help="kinds, with commas between them")
    parser.add_argument("--fresh", action="store_true", help="begin again")
    args = parser.parse_args()
    cases = load_cases()
    names = args.only.split(",") if args.only else list(cases.CASES)
    signal.signal(signal.SIGALRM, hang)
    done, begin = go_on({}, names, args.fresh), time.perf_counter()
    each = -(-args.cases // len(names))
    while any(done[name]["next"] < each for name in names):
        for name in names:
            kept = done[name]
            outcomes = collections.Counter(kept["outcomes"])
            for seed in range(kept["next"], min(each, kept["next"] + BATCH)):
                HERE.write_text(f"{name} {seed}")
                outcome, broken = one(cases, name, seed)
                outcomes[outcome] += 1
                kept["broken"] += [broken] if broken else []
                kept["next"] = seed + 1
            kept["outcomes"] = dict(outcomes)
            HERE.unlink(missing_ok=True)
            PLACE.write_text(json.dumps(done, indent=1))
    total = sum(sum(kept["outcomes"].values()) for kept in done.values())
    print(f"{total} cases, {time.perf_counter() - begin:.0f} s in this call")
    for name, kept in done.items():
        print(f"{name:12s} {kept['outcomes']}")
        for line in kept["broken"]:
            print("   ", line)
    write_page()
    return any(kept["broken"] for kept in done.values())


if __name__ == "__main__":
    sys.exit(main())

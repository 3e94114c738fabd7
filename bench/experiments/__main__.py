"""``python -m bench.experiments [a b c d e f] [--quick] [--fresh]``: figures, tables and whether the claims hold.

Finished runs are kept in bench/results/cache and not run again, so that an interrupted study goes on where it stopped;
``--fresh`` runs them anew, ``--kept`` shows what is finished so far and runs nothing. On a machine that others use,
``--untimed`` leaves out what measures seconds, and ``--for 60`` starts nothing new after 60 seconds: what is left can
be run in idle moments. ``--quick`` takes less data, fewer seeds and iterations, runs everything anew, and ends with
exit code 1 if a claim is missed.
"""

import argparse
import sys
import time
from importlib import import_module

from bench.experiments.common import keep_claims
from bench.provenance import Keeping, NotRun

STUDIES = {
    "a": "methods",
    "b": "sparsity",
    "c": "blocks",
    "d": "networks",
    "e": "heterogeneity",
    "f": "large",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", metavar="a-f", help="experiments; all by default")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="run again what was kept")
    parser.add_argument("--kept", action="store_true", help="tables and figures of finished runs only")
    parser.add_argument("--untimed", action="store_true", help="leave out what measures seconds")
    parser.add_argument("--for", type=float, metavar="SECONDS", dest="most", help="start no run after so many seconds")
    args = parser.parse_args()
    Keeping.only, Keeping.clocks = args.kept, not args.untimed
    if args.most is not None:
        Keeping.until = time.monotonic() + args.most
    unknown = [w for w in args.which if w not in STUDIES]
    if unknown:
        parser.error(f"experiments are {', '.join(STUDIES)}, got {', '.join(unknown)}")
    missed = 0
    for letter in args.which or STUDIES:
        begin = time.perf_counter()
        try:
            claims = import_module(f"bench.experiments.{STUDIES[letter]}").study(args.quick, args.fresh or args.quick)
        except NotRun as error:
            print(f"experiment {letter} is not finished: {error}\n", flush=True)
            continue
        print(*claims, sep="\n")
        if not args.quick:
            keep_claims(letter, claims)
        missed += sum(not claim.holds for claim in claims)
        print(f"experiment {letter} took {time.perf_counter() - begin:.0f} s\n", flush=True)
    print("all claims hold" if not missed else f"{missed} claims missed")
    return 1 if missed and args.quick else 0


if __name__ == "__main__":
    sys.exit(main())

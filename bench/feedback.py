"""``python -m bench.feedback [--quick | --speed]``: see `bench.convergence.feedback` and `bench.speed.feedback`."""

import sys

from bench.convergence import feedback
from bench.speed import feedback as speed

if __name__ == "__main__":
    sys.exit(speed.main() if "--speed" in sys.argv else feedback.main())

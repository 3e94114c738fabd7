"""``python -m bench.lazy [--quick]``: see `bench.convergence.lazy`."""

import sys

from bench.convergence.lazy import main

if __name__ == "__main__":
    sys.exit(main())

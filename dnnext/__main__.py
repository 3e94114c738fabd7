"""`python -m dnnext` is the command line."""

import sys

from dnnext.cli import main

if __name__ == "__main__":
    sys.exit(main())

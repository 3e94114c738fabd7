"""Draws docs/figures/demo.png, the figure of the README: what `dnnext demo` writes.

python docs/figures/demo.py
"""

import shutil
import tempfile
from pathlib import Path

from dnnext.cli import main

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(["demo", "--dir", folder])
        shutil.copy(Path(folder) / "dnnext-demo.png", Path(__file__).with_suffix(".png"))

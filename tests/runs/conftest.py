"""Tests of runs: what the files here share lies in short_runs.py."""

import sys
from pathlib import Path


def pytest_configure(config):
    """short_runs.py is found from here."""
    sys.path.insert(0, str(Path(__file__).parent))

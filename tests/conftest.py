"""Fixtures for all rooms."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Few examples, none of them timed, nothing written to disk; the same ones every time where CI is set.
settings.register_profile(
    "dnnext", max_examples=25, deadline=None, database=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)


def pytest_configure(config):
    """bench/ is not installed: its folder is searched last, so that an installed dnnext comes first."""
    settings.load_profile("dnnext")
    root = str(Path(__file__).parents[1])
    if root not in sys.path:
        sys.path.append(root)


@pytest.fixture(scope="session")
def lockstep():
    """run(n_agents, n_ranks, program): ranks that are threads of this process, see tests/runtime/lockstep.py."""
    name = "dnnext_tests_lockstep"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "runtime" / "lockstep.py")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name].run

"""The cases, with hypothesis as their source of choices."""

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st


@pytest.fixture(scope="session")
def cases():
    """The package tests/fuzz/cases."""
    name = "dnnext_fuzz_cases"
    if name not in sys.modules:
        folder = Path(__file__).parent / "cases"
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def drawn(cases):
    """drawn(data): a Draw whose choices hypothesis makes, and shrinks."""

    class Drawn(cases.Draw):
        def __init__(self, data):
            self.data = data

        def whole(self, low, high):
            return self.data.draw(st.integers(low, high))

    return Drawn

"""The examples in the compiled docstrings hold; pytest collects those of Python files only."""

import doctest
import inspect

import pytest

from dnnext import kernels


@pytest.mark.parametrize("name", [name for name in kernels.__all__ if inspect.isroutine(getattr(kernels, name))])
def test_examples_hold(name):
    found = doctest.DocTestFinder().find(getattr(kernels, name), name, module=False, globs={})
    assert sum(len(test.examples) for test in found), f"kernels.{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    said = []
    for test in found:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)

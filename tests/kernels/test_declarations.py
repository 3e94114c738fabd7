"""What follows from csrc/dnnext.h is current."""

import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "csrc" / "declare.py"

pytestmark = pytest.mark.skipif(not SOURCE.exists(), reason="the C sources are not beside these tests")


@pytest.fixture(scope="module")
def declare():
    spec = importlib.util.spec_from_file_location("declare", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_current(declare):
    for path, text in declare.files().items():
        assert path.read_text() == text, f"{path.name} is not current: run python csrc/declare.py"


def test_every_kernel_of_the_table_is_there(declare):
    names = declare.kernels(declare.without_comments(declare.HEADER.read_text()))
    assert len(names) == len(set(names)) > 20
    assert {"mlp_forward", "next_step", "step_work"} <= set(names)


def test_declarations_are_split_and_wrapped(declare):
    fields = "const void *a, *b; int n; void (*f)(const void *x, int n)"
    assert declare.declarations(fields) == [
        "const void *a",
        "const void *b",
        "int n",
        "void (*f)(const void *x, int n) noexcept nogil",
    ]
    lines = declare.wrapped("void f(" + ", ".join(f"int argument_{k}" for k in range(20)) + ")", "    ")
    assert len(lines) > 1
    assert max(map(len, lines)) <= declare.WIDTH

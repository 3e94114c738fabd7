"""The C programs under the sanitizers reach every kernel there is."""

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
HEADER = CSRC / "dnnext.h"

pytestmark = pytest.mark.skipif(not HEADER.exists(), reason="the C sources are not beside these tests")


def members():
    """Names of the functions of dnn_table."""
    text = HEADER.read_text()
    return re.findall(r"\(\*(\w+)\)\(", text[text.index("const char *level") : text.index("} dnn_table")])


def test_every_kernel_runs_under_the_sanitizers_and_in_the_fuzz_harness():
    names = members()
    assert {"mlp_loss_grad", "csr_mix", "mlp_work"} <= set(names)
    every = (CSRC / "test" / "every.h").read_text()
    assert [name for name in names if f"t->{name}(" not in every] == []


def test_every_program_takes_every_kernel():
    for program in ("test_kernels.c", "test_races.c", "fuzz.h"):
        text = (CSRC / "test" / program).read_text()
        assert re.search(r"run_every(_f64|_f32|\))", text), program

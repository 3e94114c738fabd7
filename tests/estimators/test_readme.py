"""The Python lines of the README can be pasted."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_the_lines_under_in_python_run():
    if not README.exists():
        pytest.skip("the README is not part of this copy")
    section = README.read_text(encoding="utf-8").split("## In Python\n")[1].split("\n## ")[0]
    known = {}
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], known)
    assert len(known["clf"].agents_) == 2
    assert known["clf"].score(known["X"], known["y"]) > 0.95

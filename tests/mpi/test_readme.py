"""What the README says of many machines is what one types."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

README = Path(__file__).parents[2] / "README.md"
SECTION = README.read_text(encoding="utf-8").split("## On many machines\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("how", ["here", "hostfile"])
def test_the_script_of_the_readme(launch, tmp_path, how):
    X, y = load_breast_cancer(return_X_y=True)
    np.savetxt(tmp_path / "own.csv", np.column_stack([X, y]), delimiter=",")
    script = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL)[1].replace("own.csv", str(tmp_path / "own.csv"))
    (tmp_path / "train.py").write_text(script)
    (tmp_path / "hosts").write_text("localhost slots=2\n")
    launcher = () if how == "here" else ("--hostfile", str(tmp_path / "hosts"))
    code, out, err = launch(2, tmp_path / "train.py", launcher=launcher)
    if code and "slots not supported" in err:
        pytest.skip("MPICH writes hosts as name:1")
    assert code == 0, err
    scores = [float(score) for score in re.findall(r"accuracy on the rows of all: (\d\.\d+)", out)]
    assert len(scores) == 2
    assert min(scores) > 0.95
    assert scores[0] == scores[1]

"""Figures and progress bars in the cells of a notebook."""

import os
import sys
from pathlib import Path

import pytest

import dnnext
from dnnext.runs import notebook

CELLS = (
    """\
from sklearn.datasets import load_iris
from dnnext import ConvergenceDisplay, DecentralizedMLPClassifier, SparsityDisplay, TopologyDisplay
clf = DecentralizedMLPClassifier((3,), n_agents=3, max_iter=12, tol=0, random_state=0, verbose=1)
clf.fit(*load_iris(return_X_y=True));""",
    "ConvergenceDisplay.from_estimator(clf);",
    "TopologyDisplay.from_estimator(clf);",
    "SparsityDisplay.from_estimator(clf);",
    "import matplotlib.pyplot as plt; plt.plot([0, 1]); plt.show()",
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the tools that run notebooks
def test_every_cell_shows_its_figure_and_a_fit_its_bar(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(dnnext.__file__).parents[1]), *sys.path]))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    cells = [nbformat.v4.new_code_cell(text) for text in CELLS]
    book = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(book, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    first, *figures = (cell.outputs for cell in book.cells)
    (bar,) = (output for output in first if output.output_type == "display_data")
    assert all(output.get("name") == "stdout" for output in first if output is not bar)
    assert bar.data["text/plain"].startswith("#" * notebook.LETTERS + "  iteration   12/12  objective")
    assert bar.data["text/html"].startswith('<progress value="1.0000" max="1">')
    for outputs in figures:
        assert [output.output_type for output in outputs if "image/png" in output.get("data", {})] == ["display_data"]


def test_without_a_kernel_there_is_no_notebook(monkeypatch):
    class Ipython:
        get_ipython = staticmethod(lambda: object())

    monkeypatch.setitem(sys.modules, "IPython", Ipython)
    assert not notebook.in_notebook()
    Ipython.get_ipython = staticmethod(lambda: type("Shell", (), {"kernel": 1})())
    assert notebook.in_notebook()

"""The pages of the documentation say what is so: their examples run, their files exist."""

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.rst"))
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

if not PAGES:
    pytest.skip("the documentation is not part of this copy", allow_module_level=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page):
    result = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8")
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_tables_and_pages_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"(?:figure::|:file:) (\S+)", text):
        assert (DOCS / name).exists(), name
    for name in re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", text):
        name = name.replace("auto_gallery/index", "gallery/GALLERY_HEADER").replace("auto_gallery/", "gallery/")
        assert name == "reference" or list(DOCS.glob(f"{name}.*")), name


def test_the_evidence_shows_what_the_benchmarks_wrote():
    text = (DOCS / "evidence.md").read_text(encoding="utf-8")
    shown = re.findall(r"\{(?:figure|include)\} (\S+)", text)
    assert len(shown) >= 15
    for name in shown:
        assert (DOCS / name).exists(), name


def test_every_example_has_its_place_in_the_gallery():
    order = re.findall(r'"(plot_\w+)"', (DOCS / "hooks.py").read_text(encoding="utf-8"))
    assert sorted(order) == sorted(path.stem for path in (DOCS / "gallery").glob("*.py"))
    assert len(order) >= 8

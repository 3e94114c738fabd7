"""The pages and the README say what is so: their Python runs, their files exist, their code fits the page.

Every block is run: examples and blocks of Python here, a page after the other, each page in one namespace; scripts and
commands in test_docs_shell.py. What cannot be run here has a reason, is counted and printed there.
"""

import ast
import doctest
import importlib.util
import io
import re
import sys
import tokenize
import tomllib
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

import dnnext

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = {"api", "auto_gallery", "_build", "_templates"}  # by the build
PAGES = [
    page for page in sorted([*DOCS.rglob("*.rst"), *DOCS.rglob("*.md")])
    if page.relative_to(DOCS).parts[0] not in MADE and page.name != "reference.rst"
]  # fmt: skip
SOURCES = [page for page in (ROOT / "README.md", *PAGES) if page.exists()]
WIDTH = 88
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
LANGUAGES = {"python", "sh", "toml"}

if not PAGES:
    pytest.skip("the documentation is not part of this copy", allow_module_level=True)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page):
    """(language, caption, code, line) of every block of a page; in Markdown a comment above a block is its caption."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        found = re.finditer(r"(?:^<!-- (.*?) -->\n)?^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        parts = [(m[2], m[1] or "", m[3], m.start()) for m in found]
    else:
        block = r"^\.\. code-block:: (\w+)\n((?:   :\w+:.*\n)*)\n((?:(?:   .*)?\n)+)"
        found = re.finditer(block, text + "\n", re.MULTILINE)
        captions = ((m, re.search(r":caption: (.*)", m[2])) for m in found)
        parts = [(m[1], c[1] if c else "", re.sub("^   ", "", m[3], flags=re.M), m.start()) for m, c in captions]
    return [
        SimpleNamespace(language=language, caption=caption, code=code, line=text.count("\n", 0, start) + 1)
        for language, caption, code, start in parts
    ]


def missing(block):
    """The package that a block "needs" and that is not installed here, or ""."""
    package = block.caption.removeprefix("needs ") if block.caption.startswith("needs ") else ""
    try:
        return "" if not package or importlib.util.find_spec(package) else package
    except ModuleNotFoundError:
        return package


def can_run(block):
    """Whether a block of Python is run here: scripts (NAME.py) are for ranks, old code ("before") is not to run."""
    return block.caption != "before" and not block.caption.endswith(".py") and not missing(block)


def run_page(page):
    """Run the examples (``>>>``) and the blocks of a page in their order; a failure names the line."""
    text = page.read_text(encoding="utf-8")
    known, runner, name = {"__name__": "__main__"}, doctest.DocTestRunner(optionflags=FLAGS), name_of(page)
    outside = text if page.suffix == ".rst" else "\n" * text.count("\n")  # Markdown pages have no examples
    steps = [(example.lineno + 1, example) for example in doctest.DocTestParser().get_examples(outside)]
    steps += [(block.line, block) for block in blocks(page) if block.language == "python" and can_run(block)]
    for line, step in sorted(steps, key=lambda pair: pair[0]):
        if isinstance(step, doctest.Example):
            test = doctest.DocTest([step], known, name, str(page), 0, None)
            runner.run(test, clear_globs=False)
            known.update(test.globs)
        else:
            exec(compile("\n" * line + step.code, name, "exec"), known)
    return runner


@pytest.mark.parametrize("page", SOURCES, ids=name_of)
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
        runner = run_page(page)
    assert runner.summarize(verbose=False).failed == 0
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def test_blocks_that_are_not_run_are_counted(capsys):
    """Old code, scripts that the next file starts, and what needs a package that is not here: printed, never hidden."""
    every = [(page, block) for page in SOURCES for block in blocks(page) if block.language == "python"]
    lacking = [f"{name_of(page)}:{block.line} needs {missing(block)}" for page, block in every if missing(block)]
    scripts = sum(block.caption.endswith(".py") for _, block in every)
    old = sum(block.caption == "before" for _, block in every)
    run = sum(can_run(block) for _, block in every)
    assert run + len(lacking) + scripts + old == len(every)
    assert old <= 1
    with capsys.disabled():
        print(f"\n{len(every)} blocks of Python: {run} run here, {scripts} scripts for ranks, {old} of old code")
        print(*(f"  not run: {line}" for line in lacking), sep="\n")


@pytest.mark.parametrize("page", SOURCES, ids=name_of)
def test_blocks_fit_the_page(page):
    """88 columns, which fit at 1280 pixels; a language that a test knows."""
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{name_of(page)}:{block.line}: nothing runs {block.language}"
        if block.language == "toml":
            tomllib.loads(block.code)
        if block.language != "sh":  # commands may be longer than the page: their lines are broken by the browser
            long = [line for line in block.code.splitlines() if len(line) > WIDTH]
            assert not long, f"{name_of(page)}:{block.line}"
    if page.suffix == ".rst":
        lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        assert not [k for k, line in lines if re.match(r"(>>>|\.\.\.) ", line) and len(line) > WIDTH], name_of(page)


@pytest.mark.parametrize("script", sorted((DOCS / "gallery").glob("*.py")), ids=lambda path: path.stem)
def test_examples_fit_the_page(script):
    """Prose, which the page sets anew, may be wider: comments that stand alone, and the text at the top."""
    text = script.read_text(encoding="utf-8")
    prose = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }
    first = ast.parse(text).body[0]
    prose |= set(range(first.lineno, first.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    assert not [(k, line) for k, line in lines if k not in prose and len(line) > WIDTH]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_figures_tables_and_pages_exist(page):
    text = page.read_text(encoding="utf-8")
    shown = r"\{(?:figure|include)\} (\S+)" if page.suffix == ".md" else r"(?:figure::|:file:) (\S+)"
    for name in re.findall(shown, text):
        assert (page.parent / name).exists(), name
    links = re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", text) + re.findall(r":link: (\S+)", text)
    for name in links:
        place = (page.parent / name).resolve().relative_to(DOCS).as_posix()
        place = place.replace("auto_gallery/index", "gallery/GALLERY_HEADER").replace("auto_gallery/", "gallery/")
        assert place == "reference" or list(DOCS.glob(f"{place}.*")), name


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


def test_every_page_can_be_reached():
    """From the first page, along tables of contents."""
    reached, queue = set(), ["index"]
    while queue:
        name = queue.pop()
        page = next((p for p in PAGES if p.relative_to(DOCS).with_suffix("").as_posix() == name), None)
        if page is None or name in reached:
            continue
        reached.add(name)
        for table in re.findall(r"^\.\. toctree::\n((?:   .*\n|\n)*)", page.read_text(encoding="utf-8"), re.MULTILINE):
            for line in table.splitlines():
                entry = re.sub(r".*<(.*)>", r"\1", line.strip())
                if entry and not entry.startswith(":"):
                    queue.append((page.parent / entry).resolve().relative_to(DOCS).as_posix())
    every = {p.relative_to(DOCS).with_suffix("").as_posix() for p in PAGES} - {"gallery/GALLERY_HEADER"}
    assert every <= reached, f"add a card and a line in a toctree for {', '.join(sorted(every - reached))}"


def test_every_how_to_page_has_a_card():
    cards = set(re.findall(r":doc:`([^`]+)`", (DOCS / "howto" / "index.rst").read_text(encoding="utf-8")))
    assert {page.stem for page in (DOCS / "howto").glob("*.rst")} - {"index"} <= cards


@pytest.mark.skipif(not (ROOT / "bench").exists(), reason="the benchmarks are not part of this copy")
@pytest.mark.parametrize("page", [p for p in SOURCES if p.stem != "changes_for_users"], ids=name_of)
def test_programs_that_pages_mention_exist(page):
    """But for the page that lists old names beside new ones."""
    for module in re.findall(r"python -m ((?:bench|docs)\.[\w.]*\w)", page.read_text(encoding="utf-8")):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


def test_the_citation_is_complete():
    """The keys that the Citation File Format 1.2.0 requires, and today's version."""
    path = ROOT / "CITATION.cff"
    if not path.exists():
        pytest.skip("the citation is not part of this copy")
    lines = path.read_text(encoding="utf-8").splitlines()
    top = dict(re.match(r"([\w-]+): *(.*)", line).groups() for line in lines if re.match(r"[\w-]+:", line))
    assert top["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license", "preferred-citation"} <= top.keys()
    assert top["version"] == dnnext.__version__

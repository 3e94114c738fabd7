"""Imports point only downwards, and heavy or optional packages stay where they belong."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import dnnext

PACKAGE = Path(dnnext.__file__).parent

# Rooms from the top to the bottom; a module may import its own line and the lines below.
ROOMS = (
    ("cli", "display", "model_selection", "testing", "__main__"),
    ("estimators",),
    ("preprocessing",),
    ("callbacks", "checkpoint"),
    ("algorithms",),
    ("runs",),
    ("local",),
    ("problem",),
    ("models", "datasets"),
    ("network",),
    ("sites",),
    ("runtime",),
    ("kernels",),
    ("_checks", "_needs", "_params", "_version"),
)
FLOOR = {room: len(ROOMS) - level for level, rooms in enumerate(ROOMS) for room in rooms}

# Third-party packages that only some rooms may import, anywhere in their text.
ONLY = {
    "sklearn": {"estimators", "preprocessing", "cli", "model_selection", "display"},
    "matplotlib": {"display", "cli"},
    "mpi4py": {"runtime/mpi.py", "cli"},
    "nats": {"sites/connection.py", "sites/nats.py", "sites/jobs.py"},
    "cryptography": {"sites/sealing.py", "sites/enrolment.py", "sites/signed_keys.py", "sites/flare.py"},
    "nvflare": {"sites/flare.py", "sites/flare_jobs.py", "estimators/flare.py"},
}


def modules():
    """(path relative to the package, tree) of every Python file but the lazy front door."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        if str(name) != "__init__.py":
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree):
    """Full names of everything that a file imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name):
    """The room of dnnext that a dotted name leads to, or None for the front door itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else None


@pytest.mark.parametrize(
    ("name", "tree"), list(modules()), ids=lambda value: str(value) if isinstance(value, Path) else ""
)
def test_imports_point_downwards(name, tree):
    own = name.parts[0].removesuffix(".py")
    assert own in FLOOR, f"{name} is in no room: give it a line in ROOMS"
    for target in imported(tree):
        if target.split(".")[0] != "dnnext":
            continue
        room = room_of(target)
        if room is None:
            assert FLOOR[own] >= FLOOR["estimators"] or target == "dnnext._checks", f"{name} imports {target}"
        else:
            assert FLOOR[room] <= FLOOR[own], f"{name} ({own}) imports {target}, which lies above it"


def test_no_modules_import_each_other():
    """Not even for annotations or inside of functions: what two modules share lies below both."""
    trees = {".".join(("dnnext", *name.with_suffix("").parts)).removesuffix(".__init__"): t for name, t in modules()}
    imports = {
        name: {target if target in trees else target.rpartition(".")[0] for target in imported(tree)}
        for name, tree in trees.items()
    }
    try:
        graphlib.TopologicalSorter({name: found & set(trees) for name, found in imports.items()}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize(("package", "rooms"), ONLY.items())
def test_guests_stay_in_their_rooms(package, rooms):
    for name, tree in modules():
        if any(target.split(".")[0] == package for target in imported(tree)):
            assert name.parts[0].removesuffix(".py") in rooms or str(name) in rooms, f"{name} imports {package}"


def test_importing_dnnext_is_light():
    heavy = ("sklearn", "matplotlib", "mpi4py", "networkx", "rich", "onnx")
    code = f"import sys, dnnext; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"

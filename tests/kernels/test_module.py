"""The module of kernels as a whole: what it says of itself, what it needs, what its stubs name."""

import importlib
import re
import subprocess
import sys

from dnnext import kernels


def test_info():
    info = kernels.info()
    assert info["cpu_path"] in info["cpu_paths"]
    assert info["cpu_paths"][0] == "baseline"
    assert info["max_threads"] >= 1
    assert re.match(r"(gcc|clang) \d+", info["compiler"])


def test_missing_compiled_modules_are_an_import_error():
    code = "import sys; sys.modules['dnnext.kernels._call'] = None; import dnnext.kernels"
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: The compiled kernels of dnnext are missing" in result.stderr


def test_import_is_light():
    code = (
        "import sys, dnnext, dnnext.kernels; "
        "print([m for m in ('sklearn', 'matplotlib', 'mpi4py', 'networkx') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    )


def test_stubs_name_what_is_compiled():
    for module in ("_call", "_curvature", "_layers", "_mlp", "_rows"):
        compiled = importlib.import_module(f"dnnext.kernels.{module}")
        stub = importlib.resources.files("dnnext.kernels").joinpath(f"{module}.pyi").read_text()
        for name in re.findall(r"^def (\w+)", stub, re.M):
            assert callable(getattr(compiled, name))

"""Build of the compiled room, dnnext/kernels: Cython doors, C kernels, OpenMP where it compiles and links.

DNNEXT_OPENMP  auto (default): use OpenMP if a probe compiles and links; 1: demand it; 0: leave it out
DNNEXT_ABI3    1: one wheel for every Python from 3.11 on. Not the default: through the stable interface a kernel call
               takes 0.1-0.3 us more than the 0.6-1.4 us it takes now (medians of four runs, Python 3.11)
"""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# -ffast-math would flush subnormals in the whole process, -march=native would not run elsewhere: neither is used.
# Products may be contracted to fused ones, and nobody reads errno or floating-point traps.
FLAGS = ["-std=c11", "-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
FLAGS += ["-fvisibility=hidden", "-Wno-psabi"]

OPENMP_PROBE = """
#include <omp.h>
int main(void)
{
    int n = 0;
#pragma omp parallel reduction(+ : n)
    n += omp_get_thread_num() + 1;
    return n == 0;
}
"""

# The levels of the instruction set are chosen at run time; an older compiler may not know their names.
LEVELS_PROBE = """
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
static double twice(double x) { return x + x; }
#pragma clang attribute pop
#else
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
static double twice(double x) { return x + x; }
#pragma GCC pop_options
#endif
int main(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") ? twice(0) > 0 : 0;
}
"""

MACOS_HINT = (
    "Apple's clang needs the OpenMP runtime apart: `brew install libomp`, then build again (LIBOMP_PREFIX names its "
    "directory if it is not in Homebrew's place), or set DNNEXT_OPENMP=0 for one thread."
)
LINUX_HINT = (
    "Install the compiler's OpenMP runtime (gcc brings libgomp; for clang install libomp-dev), or set DNNEXT_OPENMP=0."
)


def openmp_flags() -> list[tuple[list[str], list[str]]]:
    """Pairs of compile and link flags, the likely one first."""
    if sys.platform != "darwin":
        return [(["-fopenmp"], ["-fopenmp"])]
    places = [os.environ.get("LIBOMP_PREFIX"), "/opt/homebrew/opt/libomp", "/usr/local/opt/libomp"]
    apple = [
        (["-Xpreprocessor", "-fopenmp", f"-I{p}/include"], [f"-L{p}/lib", f"-Wl,-rpath,{p}/lib", "-lomp"])
        for p in places
        if p and Path(p, "include/omp.h").exists()
    ]
    return [*apple, (["-fopenmp"], ["-fopenmp"])]


class BuildKernels(build_ext):
    """Ask the compiler what it can do, then build."""

    def works(self, text: str, compile_flags: list[str], link_flags: list[str], run: bool = False) -> bool:
        """Whether a program compiles and links, and runs if asked to."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(text)
            silent = {"output_dir": folder}
            try:
                objects = self.compiler.compile([str(source)], extra_postargs=compile_flags, **silent)
                self.compiler.link_executable(objects, "probe", extra_postargs=link_flags, **silent)
            except Exception:
                return False
            return not run or subprocess.run([str(Path(folder, "probe"))], check=False).returncode == 0

    def openmp(self) -> tuple[list[str], list[str]]:
        """Flags for OpenMP, empty without it."""
        wish = os.environ.get("DNNEXT_OPENMP", "auto")
        if wish not in ("0", "1", "auto"):
            raise SystemExit(f"DNNEXT_OPENMP must be 0, 1 or auto, but it was {wish!r}.")
        for flags in openmp_flags() if wish != "0" else []:
            if self.works(OPENMP_PROBE, *flags):
                return flags
        hint = MACOS_HINT if sys.platform == "darwin" else LINUX_HINT
        if wish == "1":
            raise SystemExit(f"DNNEXT_OPENMP=1, but no program with OpenMP compiles and links here. {hint}")
        if wish == "auto":
            print(f"dnnext: built without OpenMP, kernels will use one thread. {hint}")
        return [], []

    def build_extensions(self) -> None:
        compile_flags, link_flags = self.openmp()
        x86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
        levels = x86 and sys.maxsize > 2**32 and self.works(LEVELS_PROBE, FLAGS, [])
        for extension in self.extensions:
            extension.extra_compile_args = FLAGS + (compile_flags or ["-Wno-unknown-pragmas"])
            extension.extra_link_args = link_flags
            if levels and extension.name.endswith("._call"):
                extension.define_macros.append(("DNN_X86_LEVELS", "1"))
                extension.sources += [f"csrc/units/f{bits}_v{level}.c" for bits in (64, 32) for level in (3, 4)]
        super().build_extensions()


ABI3 = os.environ.get("DNNEXT_ABI3", "0") == "1"


def extension(name: str, *sources: str) -> Extension:
    return Extension(
        f"dnnext.kernels.{name}",
        [f"dnnext/kernels/{name}.pyx", *sources],
        include_dirs=["csrc"],
        depends=[str(p) for pattern in ("*.c", "*.h", "units/*.c") for p in Path("csrc").glob(pattern)],
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if ABI3 else [],
        py_limited_api=ABI3,
    )


setup(
    ext_modules=cythonize(
        [
            extension("_arrays"),
            extension("_call", "csrc/dispatch.c", "csrc/units/f64_baseline.c", "csrc/units/f32_baseline.c"),
            extension("_curvature"),
            extension("_layers"),
            extension("_mlp"),
            extension("_residual"),
            extension("_rows"),
            extension("_steps"),
        ],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "embedsignature": True,
            "binding": True,
            "boundscheck": False,
            "wraparound": False,
        },
    ),
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
)

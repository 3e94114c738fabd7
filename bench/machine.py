"""The machine that a study runs on: its software, its BLAS path, who else uses it, and seconds that count."""

import os
import platform
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Clock", "Others", "child_environment", "software", "start_again_unpinned"]


class Others:
    """How many cores other processes used meanwhile, `with Others() as others: ...; others.cores` (Linux, else nan)."""

    def __enter__(self) -> "Others":
        self.begin, self.cores = self._now(), float("nan")
        return self

    def __exit__(self, *error: object) -> None:
        now = self._now()
        if now and self.begin:
            wall, busy, own = (b - a for a, b in zip(self.begin, now, strict=True))
            self.cores = max(0.0, (busy - own) / wall)

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """(seconds, CPU seconds of the machine, CPU seconds of this process and its ended children)."""
        path = Path("/proc/stat")
        if not path.exists():
            return None
        ticks = [int(v) for v in path.read_text().splitlines()[0].split()[1:8]]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return time.monotonic(), busy, sum(u.ru_utime + u.ru_stime for u in both)


def child_environment(**more: str) -> dict[str, str]:
    """This process's environment for a child, without a pinned, older BLAS path (it would flatter our ratios)."""
    return {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"} | more


def start_again_unpinned() -> None:
    """First call of a `main` that measures: begin anew where a BLAS path is pinned, since BLAS reads that at import."""
    if "OPENBLAS_CORETYPE" in os.environ:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], child_environment())


def software(*packages: str) -> str:
    """Versions of dnnext, of what it stands on and of the named packages; BLAS, processor path and cores."""
    from threadpoolctl import threadpool_info

    import dnnext
    from dnnext import kernels

    words = [f"dnnext {dnnext.__version__}", f"Python {platform.python_version()}"]
    for name in ("numpy", "scipy", "scikit-learn", *packages):
        try:
            words.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            words.append(f"{name} missing")
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            words.append(f"{pool['internal_api']} {pool.get('version')} {pool.get('architecture', '')}".strip())
            break
    info = getattr(kernels, "info", dict)()
    words.append(f"kernels {info.get('cpu_path', 'NumPy twins')}, {info.get('compiler', '')}".rstrip(", "))
    words.append(f"{platform.machine()}, {os.cpu_count()} cores")
    return "; ".join(words)


class Clock:
    """Seconds that pass, and CPU seconds of this process, without those in which the clock was stopped."""

    def __init__(self) -> None:
        self._pause, self._begin = (0.0, 0.0), (0.0, 0.0)

    def start(self) -> None:
        self._begin, self._pause = self._now(), (0.0, 0.0)

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begin[0] - self._pause[0]

    @property
    def cpu(self) -> float:
        return time.process_time() - self._begin[1] - self._pause[1]

    def stopped(self) -> "Clock":
        return self

    def __enter__(self) -> None:
        self._halt = self._now()

    def __exit__(self, *error: object) -> None:
        wall, cpu = (now - then for now, then in zip(self._now(), self._halt, strict=True))
        self._pause = self._pause[0] + wall, self._pause[1] + cpu

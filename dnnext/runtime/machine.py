"""What the last bits of a result depend on, compared over the ranks."""

import json
import platform
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from dnnext import kernels
from dnnext.runtime.communicator import Communicator

__all__ = ["compare_machines", "machine"]


@cache
def machine() -> dict[str, str]:
    """The instructions of the kernels, BLAS and NumPy."""
    blas = [p for p in threadpool_info() if p["user_api"] == "blas"]
    names = sorted({f"{p['internal_api']} {p['version']} {p.get('architecture', '')}".strip() for p in blas})
    return {"the CPU path": str(kernels.info()["cpu_path"]), "BLAS": ", ".join(names), "NumPy": np.__version__}


@cache
def host() -> str:
    """A name that two ranks share if they run on one machine."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return platform.node() + (boot.read_text().strip() if boot.exists() else "")


def compare_machines(comm: Communicator) -> int:
    """How many ranks run on this machine; a warning on rank 0 where ranks do not compute alike. Collective.

    Their results are then equal up to rounding only.
    """
    every = [json.loads(text) for text in comm.texts(json.dumps([host(), machine()]))]
    for rank, (_, other) in enumerate(every if comm.rank == 0 else []):
        for name, value in other.items():
            if value != every[0][1][name]:
                warnings.warn(
                    f"{name} is {value} on rank {rank} and {every[0][1][name]} on rank 0: results are equal up to "
                    "rounding only, not bit for bit.",
                    UserWarning,
                    stacklevel=4,
                )
    return [place for place, _ in every].count(host())

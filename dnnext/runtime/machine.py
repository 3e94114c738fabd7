"""What the last bits of a result depend on, compared over the ranks, and which ranks share cores."""

import json
import os
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


def cores() -> list[int]:
    """The numbers of the cores that this process may use; empty where the system does not say, which means any."""
    ask = getattr(os, "sched_getaffinity", None)
    return [] if ask is None else sorted(ask(0))


def compare_machines(comm: Communicator) -> int:
    """How many ranks use the cores of this one, itself included; a warning on rank 0 where ranks compute otherwise.

    Collective. Results of ranks that compute otherwise are equal up to rounding only. Launchers may bind ranks of one
    machine to cores of their own: these share none.
    """
    mine = host(), set(cores())
    every = [json.loads(text) for text in comm.texts(json.dumps([mine[0], sorted(mine[1]), machine()]))]
    for rank, (_, _, other) in enumerate(every if comm.rank == 0 else []):
        for name, value in other.items():
            if value != every[0][2][name]:
                warnings.warn(
                    f"{name} is {value} on rank {rank} and {every[0][2][name]} on rank 0: results are equal up to "
                    "rounding only, not bit for bit.",
                    UserWarning,
                    stacklevel=4,
                )
    here = [set(used) for place, used, _ in every if place == mine[0]]
    return sum(not used or not mine[1] or not used.isdisjoint(mine[1]) for used in here)

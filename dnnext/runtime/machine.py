"""What the last bits of a result depend on, compared over the ranks."""

import json
import warnings
from functools import cache

import numpy as np
from threadpoolctl import threadpool_info

from dnnext import kernels
from dnnext.runtime.agents import Runtime

__all__ = ["compare_machines", "machine"]


@cache
def machine() -> dict[str, str]:
    """The instructions of the kernels, BLAS and NumPy."""
    blas = [p for p in threadpool_info() if p["user_api"] == "blas"]
    names = sorted({f"{p['internal_api']} {p['version']} {p.get('architecture', '')}".strip() for p in blas})
    return {"the CPU path": str(kernels.info()["cpu_path"]), "BLAS": ", ".join(names), "NumPy": np.__version__}


def compare_machines(runtime: Runtime) -> None:
    """Warn on rank 0 where ranks do not compute alike: their results are then equal up to rounding only. Collective."""
    told = [json.loads(text) for text in runtime.all_ranks(json.dumps(machine()))]
    for rank, other in enumerate(told if runtime.rank == 0 else []):
        for name, value in other.items():
            if value != told[0][name]:
                warnings.warn(
                    f"{name} is {value} on rank {rank} and {told[0][name]} on rank 0: results are equal up to "
                    "rounding only, not bit for bit.",
                    UserWarning,
                    stacklevel=3,
                )

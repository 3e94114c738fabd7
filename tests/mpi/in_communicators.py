"""The contract of communicators on the ranks of an MPI job; test_mpi.py starts this file under mpiexec."""

import importlib.util
from pathlib import Path

import pytest
from mpi4py import MPI

from dnnext.runtime.mpi import MPICommunicator

path = Path(__file__).parents[1] / "contracts" / "test_communicators.py"
spec = importlib.util.spec_from_file_location("dnnext_tests_communicators", path)
contract = importlib.util.module_from_spec(spec)
spec.loader.exec_module(contract)


@pytest.fixture(scope="module")
def comm():
    with MPICommunicator(MPI.COMM_WORLD, timeout=30) as ranks:
        yield ranks


@pytest.mark.parametrize("check", contract.CONTRACT, ids=lambda check: check.__name__)
def test_contract(comm, check):
    check(comm)


@pytest.mark.parametrize("check", contract.CONTRACT, ids=lambda check: check.__name__)
def test_contract_in_a_part(comm, check):
    check(comm.split(comm.rank // 2))

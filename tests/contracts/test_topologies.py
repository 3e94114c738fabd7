"""Every topology times every weight rule: doubly stochastic, inside the graph, contracting."""

import inspect

import numpy as np
import pytest

from dnnext import network
from dnnext.network import TOPOLOGIES, WEIGHTS, Network, Topology

SIZES = (1, 2, 8, 16)


@pytest.fixture(params=TOPOLOGIES)
def name(request):
    return request.param


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_mixing_matrix(name, weights, n):
    net = Topology.from_name(name, n, random_state=0, weights=weights)
    mixing = net.mixing.toarray()
    np.testing.assert_allclose(mixing.sum(axis=1), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(mixing.sum(axis=0), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(mixing, mixing.T, rtol=0, atol=1e-15)
    assert mixing.min() >= 0
    outside = ~net.adjacency.toarray() & ~np.eye(n, dtype=bool)
    assert not mixing[outside].any()
    np.testing.assert_array_equal((mixing > 0) & ~np.eye(n, dtype=bool), net.adjacency.toarray())
    assert net.is_connected
    assert net.n_agents == n
    assert net.sigma_2 < 1
    values = np.linalg.eigvalsh(mixing)[:-1]
    assert net.lambda_n - 1e-9 <= values.min(initial=net.lambda_2)
    assert net.lambda_2 + 1e-9 >= values.max(initial=net.lambda_n)
    assert net.sigma_2 - max(abs(values), default=0) <= 1.1e-6
    if weights.startswith("lazy"):
        assert net.lambda_n >= -1e-6


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_csr_rows_are_sorted_with_a_diagonal(name, weights, n):
    mixing = Topology.from_name(name, n, random_state=0, weights=weights).mixing
    for i in range(n):
        columns = mixing.indices[mixing.indptr[i] : mixing.indptr[i + 1]]
        assert (np.diff(columns) > 0).all()
        assert i in columns
    assert mixing.data.dtype == np.float64


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_one_call_of_mix_contracts(name, weights, n):
    net = Topology.from_name(name, n, random_state=0, weights=weights)
    mixer = Network(net)
    z = np.random.default_rng(1).standard_normal((n, 6))
    mixed = mixer.mix(z).arrays[0]
    before, after = (np.linalg.norm(v - v.mean(axis=0), 2) for v in (z, mixed))
    assert mixer.rounds_per_mix == net.mixing_rounds
    assert mixer.contraction <= 0.25
    assert after <= mixer.contraction * before + 1e-14
    np.testing.assert_allclose(mixed.mean(axis=0), z.mean(axis=0), rtol=0, atol=1e-14)


def test_the_same_seed_gives_the_same_graph(name):
    first, second = (Topology.from_name(name, 16, random_state=7) for _ in range(2))
    assert first.hash == second.hash


def test_public_names_are_documented():
    for public in network.__all__:
        thing = getattr(network, public)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, public
    for registry in (TOPOLOGIES, WEIGHTS, network.SCHEDULES):
        for key, build in registry.items():
            assert ">>>" in build.__doc__, key

"""Positions of the agents of a graph in a picture."""

from __future__ import annotations

import numpy as np
import scipy.sparse.csgraph as csgraph

CIRCLES = ("ring", "complete", "exponential", "one_peer_exponential")
PINV_LIMIT = 400


def place(topology):
    """Positions (A, 2) within the unit square around 0, the same ones for the same graph.

    Known shapes are drawn as such. Others minimise the stress ``sum_(i<j) (|p_i - p_j| - h_ij)^2 / h_ij^2``, where h_ij
    counts the hops from i to j (Kamada and Kawai), by majorisation from a classical scaling.

    Parameters
    ----------
    topology : Topology
    """
    n = topology.n_agents
    if n == 1:
        return np.zeros((1, 2))
    if topology.name in CIRCLES:
        return circle(n)
    if topology.name == "star":
        return np.concatenate([np.zeros((1, 2)), circle(n - 1)])
    if topology.name == "path":
        return spread(circle(n + max(1, n // 6))[:n])  # a ring with a gap: a straight line would hide the links
    if topology.name == "grid" and n > 2:
        return lattice(n, int(topology.neighbours(0).max()))
    hops = csgraph.shortest_path(topology.adjacency.astype(float), directed=False, unweighted=True)
    reached = np.isfinite(hops)
    hops[~reached] = hops[reached].max() + 1.5
    return spread(stress(hops, scaling(hops)))


def circle(n):
    """n points on a circle, clockwise from the top."""
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    return np.column_stack([np.cos(angle), np.sin(angle)])


def lattice(n, cols):
    """n points in rows of cols, from the top left."""
    row, col = np.divmod(np.arange(n), cols)
    return spread(np.column_stack([col, -row]).astype(float))


def scaling(hops):
    """Classical scaling: positions (A, 2) from the two largest eigenvectors of the centred squared distances."""
    n = len(hops)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ (hops**2) @ centre)
    p = vectors[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 1e-9))  # the longer way from left to right
    p *= np.where(p[np.argmax(np.abs(p), axis=0), np.arange(2)] < 0, -1, 1)  # eigenvectors have no sign of their own
    return p + 0.05 * circle(n)  # agents with the same neighbours must not start at one point


def stress(hops, p, n_iter=150):
    """Positions after n_iter steps of majorisation (SMACOF); each step lowers the stress."""
    n = len(hops)
    weight = 1 / np.where(hops > 0, hops, 1) ** 2 if n <= PINV_LIMIT else np.ones((n, n))
    np.fill_diagonal(weight, 0)
    laplacian = np.diag(weight.sum(axis=1)) - weight
    inverse = np.linalg.pinv(laplacian) if n <= PINV_LIMIT else None
    for _ in range(n_iter if n <= PINV_LIMIT else 30):
        distance = np.sqrt(((p[:, None] - p[None]) ** 2).sum(axis=2))
        pull = -weight * hops / np.where(distance > 1e-12, distance, np.inf)
        pull -= np.diag(pull.sum(axis=1))
        p = pull @ p / n if inverse is None else inverse @ (pull @ p)
    return p


def spread(p):
    """Centred and scaled to fit into [-1, 1]."""
    p = p - (p.max(axis=0) + p.min(axis=0)) / 2
    return p / max(np.abs(p).max(), 1e-12)

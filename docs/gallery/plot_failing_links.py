"""
Links that fail
===============

In every round each link of a ring is down with some probability, both ways at once, and no agent knows beforehand. The
weights of the surviving links are re-formed so that every round still averages exactly, and a `Schedule` defines
which links are up in round k, the same for all agents.
"""

from sklearn.datasets import load_diabetes

from dnnext import (
    ConvergenceDisplay,
    DecentralizedMLPRegressor,
    Schedule,
    Topology,
    TopologyDisplay,
)

X, y = load_diabetes(return_X_y=True)
ring = Topology.ring(8)
schedule = Schedule.link_failures(ring, p=0.4, random_state=0)
print(schedule)
for k in range(4):
    now = schedule(k)
    print(f"round {k}: {now.n_edges} of {ring.n_edges} links up")
    print(f"         connected: {now.is_connected}")

# %%
# One round of it. No single round connects all agents; a few of them do together, and that is checked when the schedule
# is made.

TopologyDisplay.from_topology(schedule(0), positions=TopologyDisplay(ring).positions)

# %%
# Training works as before. With ``mixing_rounds="auto"`` an iteration lasts until the product of its matrices has
# contracted disagreement to a quarter, so a worse network costs more rounds and hardly any more iterations.

runs = {}
for p in (0.0, 0.2, 0.4, 0.6):
    net = ring if p == 0 else Schedule.link_failures(ring, p=p, random_state=0)
    model = DecentralizedMLPRegressor(
        (5,), topology=net, max_iter=40, tol=0, random_state=0
    )
    runs["all links up" if p == 0 else f"{p:.0%} down"] = model.fit(X, y)

for name, model in runs.items():
    rounds = model.history_["round"][-1] / model.n_iter_
    print(f"{name:13s} {rounds:5.1f} rounds per iteration, R2 {model.score(X, y):.3f}")

# %%
ConvergenceDisplay.from_estimators(
    runs, x="round", y=["gap", "disagreement"], xscale="log"
)

# %%
ConvergenceDisplay.from_estimators(runs, x="iteration", y="gap")

# %%
# Other schedules: `Schedule.gossip` (random pairs), `Schedule.one_peer_exponential` (one message per agent and round),
# `Schedule.alternating`, a list of topologies that take turns, or a function of yours from the round to a matrix.

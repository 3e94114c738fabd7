"""Which scenarios are run: a balanced seeded sample of the full grid, on data that took no part in any choice."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.cases import Case
from bench.data import LOADERS, Dataset, load
from dnnext.network import Schedule, Topology

CHOSEN_ON = ("diabetes", "wine", "breast_cancer", "digits")  # the method was designed on them
TOO_LARGE = ("mnist",)  # P = 7960
SETS = tuple(sorted(set(LOADERS) - {*CHOSEN_ON, *TOO_LARGE}))
AGENTS, PARTS, SEEDS = (10, 25, 50), ("iid", "label", "dirichlet"), (0, 1, 2)
NETS = ("ring", "star", "geometric", "failing links")
PER_SET = 6  # of 108 scenarios
MOST_ROWS = 2000
MANY_INPUTS = 30


@dataclass(frozen=True)
class Scenario:
    """One cell of the grid."""

    data: str
    n_agents: int
    how: str
    net: str
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        return asdict(self)

    def case(self) -> Case:
        """10 hidden tanh units (4 above 30 inputs), alpha = 5/N, at most 2000 rows, a quarter of them kept out."""
        found = load(self.data).head(MOST_ROWS, self.seed)
        hidden = (4,) if found.x.shape[1] > MANY_INPUTS else (10,)
        return Case.of(found, self.n_agents, hidden=hidden, how=self.how, seed=self.seed)

    def graph(self) -> Topology | Schedule:
        """The network; links of a geometric graph that fail with probability 0.3 in each round."""
        if self.net in ("ring", "star"):
            return getattr(Topology, self.net)(self.n_agents)
        graph = Topology.random_geometric(self.n_agents, random_state=self.seed)
        return graph if self.net == "geometric" else Schedule.link_failures(graph, p=0.3, random_state=self.seed)


def sample(per_set: int = PER_SET) -> list[Scenario]:
    """`per_set` scenarios of every set, each factor as even as can be; the k-th of all sets before the next of any."""
    rng = np.random.default_rng(2026)
    columns = []
    for _ in SETS:
        factors = [_evenly(levels, per_set, rng) for levels in (AGENTS, PARTS, NETS, SEEDS)]
        columns.append(list(zip(*factors, strict=True)))
    return [Scenario(name, *columns[i][k]) for k in range(per_set) for i, name in enumerate(SETS)]


def _evenly(levels: tuple[Any, ...], n: int, rng: np.random.Generator) -> list[Any]:
    whole = [levels[k] for _ in range(-(-n // len(levels))) for k in rng.permutation(len(levels))][:n]
    return [whole[k] for k in rng.permutation(n)]


def kind_of(data: Dataset) -> str:
    """How far inputs are from Gaussian: 'binary' (most columns), 'heavy-tailed' (median kurtosis >= 8) or 'near'."""
    x = data.head(MOST_ROWS).x
    x = x[:, x.std(axis=0) > 0]
    if np.mean([len(np.unique(column)) <= 2 for column in x.T]) > 0.5:
        return "binary"
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    return "heavy-tailed" if np.median(np.mean(z**4, axis=0)) >= 8 else "near"

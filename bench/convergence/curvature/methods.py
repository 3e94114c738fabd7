"""The methods that are compared, and one run of each on a scenario."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.convergence.curvature.scenarios import Scenario
from dnnext.algorithms import NEXT, Algorithm, CentralizedSCA, GradientTracking
from dnnext.local import PartialLinearization
from dnnext.network import Network
from dnnext.problem.final_step import smoothness

MOST, LEAST = 80, 30  # iterations: at most, and before an early end
GAPS = (0.1, 0.03, 0.01, 0.003)
ENOUGH = 0.002  # relative gap to the centralised end at which a run may stop
CONTRACTION = 0.01
STEPS = (0.5, 1.0, 2.0)  # gradient tracking, in units of 1 / smoothness at the start


def _shared(curvature: str, quasi_newton: int) -> Callable[[], Algorithm]:
    return lambda: NEXT(PartialLinearization(curvature=curvature, quasi_newton=quasi_newton))


CENTRAL: dict[str, Callable[[], Algorithm]] = {
    "centralised": CentralizedSCA,
    "centralised, signed": lambda: CentralizedSCA(tau="signed", order="pre"),
}
TIGHT = {"contract_to": CONTRACTION}
DECENTRAL: dict[str, tuple[Callable[[], Algorithm], dict[str, Any]]] = {
    "own": (NEXT, {}),
    "shared": (_shared("shared", 0), TIGHT),
    "shared + QN": (_shared("shared", 5), TIGHT),
    "fast pair": (lambda: NEXT(step=0.5), {"mixing_rounds": 1}),
}
GT = "gradient tracking"
METHODS = (*CENTRAL, *DECENTRAL, GT)


def run_scenario(scenario: Scenario) -> dict[str, Any]:
    """Histories of every method from one start; they end early once they are near the centralised end."""
    case, graph = scenario.case(), scenario.graph()
    problem, start = case.problem, case.problem.model.init(scenario.seed)
    out: dict[str, Any] = {}
    for name, make in CENTRAL.items():
        out[name] = _one(problem, Network(graph), make(), start, -np.inf)
    goal = (1 + ENOUGH) * min(min(out[name]["objective"]) for name in CENTRAL)
    for name, (make, options) in DECENTRAL.items():
        out[name] = _one(problem, Network(graph, **options), make(), start, goal)
    length = 1 / smoothness(problem, start)
    tries = [_one(problem, Network(graph), GradientTracking(step=s * length), start, goal) for s in STEPS]
    out[GT] = min(tries, key=lambda run: min(run["objective"]))
    out["n_params"], out["n_rows"] = problem.n_params, problem.n_samples
    return out


def _one(problem: Any, network: Network, algorithm: Algorithm, start: np.ndarray, goal: float) -> dict[str, Any]:
    def near(s: Any, metrics: dict[str, float]) -> bool:
        return s.t >= LEAST and metrics["objective"] <= goal

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diverging runs are counted instead
        result = algorithm.run(problem, network, w0=start, max_iter=MOST, callbacks=[near])
    columns = ("iteration", "round", "bytes", "seconds", "objective")
    run = {name: result.history[name].tolist() for name in columns}
    run["finite"] = bool(np.all(np.isfinite(result.history["objective"])) and np.all(np.isfinite(result.w)))
    run["retreated"] = bool(result.retreats)
    run["alarm"] = bool(result.warning and "diverge" in result.warning)
    return run

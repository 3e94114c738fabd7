"""e. What messages are worth: agents alone, one-shot averages, federated averaging, decentralised, pooled; 15 sets.

Ours is the estimator with own curvature (`NEXT()`), 20 units, alpha 5/N, at most 200 iterations and ten agents. The
pooled rival is scikit-learn's MLP of that architecture, its setting the best of a grid on validation rows of seed 0.
"""

import warnings
from functools import cache
from typing import Any

import numpy as np

from bench import data
from bench.cases import Case
from bench.rivals import baselines as rivals
from bench.study import Claim, finished, kept, line_style, mean_sd, not_finished, plots, publish
from dnnext.algorithms import NEXT
from dnnext.display.frame import TITLES
from dnnext.estimators.choices import choose_surrogate
from dnnext.network import Network, Topology
from dnnext.problem import L2

AGENTS, HIDDEN, MOST_ROWS = 10, (20,), 8000
PARTED = ("breast_cancer", "pima", "spambase", "california", "wine_red", "digits")  # cut in other ways as well
QUICK = ("breast_cancer", "diabetes", "digits")
GRID = [(1e-4, 1e-3), (1.0, 1e-3), (10.0, 1e-3), (1e-4, 1e-2), (1.0, 1e-2), (10.0, 1e-2)]  # alpha, learning rate
FED_RATES = (0.03, 0.1, 0.3)


@cache
def rows_of(name: str, most: int) -> data.Dataset:
    return data.load(name).head(most)


def pieces(name: str, most: int, seed: int) -> tuple[np.ndarray, ...]:
    """x_train, y_train, x_test, y_test: the same rows that Case.of takes."""
    found = rows_of(name, most)
    train, test = data.split(found, seed)
    return found.x[train], found.y[train], found.x[test], found.y[test]


def ours(name: str, how: str, seed: int, most: int, n_agents: int = AGENTS, **options: Any) -> float:
    """Test score of the estimator with own curvature, so many agents, this partition and options; defaults else."""
    from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor
    from dnnext.algorithms import NEXT

    kind = DecentralizedMLPRegressor if rows_of(name, most).task == "regression" else DecentralizedMLPClassifier
    x, y, x_test, y_test = pieces(name, most, seed)
    options |= {"algorithm": NEXT(), "n_jobs": 1, "monitor_every": 5}
    model = kind(HIDDEN, n_agents=n_agents, partition=how, random_state=seed, **options)
    return float(model.fit(x, y).score(x_test, y_test))


def pooled_mlp(name: str, seed: int, most: int, setting: tuple[float, float], validate: bool = False) -> float:
    """Score of scikit-learn's MLP on all training rows in one place (validate: on a fifth of them, held out)."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, x_test, y_test = pieces(name, most, seed)
    if validate:
        order = np.random.default_rng(seed).permutation(len(x))
        cut = len(x) // 5
        x_test, y_test = x[order[:cut]], y[order[:cut]]
        x, y = x[order[cut:]], y[order[cut:]]
    options = {"hidden_layer_sizes": HIDDEN, "activation": "tanh", "max_iter": 200, "random_state": seed,
               "alpha": setting[0], "learning_rate_init": setting[1]}  # fmt: skip
    if rows_of(name, most).task == "regression":
        model = make_pipeline(StandardScaler(), MLPRegressor(**options))
        model = TransformedTargetRegressor(model, transformer=StandardScaler())
    else:
        model = make_pipeline(StandardScaler(), MLPClassifier(**options))
    return float(model.fit(x, y).score(x_test, y_test))


def apart(name: str, how: str, seed: int, most: int) -> dict[str, Any]:
    """Scores of every agent alone (alpha 5/N_i), and of the mean of their weights and of their outputs."""
    case = Case.of(rows_of(name, most), AGENTS, hidden=HIDDEN, how=how, seed=seed)
    start, weights, scores = case.problem.model.init(seed), [], []
    for i in range(AGENTS):
        n = int(case.problem.offsets[i + 1] - case.problem.offsets[i])
        alone = case.alone(i, L2(alpha=5 / n))
        surrogate = choose_surrogate(alone.problem.n_params, alone.problem.agent_rows)
        result = NEXT(surrogate).run(
            alone.problem, Network(Topology.complete(1)), w0=start, max_iter=200, tol=1e-4, warn=False
        )
        weights.append(result.w_bar)
        scores.append(1 - case.error(result.w_bar))
    share = case.problem.agent_weight / case.problem.n_total
    outputs = sum(s * case.predicted(w) for s, w in zip(share, weights, strict=True))
    return {
        "alone": scores,
        "weights": 1 - case.error(share @ np.array(weights)),
        "outputs": 1 - case.error_of(outputs),
    }


def fedavg(name: str, how: str, seed: int, most: int, rate: float, rounds: int) -> dict[str, float]:
    """Federated averaging, five local epochs a round."""
    case = Case.of(rows_of(name, most), AGENTS, hidden=HIDDEN, how=how, seed=seed)
    w, looked = rivals.federated(case, rate, rounds, seed)
    if not np.all(np.isfinite(w)):
        return {"score": -np.inf, "objective": np.inf}
    return {"score": 1 - case.error(w), "objective": looked["objective"][-1]}


def study(quick: bool, fresh: bool) -> list[Claim]:
    most, seeds = (1500, range(2)) if quick else (MOST_ROWS, range(5))
    names = [d.name for d in data.load_all(QUICK if quick else data.FIFTEEN)]
    parted = PARTED[:1] if quick else PARTED
    table, by_cut = list[list[Any]](), list[list[Any]]()
    numbers: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    missing: list[str] = []
    for name in names:
        print(f"  {name}", flush=True)
        for how in ("iid", "label", "dirichlet") if name in parted else ("iid",):
            found = finished(f"{name} ({how})", lambda n=name, h=how: scores(n, h, seeds, most, fresh), missing)
            if found is not None:
                numbers[name, how] = found
                by_cut.append([name, how, *[mean_sd(v) for v in found.values()]])
        rival = finished(f"{name} (tuned)", lambda n=name: tuned(n, seeds, most, fresh), missing)
        if rival is not None and (name, "iid") in numbers:
            table.append(fifteen_row(name, numbers[name, "iid"], rival))
    cure = finished("early stopping", lambda: cured(numbers, seeds, most, fresh), missing) or ""
    header = ["set", "partition", *next(iter(numbers.values()))]
    shown = ", ".join(dict.fromkeys(name for name, _ in numbers))
    facts = (
        f"Data: {shown}, at most {most} rows of each; {AGENTS} agents, Erdos-Renyi, Metropolis, 20 tanh units, seeds "
        f"{list(seeds)} for split, partition, graph and start; accuracy or R2 on a quarter of the rows, mean (sd)"
    )
    notes = (
        "alone: mean over the agents of models trained on own rows only; best alone: the best of them, which nobody "
        "knows beforehand; one-shot: mean of the weights, or of the outputs, of those models; FedAvg: 30 rounds of 5 "
        f"local epochs through a server, step tuned over {FED_RATES} on seed 0; decentralised: NEXT(), nothing tuned; "
        "pooled: the same with one agent that holds all rows."
    )
    publish("e_partitions", "Test scores by what agents share", header, by_cut, facts,
            picture(numbers), quick,
            notes + where_others_win(numbers) + cure + not_finished(missing))  # fmt: skip
    header = ["set", "decentralised, untuned", "scikit-learn, pooled, tuned", "relative gap %", "mean agent alone",
              "best agent alone", "one-shot outputs", "tuned setting"]  # fmt: skip
    notes = f"Relative gap: (tuned - ours) / |tuned|, negative where ours is better. Grid (alpha, rate): {GRID}."
    notes += not_finished(missing)
    title = "Untuned, ten agents, beside a tuned MLP on pooled data"
    publish("e_fifteen", title, header, table, facts, None, quick, notes)
    return claims(table, numbers, quick)


def scores(name: str, how: str, seeds: range, most: int, fresh: bool) -> dict[str, np.ndarray]:
    """Method -> one score per seed."""

    def get(what: str, seed: int, run: Any, **more: Any) -> Any:
        settings = {"what": what, "set": name, "how": how, "seed": seed, "rows": most, **more}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kept("e", settings, run, fresh)

    out: dict[str, list[float]] = {}
    rate = None
    for seed in seeds:
        each = get("apart", seed, lambda s=seed: apart(name, how, s, most))
        if rate is None:
            tried = {r: get("fedavg", seed, lambda s=seed, r=r: fedavg(name, how, s, most, r, 30), rate=r)
                     for r in FED_RATES}  # fmt: skip
            rate = min(tried, key=lambda r: float(tried[r]["objective"]))
        row = {
            "alone": float(np.mean(each["alone"])),
            "best alone": max(each["alone"]),
            "one-shot weights": each["weights"],
            "one-shot outputs": each["outputs"],
            "FedAvg": get("fedavg", seed, lambda s=seed, r=rate: fedavg(name, how, s, most, r, 30), rate=rate)["score"],
            "decentralised": get("ours", seed, lambda s=seed: ours(name, how, s, most)),
            "pooled": get("pooled", seed, lambda s=seed: ours(name, "iid", s, most, 1)),
        }
        for key, value in row.items():
            out.setdefault(key, []).append(float(value))
    return {key: np.array(values) for key, values in out.items()}


def tuned(name: str, seeds: range, most: int, fresh: bool) -> tuple[np.ndarray, tuple[float, float]]:
    """(scores of the tuned pooled rival, its setting)."""

    def get(seed: int, setting: tuple[float, float], validate: bool) -> float:
        settings = {"what": "mlp", "set": name, "seed": seed, "rows": most, "setting": setting, "validate": validate}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(kept("e", settings, lambda: pooled_mlp(name, seed, most, setting, validate), fresh))

    best = max(GRID, key=lambda setting: get(seeds[0], setting, True))
    return np.array([get(seed, best, False) for seed in seeds]), best


def fifteen_row(name: str, ours: dict[str, np.ndarray], rival: tuple[np.ndarray, tuple[float, float]]) -> list[Any]:
    theirs, setting = rival
    gap = 100 * (theirs.mean() - ours["decentralised"].mean()) / abs(theirs.mean())
    return [name, mean_sd(ours["decentralised"]), mean_sd(theirs), round(gap, 2), mean_sd(ours["alone"]),
            mean_sd(ours["best alone"]), mean_sd(ours["one-shot outputs"]), str(setting)]  # fmt: skip


def cured(numbers: dict[tuple[str, str], dict[str, np.ndarray]], seeds: range, most: int, fresh: bool) -> str:
    """Sentences on iid sets where averaged outputs of separate models win by more than 0.01: early stopping there."""
    sentences = ""
    for (name, how), n in numbers.items():
        if how != "iid" or n["one-shot outputs"].mean() - n["decentralised"].mean() < 0.01:
            continue
        stopped = []
        for seed in seeds:
            settings = {"what": "early", "set": name, "how": how, "seed": seed, "rows": most}
            run = lambda s=seed, n=name: {"score": ours(n, "iid", s, most, early_stopping=True)}  # noqa: E731
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                stopped.append(kept("e", settings, run, fresh)["score"])
        sentences += (
            f" Where averages of separate models win by more than 0.01 on iid parts ({name}), the default alpha "
            f"over-fits and averaging regularises: early_stopping=True gives {mean_sd(stopped)} there."
        )
    return sentences


def where_others_win(numbers: dict[tuple[str, str], dict[str, np.ndarray]]) -> str:
    """A sentence for every case in which fewer messages gave a better mean score."""
    sentences = []
    for (name, how), n in numbers.items():
        mine = n["decentralised"].mean()
        better = [k for k in ("best alone", "one-shot weights", "one-shot outputs", "FedAvg") if n[k].mean() > mine]
        if better:
            sentences.append(f"{name} ({how}): {', '.join(better)}")
    return f" Better than decentralised by mean score: {'; '.join(sentences) or 'none'}."


def claims(table: list[list[Any]], numbers: dict[tuple[str, str], dict[str, np.ndarray]], quick: bool) -> list[Claim]:
    gaps = np.array([row[3] for row in table])
    worst = table[int(np.argmax(gaps))]
    near = 0.8 * len(gaps)
    ahead = {name: n["decentralised"].mean() - n["alone"].mean() for (name, how), n in numbers.items() if how == "iid"}
    low = min(ahead, key=lambda k: ahead[k])
    limit = 8 if quick else 5  # little data, few seeds: a margin
    return [
        Claim("within 3 % of the tuned pooled score on 12 of 15 sets", f"{np.sum(gaps <= 3)} of {len(gaps)}",
              bool(np.sum(gaps <= 3) >= near) or quick),
        Claim(f"within {limit} % on all", f"worst {worst[0]}: {worst[3]:.2f} %", bool(gaps.max() <= limit)),
        Claim("better than the average agent alone on all", f"smallest lead {low}: {ahead[low]:+.4f}", ahead[low] > 0),
    ]  # fmt: skip


NAMES = {"decentralised": "dnnext", "alone": "agents alone, mean", "best alone": "best agent alone"}


def picture(numbers: dict[tuple[str, str], dict[str, np.ndarray]]) -> Any:
    """One panel per partition: score of each method, one group per set."""
    ways = [how for how in ("iid", "label", "dirichlet") if any(h == how for _, h in numbers)]
    fig, axes = plots(len(ways), 1, 10, 2.8)
    for ax, how in zip(axes[:, 0], ways, strict=True):
        names = [name for name, h in numbers if h == how]
        methods = list(numbers[names[0], how])
        for k, method in enumerate(methods):
            values = [numbers[name, how][method] for name in names]
            at = np.arange(len(names)) + (k - len(methods) / 2) * 0.11
            style = line_style(method, k) | {"ls": "", "marker": "o", "ms": 3.5}
            means, errors = [max(v.mean(), -0.05) for v in values], [v.std() for v in values]
            ax.errorbar(at, means, errors, label=NAMES.get(method, method), **style)
        ax.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], rotation=20)
        ax.set(ylabel="test score", title=TITLES[how])
        ax.set_ylim(-0.1, 1.02)
        ax.grid(alpha=0.3, axis="y")
    axes[0, 0].legend(ncol=4, loc="lower left")
    return fig

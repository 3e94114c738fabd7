"""`dnnext train` and `dnnext predict`."""

from __future__ import annotations

import contextlib
import io
import sys
import tomllib
import warnings
from typing import NamedTuple

import numpy as np

from dnnext.cli import encoding, make_parser
from dnnext.cli.table import Table, check_columns, read_table, read_target, write_predictions


def train(args):
    """Train on a CSV or Parquet file, say how well, write the model and the figure."""
    args = _with_config(args)
    if not args.target:
        raise ValueError("--target is missing: name the column to predict.")
    with _ranks(args) as ranks:
        with ranks.together():
            rows = _read(args, ranks.rank)
        ranks.agree_on({"the task of --target (see --task)": rows.task, "the columns": rows.names})
        rows = _encoded(rows, args, ranks)
        if ranks.rank:
            with contextlib.redirect_stdout(io.StringIO()):
                return _train(args, rows, ranks)
        return _train(args, rows, ranks)


class Rows(NamedTuple):
    """What was read: table, target, owners or None, input columns, task, rows to train on and to test on; inputs."""

    table: Table
    y: np.ndarray
    agent: np.ndarray | None
    names: list
    task: str
    learn: np.ndarray
    test: np.ndarray
    encoding: encoding.Encoding | None = None
    X: np.ndarray | None = None


def _ranks(args):
    """One agent per rank, to compare what was read; one process without --engine mpi."""
    if args.engine == "mpi":
        from dnnext.runtime.mpi import OverMPI

        return OverMPI(timeout=args.timeout)
    if args.local_data:
        raise ValueError("--local-data needs --engine mpi, started by mpiexec.")
    from dnnext.runtime import InProcess

    return InProcess(1)


def _read(args, rank):
    """The rows of the file, or those of this rank's own file."""
    if bool(args.file) == bool(args.local_data):
        raise ValueError("give one file, or --local-data with a file per rank, such as part-{rank}.csv.")
    if args.engine == "mpi" and args.file == "-":
        raise ValueError("the standard input reaches one rank only; name a file.")
    table = read_table(args.local_data.replace("{rank}", str(rank)) if args.local_data else args.file)
    owner = [args.agent_column] if args.agent_column else []
    check_columns(table, [args.target], "--target")
    check_columns(table, args.drop, "--drop")
    check_columns(table, owner, "--agent-column")
    task, y = read_target(table, args.target, args.task)
    names = [name for name in table.names if name not in {args.target, *args.drop, *owner}]
    if not names:
        raise ValueError(f"{table.path}: no column is left to learn from.")
    learn, test = _split(y, args.test_fraction, task, args.seed)
    return Rows(table, y, _owners(table, args.agent_column), names, task, learn, test)


def _encoded(rows, args, ranks):
    """The rows with their inputs, encoded alike on all ranks."""
    for name in args.categorical:
        if name not in rows.names:
            raise ValueError(
                f"{rows.table.path}: --categorical {name!r} is no input; those are {', '.join(rows.names)}."
            )
    made = encoding.learn(
        rows.table, rows.names, rows.learn, ranks,
        categorical=args.categorical, impute=args.impute, most=args.max_categories, local=bool(args.local_data),
    )  # fmt: skip
    with ranks.together():
        return rows._replace(encoding=made, X=made.inputs(rows.table))


def _train(args, rows, ranks):
    """Fit, report, write; on ranks the first alone speaks and writes."""
    model = make_estimator(rows.task, args)
    X, y, agent, learn = rows.X, rows.y, rows.agent, rows.learn
    counts = [int(n) for n in ranks.sum_agents(np.array([[len(learn), len(rows.test)]]))]
    n_learn, n_test = counts if args.local_data else (len(learn), len(rows.test))
    what = f"{rows.task} of {args.target!r} from {len(rows.names)} columns"
    print(f"{what}, {n_learn} rows to train on, {n_test} to test on")
    for sentence in encoding.told(rows.encoding, rows.table):
        print(sentence)
    with notes_on_stderr():
        fit = model.fit_local if args.local_data else model.fit
        fit(X[learn], y[learn], agent=None if agent is None else agent[learn])
    report(model, X, y, rows.test, local=bool(args.local_data), ranks=ranks)
    if ranks.rank:
        return 0
    model.callbacks = None  # a model file cannot hold them
    model.feature_names_in_ = np.array(rows.encoding.input_names, dtype=object)  # for those who load it in Python
    model_notes = {"encoding": rows.encoding.notes(), "target": args.target, "task": rows.task}
    from dnnext.estimators.files import save

    save(model, args.out, notes=model_notes)
    print(f"model written to {args.out}")
    if args.plot:
        from dnnext.cli.figure import draw_run

        draw_run(model.history_, args.plot, title=f"{args.target}: {model.n_agents_} agents")
        print(f"figure written to {args.plot}")
    return 130 if model.status_ == "interrupted" else 0


def predict(args):
    """Predictions for the rows of a CSV or Parquet file, as CSV on standard output."""
    import dnnext
    from dnnext.estimators.files import read_notes

    notes = read_notes(args.model)
    with notes_on_stderr():
        model = dnnext.load(args.model)
    table = read_table(args.file)
    if "encoding" in notes:
        made = encoding.Encoding.of_notes(notes["encoding"])
    else:  # a model that was not trained by this command
        made = encoding.Encoding([encoding.Column(str(name)) for name in _column_names(model, notes, table)])
    check_columns(table, made.names, f"an input of {args.model}")
    X = made.inputs(table, args.unknown)
    if hasattr(model, "feature_names_in_"):
        del model.feature_names_in_  # the columns were found by name; X is an array
    header, columns = [notes.get("target", "prediction")], [model.predict(X)]
    if args.proba:
        if not hasattr(model, "predict_proba"):
            raise ValueError("--proba needs a classifier trained with loss log_loss; this model has no probabilities.")
        header += [f"p({label})" for label in model.classes_]
        columns += list(model.predict_proba(X).T)
    write_predictions(sys.stdout, header, columns)


def _column_names(model, notes, table):
    return notes.get("columns") or getattr(model, "feature_names_in_", table.names)


def make_estimator(task, args):
    """The estimator that the options ask for."""
    from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor
    from dnnext.runs.callbacks import Checkpoint

    kind = DecentralizedMLPClassifier if task == "classification" else DecentralizedMLPRegressor
    return kind(
        _hidden(args.hidden),
        args.activation,
        loss=args.loss,
        penalty=None if args.penalty == "none" else args.penalty,
        alpha=_number(args.alpha, "--alpha"),
        n_agents=args.agents,
        topology=args.topology,
        algorithm=_algorithm(args.algorithm, args.surrogate),
        partition=args.partition,
        max_iter=args.max_iter,
        tol=args.tol,
        early_stopping=args.early_stopping,
        n_jobs=args.jobs,
        verbose=0 if args.quiet else 1,
        random_state=args.seed,
        engine=args.engine,
        engine_options={"timeout": args.timeout, "on_failure": args.on_failure} if args.engine == "mpi" else None,
        callbacks=[Checkpoint(args.checkpoint, every=args.checkpoint_every)] if args.checkpoint else None,
    )


def _algorithm(name, surrogate):
    """The algorithm's name, or the object that --surrogate asks for."""
    from dnnext.algorithms import NEXT, CentralizedSCA
    from dnnext.local import FullLinearization, PartialLinearization

    if surrogate == "auto":
        return name
    recipes, surrogates = (
        {"next": NEXT, "centralized": CentralizedSCA},
        {"full": FullLinearization, "partial": PartialLinearization},
    )
    if surrogate not in surrogates:
        raise ValueError(f"--surrogate must be auto, partial or full, got {surrogate!r}.")
    if name not in recipes:
        raise ValueError(f"--surrogate {surrogate} needs --algorithm next or centralized, got {name!r}.")
    return recipes[name](surrogates[surrogate]())


def report(model, X, y, test, local=False, ranks=None):
    """How the run ended, and the score on the rows it has not seen."""
    ends = {
        "converged": "converged",
        "early_stopping": "stopped by the validation score",
        "interrupted": "interrupted: the best model so far is kept",
    }
    end = ends.get(model.status_, f"ended ({model.status_})")
    print(f"{end} after {model.n_iter_} iterations, {model.n_agents_} agents, {model.history_['round'][-1]} rounds")
    what = "accuracy" if hasattr(model, "classes_") else "R2"
    if local:
        if ranks.sum_agents(np.array([len(test) == 0])) == 0:
            print(f"test {what} {model.score_local(X[test], y[test]):.4f} over the rows of all ranks")
        return
    if len(test) > 1 or (len(test) and hasattr(model, "classes_")):  # R2 needs two rows
        worst = min(view.score(X[test], y[test]) for view in model.agents_)
        print(f"test {what} {model.score(X[test], y[test]):.4f} (the worst agent's own view: {worst:.4f})")


@contextlib.contextmanager
def notes_on_stderr():
    """Warnings as one line each on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                print(f"dnnext: note: {warning.message}", file=sys.stderr)


def _owners(table, column):
    if column is None:
        return None
    table.check_complete(column)
    return np.array(table.column(column))


def _split(y, fraction, task, seed):
    """(rows to train on, rows to test on), stratified where every class has two rows."""
    from sklearn.model_selection import train_test_split

    if not 0 <= fraction < 1:
        raise ValueError(f"--test-fraction must be in [0, 1), got {fraction}.")
    rows = np.arange(len(y))
    if fraction == 0:
        return rows, rows[:0]
    if len(y) < 4:
        raise ValueError(f"{len(y)} rows are too few to keep some for testing; use --test-fraction 0.")
    _, counts = np.unique(y, return_counts=True)
    n_test = int(np.ceil(fraction * len(y)))
    fits = task == "classification" and counts.min() > 1 and n_test >= len(counts) and len(y) - n_test >= len(counts)
    learn, test = train_test_split(rows, test_size=n_test, random_state=seed, stratify=y if fits else None)
    return np.sort(learn), np.sort(test)


def _hidden(text):
    try:
        return tuple(int(n) for n in str(text).split(",") if n.strip())
    except ValueError:
        raise ValueError(f"--hidden must be whole numbers such as 20 or 30,10; got {text!r}.") from None


def _number(text, option):
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} must be a number or auto, got {text!r}.") from None


def _with_config(args):
    """The arguments, with those of the --config file below what the command line says."""
    if not args.config:
        return args
    try:
        with open(args.config, "rb") as file:
            config = tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{args.config}: not valid TOML ({error}).") from None
    words = []
    for name, value in config.items():
        key = name.replace("-", "_")
        if key not in vars(args) or key in ("file", "config", "command", "words"):
            raise ValueError(f"{args.config}: unknown option {name!r}; the options are those of `dnnext train --help`.")
        option = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            words += [option] if value else []
        elif key == "hidden" and isinstance(value, list):
            words += [option, ",".join(map(str, value))]
        else:
            for each in value if isinstance(value, list) else [value]:
                words += [option, str(each)]
    return make_parser().parse_args(["train", *words, *args.words[1:]])

"""`dnnext train`."""

from __future__ import annotations

import contextlib
import io
import time
import tomllib
from typing import NamedTuple

import numpy as np

from dnnext.cli import AGENTS, make_parser, target, targets, together
from dnnext.cli.columns import Study, study
from dnnext.cli.places import check_places
from dnnext.cli.report import note, notes_on_stderr, report
from dnnext.cli.table import read_table
from dnnext.preprocessing import NetworkPreprocessor
from dnnext.preprocessing.network import IMPUTE
from dnnext.runtime import Runtime
from dnnext.sites import ENGINES, open_communicator


def train(args):
    """Train on a CSV or Parquet file, report how well, write the model and the figure."""
    args = _with_config(args)
    if not args.target:
        raise ValueError("--target is missing: name the column to predict.")
    split_seed(args.seed)
    _settle_agents(args)
    if args.checkpoint_every is not None and not args.checkpoint:
        raise ValueError(f"--checkpoint-every {args.checkpoint_every} needs --checkpoint and the folder to write to.")
    with _ranks(args) as ranks:
        with ranks.together():
            notes = check_places(args) if ranks.rank == 0 else []
            found = _study(args, ranks.rank)
        together.compare_options(args, ranks)
        task, as_numbers = _settled(found, args, ranks)
        if args.class_weight and task == "regression":
            raise ValueError("--class-weight must be left out of a regression, which has no classes.")
        together.order_columns(found, ranks)
        if args.local_data:
            together.compare_signs(found, args, ranks)
        with ranks.together():
            rows = _rows(found, task, as_numbers, args)
        rows = _encoded(rows, args, ranks)
        if ranks.rank:
            with contextlib.redirect_stdout(io.StringIO()):
                return _train(args, rows, ranks)
        for sentence in [*notes, *found.notes]:
            note(sentence)
        return _train(args, rows, ranks)


class Rows(NamedTuple):
    """What was read: the study of the file, target, task, rows to train on and to test on; preparation and inputs."""

    found: Study
    y: np.ndarray
    task: str
    learn: np.ndarray
    test: np.ndarray
    prepared: NetworkPreprocessor | None = None
    X: np.ndarray | None = None


def _settle_agents(args):
    """The number of agents, where neither a column nor files of their own say it."""
    given = next((o for o, v in (("agent-column", args.agent_column), ("local-data", args.local_data)) if v), None)
    if args.agents is not None and given:
        raise ValueError(f"--agents must be left out beside --{given}, which gives the agents.")
    args.agents = AGENTS if args.agents is None else args.agents


def _settled(found, args, ranks):
    """(task, whether labels are whole numbers); collective, also where a rank finds one target and another several."""
    ranks.agree("the number of targets (--target)", len(found.targets) or 1)
    if not found.targets:
        task, as_numbers = target.settle(found.target, args, ranks)
        if args.local_data and task == "classification":
            together.compare_labels(found.target, args.task, ranks)
        return task, as_numbers
    return targets.settle(found.targets, args, ranks), True


def _ranks(args):
    """One agent per rank, to compare what was read; one process without --engine mpi."""
    if args.local_data and not ENGINES[args.engine].has_ranks:
        raise ValueError("--local-data needs --engine mpi, started by mpiexec.")
    comm = open_communicator(args.engine, _engine_options(args))
    return Runtime(comm.size, comm)


def _engine_options(args):
    """What was given for the engine, and fits it."""
    given = {name: getattr(args, name) for name in ("timeout", "on_failure") if getattr(args, name) is not None}
    for name in given:
        if name not in ENGINES[args.engine].options:
            raise ValueError(f"--{name.replace('_', '-')} needs --engine mpi, got --engine {args.engine}.")
    return given


def _study(args, rank):
    """What the columns of the file are, or those of this rank's own file."""
    if bool(args.file) == bool(args.local_data):
        raise ValueError("give one file, or --local-data with a file per rank, such as part-{rank}.csv.")
    if ENGINES[args.engine].has_ranks and args.file == "-":
        raise ValueError("the standard input reaches one rank only; name a file.")
    if args.impute is not None and args.impute not in IMPUTE:
        raise ValueError(f"--impute must be one of {', '.join(IMPUTE)}, got {args.impute!r}.")
    if args.max_categories < 1:
        raise ValueError(f"--max-categories must be a whole number of at least 1, got {args.max_categories}.")
    path = args.local_data.replace("{rank}", str(rank)) if args.local_data else args.file
    return study(read_table(path, args.encoding), args, local=bool(args.local_data))


def _rows(found, task, as_numbers, args):
    if found.targets:
        y = targets.values(found.targets, found.table, task)
    else:
        y = target.values(found.target, found.table.column(args.target), task, as_numbers)
    return Rows(found, y, task, *_split(y, args.test_fraction, task, args.seed, bool(args.local_data)))


def _encoded(rows, args, ranks):
    """The rows with their inputs: categories of the whole file, fill values of the rows to train on."""
    frame, weight = rows.found.frame(), np.zeros(len(rows.y))
    weight[rows.learn] = 1.0
    options = {"impute": args.impute, "max_categories": args.max_categories, "standardize": False}
    prepared = NetworkPreprocessor(**options)
    if args.local_data:
        prepared.fit_local(frame, weight, ranks)
    else:
        with ranks.together():
            _check_values(rows)
            prepared.fit(frame, sample_weight=weight)
    with ranks.together():
        return rows._replace(prepared=prepared, X=prepared.transform(frame))


def _check_values(rows):
    for name, one in rows.found.inputs.items():
        if one.gaps[rows.learn].all():
            raise ValueError(
                f"column {name!r} has values in rows that are kept for testing only; leave it out (--drop), or use "
                "--test-fraction 0."
            )


def _train(args, rows, ranks):
    """Fit, report, write; on ranks the first alone prints and writes."""
    begin, local = time.perf_counter(), bool(args.local_data)
    model = make_estimator(rows.task, args)
    X, y, agent, learn = rows.X, rows.y, rows.found.agent, rows.learn
    counts = [int(n) for n in ranks.sum_agents(np.array([[len(learn), len(rows.test)]]))]
    n_learn, n_test = counts if local else (len(learn), len(rows.test))
    names = list(rows.found.targets) or [args.target]
    n = len(rows.found.names)
    what = f"{rows.task} of {', '.join(map(repr, names))} from {n} column{'s' if n > 1 else ''}"
    print(f"{what}, {n_learn} rows to train on, {n_test} to test on")
    for sentence in _prepared(rows):
        print(sentence)
    with notes_on_stderr(but=r"column \d+ holds .*far outside"):  # noted above, with the name
        fit = model.fit_local if local else model.fit
        fit(X[learn], y[learn], agent=None if agent is None else agent[learn])
    report(model, X, y, learn, rows.test, time.perf_counter() - begin, names, local=local, ranks=ranks)
    if ranks.rank:
        return 0
    model.callbacks = None  # a model file cannot hold them
    model.preprocessor_ = rows.prepared  # a model that is loaded in Python takes data frames
    model.feature_names_in_, model.n_features_in_ = rows.prepared.feature_names_in_, rows.prepared.n_features_in_
    missing = None if args.missing is None else sorted(word.strip() for word in args.missing.split(","))
    signs = {name: one.sign for name, one in rows.found.inputs.items() if one.kind == "numbers"}
    model_notes = {"target": args.target, "task": rows.task, "signs": signs}
    if rows.found.targets:
        pairs = {name: targets.pair_of(one) for name, one in rows.found.targets.items()}
        model_notes |= {"targets": names, "pairs": pairs if rows.task == "classification" else {}}
    from dnnext.estimators.files import save

    save(model, args.out, notes=model_notes | {"decimal": args.decimal, "missing": missing})
    print(f"model written to {args.out}")
    if args.plot:
        from dnnext.cli.figure import draw_run

        draw_run(model.history_, args.plot, title=f"{args.target}: {model.n_agents_} agents")
        print(f"figure written to {args.plot}")
    return 130 if model.status_ == "interrupted" else 0


def _prepared(rows):
    """Sentences about what became of categories and gaps."""
    columns = rows.prepared.columns_
    hot = [f"{column.name} ({len(column.categories)})" for column in columns if column.categories is not None]
    if hot:
        yield f"one input per category: {', '.join(hot)}; {rows.X.shape[1]} inputs in all"
    gaps = [(column, int(rows.found.inputs[column.name].gaps.sum())) for column in columns]
    filled = [f"{c.name} with {_short(c.fill)} in {n} row{'s' if n > 1 else ''}" for c, n in gaps if n]
    if filled:
        yield f"gaps filled: {', '.join(filled)}"


def _short(value):
    return repr(value) if isinstance(value, str) else f"{value:.6g}"


def make_estimator(task, args):
    """The estimator that the options ask for."""
    from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor
    from dnnext.runs.callbacks import Checkpoint

    kind = DecentralizedMLPClassifier if task == "classification" else DecentralizedMLPRegressor
    every = 20 if args.checkpoint_every is None else args.checkpoint_every
    return kind(
        _hidden(args.hidden),
        args.activation,
        loss=args.loss,
        penalty=None if args.penalty == "none" else args.penalty,
        alpha=_number(args.alpha, "--alpha"),
        l1_ratio=args.l1_ratio,
        n_agents=args.agents,
        topology=args.topology,
        mixing=args.mixing,
        dtype=args.dtype,
        max_time=args.max_time,
        regime=args.regime,
        algorithm=_algorithm(args.algorithm, args.surrogate),
        partition=args.partition,
        max_iter=args.max_iter,
        tol=args.tol,
        early_stopping=args.early_stopping,
        n_jobs=args.jobs,
        verbose=0 if args.quiet else 1,
        random_state=args.seed,
        engine=args.engine,
        engine_options=_engine_options(args) or None,
        **({"class_weight": args.class_weight} if task == "classification" else {}),
        callbacks=[Checkpoint(args.checkpoint, every=every)] if args.checkpoint else None,
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


def _split(y, fraction, task, seed, local):
    """(rows to train on, rows to test on), stratified where the classes have two rows; single rows are to train on."""
    from sklearn.model_selection import train_test_split

    if not 0 <= fraction < 1:
        raise ValueError(f"--test-fraction must be in [0, 1), got {fraction}.")
    rows = np.arange(len(y))
    if fraction == 0 or (local and len(y) < 4):
        return rows, rows[:0]
    if len(y) < 4:
        raise ValueError(f"{len(y)} rows are too few to keep some for testing; use --test-fraction 0.")
    n_test, alone = int(np.ceil(fraction * len(y))), rows[:0]
    if n_test == len(y):
        raise ValueError(f"--test-fraction must leave rows to train on, got {fraction} of {len(y)} rows.")
    strata = None
    if task == "classification" and y.ndim == 1:
        _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        if (counts == 1).any() and n_test < (counts[codes] > 1).sum():
            alone, rows = rows[counts[codes] == 1], rows[counts[codes] > 1]  # nobody learns a class from test rows
        n_classes = len(np.unique(codes[rows]))
        if counts[codes[rows]].min() > 1 and n_test >= n_classes and len(rows) - n_test >= n_classes:
            strata = codes[rows]
    learn, test = train_test_split(rows, test_size=n_test, random_state=split_seed(seed), stratify=strata)
    return np.sort(np.concatenate([alone, learn])), np.sort(test)


def split_seed(seed):
    """--seed for scikit-learn's splits, which take 32 bits; larger numbers become a stream of their own."""
    if seed < 0:
        raise ValueError(f"--seed must be a whole number of at least 0, got {seed}.")
    return seed if seed < 2**32 else np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))


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
    """The arguments, with those of the --config file below those of the command line."""
    if not args.config:
        return args
    try:
        with open(args.config, "rb") as file:
            config = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
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
            words.append(f"{option}={','.join(map(str, value))}")
        else:
            for each in value if isinstance(value, list) else [value]:
                words.append(f"{option}={each}")
    return make_parser().parse_args(["train", *words, *args.words[1:]])

"""The command line: ``dnnext demo | train | predict | topology | info``.

# Design:
#   __init__  the parser, and how mistakes end: one sentence on standard error, exit code 2 (--debug: the traceback)
#   train, demo, look   one file per group of commands; each command is a function of the parsed arguments
#   table, figure       CSV files in and out; the convergence figure
#   Nothing heavy is imported before the command is known.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import dnnext

EPILOG = """examples:
  dnnext demo
  dnnext train data.csv --target price --agents 8 --topology ring --out model.npz --plot run.png
  dnnext predict model.npz new.csv > out.csv
  dnnext topology ring 16
  mpiexec -n 4 python -m mpi4py -m dnnext train --target price --engine mpi --local-data part-{rank}.csv
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code: 0, 1 for a failure of dnnext, 2 for a mistake of the user, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = make_parser().parse_args(words)
    args.words = words
    try:
        module, function = args.command.split(":")
        return getattr(importlib.import_module(f"dnnext.cli.{module}"), function)(args) or 0
    except KeyboardInterrupt:
        return _end("stopped before there was a model to keep.", 130, args.debug)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _end(f"{name}{error.strerror or error}.", 2, args.debug)
    except (ValueError, ImportError, MemoryError) as error:
        return _end(str(error), 2, args.debug)
    except Exception as error:
        if type(error).__name__ == "AgentsLost":  # of dnnext.runtime, which is loaded by then
            return _end(str(error), 1, args.debug)
        return _end(f"unexpected {type(error).__name__}: {error} (--debug shows where).", 1, args.debug)


def _end(sentence, code, debug):
    if debug:
        raise  # inside the handler that called
    print(f"dnnext: {sentence}", file=sys.stderr)
    return code


def make_parser():
    """The whole command line."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(
        prog="dnnext",
        description="Train neural networks over a graph of agents that keep their data and talk to neighbours only.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dnnext {dnnext.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands, shared)
    _add_train(commands, shared)
    _add_predict(commands, shared)
    topology = commands.add_parser("topology", parents=[shared], help="degree, spectral gap and picture of a graph")
    topology.add_argument("name", help="ring, star, erdos_renyi, ...")
    topology.add_argument("agents", type=int, help="number of agents")
    topology.add_argument("--mixing", default="metropolis", help="mixing weights (default: %(default)s)")
    topology.add_argument("--seed", type=int, default=0, help="seed of random graphs (default: %(default)s)")
    topology.set_defaults(command="look:topology")
    info = commands.add_parser("info", parents=[shared], help="versions, BLAS, OpenMP, CPU path, MPI")
    info.set_defaults(command="look:info")
    return parser


def _add_demo(commands, shared):
    p = commands.add_parser("demo", parents=[shared], help="train on real data that comes with scikit-learn")
    p.add_argument(
        "--data", choices=("digits", "breast_cancer", "wine"), default="digits", help="(default: %(default)s)"
    )
    _add_network(p, agents=10)
    p.add_argument("--max-iter", type=int, default=100, help="most iterations (default: %(default)s)")
    p.add_argument("--dir", default=".", help="where the model and the figure go (default: here)")
    p.set_defaults(command="demo:demo")


def _add_network(p, agents):
    p.add_argument("--agents", type=int, default=agents, help="number of agents (default: %(default)s)")
    p.add_argument("--topology", default="erdos_renyi", help="who talks to whom (default: %(default)s)")
    p.add_argument("--partition", default="iid", help="how rows are spread: iid, label, dirichlet (default: iid)")
    p.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")


def _add_train(commands, shared):
    p = commands.add_parser(
        "train",
        parents=[shared],
        usage="dnnext train FILE --target COLUMN [options]",
        help="train on a CSV or Parquet file and write a model file",
    )
    p.add_argument(
        "file", metavar="FILE", nargs="?", help="CSV with a header line, or .parquet; '-' is CSV from a pipe"
    )
    p.add_argument("--target", metavar="COLUMN", help="the column to predict")
    p.add_argument("--out", metavar="MODEL.npz", default="model.npz", help="the model file (default: %(default)s)")
    p.add_argument("--plot", metavar="RUN.png", help="write the convergence figure (needs matplotlib)")
    p.add_argument("--config", metavar="RUN.toml", help="options from a file, named as here; the command line wins")
    p.add_argument("--quiet", action="store_true", help="no progress")
    _add_columns(p.add_argument_group("columns and rows"))
    _add_network(p.add_argument_group("the agents"), agents=8)
    _add_model(p.add_argument_group("the model"))
    _add_ranks(p.add_argument_group("many machines and long runs"))
    p.set_defaults(command="train:train")


def _add_columns(p):
    p.add_argument("--task", choices=("auto", "classification", "regression"), default="auto", help="(default: auto)")
    p.add_argument("--drop", metavar="COLUMN", action="append", default=[], help="leave a column out (repeatable)")
    p.add_argument("--categorical", metavar="COLUMN", action="append", default=[], help="categories, though numbers")
    p.add_argument("--max-categories", type=int, default=50, metavar="N", help="per text column (default: %(default)s)")
    p.add_argument("--impute", metavar="HOW", help="fill gaps: mean, median, most_frequent (default: refuse them)")
    p.add_argument("--agent-column", metavar="COLUMN", help="the column that says which agent owns each row")
    p.add_argument("--test-fraction", type=float, default=0.25, help="rows kept to test on, 0 for none (default: 0.25)")


def _add_model(p):
    p.add_argument("--hidden", default="20", metavar="N[,N...]", help="units of the hidden layers (default: 20)")
    p.add_argument("--activation", default="tanh", help="(default: %(default)s)")
    p.add_argument("--loss", default="auto", help="log_loss, squared_hinge, squared_error, huber (default: auto)")
    p.add_argument("--penalty", default="l2", help="l2, l1, elasticnet, group, sparse_group, none (default: l2)")
    p.add_argument("--alpha", default="auto", help="strength of the penalty per sample (default: 5 / rows)")
    p.add_argument("--algorithm", default="next", help="next, gradient_tracking, dgd, centralized (default: next)")
    p.add_argument("--surrogate", default="auto", help="partial or full linearisation (default: auto)")
    p.add_argument("--max-iter", type=int, default=200, help="most iterations (default: %(default)s)")
    p.add_argument("--tol", type=float, default=1e-4, help="relative fall of the objective to stop at (default: 1e-4)")
    p.add_argument("--early-stopping", action="store_true", help="hold rows out at every agent and stop by their score")
    p.add_argument("--jobs", type=int, default=None, help="threads (default: all cores)")


def _add_ranks(p):
    p.add_argument("--engine", choices=("local", "mpi"), default="local", help="one process, or ranks of mpiexec")
    p.add_argument("--local-data", metavar="PATTERN", help="a file per rank, such as part-{rank}.csv, that stays there")
    p.add_argument("--timeout", type=float, default=600.0, help="seconds a rank may be silent (default: %(default)s)")
    p.add_argument("--on-failure", choices=("stop", "shrink"), default="stop", help="after a rank died (default: stop)")
    p.add_argument("--checkpoint", metavar="DIR", help="write the run down there, see dnnext.resume")
    p.add_argument("--checkpoint-every", type=int, default=20, metavar="N", help="iterations (default: %(default)s)")


def _add_predict(commands, shared):
    p = commands.add_parser("predict", parents=[shared], help="predict the rows of a file, CSV to standard output")
    p.add_argument("model", metavar="MODEL.npz", help="what `dnnext train` wrote")
    p.add_argument("file", metavar="NEW", help="CSV or .parquet with the training columns, in any order; '-' is a pipe")
    p.add_argument("--unknown", choices=("refuse", "ignore"), default="refuse", help="new categories (default: refuse)")
    p.add_argument("--proba", action="store_true", help="add one probability column per class")
    p.set_defaults(command="train:predict")

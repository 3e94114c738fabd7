"""The command line: ``dnnext demo | train | predict | topology | info``.

# Design:
#   __init__  the parser, and how mistakes end: one sentence on standard error, exit code 2 (--debug: the traceback)
#   train, predict, demo, look   one file per command or group; each command is a function of the parsed arguments
#   table, parquet -> distinct -> cells (writing, dates) -> columns, target   from a file to inputs and target
#   sentences                what cannot be used, where, and the option that settles it
#   places, report, figure       where results go, what is printed, the convergence figure
#   Nothing heavy is imported before the command is known.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys

import dnnext
from dnnext.cli import site_options
from dnnext.cli.names import Help
from dnnext.sites import ENGINES

EPILOG = """examples:
  dnnext demo
  dnnext train data.csv --target price --agents 8 --topology ring --out model.npz --plot run.png
  dnnext predict model.npz new.csv > out.csv
  dnnext topology ring 16
  dnnext train data.csv --target wet,cold,windy
  mpiexec -n 4 python -m mpi4py -m dnnext train --target price --engine mpi --local-data part-{rank}.csv

Networks other than layers of units are trained in Python: DecentralizedClassifier(model=Chain([...])), or one network
over many ranks by DecentralizedClassifier(model=Cube(...), engine="mpi"). dnnext.load reads the model files of train.
"""

MIXING = "metropolis, max_degree, laplacian, or lazy_ before any of them"
AGENTS = 8  # of `train`, where nothing else gives their number
REGIMES = ("full", "tangent", "features")


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code: 0, 1 for a failure of dnnext, 2 for a mistake of the user, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = _parsed(words)
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


class Parser(argparse.ArgumentParser):
    """A parser whose errors suggest what to write instead."""

    def error(self, message):
        """Exit with code 2."""
        if "expected one argument" in message:
            option = message.split()[1].rstrip(":").split("/")[0]
            message += f" (write {option}=VALUE for a value that begins with -)"
        super().error(message)


def _parsed(words):
    """The arguments; exit code 2 with a suggestion for an option that is not there."""
    parser = make_parser()
    args, unknown = parser.parse_known_args(words)
    if unknown:
        known = [option for option in _options(parser, words) if option.startswith("--")]
        near = difflib.get_close_matches(unknown[0].split("=")[0], known, 1)
        hint = f"; did you mean {near[0]}?" if near else " (--help lists the options)"
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return args


def _options(parser, words):
    """The options of the command among the words."""
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    chosen = next((commands[word] for word in words if word in commands), parser)
    return chosen._option_string_actions


def _end(sentence, code, debug):
    if debug:
        raise  # inside the handler that called
    print(f"dnnext: {sentence}", file=sys.stderr)
    return code


def make_parser():
    """The whole command line."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = Parser(
        prog="dnnext",
        description="Train neural networks over a graph of agents that keep their data and message neighbours only.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dnnext {dnnext.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands, shared)
    _add_train(commands, shared)
    _add_predict(commands, shared)
    topology = commands.add_parser("topology", parents=[shared], help="degree, spectral gap and picture of a graph")
    topology.add_argument("name", help=Help("one of {topologies}"))
    topology.add_argument("agents", type=int, help="number of agents")
    topology.add_argument("--mixing", default="metropolis", help="mixing weights (default: %(default)s)")
    topology.add_argument("--seed", type=int, default=0, help="seed of random graphs (default: %(default)s)")
    topology.set_defaults(command="look:topology")
    site_options.add(commands, shared)
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
    p.add_argument("--agents", type=int, default=agents, help=f"number of agents (default: {agents or AGENTS})")
    p.add_argument("--topology", default="erdos_renyi", help=Help("the graph: {topologies} (default: %(default)s)"))
    p.add_argument("--partition", default="iid", help=Help("how rows are spread: {partitions} (default: iid)"))
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
    p.add_argument(
        "--target", metavar="COLUMN[,COLUMN...]", help="what to predict; several are labels (0/1) or numbers"
    )
    p.add_argument("--out", metavar="MODEL.npz", default="model.npz", help="the model file (default: %(default)s)")
    p.add_argument("--plot", metavar="RUN.png", help="write the convergence figure (needs matplotlib)")
    p.add_argument("--config", metavar="RUN.toml", help="options from a file, named as here; the command line wins")
    p.add_argument("--quiet", action="store_true", help="no progress")
    _add_columns(p.add_argument_group("columns and rows"))
    agents = p.add_argument_group("the agents")
    _add_network(agents, agents=None)
    agents.add_argument(
        "--mixing", default="metropolis", help=f"averaging of neighbours: {MIXING} (default: metropolis)"
    )
    _add_model(p.add_argument_group("the model"))
    _add_ranks(p.add_argument_group("many machines and long runs"))
    p.set_defaults(command="train:train")


def _add_columns(p):
    p.add_argument("--task", choices=("auto", "classification", "regression"), default="auto", help="(default: auto)")
    p.add_argument("--drop", metavar="COLUMN", action="append", default=[], help="leave a column out (repeatable)")
    p.add_argument(
        "--categorical",
        metavar="COLUMN",
        action="append",
        default=[],
        help="words, though they look like numbers",
    )
    p.add_argument(
        "--numeric", metavar="COLUMN", action="append", default=[], help="numbers, even if they look otherwise"
    )
    p.add_argument("--index", metavar="COLUMN", help="the column that names the rows: no input")
    p.add_argument("--date", choices=("refuse", "drop"), default="refuse", help="columns of dates (default: refuse)")
    p.add_argument("--decimal", metavar="MARK", help="decimal mark, ',' or '.'; the other one groups thousands")
    p.add_argument("--missing", metavar="WORD[,WORD...]", help="words that are gaps, such as NA,null ('' for none)")
    p.add_argument("--encoding", metavar="NAME", help="of a text file, such as latin-1 (default: UTF-8)")
    p.add_argument("--max-categories", type=int, default=50, metavar="N", help="per text column (default: %(default)s)")
    p.add_argument("--impute", metavar="HOW", help="fill gaps: mean, median, most_frequent (default: refuse them)")
    p.add_argument("--agent-column", metavar="COLUMN", help="the column with the owner of each row")
    p.add_argument("--test-fraction", type=float, default=0.25, help="rows kept to test on, 0 for none (default: 0.25)")


def _add_model(p):
    p.add_argument("--hidden", default="20", metavar="N[,N...]", help="units of the hidden layers (default: 20)")
    p.add_argument("--activation", default="tanh", help=Help("{activations} (default: %(default)s)"))
    p.add_argument("--loss", default="auto", help=Help("{losses} (default: auto)"))
    p.add_argument("--penalty", default="l2", help=Help("{penalties} (default: l2)"))
    p.add_argument("--alpha", default="auto", help="strength of the penalty per sample (default: 5 / rows)")
    p.add_argument("--l1-ratio", type=float, default=0.5, help="share of l1 in mixed penalties (default: 0.5)")
    p.add_argument("--class-weight", choices=("balanced",), help="weights of classes by their rows (default: none)")
    p.add_argument("--algorithm", default="next", help=Help("{algorithms} (default: next)"))
    p.add_argument("--regime", choices=REGIMES, default="full", help="what is trained: the network, its tangent at the "
                   "start, or its last layer (default: %(default)s)")  # fmt: skip
    p.add_argument("--surrogate", default="auto", help="partial or full linearisation (default: auto)")
    p.add_argument("--max-iter", type=int, default=200, help="most iterations (default: %(default)s)")
    p.add_argument("--max-time", type=float, metavar="SECONDS", help="stop after so many seconds (default: never)")
    p.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="precision (default: float64)")
    p.add_argument("--tol", type=float, default=1e-4, help="relative fall of the objective to stop at (default: 1e-4)")
    p.add_argument("--early-stopping", action="store_true", help="hold rows out at every agent and stop by their score")
    p.add_argument("--jobs", type=int, default=None, help="threads (default: all cores)")


def _add_ranks(p):
    p.add_argument(
        "--engine",
        choices=tuple(name for name in ENGINES if name not in ("nats", "flare")),
        default="local",
        help="one process, or ranks of mpiexec (a model too large for one: dnnext.models.Cube)",
    )
    p.add_argument("--local-data", metavar="PATTERN", help="a file per rank, such as part-{rank}.csv, that stays there")
    p.add_argument("--timeout", type=float, help="seconds a rank may be silent (default: 600)")
    p.add_argument("--on-failure", choices=("stop", "shrink"), help="after a rank died (default: stop)")
    p.add_argument("--checkpoint", metavar="DIR", help="save the run there, see dnnext.resume")
    p.add_argument("--checkpoint-every", type=int, metavar="N", help="iterations (default: 20)")


def _add_predict(commands, shared):
    p = commands.add_parser("predict", parents=[shared], help="predict the rows of a file, CSV to standard output")
    p.add_argument("model", metavar="MODEL.npz", help="what `dnnext train` wrote")
    p.add_argument("file", metavar="NEW", help="CSV or .parquet with the training columns, in any order; '-' is a pipe")
    p.add_argument("--unknown", choices=("refuse", "ignore"), default="refuse", help="new categories (default: refuse)")
    p.add_argument("--proba", action="store_true", help="add one probability column per class")
    p.add_argument("--index", metavar="COLUMN", help="a column to print beside the predictions")
    p.add_argument("--encoding", metavar="NAME", help="of a text file, such as latin-1 (default: UTF-8)")
    p.set_defaults(command="predict:predict")

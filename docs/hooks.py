"""What the build calls: the reference's page, the order of the gallery, a clean start for each example."""

import html
import importlib
import inspect
import re
import warnings
import zlib
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

# The gallery in this order; a script without a place is a mistake.
GALLERY = (
    "plot_hospitals",
    "plot_sensors",
    "plot_cameras",
    "plot_tangents",
    "plot_failing_links",
    "plot_lost_messages",
    "plot_by_bytes",
    "plot_group_sparsity",
    "plot_grid_search",
    "plot_blocks",
    "plot_lazy",
    "plot_feedback",
    "plot_mpi",
    "plot_cube",
    "plot_depth",
    "plot_stream",
    "plot_research_layer",
)

MODULES = (
    ("dnnext", "Estimators, graphs and displays", "What most people need."),
    ("dnnext.model_selection", "Model selection", "What a path along the penalty returns."),
    ("dnnext.preprocessing", "Preparation", "Categories, gaps and scales from sums over the network."),
    ("dnnext.testing", "Testing", "For tests of programs that use the estimators."),
    ("dnnext.datasets", "Data sets", "Synthetic data of the examples."),
    ("dnnext.callbacks", "Callbacks", "Functions that are called after every iteration."),
    ("dnnext.display", "Displays", "Figures of runs, graphs and fitted networks."),
    ("dnnext.problem", "The problem", "What is minimised: losses, penalties and the data of the agents."),
    ("dnnext.problem.depth", "Penalties in depth", "For residual networks."),
    ("dnnext.models", "Models", "Networks: perceptrons, chains of layers, residual networks, lazy regimes."),
    ("dnnext.models.layers", "Layers", "The parts of a chain."),
    ("dnnext.models.inner_products", "Inner products", "Metrics of the weights."),
    ("dnnext.network", "The network", "Graphs, weights, schedules, and what is lost on the way."),
    ("dnnext.local", "Surrogates and oracles", "How one agent improves its own weights."),
    ("dnnext.algorithms", "Algorithms", "The algorithms, and what a run returns."),
    ("dnnext.runtime", "Runtimes", "Where the agents live: one process, threads, ranks."),
    ("dnnext.runtime.mpi", "MPI", "Agents in blocks on the ranks of a job."),
)
MOCKED = {"dnnext.runtime.mpi": ("OverMPI",)}  # cannot be imported without an MPI library


def names_of(place):
    """Public classes and functions of a module; constants are described where they are used."""
    if place in MOCKED:
        return MOCKED[place]
    module = importlib.import_module(place)
    return [name for name in module.__all__ if inspect.isclass(v := getattr(module, name)) or inspect.isroutine(v)]


def write_reference(path):
    """Write the page with one table per module; a name is listed where it first occurs."""
    lines = [
        "Reference",
        "=========",
        "",
        "Every public name, under the module that it is imported from.",
        "",
    ]
    seen = set()
    for place, title, text in MODULES:
        names = [f"{place}.{name}" for name in names_of(place)]
        homes = {name: resolve(name) for name in names}
        names = [name for name in names if homes[name] not in seen]
        seen.update(homes[name] for name in names)
        if names:
            lines += [title, "-" * len(title), "", f"{text} ``{place}``", ""]
            lines += [".. autosummary::", "   :toctree: api", "   :nosignatures:", ""]
            lines += [f"   {name}" for name in names] + [""]
    text = "\n".join(lines)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def resolve(name):
    """What a dotted name stands for, so that the same thing is listed once."""
    module, _, last = name.rpartition(".")
    return name if module in MOCKED else getattr(importlib.import_module(module), last)


# Public modules of scikit-learn whose names the pages and docstrings refer to.
SKLEARN = ("base", "calibration", "compose", "datasets", "ensemble", "exceptions", "feature_selection", "impute",
           "linear_model", "metrics", "model_selection", "multiclass", "neural_network", "pipeline", "preprocessing",
           "utils")  # fmt: skip


def write_inventory(path):
    """Write what intersphinx reads of scikit-learn: its page of a name is always modules/generated/NAME.html."""
    names = {"sklearn.utils.estimator_checks.check_estimator": "function"}
    for part in SKLEARN:
        module = importlib.import_module(f"sklearn.{part}")
        for name in getattr(module, "__all__", ()):
            try:
                thing = getattr(module, name)
            except (AttributeError, ImportError):  # experimental names must be enabled first
                continue
            if inspect.isclass(thing) or inspect.isroutine(thing):
                names[f"sklearn.{part}.{name}"] = "class" if inspect.isclass(thing) else "function"
    lines = [f"{name} py:{kind} 1 modules/generated/{name}.html#{name} -" for name, kind in sorted(names.items())]
    head = "# Sphinx inventory version 2\n# Project: scikit-learn\n# Version: \n"
    head += "# The remainder of this file is compressed using zlib.\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.encode() + zlib.compress("\n".join([*lines, ""]).encode()))


def inline_math(writer, node):
    """Inline formula as MathML, which browsers show by themselves: no script, nothing to fetch."""
    writer.body.append(mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def block_math(writer, node):
    """Displayed formula as MathML; several lines are aligned at ``&``."""
    tex = node.astext()
    if "\\\\" in tex:
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    writer.body.append(f'<div class="math">{mathml(tex, as_block=True)}</div>')
    raise nodes.SkipNode


ACCENTS = set("\u02c6~\u00af\u02d9\u00a8\u02c7")  # hat, tilde, bar, dot, two dots, check


def mathml(tex, as_block):
    """MathML of a TeX formula; what cannot be expressed fails the build.

    An index of a letter with an accent, ``\\hat w_i``, comes as something below the letter and becomes an index.
    """
    text = tex2mathml(tex, as_block=as_block)
    if "munderover" not in text:
        return text
    ElementTree.register_namespace("", "http://www.w3.org/1998/Math/MathML")
    text = re.sub(r"&(?!lt;|gt;|amp;|#)\w+;", lambda name: html.unescape(name[0]), text)  # XML has three names only
    root = ElementTree.fromstring(text)
    for node in root.iter("{http://www.w3.org/1998/Math/MathML}munderover"):
        letter, index, over = node
        if over.text in ACCENTS:
            accented = ElementTree.Element("{http://www.w3.org/1998/Math/MathML}mover", accent="true")
            accented.extend([letter, over])
            node.tag = node.tag.replace("munderover", "msub")
            node[:] = [accented, index]
    return ElementTree.tostring(root, encoding="unicode")


def gallery_key(path):
    """Place of a script in the gallery."""
    return GALLERY.index(Path(path).stem)


def reset(gallery_conf, fname):
    """Before each example: no open figures, the common style, and no warning that Agg has no window."""
    import matplotlib.pyplot as plt

    from dnnext.display.frame import STYLE

    plt.close("all")
    plt.rcdefaults()
    plt.rcParams.update(STYLE | {"figure.figsize": (4.5, 3.0)})
    warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")


def skip_routing(app, what, name, obj, skip, options):
    """Leave out what scikit-learn adds to every estimator: its texts refer to pages of its own documentation."""
    if name.startswith("set_") and name.endswith("_request"):
        return True
    home = getattr(inspect.unwrap(obj) if callable(obj) else obj, "__module__", "") or ""
    return True if home.startswith("sklearn.") else skip

"""What the build calls: the reference's page, the order of the gallery, a clean start for each example."""

import importlib
import inspect
import warnings
from pathlib import Path

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
    "plot_stream",
    "plot_research_layer",
)

ROOMS = (
    ("dnnext", "Estimators, graphs and displays", "What most people need, at the front door."),
    ("dnnext.model_selection", "Model selection", "What a path along the penalty returns."),
    ("dnnext.preprocessing", "Preparation", "Categories, gaps and scales from sums over the network."),
    ("dnnext.callbacks", "Callbacks", "What looks at a run while it goes on."),
    ("dnnext.display", "Displays", "All displays; the first three are at the front door too."),
    ("dnnext.problem", "The problem", "What is minimised: the network, its losses and its penalties."),
    ("dnnext.network", "The network", "Who talks to whom."),
    ("dnnext.local", "Surrogates", "How one agent improves its own copy."),
    ("dnnext.algorithms", "Algorithms", "The recipes, and what a run returns."),
    ("dnnext.runtime", "Runtimes", "Where the agents live."),
    ("dnnext.runtime.mpi", "MPI", "Agents in blocks on the ranks of a job."),
)
MOCKED = {"dnnext.runtime.mpi": ("OverMPI",)}  # cannot be imported without an MPI library


def names_of(room):
    """Public classes and functions of a module; constants are described where they are used."""
    if room in MOCKED:
        return MOCKED[room]
    module = importlib.import_module(room)
    return [name for name in module.__all__ if inspect.isclass(v := getattr(module, name)) or inspect.isroutine(v)]


def write_reference(path):
    """Write the page with one table per room; a name is listed where it is first met."""
    lines = [
        "Reference",
        "=========",
        "",
        "Every public name; what is below the front door is imported from its room.",
        "",
    ]
    seen = set()
    for room, title, text in ROOMS:
        names = [f"{room}.{name}" for name in names_of(room)]
        homes = {name: resolve(name) for name in names}
        names = [name for name in names if homes[name] not in seen]
        seen.update(homes[name] for name in names)
        if names:
            lines += [title, "-" * len(title), "", f"{text} ``{room}``", ""]
            lines += [".. autosummary::", "   :toctree: api", "   :nosignatures:", ""]
            lines += [f"   {name}" for name in names] + [""]
    text = "\n".join(lines)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def resolve(name):
    """What a dotted name stands for, so that the same thing is listed once."""
    module, _, last = name.rpartition(".")
    return name if module in MOCKED else getattr(importlib.import_module(module), last)


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


def mathml(tex, as_block):
    """MathML of a TeX formula; what cannot be expressed fails the build."""
    return tex2mathml(tex, as_block=as_block)


def gallery_key(path):
    """Place of a script in the gallery."""
    return GALLERY.index(Path(path).stem)


def reset(gallery_conf, fname):
    """Before each example: no open figures, matplotlib as it came, and no word about Agg having no window."""
    import matplotlib.pyplot as plt

    plt.close("all")
    plt.rcdefaults()
    warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")


def skip_routing(app, what, name, obj, skip, options):
    """Leave out what scikit-learn adds to every estimator: its texts refer to pages of its own documentation."""
    if name.startswith("set_") and name.endswith("_request"):
        return True
    home = getattr(inspect.unwrap(obj) if callable(obj) else obj, "__module__", "") or ""
    return True if home.startswith("sklearn.") else skip

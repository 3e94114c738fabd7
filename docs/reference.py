"""The reference: every public name of every room, so that a new one needs no line here."""

import importlib
import inspect

ROOMS = (
    ("dnnext", "Estimators, graphs and displays", "What most people need, at the front door."),
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

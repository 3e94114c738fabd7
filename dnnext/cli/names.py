"""Names in help texts, taken from the tables that hold them: what joins a table is listed."""

from __future__ import annotations

from importlib import import_module

TABLES = {
    "activations": ("dnnext.kernels", "ACTIVATIONS"),
    "algorithms": ("dnnext.estimators.choices", "ALGORITHMS"),
    "losses": ("dnnext.estimators.choices", "LOSSES"),
    "partitions": ("dnnext.estimators.choices", "PARTITIONS"),
    "penalties": ("dnnext.problem", "PENALTIES"),
    "topologies": ("dnnext.network", "TOPOLOGIES"),
}


class Names:
    """The names of one table, read when they are formatted: commands that show no help load nothing for it."""

    def __init__(self, table):
        self.table = table

    def __str__(self):
        module, name = TABLES[self.table]
        held = getattr(import_module(module), name)
        if self.table == "losses":  # by the kind of targets
            held = [loss for losses in held.values() for loss in losses if loss != "auto"]
        return ", ".join("none" if word is None else word for word in sorted(held, key=lambda word: word is None))


class Help(str):
    """A help text in which ``{topologies}`` stands for the names of that table."""

    def __mod__(self, params):
        return self.format(**{table: Names(table) for table in TABLES}) % params

"""What ranks that read files compare before they train: options, columns, signs, labels; all collective."""

from __future__ import annotations

import json
import unicodedata

from dnnext.cli.report import note
from dnnext.cli.writing import PLAIN

OPTIONS = ("target", "task", "drop", "categorical", "numeric", "index", "date", "decimal", "missing", "test_fraction")


def compare_options(args, ranks):
    """Options that say how a file is read are equal on all ranks."""
    ranks.agree_on({f"--{name.replace('_', '-')}": getattr(args, name) for name in OPTIONS})


def order_columns(found, ranks):
    """Put the inputs into the order of the first rank; ranks whose columns are others are named."""
    everywhere = [json.loads(text) for text in ranks.all_ranks(json.dumps(found.names))]
    for rank, names in enumerate(everywhere):
        less, more = (sorted(set(a) - set(b)) for a, b in ((everywhere[0], names), (names, everywhere[0])))
        if less or more:
            shown = " and ".join(
                f"{what} {', '.join(map(repr, some[:8]))}"
                for what, some in (("lacks", less), ("has also", more))
                if some
            )
            raise ValueError(f"the columns must be equal on all ranks: rank {rank} {shown}, unlike rank 0.")
    found.inputs = {name: found.inputs[name] for name in everywhere[0]}


def compare_signs(found, args, ranks):
    """The percent or currency sign beside the numbers of a column is equal on all ranks."""
    looks = {**found.inputs, **found.targets, **({} if found.target is None else {args.target: found.target})}
    own = {name: one.sign for name, one in looks.items() if one.kind == "numbers"}
    first = {}
    for rank, signs in enumerate(json.loads(text) for text in ranks.all_ranks(json.dumps(own))):
        for name, sign in signs.items():
            other, there = first.setdefault(name, (rank, sign))
            if sign != there:
                raise ValueError(
                    f"the numbers of column {name!r} must have one sign on all ranks, got {there!r} on rank {other} "
                    f"and {sign!r} on rank {rank}."
                )


def compare_labels(one, task, ranks):
    """No number is a class in two ways of writing; a note about classes that differ by letters only."""
    own = one.distinct if task == "auto" else []
    everywhere = {cell for text in ranks.all_ranks(json.dumps(own)) for cell in json.loads(text)}
    for key, what in ((_number, "one number"), (_plain, "")):
        seen = {}
        for cell in sorted(everywhere):
            value = key(cell)
            other = seen.setdefault(value, cell)
            if value is None or other == cell:
                continue
            if what:
                raise ValueError(
                    f"the target writes {what} as {other!r} and as {cell!r} on two ranks; correct it, or use --task "
                    "regression, or --task classification if they are different classes."
                )
            if ranks.rank == 0:
                note(f"the target holds {other!r} and {cell!r} on two ranks, which count as different")


def _number(cell):
    return float(cell) if PLAIN.fullmatch(cell) else None


def _plain(cell):
    return unicodedata.normalize("NFKC", " ".join(cell.split())).casefold()

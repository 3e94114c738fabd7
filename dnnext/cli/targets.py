"""Several target columns, ``--target a,b,c``: labels of which a row may have any number, or several numbers."""

from __future__ import annotations

import csv
import json

import numpy as np

from dnnext.cli.cells import look

PAIRS = (("0", "1"), ("false", "true"), ("no", "yes"))  # a label is absent or there


def names_of(text, table):
    """The target columns: one whose name is the whole text, or those with commas between."""
    if text in table.names or "," not in text:
        return [text]
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True))]


def study(names, table, args, rules, speak):
    """(problems, {name: Look}) of several targets."""
    problems, looks = [], {}
    if len(set(names)) < len(names):
        problems.append(f"--target must name every column once, got {args.target!r}.")
    for name in names:
        if name not in table.names:
            continue
        kind = table.kinds.get(name)
        one = looks[name] = look(table.column(name), rules, kind)
        what = f"the target {name!r}"
        found = [] if pair_of(one) else speak.unusable(what, name, one, classes=True)
        if one.gaps.any() and not found:
            found = speak.gaps(name, one.gaps, "the target is never filled: complete or remove those rows", rules)
        if not found and one.kind != "numbers" and not pair_of(one):
            found = [
                f"{what} holds words; of several targets each must hold numbers, or 0 and 1 (false and true, no and "
                "yes) for a label that a row may have."
            ]
        problems += found
    if args.task == "regression":
        problems += [f"the target {name!r} holds text, so regression is impossible; see --task."
                     for name, one in looks.items() if one.kind == "words" and pair_of(one)]  # fmt: skip
    if args.task == "classification":
        problems += [f"the target {n!r} must hold 0 and 1 only: of several targets each is a label that a row may have."
                     for n, one in looks.items() if one.kind == "numbers" and not pair_of(one)]  # fmt: skip
    return problems, looks


def pair_of(one):
    """The words (absent, there) of a label, or None; as the column writes them, where it has them."""
    cells = {cell.lower(): cell for cell in one.distinct}
    pair = next((pair for pair in PAIRS if cells and set(cells) <= set(pair)), None)
    if pair is None or len(cells) < len(one.distinct):
        return None
    return [cells.get(word, word) for word in pair]


def settle(looks, args, ranks):
    """The task, agreed on by all ranks; collective."""
    marks = {"labels": all(pair_of(one) for one in looks.values()), "names": list(looks), "task": args.task}
    everywhere = [json.loads(text) for text in ranks.all_ranks(json.dumps(marks))]
    if any(mark["names"] != marks["names"] or mark["task"] != args.task for mark in everywhere):
        raise ValueError("--target and --task must be equal on all ranks.")
    if all(mark["labels"] for mark in everywhere) and args.task != "regression":
        return "classification"
    if any(one.kind != "numbers" for one in looks.values()):
        raise ValueError("every one of several targets must hold 0 and 1, or numbers, on all ranks.")
    return "regression"


def values(looks, table, task):
    """The targets (n, Q): zeros and ones, or float64."""
    columns = []
    for name, one in looks.items():
        cells = table.column(name)
        if task == "regression":
            columns.append(one.values(cells))
        else:
            there = pair_of(one)[1]
            columns.append(cells.spread([int(cell == there) for cell in cells.distinct], np.int64))
    return np.stack(columns, axis=1)

"""The target column: numbers to approach, or classes whose labels come back as they are written.

# Design:
#   `study` judges the column of one file, `settle` decides the task for all ranks from marks that give no cell away.
"""

from __future__ import annotations

import json

import numpy as np

from dnnext.cli.cells import EXACT, look
from dnnext.cli.writing import WHOLE
from dnnext.preprocessing.columns import some

MOST_CLASSES = 20  # different whole numbers that are still classes
MOST_WORDS = 50  # different words that are classes without --task


def study(table, args, rules, speak):
    """(problems, Look) of the target."""
    name = args.target
    if name not in table.names:
        return [], None
    words = args.task == "classification" or name in args.categorical
    one = look(table.column(name), rules, table.kinds.get(name), "words" if words else None)
    if one.has_codes and not words and (args.task == "regression" or name in args.numeric):
        one = look(table.column(name), rules, table.kinds.get(name), "numbers")
    what = f"the target {name!r}"
    if args.task == "regression" and (one.kind == "words" or name in args.categorical):
        return [f"{what} holds text, so regression is impossible; see --task."], one
    problems = speak.unusable(what, name, one, classes=True)
    if one.gaps.any() and not problems:
        remedy = "the target is never filled: complete or remove those rows"
        problems = speak.gaps(name, one.gaps, remedy, rules)
    if problems:
        return problems, one
    n = len(one.distinct)
    if n == 1 and not speak.local:
        kind = "class" if _few(one) or one.kind == "words" else "value"
        return [f"{what} has one {kind} only ({one.distinct[0]}); there is nothing to learn."], one
    if one.kind == "words" and not words and (n > MOST_WORDS or 2 * n > max(len(one.gaps), 2 * 10)):
        shown = "" if speak.local else f" ({some(sorted(one.distinct))})"
        return [
            f"{what} holds text, {n} different words in {len(one.gaps)} rows{shown}; use --task classification if "
            "these are classes."
        ], one
    if one.has_digits and not words:
        first = "" if speak.local else f" ({one.distinct[0]!r})"
        return [
            f"{what} holds {n} words that begin with digits{first}; correct it, or use --task classification if these "
            "are names of classes."
        ], one
    if one.kind == "numbers" and args.task == "auto":
        return _numbers(what, one, speak), one
    return [], one


def _numbers(what, one, speak):
    """Problems of a target that is numbers, without --task."""
    wide = one.is_whole and (np.abs(one.numbers) > EXACT).any() and all(map(WHOLE.fullmatch, one.distinct))
    if wide and len(one.distinct) > MOST_CLASSES:
        return [
            f"{what} holds text that looks like identifiers (whole numbers beyond 2**53); use --task classification if "
            "these are classes, --task regression if they are amounts."
        ]
    exact = _exact(one) if _few(one) else []
    if len(set(exact)) < len(exact):
        twice = next(value for value in exact if exact.count(value) > 1)
        cells = [cell for cell, value in zip(one.distinct, exact, strict=True) if value == twice]
        shown = "in two ways" if speak.local else f"as {cells[0]!r} and as {cells[1]!r}"
        return [
            f"{what} writes one number {shown}; correct it, or use --task regression, or --task classification if they "
            "are different classes."
        ]
    return []


def _few(one):
    """Whether numbers are few and whole, so that they are classes."""
    most = min(MOST_CLASSES, max(2, len(one.gaps) // 2))
    if one.kind != "numbers" or not one.is_whole or len(np.unique(one.numbers)) > most:
        return False
    return len(set(_exact(one))) <= most


def _exact(one):
    """The numbers of the distinct cells, whole ones as Python's."""
    return [int(cell) if WHOLE.fullmatch(cell) else v for cell, v in zip(one.distinct, one.numbers, strict=True)]


def settle(one, args, ranks):
    """The task, agreed on by all ranks; collective.

    Returns
    -------
    task : str
        "classification" or "regression".
    as_numbers : bool
        Whether labels of classes are whole numbers written plainly, so that they can be int64.
    """
    whole = one.kind == "numbers" and one.is_whole and len(np.unique(one.numbers)) <= MOST_CLASSES
    plain = whole and all(_is_canonical(cell) for cell in one.distinct)
    marks = {"task": args.task, "kind": one.kind, "plain": plain, "whole": whole, "few": _few(one)}
    if args.task == "classification" and args.target not in args.categorical:
        marks["plain"] = all(_is_canonical(cell) for cell in one.distinct)
    everywhere = [json.loads(text) for text in ranks.all_ranks(json.dumps(marks))]
    kinds = {mark["kind"] for mark in everywhere}
    if len(kinds) > 1 and args.task != "classification":
        raise ValueError(
            "the task of --target (see --task) must be equal on all ranks: it holds numbers on one rank and text on "
            "another."
        )
    as_numbers = all(mark["plain"] for mark in everywhere)
    if args.task != "auto":
        return args.task, as_numbers
    if kinds == {"words"}:
        return "classification", False
    classes = all(mark["whole"] for mark in everywhere) and any(mark["few"] for mark in everywhere)
    return ("classification" if classes else "regression"), as_numbers


def values(one, cells, task, as_numbers):
    """The target (n,): float64 for regression, int64 or text for classification."""
    if task == "regression":
        return one.values(cells)
    if as_numbers:
        return cells.spread([int(cell) for cell in cells.distinct], np.int64)
    return np.array(cells.distinct)[cells.codes]


def _is_canonical(cell):
    """Whether a whole number is written as Python would, and fits into int64."""
    return bool(WHOLE.fullmatch(cell)) and str(int(cell)) == cell and -(2**63) <= int(cell) < 2**63

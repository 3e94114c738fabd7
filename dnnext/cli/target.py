"""The target column: numbers to approach, or classes whose labels come back as they are written.

# Design:
#   `study` judges the column of one file, `settle` decides the task for all ranks from marks that give no cell away.
"""

from __future__ import annotations

import json

import numpy as np

from dnnext.cli.cells import EXACT, WHOLE, look
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
    if one.kind == "numbers" and args.task == "auto":
        return _numbers(what, one, speak), one
    return [], one


def _numbers(what, one, speak):
    """Problems of a target that is numbers, without --task."""
    wide = one.is_whole and any(abs(v) > EXACT for v in one.numbers.values()) and all(map(WHOLE.fullmatch, one.numbers))
    if wide and len(one.numbers) > MOST_CLASSES:
        return [
            f"{what} holds text that looks like identifiers (whole numbers beyond 2**53); use --task classification if "
            "these are classes, --task regression if they are amounts."
        ]
    exact = [int(cell) if WHOLE.fullmatch(cell) else value for cell, value in one.numbers.items()]
    if _few(one) and len(set(exact)) < len(exact):
        twice = next(value for value in exact if exact.count(value) > 1)
        cells = [cell for cell, value in zip(one.numbers, exact, strict=True) if value == twice]
        shown = "in two ways" if speak.local else f"as {cells[0]!r} and as {cells[1]!r}"
        return [
            f"{what} writes one number {shown}; correct it, or use --task regression, or --task classification if they "
            "are different classes."
        ]
    return []


def _few(one):
    """Whether numbers are few and whole, so that they are classes."""
    n = len({int(cell) if WHOLE.fullmatch(cell) else value for cell, value in one.numbers.items()})
    return one.kind == "numbers" and one.is_whole and n <= min(MOST_CLASSES, max(2, len(one.gaps) // 2))


def settle(one, args, ranks):
    """The task, agreed on by all ranks; collective.

    Returns
    -------
    task : str
        "classification" or "regression".
    as_numbers : bool
        Whether labels of classes are whole numbers written plainly, so that they can be int64.
    """
    plain = one.kind == "numbers" and all(_is_canonical(cell) for cell in one.distinct)
    whole = one.kind == "numbers" and one.is_whole and len(set(one.numbers.values())) <= MOST_CLASSES
    marks = {"task": args.task, "kind": one.kind, "plain": plain, "whole": whole, "few": _few(one)}
    if args.task == "classification" and args.target not in args.categorical:
        marks["plain"] = all(_is_canonical(cell) for cell in one.distinct)
    everywhere = [json.loads(text) for text in ranks.all_ranks(json.dumps(marks))]
    kinds = {mark["kind"] for mark in everywhere}
    if len({mark["task"] for mark in everywhere}) > 1 or (len(kinds) > 1 and args.task != "classification"):
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
    return np.array([int(cell) for cell in cells], dtype=np.int64) if as_numbers else np.array(cells.tolist())


def _is_canonical(cell):
    """Whether a whole number is written as Python would, and fits into int64."""
    return bool(WHOLE.fullmatch(cell)) and str(int(cell)) == cell and -(2**63) <= int(cell) < 2**63

"""What each column of a table is for: input, target, owner, row label, or nothing; all problems are found at once.

# Design:
#   `study` looks at every column that is left after --drop and collects sentences: problems end the command before
#   anything is trained, notes are printed and training goes on. A sentence names the column, a cell and its line, and
#   the option that settles it. With rows that only this rank may see, no sentence holds a cell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from dnnext.cli import sentences, target, targets
from dnnext.cli.cells import EXACT, WORD_TOO, Look, Rules, look
from dnnext.cli.distinct import pandas_here
from dnnext.cli.table import Table, labels_rows
from dnnext.cli.writing import PLAIN_POWER, WHOLE_POINT

IDENTIFIER = re.compile(
    r"(?:.*[ _.-])?(?:id|idx|index|key|nr|no|row|rows|rowid|rownames?|row[ _]?num(?:ber)?|record|uuid|guid)"
    r"|unnamed: ?[0-9]+|level_0",
    re.IGNORECASE,
)
CAMEL = re.compile(r".*[a-z]I[dD]")  # PassengerId
UNNAMED = re.compile(r"#[0-9]+|Unnamed: ?[0-9]+")  # without a name here, and in pandas
FEW = 3
MOST_ROWS, USUAL = 10, 50  # rows with a word of its own in each; more are the business of --max-categories


class Problems(ValueError):
    """Everything that is wrong with a file, in one error."""

    def __init__(self, path, sentences_):
        self.sentences = sentences_
        if len(sentences_) == 1:
            super().__init__(f"{path}: {sentences_[0]}")
        else:
            lines = "".join(f"\n  {sentence}" for sentence in sentences_)
            super().__init__(f"{path} has {len(sentences_)} problems:{lines}")


@dataclass
class Study:
    """What was found: the rows that count, the looks of inputs and target, and sentences to print."""

    table: Table
    inputs: dict = field(default_factory=dict)
    target: Look | None = None
    targets: dict = field(default_factory=dict)  # if there are several
    agent: np.ndarray | None = None
    notes: list = field(default_factory=list)

    @property
    def names(self):
        """The inputs in their order."""
        return list(self.inputs)

    def frame(self):
        """The inputs as a data frame of numbers and words."""
        columns = {name: one.values(self.table.column(name)) for name, one in self.inputs.items()}
        return pandas_here().DataFrame(columns)


def rules_of(args):
    """The Rules that the options ask for."""
    if args.decimal not in (None, ".", ","):
        raise ValueError(f"--decimal must be , or . (the decimal mark), got {args.decimal!r}.")
    if args.missing is None:
        return Rules(args.decimal)
    words = frozenset(word.strip() for word in args.missing.split(",") if word.strip())
    return Rules(args.decimal, words)


def study(table, args, local=False):
    """The Study of a file to train on.

    Raises
    ------
    Problems
        With every problem of the file.
    """
    wanted = targets.names_of(args.target, table)
    rules, problems = rules_of(args), _absent(table, args, wanted)
    empty = table.empty_rows if len(table.names) > 1 else np.zeros(len(table.lines), dtype=bool)
    notes = [f"{int(empty.sum())} empty row{'s' if empty.sum() > 1 else ''} left out"] if empty.any() else []
    table = table.take(~empty) if empty.any() and not empty.all() else table
    found = Study(table, notes=[*table.notes, *notes])
    speak = sentences.Speaker(table, local)
    names = _kept(table, args, wanted, problems, found.notes, speak)
    if len(wanted) > 1:
        more, found.targets = targets.study(wanted, table, args, rules, speak)
        problems += more
    elif not problems or args.target in table.names:
        target_problems, found.target = target.study(table, args, rules, speak)
        problems += target_problems
        if found.target is not None and found.target.kind == "words" and not target_problems:
            found.notes += sentences.words_notes(f"the target {args.target!r}", found.target, args)
    if args.agent_column in table.names:
        owners = table.column(args.agent_column)
        found.agent = owners.array()
        gaps = owners.spread([rules.is_gap(cell) for cell in owners.distinct], bool)
        problems += speak.gaps(args.agent_column, gaps, "every row needs its agent") if gaps.any() else []
    for name in names:
        forced = "words" if name in args.categorical else "numbers" if name in args.numeric else None
        one = look(table.column(name), rules, table.kinds.get(name), forced)
        if local and one.kind == "nothing":
            none = [cell for cell in table.column(name).distinct if cell.lower() in WORD_TOO]
            if none and rules.missing is None:  # a word, as beside other words
                one = look(table.column(name), rules, table.kinds.get(name), "words", none)
            if one.kind == "nothing" and args.impute is not None:  # the other ranks know what it holds
                found.inputs[name] = one
                continue
        if one.kind == "dates" and args.date == "drop":
            found.notes.append(f"column {name!r} holds dates and is left out (--date drop)")
            continue
        problems += _problems(name, one, args, speak, rules)
        found.notes += _notes(name, one, table, args)
        found.inputs[name] = one
    if not found.inputs and not problems:
        problems.append("no column is left to learn from.")
    if problems:
        raise Problems(table.path, problems)
    return found


def _absent(table, args, targets_):
    """Sentences about columns that options name and the file lacks."""
    wanted = [*((name, "--target") for name in targets_), *((name, "--drop") for name in args.drop)]
    wanted += [(name, "--categorical") for name in args.categorical] + [(name, "--numeric") for name in args.numeric]
    wanted += [
        (name, option) for name, option in ((args.index, "--index"), (args.agent_column, "--agent-column")) if name
    ]
    problems = []
    for name, option in wanted:
        if name not in table.names and not (name == "" and option == "--drop"):
            if option == "--categorical":
                problems.append(f"--categorical {name!r} is no input; those are {', '.join(table.names)}.")
                continue
            problems.append(sentences.no_column(name, option, table.names))
            if len(table.names) == 1 and table.unit == "line":
                problems.append("the header holds no comma, semicolon, tab or bar, so there is one column only.")
    problems += [
        f"--categorical and --numeric both name {name!r}." for name in args.categorical if name in args.numeric
    ]
    problems += [f"--drop names the target {name!r}." for name in targets_ if name in args.drop]
    return problems


def _kept(table, args, targets_, problems, notes, speak):
    """The names of the inputs: not dropped, not the target, the index or the agents, with one name each."""
    other = {*targets_, *args.drop, args.agent_column, args.index}
    chosen = {*targets_, args.agent_column, *args.categorical, *args.numeric}
    names = []
    for k, name in enumerate(table.names):
        if name in table.names[:k]:
            if name not in args.drop:
                problems.append(
                    f"the column name {name!r} comes {table.names.count(name)} times; every column needs its own name "
                    "(--drop leaves all of that name out)."
                )
            continue
        if name in other or (UNNAMED.fullmatch(name) and "" in args.drop):
            continue
        if UNNAMED.fullmatch(name) and name not in chosen:
            cells = table.columns[k]
            if cells.distinct == [""]:
                notes.append(f"column {k + 1} has no name and no values; it is left out")
            elif k == 0 and labels_rows(cells):
                notes.append(
                    f"the first column has no name and labels the rows; it is left out (--numeric '{name}' keeps it)"
                )
            else:
                problems.append(
                    f"column {k + 1} has no name ({speak.cell(cells, 0)}); name it in the file, or leave it out with "
                    f"--drop '{name}'."
                )
            continue
        names.append(name)
    return names


def _problems(name, one, args, speak, rules):
    """Sentences about an input that cannot be used as it is."""
    problems = speak.unusable(f"column {name!r}", name, one)
    if one.kind == "numbers" and name not in args.numeric:
        problems += _identifier(name, one, speak)
    if one.kind == "words" and len(one.distinct) > args.max_categories:
        problems.append(speak.too_many(name, one, args.max_categories))
    elif (
        one.kind == "words" and MOST_ROWS < len(one.gaps) == len(one.distinct) <= USUAL and name not in args.categorical
    ):
        problems.append(
            f"column {name!r} holds {len(one.distinct)} words, every row its own, as identifiers have; leave it out "
            f"with --drop {name!r}, name it as --index, or keep it with --categorical {name!r}."
        )
    if one.gaps.any() and args.impute is None and not problems:
        remedy = "fill or remove those rows first, ask for --impute, or leave the column out (--drop)"
        problems += speak.gaps(name, one.gaps, remedy, rules)
    return problems


def _identifier(name, one, speak):
    """A sentence if a column of whole numbers identifies rows."""
    if not one.is_whole:
        return []
    settle = f"leave it out with --drop {name!r}, name it as --index, or keep it with --numeric {name!r}."
    if (np.abs(one.numbers) > EXACT).any() and all(map(WHOLE_POINT.fullmatch, one.distinct)):
        return [f"column {name!r} holds whole numbers beyond 2**53, which look like identifiers; {settle}"]
    distinct = len(one.numbers) == len(one.gaps) >= FEW
    if distinct and (IDENTIFIER.fullmatch(name) or CAMEL.fullmatch(name)):
        return [f"column {name!r} looks like an index or identifier (every row has its own whole number); {settle}"]
    return []


def _notes(name, one, table, args):
    """Sentences about an input that is used, though its user may think otherwise."""
    if one.kind == "words" and one.has_codes and name not in args.categorical and table.kinds.get(name) != "words":
        return [
            f"column {name!r} has numbers that begin with 0, so it is read as words (--numeric {name!r} reads numbers)"
        ]
    if len(one.distinct) == 1 and not one.gaps.any() and not args.local_data:
        return [f"column {name!r} has the same value in every row"]
    if one.kind == "words":
        return sentences.words_notes(f"column {name!r}", one, args)
    if one.kind == "numbers" and all(map(PLAIN_POWER.fullmatch, one.distinct)) and name not in args.numeric:
        return [f"column {name!r} is read as powers of ten (--categorical {name!r} if these are codes)"]
    if one.kind == "numbers" and name not in args.numeric and (note := _stand_in_note(name, one, table, args)):
        return [note]
    if one.kind != "numbers" or not one.is_whole or name in args.numeric or one.gaps.any():
        return []
    values = one.numbers
    if len(values) == len(one.gaps) >= 10 and np.all(np.diff(values) == 1):
        return [f"column {name!r} counts the rows ({values[0]:.0f} to {values[-1]:.0f}) and is used as a number"]
    if (IDENTIFIER.fullmatch(name) or CAMEL.fullmatch(name)) and len(values) > 2:
        return [f"column {name!r} is used as a number (--categorical {name!r} if it only names things)"]
    return []


def _stand_in_note(name, one, table, args):
    """A sentence about a number such as -999 that probably stands for a gap, or ''."""
    from dnnext.estimators.unusual import stand_in

    value = stand_in(one.numbers)
    if value is None:
        return ""
    cells = [cell for cell, number in zip(one.distinct, one.numbers, strict=True) if number == value]
    count = sum(int(table.column(name).rows(cell).sum()) for cell in cells)
    if count < 2:
        return ""
    what = "a number of nines" if args.local_data else f"{cells[0]} in {count} rows"
    how = "" if args.local_data else f" (--missing={','.join(cells)} counts it as a gap, --numeric {name!r} keeps it)"
    return f"column {name!r} holds {what}, far outside of its other numbers{how}"

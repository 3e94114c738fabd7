"""`dnnext predict`: predictions for the rows of a file, beside their rows."""

from __future__ import annotations

import sys

import numpy as np

from dnnext.cli import sentences
from dnnext.cli.cells import Rules, look
from dnnext.cli.columns import Problems
from dnnext.cli.distinct import pandas_here
from dnnext.cli.report import note, notes_on_stderr
from dnnext.cli.table import read_table, write_predictions
from dnnext.cli.writing import how_written
from dnnext.preprocessing import Column, NetworkPreprocessor
from dnnext.preprocessing.columns import some


def predict(args):
    """Predictions for the rows of a CSV or Parquet file, as CSV on standard output."""
    import dnnext
    from dnnext.estimators.files import read_notes

    notes = read_notes(args.model)
    with notes_on_stderr():
        model = dnnext.load(args.model)
    table = read_table(args.file, args.encoding)
    prepared = getattr(model, "preprocessor_", None)
    if prepared is None:  # a model that was trained on numbers, in Python
        names = getattr(model, "feature_names_in_", table.names)
        prepared = NetworkPreprocessor.from_dict(
            {"parameters": {"impute": None, "standardize": False, "categorical": ()}, "named": True,
             "columns": [Column(str(name)).as_dict() for name in names]}
        )  # fmt: skip
    words = notes.get("missing")
    rules = Rules(notes.get("decimal"), None if words is None else frozenset(words))
    for sentence in table.notes:
        note(sentence)
    frame = _frame(table, prepared.columns_, rules, args, notes.get("signs", {}))
    prepared.handle_unknown = "ignore"  # those that are refused have been by now
    X = frame if hasattr(model, "preprocessor_") else prepared.transform(frame)
    if not hasattr(model, "preprocessor_") and hasattr(model, "feature_names_in_"):
        del model.feature_names_in_  # the columns were found by name; X is an array
    header, columns = _predicted(model.predict(X), notes)
    if args.proba:
        if not hasattr(model, "predict_proba"):
            raise ValueError("--proba needs a classifier trained with loss log_loss; this model has no probabilities.")
        header = [*header, *(f"p({label})" for label in (header if len(header) > 1 else model.classes_))]
        columns += list(model.predict_proba(X).T)
    if args.index:
        header, columns = [args.index, *header], [table.column(args.index).array(), *columns]
    write_predictions(sys.stdout, header, columns)


def _predicted(values, notes):
    """(names, columns): one of each, or one per target."""
    name = notes.get("target", "prediction")
    if np.ndim(values) == 1:
        return [name], [values]
    names = notes.get("targets", [f"{name} {k + 1}" for k in range(values.shape[1])])
    pairs = notes.get("pairs", {})
    return names, [
        np.array(pairs[n], dtype=object)[column] if n in pairs else column
        for n, column in zip(names, values.T, strict=True)
    ]


def _frame(table, columns, rules, args, signs):
    """The columns of the model, found by name; every problem at once."""
    problems = [
        sentences.no_column(column.name, f"an input of {args.model}", table.names)
        for column in columns
        if column.name not in table.names
    ]
    if args.index and args.index not in table.names:
        problems.append(sentences.no_column(args.index, "--index", table.names))
    speak, frame = sentences.Speaker(table), {}
    for column in columns:
        if column.name in table.names:
            if table.names.count(column.name) > 1:
                problems.append(f"the column name {column.name!r} comes {table.names.count(column.name)} times.")
            more, frame[column.name], sign = _column(table, column, rules, speak, args)
            wanted = signs.get(column.name, sign)
            if sign != wanted and not more:
                more = [f"column {column.name!r} has the sign {sign!r} beside its numbers, training had {wanted!r}."]
            problems += more
    if problems:
        raise Problems(table.path, problems)
    return pandas_here().DataFrame(frame)


def _column(table, column, rules, speak, args):
    """(problems, values, sign beside the numbers) of one column."""
    name, cells = column.name, table.column(column.name)
    kind = table.kinds.get(name)
    known = column.categories
    if known is not None and kind == "numbers":
        kind = None
    one = look(cells, rules, kind, "numbers" if known is None else "words", known or ())
    if one.gaps.any() and column.fill is None:
        remedy = "the model was trained without --impute, so fill it first"
        return speak.gaps(name, one.gaps, remedy), one.values(cells), one.sign
    if known is None:
        if one.kind == "nothing":
            return [], np.full(len(cells), np.nan), ""
        if one.kind in ("mixed", "words"):
            wrong = cells.first(next(k for k, cell in enumerate(cells.distinct) if _is_text(cell, rules)))
            return [f"column {name!r} holds text ({speak.cell(cells, wrong)}); it must be numbers."], None, ""
        if one.kind in ("written", "mark"):
            how = "another decimal mark" if one.kind == "mark" else how_written(cells[one.first])
            return (
                [
                    f"column {name!r} holds numbers with {how} ({speak.cell(cells, one.first)}); training had "
                    f"{'--decimal ' + rules.decimal if rules.decimal else 'plain numbers'}, so write them that way."
                ],
                None,
                "",
            )
        return speak.unusable(f"column {name!r}", name, one), one.values(cells), one.sign
    values, words = one.values(cells), set(one.distinct)
    new = next((k for k, cell in enumerate(cells.distinct) if cell in words and cell not in known), None)
    if new is not None and args.unknown == "refuse":
        return (
            [
                f"column {name!r} holds {speak.cell(cells, cells.first(new))}, which the model has not seen (it knows "
                f"{some(known)}); --unknown ignore counts it as none of them."
            ],
            values,
            "",
        )
    return [], values, ""


def _is_text(cell, rules):
    return look(np.array([cell], dtype=object), rules, None, "numbers").kind not in ("numbers", "nothing")

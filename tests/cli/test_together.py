"""Ranks that read files of their own: what must be equal is compared before training, columns are found by name."""

import numpy as np
import pytest

from dnnext.cli import make_parser, target, together
from dnnext.cli.columns import study
from dnnext.cli.table import read_table

A, B = np.random.default_rng(0).normal(size=(2, 40)).round(3)
PLAIN = {"a": A, "b": B, "y": A - B}


def compared(shell, lockstep, first, second, *words):
    """What two ranks agree on: (task, names, b of this rank), or the sentence of each."""
    for rank, columns in enumerate((first, second)):
        shell.save(columns, f"part-{rank}.csv")
    pattern = ["train", "--target", "y", "--engine", "mpi", "--local-data", "part-{rank}.csv"]

    def program(runtime):
        more = words[0][runtime.rank] if words and not isinstance(words[0], str) else words
        args = make_parser().parse_args([*pattern, *more])
        try:
            with runtime.together():
                found = study(read_table(f"part-{runtime.rank}.csv"), args, local=True)
            together.compare_options(args, runtime)
            task, _ = target.settle(found.target, args, runtime)
            if task == "classification":
                together.compare_labels(found.target, args.task, runtime)
            together.order_columns(found, runtime)
            together.compare_signs(found, args, runtime)
        except ValueError as error:
            return str(error)
        return task, found.names, found.frame()["b"].tolist()

    return lockstep(2, 2, program)


def test_columns_are_found_by_name(shell, lockstep):
    turned = {"y": A - B, "b": -B, "a": A}
    assert compared(shell, lockstep, PLAIN, turned) == [
        ("regression", ["a", "b"], B.tolist()),
        ("regression", ["a", "b"], (-B).tolist()),
    ]


def test_a_rank_may_lack_what_others_know(shell, lockstep):
    gaps = {**PLAIN, "b": [""] * 40}
    for column in (B, ["u", "v"] * 20):
        for found in compared(shell, lockstep, {**PLAIN, "b": column}, gaps, "--impute", "mean"):
            assert found[:2] == ("regression", ["a", "b"])
    found = compared(shell, lockstep, {**PLAIN, "b": ["u", "v"] * 20}, {**PLAIN, "b": ["None"] * 40})
    assert found[1][2] == ["None"] * 40


def quoted(values, sign=""):
    return [f'"{sign}{abs(v)}"' for v in values]


REFUSED = {
    "more": ({**PLAIN, "z": A}, "rank 1 has also 'z', unlike rank 0"),
    "less": ({"a": A, "y": A}, "rank 1 lacks 'b', unlike rank 0"),
    "another name": ({"a": A, "B": B, "y": A}, "rank 1 lacks 'b' and has also 'B'"),
    "percent": ({**PLAIN, "b": quoted(B, "%")}, "must have one sign on all ranks, got '' on rank 0 and '%' on rank 1"),
    "a target in dollars": ({**PLAIN, "y": quoted(A, "$")}, "the numbers of column 'y' must have one sign"),
    "no value": ({**PLAIN, "b": [""] * 40}, "rank 1: part-1.csv: column 'b' has no value at all"),
    "text": ({**PLAIN, "y": ["u", "v"] * 20}, "numbers on one rank and text on another"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_differs_is_named_on_every_rank(shell, lockstep, case):
    columns, sentence = REFUSED[case]
    for found in compared(shell, lockstep, PLAIN, columns, "--decimal", "."):
        assert sentence in found


def test_classes_are_written_in_one_way(shell, lockstep, capsys):
    whole, points = {**PLAIN, "y": ["1", "2"] * 20}, {**PLAIN, "y": ["1.0", "2.0"] * 20}
    for found in compared(shell, lockstep, whole, points):
        assert "writes one number as '1' and as '1.0' on two ranks" in found
    for found in compared(shell, lockstep, whole, points, "--task", "classification"):
        assert found[0] == "classification"
    found = compared(shell, lockstep, {**PLAIN, "y": ["yes", "no"] * 20}, {**PLAIN, "y": ["Yes", "no"] * 20})
    assert found[0][0] == "classification"
    assert "'Yes' and 'yes' on two ranks, which count as different" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--decimal=.", "--missing=x", "--drop=a", "--task=regression", "--test-fraction=0"])
def test_options_are_those_of_every_rank(shell, lockstep, option):
    for found in compared(shell, lockstep, PLAIN, PLAIN, ([], [option])):
        assert f"{option.split('=')[0]} must be equal on all ranks" in found

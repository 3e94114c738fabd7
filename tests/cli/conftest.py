"""The shell in a folder of its own: write a table, train, predict, and what is refused."""

import csv
import io

import pytest

from dnnext.cli import main

QUICK = ["--quiet", "--max-iter", "3", "--tol", "0", "--hidden", "2", "--agents", "2"]


class Shell:
    """Commands run in this process."""

    def __init__(self, capsys):
        self.capsys = capsys

    @staticmethod
    def text_of(columns, sep=",", eol="\n"):
        rows = [list(columns), *zip(*columns.values(), strict=True)]
        return "".join(sep.join(map(str, row)) + eol for row in rows)

    def save(self, columns, path="t.csv", **how):
        data = columns if isinstance(columns, bytes) else self.text_of(columns, **how).encode()
        with open(path, "wb") as file:
            file.write(data)

    def run(self, *words):
        """(exit code, standard output, standard error)."""
        self.capsys.readouterr()
        code = main(list(words))
        return code, *self.capsys.readouterr()

    def train(self, target, *words, file="t.csv"):
        return self.run("train", file, "--target", target, *QUICK, *words)

    def predicted(self, file="t.csv", *words):
        code, out, err = self.run("predict", "model.npz", file, *words)
        assert code == 0, err
        return [row[0] for row in list(csv.reader(io.StringIO(out)))[1:]]


@pytest.fixture
def shell(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Shell(capsys)

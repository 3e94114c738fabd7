"""A rank that sleeps before, between or after the calls of the others is named in time."""

import re
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "sleepers.py"


@pytest.mark.parametrize("where", ["fit_local", "score_local", "constructor", "split", "close"])
def test_a_rank_that_sleeps_is_named_in_time(launch, where):
    code, out, err = launch(3, SCRIPT, where, timeout=50)  # the sleeper would take 60 s
    assert code != 0, err
    sentences = re.findall(r"(?:AgentsLost|RanksLost): (.*) after ([\d.]+) s", out)
    assert sentences, err
    for sentence, seconds in sentences:
        assert re.match(r"(agent 2 \(rank 2\)|rank 2) gave no sign of life for 6 s", sentence), sentence
        assert float(seconds) < 45

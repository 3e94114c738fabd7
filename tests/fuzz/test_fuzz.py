"""Bad input of every kind ends in a result or in a documented sentence; `bench/robustness/fuzz.py` tries many more."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CALM = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


NAMES = ["fit", "refit", "agents", "topology", "schedule", "cli", "model_file", "recipe", "saved", "kernel"]


@pytest.mark.parametrize("name", NAMES)
@CALM
@given(data=st.data())
def test_an_outcome_is_a_result_or_a_sentence(cases, drawn, name, data):
    assert cases.judged(cases.CASES[name], drawn(data))


def test_every_family_of_cases_is_tried(cases):
    assert set(cases.CASES) == set(NAMES)


def test_the_judge_sees_what_is_wrong(cases):
    def warn(d):
        import numpy as np

        return str(np.array([1e308]) * 10)

    def crash(d):
        raise KeyError("x")

    def mumble(d):
        raise ValueError("no")

    def refuse(d):
        raise ValueError("n_agents must be an integer >= 1, got 0.")

    for wrong in (warn, crash, mumble):
        with pytest.raises(cases.Broken):
            cases.judged(wrong, cases.Draw(0))
    assert cases.judged(refuse, cases.Draw(0)) == "refused"

"""The shared sentences."""

import math

import numpy as np
import pytest

from dnnext import _checks


@pytest.mark.parametrize("value", [1, 0.5, np.float32(2), np.int64(3)])
def test_positive_numbers_pass_as_float(value):
    checked = _checks.check_positive("tau", value)
    assert type(checked) is float
    assert checked == value


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 10**400, "1", None, True, np.True_, 1j, [1]])
def test_what_is_not_a_positive_number(value):
    with pytest.raises(ValueError, match="tau must be a finite number above 0, got"):
        _checks.check_positive("tau", value)


def test_zero_may_be_allowed():
    assert _checks.check_positive("alpha", 0, allow_zero=True) == 0
    with pytest.raises(ValueError, match="alpha must be a finite number of at least 0, got -1"):
        _checks.check_positive("alpha", -1, allow_zero=True)


def test_between():
    assert _checks.check_between("p", 1, 0, 1) == 1
    with pytest.raises(ValueError, match=r"p must be a number between 0 and 1 \(not included\), got 1"):
        _checks.check_between("p", 1, 0, 1, open_high=True)
    with pytest.raises(ValueError, match=r"p must be a number between 0 \(not included\) and 1, got 0"):
        _checks.check_between("p", 0, 0, 1, open_low=True)


@pytest.mark.parametrize("value", [0, -3, 1.0, "2", None, True])
def test_counts(value):
    assert _checks.check_count("n", np.int32(4)) == 4
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got"):
        _checks.check_count("n", value)


def test_words_beside_numbers():
    with pytest.raises(ValueError, match=r"n must be 'all', 'auto' or a whole number of at least 2, got 'al'. Did you"):
        _checks.check_count("n", "al", 2, words=("all", "auto"))
    with pytest.raises(ValueError, match=r"f must be None or a finite number above 1, got 1.0\.$"):
        _checks.check_positive("f", 1.0, above=1, words=(None,))
    assert _checks.is_word("auto", "all", "auto")
    assert not _checks.is_word(np.array(["auto", "all"]), "auto")


def test_choice_names_all_and_suggests():
    assert _checks.check_choice("form", "atc", ("atc", "diging")) == "atc"
    with pytest.raises(ValueError, match=r"form must be one of 'atc', 'diging', got 'atk'. Did you mean 'atc'\?"):
        _checks.check_choice("form", "atk", ("atc", "diging"))
    with pytest.raises(ValueError, match="form must be one of 'atc', 'diging', got 3"):
        _checks.check_choice("form", 3, ("atc", "diging"))


def draws(sequence):
    return np.random.default_rng(sequence).random(4)


def test_random_state_int_repeats_and_generator_moves_on():
    np.testing.assert_array_equal(draws(_checks.check_random_state(5)), np.random.default_rng(5).random(4))
    assert (draws(_checks.check_random_state(None)) != draws(_checks.check_random_state(None))).any()
    rng = np.random.default_rng(0)
    first, second = draws(_checks.check_random_state(rng)), draws(_checks.check_random_state(rng))
    assert (first != second).any()
    np.testing.assert_array_equal(draws(_checks.check_random_state(np.random.default_rng(0))), first)
    old = np.random.RandomState(3)
    assert (draws(_checks.check_random_state(old)) != draws(_checks.check_random_state(old))).any()
    sequence = np.random.SeedSequence(7)
    assert _checks.check_random_state(sequence) is sequence


@pytest.mark.parametrize("value", [-1, 0.5, "seed", True, [1, 2]])
def test_bad_random_state(value):
    with pytest.raises(ValueError, match="random_state must be None, a whole number of at least 0"):
        _checks.check_random_state(value)


def test_a_value_in_a_sentence_is_short_and_one_line():
    assert _checks.short({"rate": 0.5, "names": ["a  b"]}) == "{'names': ['a  b'], 'rate': 0.5}"
    assert _checks.short(np.arange(3)) == "array([0, 1, 2])"
    shards = [(np.zeros((50, 4)), np.zeros(50))] * 300
    values = shards, np.zeros((9, 4)), "x" * 10_000, list(range(999)), {1: shards}, np.zeros((2, 3)), set(range(999))
    for value in values:
        text = _checks.short(value)
        assert len(text) <= 240
        assert "\n" not in text
    with pytest.raises(ValueError, match=r"n must be .*, got <ndarray of shape \(9, 4\)>\.$"):
        _checks.check_count("n", np.zeros((9, 4)))

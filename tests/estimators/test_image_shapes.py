"""Inputs that do not fit a network are refused by name, before their numbers are used."""

import numpy as np
import pytest

from dnnext import DecentralizedClassifier, DecentralizedMLPClassifier, DecentralizedRegressor
from dnnext.models import MLP, AvgPool2d, Chain, Conv2d, Dense, Flatten, MaxPool2d, Residual
from dnnext.problem import FeatureDirections, ImageShifts, Tangents

Y = np.arange(20) % 2
IMAGES, COLOURS, TABLE = np.ones((20, 8, 8)), np.ones((20, 3, 8, 8)), np.ones((20, 64))
QUICK = {"n_agents": 2, "max_iter": 1, "tol": 0}
NET = [Conv2d(2, 3), Flatten(), Dense()]
LAYERS = [
    ([Conv2d(3, 3), Flatten(), Dense()], TABLE, r"layer 1, Conv2d\(.*\), needs images .*, got \(64,\)"),
    ([Dense(3), Dense()], IMAGES, r"layer 1, Dense\(units=3\), needs flat inputs .* got \(1, 8, 8\)"),
    ([Conv2d(3, 3), Dense()], COLOURS, r"layer 2, Dense\(units=1\), needs flat inputs .* got \(3, 6, 6\)"),
    ([Conv2d(3, 5), Conv2d(3, 5), Flatten(), Dense()], IMAGES, r"layer 2, .* at least 5 x 5, got \(3, 4, 4\)"),
    ([Conv2d(3, 3, dilation=5), Flatten(), Dense()], IMAGES, r"layer 1, .* at least 11 x 11, got \(1, 8, 8\)"),
    ([AvgPool2d(9), Flatten(), Dense()], IMAGES, r"layer 1, AvgPool2d\(size=9\), needs an image of at least 9 x 9"),
    ([MaxPool2d(4), MaxPool2d(4), Flatten(), Dense()], IMAGES, r"layer 2, MaxPool2d\(size=4\), needs .* \(1, 2, 2\)"),
    ([Residual([Conv2d(3, 3)]), Flatten(), Dense()], IMAGES, r"layer 1, Residual\(.* keep the shape .*\(3, 6, 6\)"),
    ([Residual([Dense(3)]), Dense()], TABLE, r"layer 1, Residual\(.* keep the shape of their input, \(64,\), got \(3,"),
    ([Flatten(), Dense(), Dense()], IMAGES, r"layer 2, Dense\(\), needs its units"),
    ([Flatten(), Dense(7)], IMAGES, r"layer 2, Dense\(units=7\), must give 1 outputs, got 7"),
    ([Conv2d(3, 3)], IMAGES, r"the last layer must give flat outputs"),
    ([Flatten(), Dense()], np.ones((20, 1, 2, 3, 4)), r"n_inputs must be a number, \(height, width\) or"),
    ([Flatten(), Dense()], np.ones((20, 0, 8)), r"X must have a number in every row, got the shape \(20, 0, 8\)"),
]


@pytest.mark.parametrize(("layers", "x", "sentence"), LAYERS)
def test_a_layer_that_does_not_fit(layers, x, sentence):
    """The numbers themselves could not be standardised, and nothing is said of them: they were not used."""
    wild = x * np.where(np.arange(20) % 3, 1e200, -1e200).reshape(20, *[1] * (x.ndim - 1))
    for kind in (DecentralizedClassifier, DecentralizedRegressor):
        with pytest.raises(ValueError, match=sentence):
            kind(Chain(layers), **QUICK).fit(wild, Y)
    with pytest.raises(ValueError, match=sentence):
        DecentralizedClassifier(Chain(layers), **QUICK).fit_agents([(x[:10], Y[:10]), (x[10:], Y[10:])])


@pytest.mark.parametrize("shape", [(9, 9), (1, 8, 8), (3, 8, 8), 64])
def test_an_end_that_was_closed_stays_as_it_is(shape):
    layers = [Dense()] if shape == 64 else NET
    clf = DecentralizedClassifier(Chain(layers, shape), **QUICK)
    if shape == (1, 8, 8):  # layers see one channel either way
        assert clf.fit(IMAGES, Y).predict(IMAGES).shape == (20,)
    else:
        with pytest.raises(ValueError, match=r"n_inputs must be .* for Chain\(.*, got \(8, 8\); or leave it open"):
            clf.fit(IMAGES, Y)


@pytest.mark.parametrize("x", [IMAGES, COLOURS])
def test_images_may_be_lists(x):
    clf = DecentralizedClassifier(Chain(NET), **QUICK).fit(x.tolist(), Y)
    np.testing.assert_array_equal(clf.predict_proba(x.tolist()), clf.predict_proba(x))
    with pytest.raises(ValueError, match="X has rows of shape"):
        clf.predict(x[..., :7].tolist())


@pytest.mark.parametrize("x", [IMAGES, COLOURS])
def test_a_perceptron_takes_tables(x):
    sentence = rf"X must be a table \(n, d\) for MLP\(.* reshape it to \(20, {x[0].size}\), or give .* a Chain"
    for clf in (DecentralizedMLPClassifier(**QUICK), DecentralizedClassifier(MLP([None, 3, None]), **QUICK)):
        with pytest.raises(ValueError, match=sentence):
            clf.fit(x, Y)
        with pytest.raises(ValueError, match="must be 2-d"):
            clf.fit_agents([(x, Y)])


def test_later_rows_have_the_shape_of_the_first():
    clf = DecentralizedClassifier(Chain(NET), **QUICK).fit(IMAGES, Y)
    for x in (COLOURS, TABLE, IMAGES[:, :7], IMAGES[:, :, :7], IMAGES[:, None]):
        shape = ", ".join(map(str, x.shape[1:]))
        sentence = rf"X has rows of shape \({shape},?\), but the model was trained on \(8, 8\)\."
        for call in (clf.predict, lambda x: clf.score(x, Y), lambda x: clf.partial_fit(x, Y)):
            with pytest.raises(ValueError, match=sentence):
                call(x)
        with pytest.raises(ValueError, match=sentence):
            DecentralizedClassifier(Chain(NET), **QUICK).fit(IMAGES, Y, eval_set=(x, Y))
        with pytest.raises(ValueError, match=r"X of agents\[1\] has shape .* of agents\[0\], \(8, 8\)"):
            DecentralizedClassifier(Chain(NET), **QUICK).fit_agents([(IMAGES, Y), (x, Y)])
    with pytest.raises(ValueError, match=r"\(X\[None\] is one row\)"):
        clf.predict(IMAGES[0])


@pytest.mark.parametrize(
    ("layers", "x", "directions", "targets", "sentence"),
    [
        (NET, IMAGES, np.ones((1, 8, 7)), 0, r"directions must have shape \(K, 8, 8\), as an input has it, got \(1, 8"),
        (NET, IMAGES, FeatureDirections([0]), 0, r"columns must be columns of inputs"),
        (NET, IMAGES, ImageShifts(), np.ones((3, 1)), r"targets must be a number, \(K, Q\) = \(2, 1\)"),
        ([Dense()], TABLE, ImageShifts(), 0, r"inputs must be images .* name the shape"),
        ([Dense()], TABLE, ImageShifts((7, 7)), 0, r"shape must be that of images in rows of 64 numbers, got"),
    ],
)
def test_directions_that_do_not_fit(layers, x, directions, targets, sentence):
    with pytest.raises(ValueError, match=sentence):
        DecentralizedClassifier(Chain(layers), tangents=Tangents(1.0, directions, targets), **QUICK).fit(x, Y)

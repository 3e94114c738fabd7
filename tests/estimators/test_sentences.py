"""What a user mistakes is named in a short sentence: arguments in another order, misspelt words, odd answers."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import dnnext
from dnnext import DecentralizedClassifier, DecentralizedMLPClassifier
from dnnext.callbacks import Checkpoint
from dnnext.models import Chain, Dense

X = np.random.default_rng(0).normal(size=(30, 3))
y = np.arange(30) % 3
OPTIONS = {"n_agents": 3, "max_iter": 1, "tol": 0, "random_state": 0}


@pytest.fixture(scope="module")
def fitted():
    return DecentralizedMLPClassifier((3,), **OPTIONS).fit(X, y)


@pytest.mark.parametrize("path", [X, X.tolist(), None, 3, "", b"m.npz", "a\0b"], ids=type)
def test_what_is_no_path(fitted, path):
    for call in (dnnext.load, fitted.save, Checkpoint, lambda path: dnnext.resume(path, X, y)):
        with pytest.raises(ValueError, match="path must be the name of a f") as caught:
            call(path)
        assert len(str(caught.value)) < 350


def test_resume_with_swapped_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"got <ndarray of shape \(30, 3\)>: it comes first, before X and y"):
        dnnext.resume(X, y, tmp_path)


def test_folders_in_place_of_files(fitted, tmp_path):
    before = sorted(tmp_path.parent.iterdir())
    for call in (dnnext.load, fitted.save):
        with pytest.raises(ValueError, match=r"path must be a .*file.*, got the folder"):
            call(tmp_path)
    assert sorted(tmp_path.parent.iterdir()) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"algorithm": "Gradient-Tracking"}, "gradient_tracking"),
        ({"loss": "logloss"}, "log_loss"),
        ({"activation": "Tanh"}, "tanh"),
        ({"topology": "erdos-renyi"}, "erdos_renyi"),
        ({"mixing": "metropolys"}, "metropolis"),
        ({"penalty": "L1"}, "l1"),
        ({"partition": "labels"}, "label"),
        ({"engine": "MPI"}, "mpi"),
        ({"class_weight": "balance"}, "balanced"),
    ],
)
def test_misspelt_words(given, meant):
    with pytest.raises(ValueError, match=rf"^{next(iter(given))}.* must be .* Did you mean '{meant}'\?$"):
        DecentralizedMLPClassifier(**OPTIONS, **given).fit(X, y)


@pytest.mark.parametrize("answer", [X, np.array([True, False]), "stop", 0.25, np.float64(1)], ids=type)
def test_callbacks_that_answer_something_else(answer):
    with pytest.raises(ValueError, match=r"the callback .* must return True to end the run, False or None, got"):
        DecentralizedMLPClassifier(callbacks=[lambda state, metrics: answer], **OPTIONS).fit(X, y)


@pytest.mark.parametrize("answer", [True, np.True_, np.array(True), 1])
def test_callbacks_that_end_the_run(answer):
    model = DecentralizedMLPClassifier(callbacks=[lambda state, metrics: answer], **OPTIONS).fit(X, y)
    assert (model.n_iter_, model.status_) == (1, "callback")


def test_callbacks_of_other_arguments():
    with pytest.raises(ValueError, match=r"callbacks must be None or a list of functions \(state, metrics\)"):
        DecentralizedMLPClassifier(callbacks=[lambda: True], **OPTIONS).fit(X, y)


def test_a_chain_has_no_coefficients():
    model = DecentralizedClassifier(Chain([Dense(2, activation="tanh"), Dense()]), **OPTIONS)
    with pytest.raises(NotFittedError):
        model.coefs_  # noqa: B018
    model.fit(X, y)
    for name in ("coefs_", "intercepts_", "active_inputs_", "n_active_units_", "feature_importances_"):
        assert not hasattr(model, name)
        with pytest.raises(AttributeError, match=f"{name} must be read from a fitted MLP, got Chain"):
            getattr(model, name)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({7: 2.0}, r"class_weight must name classes of y \(0, 1, 2\), got 7"),
        ({0: "much"}, "class_weight must hold finite numbers >= 0"),
        ({0: np.inf}, "class_weight must hold finite numbers >= 0"),
        ({0: 0, 1: 0}, "one class only"),
        ({0: 0, 1: 0, 2: 0}, "class_weight must leave a row of weight above zero"),
    ],
)
def test_weights_of_classes(weights, sentence):
    with pytest.raises(ValueError, match=sentence):
        DecentralizedMLPClassifier(class_weight=weights, **OPTIONS).fit(X, y)


@pytest.mark.parametrize(("name", "shape"), [("grid", "path"), ("torus", "ring")])
def test_a_grid_of_one_row_is_another_graph(name, shape):
    model = DecentralizedMLPClassifier((2,), topology=name, **{**OPTIONS, "n_agents": 7})
    for fit in (model.fit, lambda X, y: model.partial_fit(X, y, classes=[0, 1, 2])):
        vars(model).pop("_network", None)
        with pytest.warns(UserWarning, match=f"a {name} of 7 agents has one row, so it is a {shape}") as caught:
            fit(X, y)
        assert caught[0].filename == __file__
    model.set_params(n_agents=6).fit(X, y)  # warnings are errors here
    model.set_params(n_agents=7, topology=shape).fit(X, y)

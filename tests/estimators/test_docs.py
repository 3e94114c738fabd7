"""The docstrings of the estimators agree on what they share."""

import inspect
import re

import pytest

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor, estimators

OWN = {"loss", "class_weight"}


def entries(kind, section):
    """{name: text} of one section of a numpydoc docstring."""
    text = inspect.getdoc(kind).split(f"{section}\n{'-' * len(section)}\n")[1]
    text = re.split(r"\n\w+\n-+\n", text)[0]
    found = re.split(r"^(\w[\w, ]*) : ", text, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def test_every_parameter_is_documented_and_the_shared_ones_alike():
    documented = {kind: entries(kind, "Parameters") for kind in (DecentralizedMLPClassifier, DecentralizedMLPRegressor)}
    for kind, names in documented.items():
        assert list(names) == list(inspect.signature(kind).parameters)
    clf, reg = documented.values()
    for name in reg.keys() - OWN:
        assert reg[name].strip() == clf[name].strip()


def test_attributes_alike():
    clf, reg = entries(DecentralizedMLPClassifier, "Attributes"), entries(DecentralizedMLPRegressor, "Attributes")
    assert clf.pop("classes_")
    assert {name: text.strip() for name, text in clf.items()} == {name: text.strip() for name, text in reg.items()}


@pytest.mark.parametrize("name", [*estimators.__all__])
def test_every_public_method_is_typed(name):
    thing = getattr(estimators, name)
    if not inspect.isclass(thing):
        typed = {name: thing}
    else:
        own = [kind for kind in thing.__mro__ if kind.__module__.startswith("dnnext.")]
        typed = {key: value for kind in own for key, value in vars(kind).items() if key[0] != "_" or key == "__init__"}
        typed = {key: inspect.unwrap(getattr(value, "fget", value)) for key, value in typed.items()}
    for key, function in typed.items():
        if not inspect.isfunction(function) or (key.startswith("set_") and key.endswith("_request")):
            continue
        hints, code = function.__annotations__, function.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        assert {*names, "return"} - {"self"} <= hints.keys(), key


def test_an_unknown_parameter_is_refused_by_name():
    with pytest.raises(TypeError, match="foo must be a parameter of DecentralizedRegressor: model, loss, penalty"):
        estimators.DecentralizedRegressor(foo=1)

"""The two docstrings say the same of what the two estimators share."""

import inspect
import re

from dnnext import DecentralizedMLPClassifier, DecentralizedMLPRegressor

OWN = {"loss", "class_weight"}


def entries(kind, section):
    """{name: text} of one section of a numpydoc docstring."""
    text = inspect.getdoc(kind).split(f"{section}\n{'-' * len(section)}\n")[1]
    text = re.split(r"\n\w+\n-+\n", text)[0]
    found = re.split(r"^(\w[\w, ]*) : ", text, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def test_every_parameter_is_told_and_the_shared_ones_alike():
    told = {kind: entries(kind, "Parameters") for kind in (DecentralizedMLPClassifier, DecentralizedMLPRegressor)}
    for kind, names in told.items():
        assert list(names) == list(inspect.signature(kind).parameters)
    clf, reg = told.values()
    for name in reg.keys() - OWN:
        assert reg[name].strip() == clf[name].strip()


def test_attributes_alike():
    clf, reg = entries(DecentralizedMLPClassifier, "Attributes"), entries(DecentralizedMLPRegressor, "Attributes")
    assert clf.pop("classes_")
    assert {name: text.strip() for name, text in clf.items()} == {name: text.strip() for name, text in reg.items()}

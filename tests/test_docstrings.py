"""Every public name says what it is, in numpydoc's form, with an example that runs.

Examples run elsewhere: pytest collects doctests, tests/kernels/test_examples.py those of compiled functions. The form
is checked where numpydoc is installed, as in .ci/docs. Three kinds owe no section of parameters: methods, which may be
one sentence with shapes; kernels, whose arguments dnnext/kernels/reference.py explains once; records that runs hand
out, which list their fields as attributes, and subclasses that say whose parameters they have.
"""

import dataclasses
import importlib
import inspect

import pytest

ROOMS = (
    *(
        "dnnext",
        "dnnext.model_selection",
        "dnnext.preprocessing",
        "dnnext.callbacks",
        "dnnext.checkpoint",
        "dnnext.display",
        "dnnext.problem",
    ),
    *("dnnext.datasets", "dnnext.models.risks"),
    *("dnnext.network", "dnnext.local", "dnnext.algorithms", "dnnext.runtime", "dnnext.kernels"),
)
FORM = {
    *("GL03", "GL05", "GL06", "GL07", "GL08", "GL10"),  # there, one blank line, known sections in order, directives
    *("SS01", "SS04"),  # a summary
    *("PR02", "PR03", "PR05", "PR10"),  # parameters that exist, in their order, "name : type"
}
NAMES = FORM | {"PR01", "PR04"}  # all parameters, with their types: owed by classes and functions


def is_public(member):
    return inspect.isroutine(member) or isinstance(member, (property, classmethod, staticmethod))


def is_record(thing):
    made = inspect.isclass(thing) and (dataclasses.is_dataclass(thing) or issubclass(thing, (tuple, Exception)))
    return made and "Attributes\n" in inspect.getdoc(thing)


def public_names():
    """{dotted name: object} of classes and functions, each at the first room that has it."""
    found = {}
    for room in ROOMS:
        module = importlib.import_module(room)
        for name in module.__all__:
            thing = getattr(module, name)
            if (inspect.isclass(thing) or inspect.isroutine(thing)) and thing not in found.values():
                found[f"{room}.{name}"] = thing
    return found


PUBLIC = public_names()


@pytest.mark.parametrize("name", PUBLIC)
def test_there_is_an_example(name):
    assert ">>> " in (inspect.getdoc(PUBLIC[name]) or ""), f"{name} has no example"


def test_the_form_is_numpydoc():
    validate = pytest.importorskip(
        "numpydoc.validate", reason="the form is checked where numpydoc is installed"
    ).validate
    told = []
    for name, thing in PUBLIC.items():
        is_made_elsewhere = is_record(thing) or getattr(thing, "_is_protocol", False)  # a protocol has no constructor
        excused = (
            name.startswith("dnnext.kernels.") or is_made_elsewhere or "The parameters are those of" in thing.__doc__
        )
        owed = FORM if excused else NAMES
        told += [f"{name}: {text}" for code, text in validate(name)["errors"] if code in owed]
        members = [m for m, v in vars(thing).items() if m[0] != "_" and is_public(v)] if inspect.isclass(thing) else []
        for member in (m for m in members if not m.endswith("_request")):  # those are scikit-learn's
            told += [f"{name}.{member}: {s}" for code, s in validate(f"{name}.{member}")["errors"] if code in FORM]
    assert not told, "\n".join(told)

"""Where a case gets its choices from, and how its outcome is judged."""

import traceback
import warnings

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning

REFUSALS = (ValueError, FloatingPointError)  # what docstrings name


class Broken(AssertionError):
    """An outcome that is neither a result nor a documented exception."""


class Draw:
    """Where a case gets its choices from: here a seed; `conftest.py` asks hypothesis instead."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def whole(self, low, high):
        """An integer, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, options):
        """One of a sequence, all alike."""
        return options[self.whole(0, len(options) - 1)]

    def usual(self, options):
        """One of a sequence, mostly the first."""
        return self.pick(options) if self.chance(3) else options[0]

    def chance(self, one_in):
        """True once in `one_in`."""
        return self.whole(1, one_in) == one_in

    def numbers(self):
        """A generator for the bulk of an array."""
        return np.random.default_rng(self.whole(0, 2**32 - 1))


def judged(case, draw):
    """The outcome of a case, or Broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UserWarning)  # sentences for the user, ConvergenceWarning among them
        warnings.filterwarnings("ignore", ".* moved from Decentralized", FutureWarning)  # old names still work
        warnings.simplefilter("error", UndefinedMetricWarning)
        warnings.filterwarnings("ignore", "The exact subproblem was not solved", RuntimeWarning)
        try:
            return case(draw)
        except REFUSALS as error:
            if len(str(error)) < 10 or isinstance(error, np.linalg.LinAlgError):
                raise Broken(f"a refusal that says nothing: {error!r}") from error
            return "refused"
        except Broken:
            raise
        except Exception as error:
            where = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
            if isinstance(error, TypeError) and "sklearn/utils" in where[-1]:
                return "refused by scikit-learn"
            raise Broken(f"{type(error).__name__}: {error}") from error


def need(condition, what):
    """Broken unless the condition holds."""
    if not condition:
        raise Broken(what)

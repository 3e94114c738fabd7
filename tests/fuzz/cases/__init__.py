"""Cases that try to break things: one text for hypothesis, which shrinks, and `bench/robustness/fuzz.py`, which counts.

A case is a function of a `Draw`. It returns a word for what happened ("fit", "refused: ValueError", ...) or raises
`Broken`: a crash, a number that is not finite, a warning that is not ours, or an exception nobody documents.
"""

from .below import kernel, recipe, saved
from .draw import Broken, Draw, judged, need
from .files import cli, model_file
from .fits import agents, fit, refit
from .graphs import schedule, topology

CASES = {
    case.__name__: case for case in (fit, refit, agents, topology, schedule, cli, model_file, recipe, saved, kernel)
}

__all__ = ["CASES", "Broken", "Draw", "judged", "need"]

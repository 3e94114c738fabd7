"""Callbacks: objects that observe a run, defined in `dnnext.runs.callbacks`."""

from dnnext.runs.alignment import Alignment
from dnnext.runs.callbacks import Checkpoint, EarlyStopping, History, Progress

__all__ = ["Alignment", "Checkpoint", "EarlyStopping", "History", "Progress"]

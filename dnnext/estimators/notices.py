"""Warnings that point at the user's line, however many calls of this package and of scikit-learn lie between."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType

import sklearn

import dnnext

OURS = tuple(os.path.dirname(str(module.__file__)) + os.sep for module in (dnnext, sklearn))


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the nearest line outside of dnnext and scikit-learn."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and frame.f_code.co_filename.startswith(OURS):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level - (frame is None))

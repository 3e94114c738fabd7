"""A progress bar in a cell of a notebook."""

from __future__ import annotations

import html
import sys
from typing import Any

LETTERS = 24


def in_notebook() -> bool:
    """Whether this is an IPython with a kernel, whose output goes to a cell; IPython is not imported for it."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class NotebookBar:
    """One output of the current cell that is replaced by every `draw`."""

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, done: float, text: str) -> None:
        """A bar that is filled to `done`, between 0 and 1, and a line of text beside it."""
        filled = round(LETTERS * done)
        data = {
            "text/plain": f"{'#' * filled}{'.' * (LETTERS - filled)}  {text}",
            "text/html": f'<progress value="{done:.4f}" max="1"></progress> <code>{html.escape(text)}</code>',
        }
        if self._handle is None:
            from IPython import display

            show: Any = display.display
            self._handle = show(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

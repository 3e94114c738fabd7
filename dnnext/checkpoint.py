"""Checkpoints of a run, read and written; the text is in `dnnext.runs.checkpoint`."""

from dnnext.runs.checkpoint import notes_of, read, write

__all__ = ["notes_of", "read", "write"]

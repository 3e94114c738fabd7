"""Where results go, looked at before the first iteration: nothing is lost at the end, nothing of others overwritten."""

from __future__ import annotations

import importlib.util
import os

MARK = "dnnext figure"  # inside every figure, so that another run may overwrite it


def check_places(args):
    """Notes about --out; the files of --out, --plot and --checkpoint can be written.

    Raises
    ------
    ValueError
        If a folder is missing or cannot be written to, or a file is there that dnnext did not write.
    """
    check_model(args.out, "--out")
    if args.plot:
        check_figure(args.plot, "--plot")
        if os.path.abspath(args.plot) == os.path.abspath(args.out):
            raise ValueError(f"--plot must be another file than --out, got {args.plot!r} for both.")
    if args.checkpoint:
        _check_folder(args.checkpoint)
    if args.out.lower().endswith(".npz"):
        return []
    return [f"{args.out} will be an npz file in spite of its name; dnnext.load reads it"]


def check_model(path, option):
    """ValueError unless a model file can be written there."""
    _check_file(path, option)
    if os.path.exists(path):
        from dnnext.estimators.files import read_notes

        try:
            read_notes(path)
        except (ValueError, OSError):
            raise ValueError(
                f"{option} {path} exists and is no model file of dnnext; it is not overwritten: choose another name."
            ) from None


def check_figure(path, option):
    """ValueError unless a figure can be written there."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("the figure needs matplotlib: pip install matplotlib.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = FigureCanvasAgg.filetypes
    if os.path.splitext(path)[1].removeprefix(".").lower() not in known:
        raise ValueError(f"{path}: the figure's file must end in one of {', '.join(sorted(known))}.")
    _check_file(path, option)
    if os.path.exists(path):
        with open(path, "rb") as file:
            ours = MARK.encode() in file.read()
        if not ours:
            raise ValueError(
                f"{option} {path} exists and is no figure of dnnext; it is not overwritten: choose another name."
            )


def _check_file(path, option):
    if os.path.isdir(path) or not os.path.basename(path):
        raise ValueError(f"{option} must be a file, got the folder {path!r}.")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise ValueError(f"{option} {path}: there is no folder {folder!r}; make it first.")
    if not os.access(folder, os.W_OK) or (os.path.exists(path) and not os.access(path, os.W_OK)):
        raise ValueError(f"{option} {path}: it cannot be written; choose another place.")


def _check_folder(path):
    from dnnext.runs.checkpoint import NAME

    if os.path.exists(path) and not os.path.isdir(path):
        raise ValueError(f"--checkpoint must be a folder, got the file {path!r}.")
    above = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(path) and not os.path.isdir(above):
        raise ValueError(f"--checkpoint {path}: there is no folder {above!r}; make it first.")
    if not os.access(path if os.path.isdir(path) else above, os.W_OK):
        raise ValueError(f"--checkpoint {path}: it cannot be written; choose another place.")
    strange = [name for name in (sorted(os.listdir(path)) if os.path.isdir(path) else []) if not NAME.fullmatch(name)]
    if any(name.endswith(".npz") for name in strange):
        raise ValueError(f"--checkpoint {path} holds files of others ({strange[0]}); choose an empty or a new folder.")

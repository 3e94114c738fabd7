"""How the documentation is built: `sphinx-build -W docs docs/_build/html`; see `.ci/docs`."""

import importlib
import inspect
import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("MPLBACKEND", "agg")

import dnnext
from reference import write_reference

HERE = Path(__file__).parent

project = "dnnext"
author = "the dnnext developers"
copyright = "the dnnext developers, BSD-3-Clause"
version = release = dnnext.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*", "measure"]
templates_path = ["_templates"]
default_role = "py:obj"
autodoc_mock_imports = ["mpi4py"]
autodoc_typehints = "none"  # shapes and units are in the text
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = f"dnnext {version}"
html_static_path = []
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

# The gallery runs in the order of its list; a script that fails, fails the build.
GALLERY = (
    "plot_hospitals",
    "plot_sensors",
    "plot_failing_links",
    "plot_by_bytes",
    "plot_group_sparsity",
    "plot_grid_search",
    "plot_blocks",
    "plot_mpi",
    "plot_stream",
    "plot_research_layer",
)


def reset(gallery_conf, fname):
    """Before each example: no open figures, matplotlib as it came, and no word about Agg having no window."""
    import matplotlib.pyplot as plt

    plt.close("all")
    plt.rcdefaults()
    warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")


def gallery_key(path):
    """Place of a script in the gallery; one without a place is a mistake."""
    return GALLERY.index(Path(path).stem)


sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "within_subsection_order": "conf.gallery_key",
    "reset_modules": ("conf.reset",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 5,
    "plot_gallery": "True",
    "capture_repr": (),
    "image_scrapers": ("matplotlib",),
    "remove_config_comments": True,
    "write_computation_times": False,
}

write_reference(HERE / "reference.rst")


def skip_routing(app, what, name, obj, skip, options):
    """Leave out what scikit-learn adds to every estimator: its texts refer to pages of its own documentation."""
    if name.startswith("set_") and name.endswith("_request"):
        return True
    home = getattr(inspect.unwrap(obj) if callable(obj) else obj, "__module__", "") or ""
    return True if home.startswith("sklearn.") else skip


def setup(app):
    """Connect the hooks."""
    app.connect("autodoc-skip-member", skip_routing)

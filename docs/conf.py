"""How the documentation is built: `sphinx-build -W docs docs/_build/html`; see `.ci/docs`."""

import os
import sys
from pathlib import Path

import dnnext

HERE = Path(__file__).parent

project = "dnnext"
author = "the dnnext developers"
copyright = "the dnnext developers, BSD-3-Clause"
version = release = dnnext.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*", "measure"]
templates_path = ["_templates"]
default_role = "py:obj"
autodoc_mock_imports = ["mpi4py"]
autodoc_typehints = "none"  # shapes and units are in the text
autosummary_generate = True
toc_object_entries_show_parents = "hide"  # short names fit the column at the right
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# an inventory of scikit-learn's names that the build writes itself: links without a network
intersphinx_mapping = {"sklearn": ("https://scikit-learn.org/stable/", str(HERE / "_build" / "sklearn.inv"))}
intersphinx_disabled_reftypes = ["std:doc"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

suppress_warnings = ["myst.xref_missing"]  # a page in Markdown may point to files beside docs/
html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "dnnext"
html_static_path = ["_static"]
html_css_files = ["dnnext.css"]
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"**": []}  # every section is in the bar at the top, every page in the cards of its section
html_theme_options = {
    "navigation_with_keys": False,
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "within_subsection_order": "hooks.gallery_key",
    "reset_modules": ("hooks.reset",),
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
    "backreferences_dir": "api/examples",
    "doc_module": ("dnnext",),
    "thumbnail_size": (560, 400),
}


def setup(app):
    """Write the reference's page and connect the hooks, which live beside this file."""
    sys.path.insert(0, str(HERE))
    os.environ.setdefault("MPLBACKEND", "agg")
    from hooks import block_math, inline_math, skip_routing, write_inventory, write_reference

    write_inventory(HERE / "_build" / "sklearn.inv")
    write_reference(HERE / "reference.rst")
    app.connect("autodoc-skip-member", skip_routing)
    app.add_html_math_renderer("mathml", inline_renderers=(inline_math, None), block_renderers=(block_math, None))

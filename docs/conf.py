"""The site: `make docs`. Its source is the whole checkout, so that links between files work."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import reference
from sphinx.errors import ExtensionError

import otmix_jax as om

project = "otmix_jax"
author = "The otmix_jax authors"
version = release = om.__version__
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "*.md", "tests/data/*/README.md"]
exclude_patterns = ["docs/_build", ".*", "**/.ipynb_checkpoints", "build", "dist"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # notebooks are kept with their outputs, and run by `make notebooks`
html_theme = "sphinx_book_theme"
html_title = "otmix_jax"
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True}

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["Source", "Shapes"]
suppress_warnings = ["ref.python"]  # a class is handed on by more than one module

reference.write(Path(__file__).parent / "api")

MARKUP = re.compile(r"(`[^`]*`)(?=(\w?))|([*|]|(?<=\w)_(?=\W|$))")


def plain(found):
    """Code in backticks stays, and may be followed by a letter; other signs lose their meaning."""
    code, letter, sign = found.groups()
    return code + "\\ " * bool(letter) if code else "\\" + sign


def escape(app, what, name, obj, options, lines):
    """Docstrings are plain text with code in backticks: no stars, bars or tails have a meaning."""
    example = False
    for k, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example and not line.lstrip().startswith((":", "..")):
            lines[k] = MARKUP.sub(plain, line)


def skip(app, what, name, obj, skipped, options):
    """scikit-learn gives its estimators setters of metadata requests, documented there."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def complete(app, env):
    """A public name without an entry in the reference ends the build."""
    if absent := reference.missing(set(env.get_domain("py").objects)):
        raise ExtensionError(f"not in the API reference: {', '.join(absent)}")


def setup(app):
    """Hooks of this site."""
    app.connect("autodoc-process-docstring", escape, priority=400)
    app.connect("autodoc-skip-member", skip)
    app.connect("env-check-consistency", complete)

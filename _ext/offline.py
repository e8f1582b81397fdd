"""Sphinx extension: formulas are typeset by a MathJax that lies beside the pages."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx

PACKAGE = "sphinx-mathjax-offline"
# “full” holds every TeX package: the plain one fetches \boldsymbol or \cancel when a
# formula first needs it.
SCRIPT = "tex-svg-full.js"


def copy_mathjax(app: Sphinx) -> None:
    """Copy MathJax before any page is written, so that all pages link to the same file.

    It is not in _static/, where jupyter-book would load it without its settings.
    """
    if app.builder.format != "html":
        return
    source = Path(find_spec(PACKAGE).origin).parent / "static" / "mathjax" / SCRIPT
    target = Path(app.outdir) / "_static" / SCRIPT
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Point Sphinx's mathjax extension to the copy."""
    app.config.mathjax_path = SCRIPT
    app.connect("builder-inited", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

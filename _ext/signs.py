"""Sphinx extension: numbers from a run carry a minus sign, not a hyphen."""

import re

from docutils import nodes
from sphinx.application import Sphinx

HYPHEN = re.compile(r"^-(?=\d)")


def correct(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Change the sign of what ``{glue:text}`` has put into the text."""
    for pasted in tree.findall(nodes.inline):
        if "pasted-text" in pasted["classes"]:
            said = HYPHEN.sub("−", pasted.astext())
            pasted[:] = [nodes.Text(said)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in before anything reads the finished tree."""
    app.connect("doctree-resolved", correct, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

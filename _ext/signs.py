"""Sphinx extension: minus signs for hyphens; no line ends before a per cent sign."""

import re

from docutils import nodes
from sphinx.application import Sphinx

HYPHEN = re.compile(r"^-(?=\d)")
NO_BREAK = "\N{NO-BREAK SPACE}%"
CODE = nodes.literal | nodes.literal_block | nodes.math | nodes.raw


def correct(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Mend what ``{glue:text}`` has put into the text, and each per cent sign."""
    for pasted in tree.findall(nodes.inline):
        if "pasted-text" in pasted["classes"]:
            said = HYPHEN.sub("−", pasted.astext())
            pasted[:] = [nodes.Text(said)]
    for said in list(tree.findall(nodes.Text)):
        if " %" in said and not isinstance(said.parent, CODE):
            said.parent.replace(said, nodes.Text(said.replace(" %", NO_BREAK)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in before anything reads the finished tree."""
    app.connect("doctree-resolved", correct, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

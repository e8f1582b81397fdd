"""Sphinx extension: minus signs for hyphens, none before zero; what starts no line."""

import re

from docutils import nodes
from sphinx.application import Sphinx

HYPHEN = re.compile(r"^-(?=\d)")
# The entropy of a certain label is computed as -0.0; nobody should read or hear it.
ZERO = re.compile(r"(?<![\w.])[-−](?=0(?:\.0+)?(?!\.?\d))")
ALT = re.compile(r'(?<= alt=")[^"]*')
# A per cent sign, a dot between two parts, the circles of difficulty and a sign between
# two numbers start no line.
SPACE = re.compile(r" (?=[%·●<>=≤≥≈])")
CODE = nodes.literal | nodes.literal_block | nodes.math | nodes.math_block | nodes.raw


def correct(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Mend what ``{glue:text}`` has put in, alternative texts, and spaces."""
    for pasted in tree.findall(nodes.inline):
        if "pasted-text" in pasted["classes"]:
            said = HYPHEN.sub("−", ZERO.sub("", pasted.astext()))
            pasted[:] = [nodes.Text(said)]
    for raw in tree.findall(nodes.raw):
        if raw["format"] == "html":
            said = ALT.sub(lambda alt: ZERO.sub("", alt[0]), raw.astext())
            raw.children = [nodes.Text(said)]
    for said in list(tree.findall(nodes.Text)):
        if said.parent and SPACE.search(said) and not isinstance(said.parent, CODE):
            kept = SPACE.sub("\N{NO-BREAK SPACE}", said)
            said.parent.replace(said, nodes.Text(kept))


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in before anything reads the finished tree."""
    app.connect("doctree-resolved", correct, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

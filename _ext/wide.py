"""Sphinx extension: figures that a phone would shrink too far are marked as wide.

The style sheet lets them scroll there. Their letters are 16 pixels high at full size.
"""

import base64
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

WIDTH = re.compile(r'<svg[^>]*?\bwidth="([\d.]+)pt"', re.DOTALL)
DRAWN = re.compile(r'<img src="data:image/svg\+xml;base64,([^"]*)"')
HEAD = 4000  # characters of an SVG in which its width stands; a multiple of four


def mark(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Give wide figures a class, files as well as the frames of sliders."""
    if app.builder.format != "html":
        return
    for image in tree.findall(nodes.image):
        path = Path(app.srcdir) / image["uri"]
        if path.suffix == ".svg" and path.is_file():
            image["classes"] += [kind(path.read_text(encoding="utf-8"))]
    for raw in tree.findall(nodes.raw):
        if raw["format"] == "html":
            raw.children = [nodes.Text(marked(raw.astext()))]


def kind(svg: str) -> str:
    """The class for a drawing of this width, or nothing."""
    found = WIDTH.search(svg)
    pixels = float(found[1]) * 4 / 3 if found else 0.0
    return "wider" if pixels > 760 else "wide" if pixels > 620 else ""


def marked(html: str) -> str:
    """HTML whose drawings have their class."""

    def with_class(image: re.Match) -> str:
        svg = base64.b64decode(image[1][:HEAD]).decode(errors="replace")
        name = kind(svg)
        return image[0].replace("<img", f'<img class="{name}"') if name else image[0]

    return DRAWN.sub(with_class, html)


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in after the plain notebooks, for which nothing is wide."""
    app.connect("doctree-resolved", mark, priority=800)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Sphinx extension: Chinese says that it is Chinese, for voices, fonts and hyphens."""

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx

# A Han character, and what follows up to the last one with only Chinese marks between.
HAN = r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
RUN = re.compile(
    rf"({HAN}(?:[·，。、；：？！《》（）「」—…]*{HAN})*[，。、；：？！》）」]*)"
)
# In HTML: a whole element in which no span may stand, or which has its language; a tag.
PIECE = re.compile(r"(<(script|style|svg|select)\b.*?</\2>|<[^>]*>)", re.DOTALL)
# docutils makes an attribute lang of such a class.
CHINESE = "language-zh"
KEPT = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


def mark(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Wrap each run of Chinese characters, in the text and in what cells displayed."""
    if app.builder.format != "html":
        return
    for text in list(tree.findall(nodes.Text)):
        if RUN.search(text) and not inside(text, KEPT):
            text.parent.replace(text, list(marked(text.astext())))
    for raw in tree.findall(nodes.raw):
        if raw["format"] == "html":
            raw.children = [nodes.Text(marked_html(raw.astext()))]


def inside(node: nodes.Node, kinds: tuple) -> bool:
    """Whether a node stands in one of these kinds."""
    while node := node.parent:
        if isinstance(node, kinds):
            return True
    return False


def marked(text: str) -> Iterator[nodes.Node]:
    """A text in pieces, of which every second one is Chinese."""
    for place, part in enumerate(RUN.split(text)):
        if part:
            words = nodes.Text(part)
            yield nodes.inline("", "", words, classes=[CHINESE]) if place % 2 else words


def marked_html(text: str) -> str:
    """HTML whose Chinese runs are marked, but for those that are in ``lang="zh"``."""
    parts, depth, said = PIECE.split(text), 0, []
    for place, part in enumerate(parts):
        if place % 3 == 0:
            said.append(part if depth else RUN.sub(r'<span lang="zh">\1</span>', part))
        elif place % 3 == 1:
            said.append(part)
            if part.startswith("<span"):
                depth += bool(depth) or 'lang="zh"' in part
            depth -= bool(depth) and part == "</span>"
    return "".join(said)


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in after the plain notebooks, which need no spans, have been written."""
    app.connect("doctree-resolved", mark, priority=800)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

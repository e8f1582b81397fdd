"""Sphinx extension: each page says in its head what it is about."""

import html
import re

from docutils import nodes
from sections import flat
from sphinx.application import Sphinx

LEAST, MOST = 90, 300


def describe(
    app: Sphinx, name: str, template: str, context: dict, tree: nodes.document | None
) -> None:
    """Put the page's description into its head, for search engines and for cards."""
    if tree is None or not (text := description(tree)):
        return
    title = html.escape(re.sub("<[^>]*>", "", context.get("title", "")), quote=True)
    said = html.escape(text, quote=True)
    context["metatags"] = context.get("metatags", "") + (
        f'\n<meta name="description" content="{said}">'
        f'\n<meta property="og:title" content="{html.unescape(title)}">'
        f'\n<meta property="og:description" content="{said}">'
    )


def description(tree: nodes.document) -> str:
    """The first sentences of “In one minute”, else of the first paragraph of its own.

    Paragraphs that cite say where the page comes from, not what it is about.
    """
    boxes = [n for n in tree.findall(nodes.admonition) if "minute" in n["classes"]]
    for place in [*boxes, tree]:
        for paragraph in place.findall(nodes.paragraph):
            text = words(paragraph)
            inside = isinstance(paragraph.parent, nodes.citation)
            if len(text) >= LEAST and not inside:
                return sentences(text)
    return ""


def words(paragraph: nodes.paragraph) -> str:
    """A paragraph without its bold head; nothing if it cites, or is bold throughout."""
    head, *rest = [child for child in paragraph.children if child.astext()]
    parts = rest if isinstance(head, nodes.strong) else [head, *rest]
    spans = paragraph.findall(nodes.inline)
    cited = any("bibtex-citation" in span["classes"] for span in spans)
    text = " ".join("".join(map(flat, parts)).split())
    return "" if cited else text[:1].upper() + text[1:]


def sentences(text: str) -> str:
    """The first sentences: enough to say something, cut at a word if one is long."""
    said = ""
    for sentence in re.split(r"(?<=[.?!]) (?=[A-Z“])", text):
        said = f"{said} {sentence}".strip()
        if len(said) >= LEAST:
            break
    return said if len(said) <= MOST else said[:MOST].rsplit(" ", 1)[0] + " …"


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in before a page is written."""
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

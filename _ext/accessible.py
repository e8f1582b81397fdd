"""Sphinx extension: repairs a role in the HTML that screen readers cannot follow."""

from docutils.nodes import document
from sphinx.application import Sphinx


def name_list_items(
    app: Sphinx, name: str, template: str, context: dict, tree: document | None
) -> None:
    """Make references items of their list; docutils gives them a deprecated role."""
    if "body" in context:
        body = context["body"]
        context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in before a page is written."""
    app.connect("html-page-context", name_list_items)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

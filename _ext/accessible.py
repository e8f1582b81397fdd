"""Sphinx extension: repairs in the HTML what screen readers cannot follow."""

from collections.abc import Callable

from docutils.nodes import document
from sphinx.application import Sphinx


def name_list_items(
    app: Sphinx, name: str, template: str, context: dict, tree: document | None
) -> None:
    """Make references items of their list; docutils gives them a deprecated role."""
    if "body" in context:
        body = context["body"]
        context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def name_arrows(
    app: Sphinx, name: str, template: str, context: dict, tree: document | None
) -> None:
    """Name the arrows that unfold the contents of the sidebar."""
    if contents := context.get("generate_toctree_html"):
        context["generate_toctree_html"] = _with_named_arrows(contents)


def _with_named_arrows(contents: Callable) -> Callable:
    """``contents``, whose arrows carry the name of the page that they unfold."""

    def named(*args, **options):
        tree = contents(*args, **options)
        for arrow in tree.select("li > details > summary"):
            page = arrow.find_parent("li").a.get_text(strip=True)
            arrow["aria-label"] = f"below {page}"
        return tree

    return named


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in before a page is written, after the theme has made its contents."""
    app.connect("html-page-context", name_list_items)
    app.connect("html-page-context", name_arrows, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

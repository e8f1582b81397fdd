"""Sphinx extension: repairs in the HTML what screen readers cannot follow."""

import re
from collections.abc import Callable

from docutils.nodes import document
from sphinx.application import Sphinx

# What the theme and its parts write, and what a screen reader can make sense of: names
# that say what is seen, and no words outside of every landmark.
MENDED = {
    r' aria-label="Toggle hidden content"': "",
    r'(<button class="btn search-button-field[^>]*?) aria-label="Search"': r"\1",
    r'(<i class="theme-switch[^>]*?) title="[^"]*"': r"\1",
    r'<th class="head">\s*(<p>\s*</p>)?\s*</th>': "<td></td>",
    # Without a script there is no other mode, and “auto” has no colours.
    r'(<html[^>]*) data-theme="auto"': r'\1 data-theme="light"',
    r'(<div class="sidebar-primary-item")(>\s*<a class="navbar-brand)': (
        r'\1 role="navigation" aria-label="This book"\2'
    ),
    # Icons are letters of a font; this would draw them once more, for 1.5 MB a page.
    r'<script src="[^"]*fontawesome\.js[^"]*"></script>': "",
}


def mended(page: str) -> str:
    """A whole page, mended."""
    for wrong, right in MENDED.items():
        page = re.sub(wrong, right, page)
    return page


def mend(
    app: Sphinx, name: str, template: str, context: dict, tree: document | None
) -> str:
    """Render a page by a template that mends what the page's own gives."""
    context |= {"whole": template, "mended": mended}
    return "mended.html"


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
    app.connect("html-page-context", mend)
    app.connect("html-page-context", name_list_items)
    app.connect("html-page-context", name_arrows, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

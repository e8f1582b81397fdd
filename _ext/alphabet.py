"""Sphinx extension: terms and works in the order of the alphabet.

``{terms}`` lists every term of a page's glossaries under its letter. Works stand under
the letters of their labels, and each links back to the pages that cite it.
"""

import tomllib
from itertools import groupby
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import glossary
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from blogcore.report import AUDIT

FOLDER = "chapters/"


class Terms(SphinxDirective):
    """The place of the list; the terms are known once the page has been read."""

    def run(self) -> list[nodes.Node]:
        """An empty container."""
        return [nodes.container("", classes=["alphabet"])]


def list_terms(app: Sphinx, tree: nodes.document) -> None:
    """Fill the list with links, a line a letter."""
    terms = [t for g in tree.findall(glossary) for t in g.findall(nodes.term)]
    found = {term.astext(): term["ids"][0] for term in terms}
    for place in tree.findall(nodes.container):
        if place["classes"] == ["alphabet"]:
            for letter, names in groupby(sorted(found, key=str.casefold), initial):
                line = nodes.paragraph("", "", nodes.strong("", letter))
                for name in names:
                    link = nodes.reference("", name, refid=found[name], internal=True)
                    line += [nodes.Text(" "), nodes.inline("", "", link)]
                place += line


def initial(text: str) -> str:
    """The letter under which a name stands."""
    return text[0].upper()


def note_citations(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Keep where a page cites a work first; the pages of works if that changed."""
    before = getattr(env, "cited_in", None)
    env.cited_in = {}
    for ref in env.get_domain("cite").citation_refs:
        for target in ref.targets:
            pages = env.cited_in.setdefault(target.key, {})
            pages.setdefault(ref.docname, ref.citation_ref_id)
    works = env.get_domain("cite").citations
    changed = env.cited_in != before
    return sorted({w.bibliography_key.docname for w in works}) if changed else []


def arrange_works(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Sort works by their labels, under letters, with links back."""
    works = list(tree.findall(nodes.citation))
    if not works or app.builder.format != "html":
        return
    keys = {w.citation_id: w.key for w in app.env.get_domain("cite").citations}
    names = page_names(app.env)
    parent, arranged = works[0].parent, []
    for letter, group in groupby(sorted(works, key=label), lambda w: initial(label(w))):
        arranged.append(nodes.rubric("", letter, ids=[f"works-{letter.lower()}"]))
        for work in group:
            pages = app.env.cited_in.get(keys.get(work["ids"][0]), {})
            work += back_links(app, docname, pages, names)
            arranged.append(work)
    parent[:] = arranged


def label(work: nodes.citation) -> str:
    """What a work is cited as, for sorting."""
    return work[0].astext().casefold()


def back_links(
    app: Sphinx, docname: str, pages: dict[str, str], names: dict[str, str]
) -> nodes.paragraph:
    """Where a work is cited, in the order of the book."""
    line = nodes.paragraph("", "Cited in ", classes=["cited-in"])
    for place, page in enumerate(name for name in names if name in pages):
        uri = app.builder.get_relative_uri(docname, page)
        link = nodes.reference(
            "", names[page], refuri=f"{uri}#{pages[page]}", internal=True
        )
        line += [nodes.Text(", "), link] if place else [link]
    return line


def page_names(env: BuildEnvironment) -> dict[str, str]:
    """Short names of all pages in the order of the book: “Flooding”, “its audit”."""
    text = Path(env.srcdir, "data", "posts.toml").read_text(encoding="utf-8")
    posts = {post["slug"]: post["name"] for post in tomllib.loads(text)["post"]}
    names = {}
    for page in ordered(env, env.config.root_doc):
        slug = page.removeprefix(FOLDER)
        post = posts.get(slug.removesuffix(AUDIT))
        audit = f"{post} (audit)" if slug.endswith(AUDIT) else post
        names[page] = audit if post else env.titles[page].astext()
    return names


def ordered(env: BuildEnvironment, page: str) -> list[str]:
    """A page and all pages below it in the table of contents."""
    below = [
        p for child in env.toctree_includes.get(page, []) for p in ordered(env, child)
    ]
    return [page, *below]


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in after the search has taken its text and before Chinese gets its spans."""
    app.add_directive("terms", Terms)
    app.connect("doctree-read", list_terms)
    app.connect("env-updated", note_citations, priority=900)
    app.connect("doctree-resolved", arrange_works, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

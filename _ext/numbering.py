"""Sphinx extension: an audit has its chapter's number with a letter: Figure 2a.3.

Sphinx would count its figures, theorems, exercises and equations on from those of the
tutorial. Here they start again, so that a number says on which page it stands.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

AUDIT = "_audit"
Numbers = dict[str, dict[str, tuple]]


def forget_letters(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Give Sphinx its own numbers of the last build back, to compare the new with."""
    env.toc_fignumbers = getattr(env, "unlettered", env.toc_fignumbers)
    for page in getattr(env, "lettered", {}).keys() & env.titles.keys():
        links = list(env.tocs[page].findall(nodes.reference))
        for numbered in (env.titles[page], links[0]):
            numbered.attributes.pop("secnumber", None)
    return []


def letter_audits(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Number each audit after Sphinx has numbered its chapter; the changed pages."""
    before = getattr(env, "lettered", {})
    env.unlettered = dict(env.toc_fignumbers)
    env.lettered = {
        page: lettered(kinds, name)
        for page, kinds in env.toc_fignumbers.items()
        if (name := letter(env, page))
    }
    env.toc_fignumbers = env.unlettered | env.lettered
    for page in env.lettered:
        number_page(env, page, letter(env, page))
    return [page for page, new in env.lettered.items() if new != before.get(page)]


def letter(env: BuildEnvironment, page: str) -> str:
    """2a for the audit of chapter 2, nothing for other pages."""
    chapter = env.toc_secnumbers.get(page.removesuffix(AUDIT), {}).get("")
    return f"{chapter[0]}a" if page.endswith(AUDIT) and chapter else ""


def lettered(kinds: Numbers, name: str) -> Numbers:
    """The numbers of a page's figures, theorems, …, each kind from 1 on."""
    return {
        kind: {
            label: (name, place)
            for place, label in enumerate(sorted(found, key=found.get), 1)
        }
        for kind, found in kinds.items()
    }


def number_page(env: BuildEnvironment, page: str, name: str) -> None:
    """Write the number before the page's title, there and in the lists of pages."""
    env.titles[page]["secnumber"] = (name,)
    links = list(env.tocs[page].findall(nodes.reference))
    # Without an entry of its own a section would take the number of the page.
    env.toc_secnumbers[page] = {link["anchorname"]: None for link in links}
    env.toc_secnumbers[page][""] = links[0]["secnumber"] = (name,)


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in around Sphinx's own numbering, which has the same event."""
    app.connect("env-get-updated", forget_letters, priority=100)
    app.connect("env-get-updated", letter_audits, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

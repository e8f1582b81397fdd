"""Sphinx extension: ``{ledger}`` gathers the verdicts of all executed chapters.

With the option ``:counts:`` it says in one line only how many there are of each kind.
"""

import json
from collections import Counter
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from blogcore import runner
from blogcore.evidence import Estimate
from blogcore.wording import SYMBOLS, badge, effect

HEAD = """
:::{list-table}
:class: ledger
:header-rows: 1

* - Claim
  - Whose
  - Verdict
  - Effect"""
ROW = """\
* - <a href="{page}#{slug}">{id}</a> {statement}
  - {author}
  - {badge}
  - {effect}"""


def in_order(name: str) -> tuple[int, str]:
    """C9 before C9a before C10."""
    return int("".join(filter(str.isdigit, name)) or 0), name


class Ledger(SphinxDirective):
    """Every claim with its verdict, its effect and a link to where it was judged."""

    option_spec: ClassVar = {"counts": directives.flag}

    def run(self) -> list[nodes.Node]:
        """One line of counts, and a titled table for each chapter."""
        root = Path(self.env.srcdir)
        self.env.note_dependency(str(root / "_toc.yml"))
        chapters = {slug: self.claims(slug, root) for slug in runner.chapters(root)}
        text = tally([claim for claims in chapters.values() for claim in claims])
        if "counts" not in self.options:
            text += "".join(self.table(*chapter) for chapter in chapters.items())
        return self.parse_text_to_nodes(text)

    def claims(self, slug: str, root: Path) -> list[dict]:
        """The verdicts that a chapter's run recorded."""
        path = runner.executed_path(slug, root=root)
        self.env.note_dependency(str(path))
        records = runner.ledger(json.loads(path.read_text(encoding="utf-8")))
        claims = [record for record in records if record["kind"] == "verdict"]
        return sorted(claims, key=lambda claim: in_order(claim["id"]))

    def table(self, slug: str, claims: list[dict]) -> str:
        """A chapter's claims as Markdown, linked from this page to the chapter's."""
        builder = self.env.app.builder
        page = builder.get_relative_uri(self.env.docname, f"chapters/{slug}")
        rows = [row(page, claim) for claim in claims]
        title = f"\n\n:::{{rubric}} {{doc}}`/chapters/{slug}`\n:::\n"
        return "\n".join([title, HEAD.strip(), *rows, ":::\n"])


def tally(claims: list[dict]) -> str:
    """The number of claims, and how many there are of each verdict."""
    found = Counter(claim["verdict"] for claim in claims)
    kinds = [f"{badge(kind)} {found[kind]}" for kind in SYMBOLS if found[kind]]
    return f"{len(claims)} claims: {', '.join(kinds)}."


def row(page: str, claim: dict) -> str:
    """A claim as a row of the table; ``page`` is where it was judged."""
    estimate = Estimate(*(claim[key] for key in ("mean", "low", "high", "n")))
    return ROW.format(
        page=page,
        badge=badge(claim["verdict"]),
        effect=effect(estimate, claim["unit"]),
        **claim,
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("ledger", Ledger)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Sphinx extension: what became of the claims, gathered from all executed pages.

``{ledger}`` lists every claim, a section a post, with filters that need no script;
``{tally}`` counts the claims in one paragraph; ``{posts}`` lists the eight posts, with
links to those that are finished. The claims of posts and papers come first, ours apart,
checks are not counted.
"""

import html
import json
import tomllib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from blogcore import runner
from blogcore.claims import Claim, load_claims
from blogcore.evidence import Estimate
from blogcore.report import AUDIT
from blogcore.wording import SYMBOLS, badge, bar, effect

VERBS = {
    "holds": ("holds", "hold"),
    "contradicted": ("is contradicted", "are contradicted"),
    "undecided": ("is open", "are open"),
    "not judged": ("was not judged", "were not judged"),
}
NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "All")
FILTERS = {
    "Whose claim": ("whose", ["all", "others", "ours"]),
    "Verdict": ("verdict", ["any", "holds", "contradicted", "undecided"]),
}
WORDS = {"all": "everybody's", "others": "posts' and papers'"}


class Gathering(SphinxDirective):
    """What the directives share: the posts, their pages and what the runs recorded."""

    def posts(self) -> list[dict]:
        """The eight posts, each with its pages and its claims and checks in order."""
        return posts(self.env)

    def inline(self, text: str) -> list[nodes.Node]:
        """A claim's sentence, whose formulas are formulas."""
        return self.parse_inline(text)[0]


class Ledger(Gathering):
    """Every claim with its verdict, its effect and a link to where it was judged."""

    def run(self) -> list[nodes.Node]:
        """The filters, and a section with a table for each finished post."""
        sections = [self.section(post) for post in self.posts() if post["pages"]]
        return [nodes.raw("", filters(), format="html"), *sections]

    def section(self, post: dict) -> nodes.section:
        """A post's claims as a table, its checks in a sentence."""
        page = self.env.app.builder.get_relative_uri(
            self.env.docname, f"chapters/{post['pages'][0]}"
        )
        title = nodes.title("", post["name"])
        section = nodes.section("", title, ids=[f"ledger-{post['slug']}"])
        link = nodes.reference("", post["question"], refuri=page, internal=True)
        claims, checks = split(post["records"])
        stated = {claim.id: claim for claim in load_claims(post["slug"])}
        section += nodes.paragraph("", "", link)
        section += table(
            ["Claim", "Whose", "Verdict", "Effect"],
            [self.row(claim, stated.get(claim["id"])) for claim in claims],
        )
        open_claims = waiting(stated.values(), post["records"])
        if open_claims:
            section += self.waiting(post["slug"], open_claims)
        if checks:
            section += self.checks(checks)
        return section

    def row(self, claim: dict, stated: Claim | None) -> nodes.row:
        """A claim; its classes are what the filters look at.

        A page that is older than its claims file may know others: those have no bar.
        """
        measured = effect(estimate(claim), claim["unit"], claim["of"])
        if claim["quantity"]:
            measured = f"{html.escape(claim['quantity'])}: {measured}"
        measured += bar(stated, estimate(claim)) if stated else ""
        whose = "ours" if claim["author"] == "ours" else "others"
        return row(
            [address(claim), nodes.Text(" "), *self.inline(claim["statement"])],
            [nodes.Text(claim["author"])],
            [nodes.raw("", badge(claim["verdict"]), format="html")],
            [nodes.raw("", measured, format="html")],
            classes=[f"whose-{whose}", f"is-{claim['verdict'].replace(' ', '-')}"],
        )

    def waiting(self, slug: str, claims: list[Claim]) -> nodes.paragraph:
        """The claims that no run has judged, which count nowhere either."""
        parts = [nodes.Text("Not run yet, since they await large runs: ")]
        for place, claim in enumerate(claims):
            page = f"chapters/{slug}{AUDIT if claim.page == 'audit' else ''}"
            builder = self.env.app.builder
            uri = builder.get_relative_uri(self.env.docname, page)
            named = {"id": claim.id, "page": uri, "slug": claim.id.lower()}
            parts += [nodes.Text("; ")] if place else []
            parts += [address(named), nodes.Text(" ")]
            parts += self.inline(claim.statement.rstrip("."))
            parts += [nodes.Text(f" ({claim.author})")]
        return nodes.paragraph("", "", *parts, nodes.Text("."), classes=["not-run"])

    def checks(self, checks: list[dict]) -> nodes.paragraph:
        """The checks, which count nowhere, each with how exactly it holds."""
        parts = [nodes.Text("Checks, which every run asserts and nobody counts: ")]
        for place, check in enumerate(checks):
            parts += [nodes.Text(", ")] if place else []
            exactly = check["exactly"].rstrip(".").lower()
            parts += [address(check), nodes.Text(f" ({exactly})")]
        return nodes.paragraph("", "", *parts, nodes.Text("."), classes=["checks"])


class Tally(Gathering):
    """How many claims of posts and papers hold, how many of ours; how many posts."""

    def run(self) -> list[nodes.Node]:
        """One paragraph."""
        posts = self.posts()
        claims = [c for post in posts for c in split(post["records"])[0]]
        theirs = [c for c in claims if c["author"] != "ours"]
        ours = [c for c in claims if c["author"] == "ours"]
        done = sum(bool(post["pages"]) for post in posts)
        text = (
            f"{counted(theirs, 'claims of the posts and papers')} "
            f"{counted(ours, 'claims of our own')} "
            f"{NUMBERS[done]} of the eight posts {'is' if done == 1 else 'are'} "
            "finished."
        )
        return [nodes.paragraph("", text, classes=["tally"])]


class Posts(Gathering):
    """The eight posts with their questions and what became of others' claims."""

    def run(self) -> list[nodes.Node]:
        """A card a post."""
        cards = "\n".join(self.card(post) for post in self.posts())
        return [nodes.raw("", f'<ul class="posts">\n{cards}\n</ul>', format="html")]

    def card(self, post: dict) -> str:
        """A post's drawing, name, question and state; a link once it is finished."""
        folder = Path(self.env.srcdir) / "_ext" / "drawings"
        drawing = (folder / f"{post['slug']}.svg").read_text(encoding="utf-8")
        name, question = html.escape(post["name"]), html.escape(post["question"])
        if post["pages"]:
            uri = self.env.app.builder.get_relative_uri(
                self.env.docname, f"chapters/{post['pages'][0]}"
            )
            name = f'<a href="{uri}">{name}</a>'
        return (
            f'<li>{drawing}<p class="name">{name}</p><p>{question}</p>'
            f'<p class="state">{state(post)}</p></li>'
        )


def posts(env: BuildEnvironment) -> list[dict]:
    """The eight posts, each with its pages and its claims and checks in order."""
    root = Path(env.srcdir)
    for name in ("_toc.yml", "data/posts.toml"):
        env.note_dependency(str(root / name))
    text = (root / "data" / "posts.toml").read_text(encoding="utf-8")
    found, pages = tomllib.loads(text)["post"], runner.chapters(root)
    for post in found:
        env.note_dependency(str(root / "data" / "claims" / f"{post['slug']}.toml"))
        own = [page for page in pages if page.removesuffix(AUDIT) == post["slug"]]
        post["pages"] = own
        post["records"] = sorted(
            (record for page in own for record in records(env, page)), key=in_order
        )
    return found


def records(env: BuildEnvironment, page: str) -> list[dict]:
    """The claims and checks that a page's run recorded, and the page's address."""
    root = Path(env.srcdir)
    path = runner.executed_path(page, env.config.executed_profile, root=root)
    env.note_dependency(str(path))
    found = judged(path, path.stat().st_mtime_ns)
    uri = env.app.builder.get_relative_uri(env.docname, f"chapters/{page}")
    return [record | {"page": uri} for record in found]


@cache
def judged(path: Path, changed: int) -> list[dict]:
    """The claims and checks in an executed notebook, read once until it changes."""
    found = runner.ledger(json.loads(path.read_text(encoding="utf-8")))
    return [record for record in found if record["kind"] in ("verdict", "check")]


def estimate(claim: dict) -> Estimate:
    """What a run measured of a claim."""
    return Estimate(*(claim[key] for key in ("mean", "low", "high", "n")))


def state(post: dict) -> str:
    """How difficult and long a chapter is, and the verdicts on others' claims."""
    if not post["pages"]:
        return "in preparation"
    level = post["difficulty"]
    dots = "●" * level + "○" * (3 - level)
    theirs = [c for c in split(post["records"])[0] if c["author"] != "ours"]
    found = Counter(claim["verdict"] for claim in theirs)
    badges = " ".join(
        f'<span class="whole">{found[verdict]} {badge(verdict)}</span>'
        for verdict in SYMBOLS
        if found[verdict]
    )
    return (
        f'<span role="img" aria-label="difficulty {level} of 3">{dots}</span> '
        f"{post['minutes']} minutes<br>Its claims: {badges}"
    )


def in_order(record: dict) -> tuple[bool, int, str]:
    """Posts and papers before ours; C9 before C9a before C10."""
    name = record["id"]
    number = int("".join(filter(str.isdigit, name)) or 0)
    return record["author"] == "ours", number, name


def waiting(stated: Iterable[Claim], records: list[dict]) -> list[Claim]:
    """The claims that the runs of these records did not judge."""
    known = {record["id"] for record in records}
    return [c for c in stated if c.kind == "claim" and c.id not in known]


def split(records: list[dict]) -> tuple[list[dict], list[dict]]:
    """Claims and checks."""
    claims = [record for record in records if record["kind"] == "verdict"]
    return claims, [record for record in records if record["kind"] == "check"]


def counted(claims: list[dict], whose: str) -> str:
    """“Of 39 claims of the posts and papers 24 hold, 11 are contradicted, 4 are open”.

    Verdicts that did not occur are left out.
    """
    found = Counter(claim["verdict"] for claim in claims)
    parts = [
        f"{found[kind]} {verbs[found[kind] > 1]}"
        for kind, verbs in VERBS.items()
        if found[kind]
    ]
    return f"Of {len(claims)} {whose} {', '.join(parts)}."


def filters() -> str:
    """Radio buttons; the style sheet hides the rows that do not fit."""
    groups = ""
    for legend, (name, values) in FILTERS.items():
        buttons = "".join(
            f'<label><input type="radio" name="{name}" id="{name}-{value}" '
            f'autocomplete="off"{" checked" if value == values[0] else ""}> '
            f"{WORDS.get(value, value)}</label>"
            for value in values
        )
        groups += f"<fieldset><legend>{legend}</legend>{buttons}</fieldset>"
    return f'<div class="ledger-filters">{groups}</div>'


def address(record: dict) -> nodes.reference:
    """A claim's number as a link to where it lives."""
    uri = f"{record['page']}#{record['slug']}"
    return nodes.reference("", record["id"], refuri=uri, internal=True)


def table(heads: list[str], rows: list[nodes.row]) -> nodes.table:
    """A table of the given rows under their heads."""
    group = nodes.tgroup("", cols=len(heads))
    group += [nodes.colspec(colwidth=1) for _ in heads]
    group += nodes.thead("", row(*([nodes.Text(head)] for head in heads)))
    group += nodes.tbody("", *rows)
    return nodes.table("", group, classes=["ledger"])


def row(*cells: list[nodes.Node], classes: list[str] | None = None) -> nodes.row:
    """A row of cells that each hold one paragraph."""
    entries = [nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells]
    return nodes.row("", *entries, classes=classes or [])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    for name, directive in (("ledger", Ledger), ("tally", Tally), ("posts", Posts)):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

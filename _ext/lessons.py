"""Sphinx extension: what runs through the posts, taken from claims and runs.

``{panorama}`` draws what became of every claim of a post or paper, a row a post.
``{claim}`flooding C6a: undecided``` leads to where a claim is judged and shows that
verdict's symbol (a test compares it with the records); ``{effect}`flooding C6``` says
what was measured. Pages and numbers come from the claims files and the runs.
"""

import html
import re
from math import asinh, copysign, inf
from pathlib import Path

from docutils import nodes
from ledger import Gathering, estimate, posts, split
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from blogcore.claims import Above, Below, Claim, load_claims
from blogcore.contents import chapters
from blogcore.evidence import Estimate
from blogcore.report import AUDIT
from blogcore.wording import SYMBOLS, effect

CLAIM = re.compile(r"(?P<post>\w+) (?P<id>\w+): (?P<verdict>[a-z ]+)")
EFFECT = re.compile(r"(?P<post>\w+) (?P<id>\w+)")
# A margin of so many half widths, or more, stands so far from the middle of its row; a
# mark is so wide: in per cent of the row.
FARTHEST, EDGE, MARK = 30, 42, 13


class Panorama(Gathering):
    """The claims of posts and papers, each at its distance from what was predicted."""

    def run(self) -> list[nodes.Node]:
        """A list of posts with their marks, below what their places mean."""
        rows = "".join(self.row(post) for post in self.posts() if post["pages"])
        ends = (
            '<p class="ends" aria-hidden="true"><span>← not as predicted</span>'
            "<span>within error</span><span>as predicted →</span></p>"
        )
        text = f'<div class="panorama">{ends}<ul>{rows}</ul></div>'
        return [nodes.raw("", text, format="html")]

    def row(self, post: dict) -> str:
        """A post's name and its claims' marks, in lanes lest they overlap."""
        theirs = [c for c in split(post["records"])[0] if c["author"] != "ours"]
        stated = {claim.id: claim for claim in load_claims(post["slug"])}
        # A page that is older than its claims file may know others.
        theirs = [c for c in theirs if c["id"] in stated]
        placed = sorted((place(stated[c["id"]], c), c["id"], c) for c in theirs)
        ends: list[float] = []
        marks = ""
        for x, _, claim in placed:
            lane = next((i for i, end in enumerate(ends) if end <= x), len(ends))
            ends[lane : lane + 1] = [x + MARK]
            marks += mark(claim, x, lane)
        name = html.escape(post["name"])
        return (
            f'<li><p>{name}</p><div class="strip" style="--lanes: {len(ends)}">'
            f"{marks}</div></li>"
        )


class ToClaim(SphinxRole):
    """A claim's number as a link, with the symbol of the verdict that is spoken of."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The link; an error for what is no claim, or no verdict."""
        found = CLAIM.fullmatch(self.text)
        claim = found and stated(found["post"], found["id"])
        if not claim or claim.kind != "claim" or found["verdict"] not in SYMBOLS:
            said = f"no claim with a verdict, say `flooding C6: holds`: {self.text}"
            return [], [self.inliner.reporter.error(said, line=self.lineno)]
        verdict = found["verdict"]
        uri = self.env.app.builder.get_relative_uri(
            self.env.docname, f"chapters/{page(found['post'], claim, self.env.srcdir)}"
        )
        name = nodes.Text(f"{claim.id}\u00a0{SYMBOLS[verdict]}")
        kind = verdict.replace(" ", "-")
        link = nodes.reference(
            "", "", name, refuri=f"{uri}#{claim.id.lower()}", internal=True
        )
        link["classes"] += ["to-claim", f"is-{kind}"]
        link["reftitle"] = f"{verdict}: {claim.statement}"
        return [link], []


class Measured(SphinxRole):
    """What the run that the pages show measured of a claim: “7.5 points [6.6, 8.4]”."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The text; an error for a claim that was not judged."""
        found = EFFECT.fullmatch(self.text)
        known = {post["slug"]: post for post in posts(self.env)}
        post = known.get(found["post"]) if found else None
        for claim in split(post["records"])[0] if post else []:
            if claim["id"] == found["id"]:
                said = html.unescape(effect(estimate(claim), claim["unit"], " "))
                return [nodes.Text(said.partition(" over ")[0])], []
        said = f"no claim that was judged, say `flooding C6`: {self.text}"
        return [], [self.inliner.reporter.error(said, line=self.lineno)]


def stated(post: str, name: str) -> Claim | None:
    """The claim of this number in the post's file, if there is one."""
    return next((c for c in load_claims(post) if c.id == name), None)


def page(post: str, claim: Claim, root: Path) -> str:
    """The page that judges a claim; posts that are not divided yet have one page."""
    audit = post + AUDIT
    return audit if claim.page == "audit" and audit in chapters(root) else post


def margin(claim: Claim, found: Estimate) -> float:
    """How far the mean lies on the predicted side of the threshold, in half intervals.

    At least 1 if and only if the claim holds; infinite if the interval is a point.
    """
    prediction = claim.prediction
    if isinstance(prediction, Above):
        slack = found.mean - prediction.threshold
    elif isinstance(prediction, Below):
        slack = prediction.threshold - found.mean
    else:
        slack = prediction.tolerance - abs(found.mean - prediction.target)
    half = (found.high - found.low) / 2
    return slack / half if half else copysign(inf, slack)


def place(claim: Claim, record: dict) -> float:
    """Where a claim's mark stands in its row, in per cent from the left."""
    far = max(-FARTHEST, min(FARTHEST, margin(claim, estimate(record))))
    return round(50 + EDGE * asinh(far) / asinh(FARTHEST), 1)


def mark(claim: dict, x: float, lane: int) -> str:
    """A claim's number and symbol at its place, as a link that says what was found."""
    verdict = claim["verdict"]
    found = html.unescape(effect(estimate(claim), claim["unit"], claim["of"]))
    said = html.escape(f"{verdict}: {claim['quantity'] or claim['test']}, {found}")
    return (
        f'<a class="is-{verdict.replace(" ", "-")}" title="{said}" '
        f'href="{claim["page"]}#{claim["slug"]}" style="left: {x}%; --lane: {lane}">'
        f"{claim['id']} {SYMBOLS[verdict]}</a>"
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive and the roles."""
    app.add_directive("panorama", Panorama)
    app.add_role("claim", ToClaim())
    app.add_role("effect", Measured())
    return {"parallel_read_safe": True, "parallel_write_safe": True}

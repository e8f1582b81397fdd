"""Sphinx extension: Chinese says that it is Chinese; some things are never broken.

These are T-TA, and a short formula and the full stop or the “-th” behind it.
"""

import re
from collections.abc import Iterator

import formulas
from docutils import nodes
from sphinx.application import Sphinx

# A Han character, and what follows up to the last one with only Chinese marks between.
HAN = r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
CHINESE = re.compile(
    rf"[《（「]*{HAN}(?:[·，。、；：？！《》（）「」—…]*{HAN})*[，。、；：？！》）」]*"
)
RUN = re.compile(rf"({CHINESE.pattern}|\bT-TA\b)")
BEHIND = re.compile(r"[^\s\w(\[«“—–]+(?:\w{1,2}(?!\w))?")
# In HTML: a whole element in which no span may stand, or which has its language; a tag.
PIECE = re.compile(r"(<(script|style|svg|select)\b.*?</\2>|<[^>]*>)", re.DOTALL)
SHORT = 14  # characters of TeX
OPENING = ("(", "[", "“", "«")
KEPT = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


def mark(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Wrap each run in a span, in the text and in what cells displayed."""
    if app.builder.format != "html":
        return
    for formula in list(tree.findall(nodes.math)):
        keep_together(formula)
    for text in list(tree.findall(nodes.Text)):
        # What other extensions put into raw HTML has no parent.
        if text.parent and RUN.search(text) and not inside(text, KEPT):
            text.parent.replace(text, list(marked(text.astext())))
    for raw in tree.findall(nodes.raw):
        if raw["format"] == "html":
            raw.children = [nodes.Text(marked_html(raw.astext()))]


def keep_together(formula: nodes.math) -> None:
    """Put a formula, a bracket before it and marks behind it into a span, if short.

    Browsers break a line between the two; a long formula has to break as well.
    """
    behind = formula.next_node(descend=False, siblings=True)
    marks = BEHIND.match(behind) if isinstance(behind, nodes.Text) else None
    if marks and short(formula.astext()):
        # By place: a text equals every other text that says the same.
        parent, place = formula.parent, formula.parent.index(formula)
        whole = nodes.inline("", "", classes=["whole"])
        parent[place : place + 2] = [whole, nodes.Text(behind[marks.end() :])]
        whole += [formula, nodes.Text(marks[0])]
        before = parent[place - 1] if place else None
        if isinstance(before, nodes.Text) and before[-1:] in OPENING:
            parent[place - 1] = nodes.Text(before[:-1])
            whole.insert(0, nodes.Text(before[-1:]))


def short(tex: str) -> bool:
    """Whether a formula is of one part, or of a few signs: λ = 0.01."""
    parts = formulas.typeset(tex).count('class="katex-base"')
    return parts == 1 or len(tex) <= SHORT


def inside(node: nodes.Node, kinds: tuple) -> bool:
    """Whether a node stands in one of these kinds."""
    while node := node.parent:
        if isinstance(node, kinds):
            return True
    return False


def marked(text: str) -> Iterator[nodes.Node]:
    """A text in pieces, of which every second one gets a span.

    docutils makes an attribute lang of a class that begins with “language-”.
    """
    for place, part in enumerate(RUN.split(text)):
        if part and place % 2:
            kind = "language-zh" if CHINESE.match(part) else "whole"
            yield nodes.inline("", "", nodes.Text(part), classes=[kind])
        elif part:
            yield nodes.Text(part)


def span(run: re.Match) -> str:
    """The same as HTML."""
    kind = 'lang="zh"' if CHINESE.match(run[0]) else 'class="whole"'
    return f"<span {kind}>{run[0]}</span>"


def marked_html(text: str) -> str:
    """HTML whose runs are marked, but for those that are in ``lang="zh"`` already."""
    parts, depth, said = PIECE.split(text), 0, []
    for place, part in enumerate(parts):
        if place % 3 == 0:
            said.append(part if depth else RUN.sub(span, part))
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

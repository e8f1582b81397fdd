"""A page's resolved tree as Markdown that needs no extension, between its code cells.

Numbers, references and citations are text by then. A kind of node that is not known
here fails the build, so that nothing can vanish in silence.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin

from docutils import nodes
from sphinx import addnodes
from sphinx.errors import ExtensionError

SPECIAL = re.compile(r"[\\`*_$<~|]|(?<=\])\(")
ADDRESS = re.compile(r"(https?://[^\s<>]*[^\s<>.,;)])")
UNSEEN = (nodes.target, nodes.comment, nodes.colspec, addnodes.toctree)


@dataclass
class Page:
    """A page: its tree, the numbers that Sphinx gave, its address in the net.

    ``numbers`` maps a kind of thing and an id to the number; ``address`` is empty as
    long as the book is not published. ``cited`` gathers label and text of what the page
    cites, in the order of its first mention.
    """

    tree: nodes.document
    numbers: dict[str, dict[str, tuple]]
    address: str = ""
    cited: dict[str, str] = field(default_factory=dict)

    def number(self, what: str, name: str) -> str:
        """The number of the figure, equation, theorem, … with this id; or nothing."""
        return ".".join(map(str, self.numbers.get(what, {}).get(name, ())))

    def anchor(self, node: nodes.Element) -> str:
        """What makes a node reachable, if the page has a link to it."""
        ids = [name for name in node["ids"] if name in self.wanted]
        return "".join(f'<a id="{name}"></a>\n\n' for name in ids)

    @property
    def wanted(self) -> set[str]:
        """The ids to which links of the page lead."""
        links = list(self.tree.findall(nodes.reference))
        links += self.tree.findall(addnodes.number_reference)
        found = {link.get("refid") or link.get("refuri", "") for link in links}
        return {name.removeprefix("#") for name in found}


def pieces(page: Page, node: nodes.Node, depth: int = 1) -> Iterator[str | int]:
    """Markdown a paragraph at a time, and code cells as their place in the notebook."""
    for child in node.children:
        if isinstance(child, nodes.title) and isinstance(node, nodes.section):
            yield f"{page.anchor(node)}{'#' * (depth - 1)} {line(page, child)}"
        elif isinstance(child, nodes.section):
            yield from pieces(page, child, depth + 1)
        elif isinstance(child, nodes.container) and "cell_index" in child:
            yield from cell(page, child)
        elif kind(child) == "solution_node":
            yield from solution(page, child)
        elif found := block(page, child):
            yield found


def cell(page: Page, node: nodes.container) -> Iterator[str | int]:
    """A code cell, and the caption of its figure."""
    yield node["cell_index"]
    for figure in node.findall(nodes.figure):
        number = page.number("figure", figure["ids"][0])
        words = [line(page, c) for c in figure.children if isinstance(c, nodes.caption)]
        yield f"{page.anchor(figure)}**Figure {number}.** {' '.join(words)}"


def solution(page: Page, node: nodes.Element) -> Iterator[str | int]:
    """A solution: its words in folds, its code between them."""
    words, title = [], plain(node.children[0])
    for piece in [*pieces(page, nodes.container("", *body(node))), None]:
        if isinstance(piece, str):
            words.append(piece)
            continue
        if words:
            yield folded(title, "\n\n".join(words))
        words = []
        if piece is not None:
            yield piece


def body(node: nodes.Element) -> list[nodes.Node]:
    """What stands in a box below its title, not in a section of its own."""
    inside = [c for c in node.children if not isinstance(c, nodes.title)]
    sections = [c for c in inside if isinstance(c, nodes.section)]
    found = [g for c in inside for g in (c.children if c in sections else [c])]
    return [child.deepcopy() for child in found]


def kind(node: nodes.Node) -> str:
    """The name of a node's class, for nodes of other extensions."""
    return type(node).__name__


def plain(node: nodes.Node) -> str:
    """A title's words alone, for places where Markdown is not read."""
    return " ".join(node.astext().split())


def escaped(text: str) -> str:
    """Words whose characters mean themselves in Markdown, on one line."""
    return SPECIAL.sub(r"\\\g<0>", text.replace("\n", " "))


def linked(text: str) -> str:
    """The same, in which addresses are links."""
    parts = ADDRESS.split(text)
    return "".join(f"<{p}>" if i % 2 else escaped(p) for i, p in enumerate(parts))


def formula(tex: str) -> str:
    """A formula on one line, without bars, which would cut a table's row."""
    tex = " ".join(tex.split()).replace(r"\|", r"\Vert ")
    return tex.replace("|", r"\vert ").strip()


def quoted(text: str) -> str:
    """Markdown as a quotation; a formula in it must be on one line."""
    text = re.sub(r"\$\$\n(.*?)\n\$\$", one_line, text, flags=re.DOTALL)
    return "\n".join(f"> {part}".rstrip() for part in text.split("\n"))


def one_line(display: re.Match) -> str:
    """A displayed formula without line breaks."""
    return f"$${' '.join(display[1].split())}$$"


def folded(title: str, text: str) -> str:
    """Markdown that a reader unfolds."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def line(page: Page, node: nodes.Node) -> str:
    """What stands in one line.

    A letter right behind a formula would spoil it in VS Code, hence a hyphen.
    """
    text = ""
    for child in node.children:
        piece = inline(page, child)
        hyphen = isinstance(child, nodes.Text) and re.match(r"[^\W\d]", piece)
        text += ("-" if hyphen and text.endswith("$") else "") + piece
    return text


def inline(page: Page, node: nodes.Node) -> str:
    """Words, a formula, a link, …"""
    if isinstance(node, nodes.Text):
        return escaped(node.astext())
    if isinstance(node, nodes.math):
        return f"${formula(node.astext())}$"
    if isinstance(node, nodes.literal):
        return f"`{node.astext()}`"
    if isinstance(node, nodes.reference | addnodes.number_reference):
        return link(page, node)
    marks = {nodes.emphasis: "*", nodes.strong: "**", nodes.inline: ""}
    if type(node) not in marks:
        raise ExtensionError(f"plain notebook: {kind(node)} in a line is not known")
    mark, text = marks[type(node)], line(page, node)
    return f"{mark}{text}{mark}" if text.strip() else text


def link(page: Page, node: nodes.Element) -> str:
    """A link within the notebook, or to the published book, or its words alone."""
    text, target = line(page, node), node.get("refuri", "")
    if "reftitle" in node:  # a citation
        page.cited[plain(node)] = node["reftitle"]
        return f"[{text}](#cite-{plain(node)})"
    if node.get("refid") or target.startswith("#"):
        return f"[{text}](#{node.get('refid') or target[1:]})"
    if node.get("internal") and not page.address:
        return text
    return f"[{text}]({urljoin(page.address, target)})"


def blocks(page: Page, found: list[nodes.Node]) -> str:
    """Paragraphs, one below the other."""
    return "\n\n".join(filter(None, (block(page, node) for node in found)))


def block(page: Page, node: nodes.Node) -> str:
    """A paragraph, a list, a box, a table, …; nothing for what no reader sees."""
    if isinstance(node, UNSEEN) or "toctree-wrapper" in node.get("classes", ()):
        return ""
    if kind(node) not in BLOCKS:
        raise ExtensionError(f"plain notebook: {kind(node)} is not known")
    return BLOCKS[kind(node)](page, node)


def _paragraph(page: Page, node: nodes.Element) -> str:
    return page.anchor(node) + line(page, node)


def _display(page: Page, node: nodes.math_block) -> str:
    number = page.number("displaymath", node["ids"][0]) if node["ids"] else ""
    tag = f" \\tag{{{number}}}" if number else ""
    tex = "\n".join(filter(str.strip, node.astext().split("\n")))
    return f"{page.anchor(node)}$$\n{tex}{tag}\n$$"


def _code(page: Page, node: nodes.literal_block) -> str:
    language = node.get("language", "")
    return f"```{'' if language == 'none' else language}\n{node.astext()}\n```"


def _list(page: Page, node: nodes.Element) -> str:
    ordered, rows = isinstance(node, nodes.enumerated_list), []
    for place, item in enumerate(node.children, node.get("start", 1)):
        mark = f"{place}. " if ordered else "- "
        text = blocks(page, item.children).replace("\n", "\n" + " " * len(mark))
        rows.append(mark + re.sub(r"(?m) +$", "", text))
    return "\n".join(rows)


def _definitions(page: Page, node: nodes.definition_list) -> str:
    found = []
    for item in node.children:
        term, *rest = item.children
        meaning = blocks(page, [child for part in rest for child in part.children])
        found.append(f"**{line(page, term)}**\n\n{quoted(meaning)}")
    return "\n\n".join(found)


def _table(page: Page, node: nodes.table) -> str:
    rows = [
        [blocks(page, entry.children).replace("\n", " ") for entry in row.children]
        for row in node.findall(nodes.row)
    ]
    head, *cells = rows
    return "\n".join(
        f"| {' | '.join(r)} |" for r in [head, ["---"] * len(head), *cells]
    )


def _box(page: Page, node: nodes.Element) -> str:
    titles = [c for c in node.children if isinstance(c, nodes.title)]
    heads = [line(page, title) for title in titles] or [kind(node).capitalize()]
    return _boxed(page, node, heads[0])


def _theorem(page: Page, node: nodes.Element) -> str:
    number = page.number(node["countertype"], node["label"])
    return _boxed(page, node, f"{node['realtype'].capitalize()} {number}")


def _exercise(page: Page, node: nodes.Element) -> str:
    return _boxed(page, node, f"Exercise {page.number('exercise', node['label'])}")


def _boxed(page: Page, node: nodes.Element, head: str) -> str:
    if not isinstance(node, nodes.admonition):
        head += " " + line(page, node.children[0]).strip()
    text = blocks(page, body(node))
    if "dropdown" in node["classes"]:
        return page.anchor(node) + folded(head, text)
    return page.anchor(node) + quoted(f"**{head.strip()}**\n\n{text}")


def _proof(page: Page, node: nodes.Element) -> str:
    (box,) = node.children
    text = re.sub(r"^Proof\.", "**Proof.**", blocks(page, body(box)))
    return folded("Proof", text) if "dropdown" in box["classes"] else f"{text} ∎"


def _quotation(page: Page, node: nodes.Element) -> str:
    return quoted(blocks(page, node.children))


BLOCKS = {
    "paragraph": _paragraph,
    "rubric": lambda page, node: f"**{line(page, node)}**",
    "math_block": _display,
    "literal_block": _code,
    "bullet_list": _list,
    "enumerated_list": _list,
    "definition_list": _definitions,
    "block_quote": _quotation,
    "table": _table,
    "admonition": _box,
    "note": _box,
    "tip": _box,
    "warning": _box,
    "theorem_node": _theorem,
    "exercise_enumerable_node": _exercise,
    "proof_node": _proof,
    "transition": lambda page, node: "---",
}

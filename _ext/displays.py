"""What a cell displayed, so that every viewer shows it without running anything.

Untrusted notebooks show no SVG output and no script in JupyterLab, and VS Code does not
typeset formulas in HTML. So figures become images in HTML, and the package's own HTML
(verdicts, claims, tables) becomes Markdown.
"""

import base64
import html
import re
from collections.abc import Mapping

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString
from prose import escaped, folded, formula, quoted

RECORD = "application/papermill.record/"
WHITE = "background:#fff;max-width:100%"
MARKS = {"b": "**", "strong": "**", "i": "*", "em": "*"}
RUN = "*(Run this cell, and it moves.)*"


def shown(output: Mapping, alt: str) -> dict | None:
    """An output for every viewer; None if it only records a number."""
    if "data" not in output:
        return dict(output)
    data = {k: "".join(v) for k, v in output["data"].items() if RECORD not in k}
    if not data:
        return None
    return {"output_type": output["output_type"], "metadata": {}} | {
        "data": portable(data, alt)
    }


def portable(data: Mapping[str, str], alt: str) -> dict[str, str]:
    """The same content in kinds that are shown everywhere."""
    if "image/svg+xml" in data:
        address = base64.b64encode(data["image/svg+xml"].encode()).decode()
        return {"text/html": image(f"data:image/svg+xml;base64,{address}", alt)}
    if "text/html" in data and 'class="dataframe"' not in data["text/html"]:
        return {"text/markdown": markdown(data["text/html"])}
    rich = {kind: text for kind, text in data.items() if kind != "text/plain"}
    return rich or dict(data)


def image(address: str, alt: str) -> str:
    """A figure on white, as its ink is black; with its alternative text."""
    return f'<img src="{address}" alt="{html.escape(alt)}" style="{WHITE}">'


def markdown(text: str) -> str:
    """HTML of the package as Markdown."""
    soup = BeautifulSoup(text, "html.parser")
    for unseen in soup.select("style, script, svg, [hidden]"):
        unseen.decompose()
    return re.sub(r"\n{3,}", "\n\n", blocks(soup)).strip()


def blocks(node: Tag) -> str:
    """What stands below each other in an element."""
    return "\n\n".join(block(child) for child in node.children if str(child).strip())


def block(node: Tag | NavigableString) -> str:
    """A paragraph, a list, a table, a box, …"""
    name = getattr(node, "name", None)
    if name == "table":
        return anchors(node) + table(node)
    if name in ("ul", "ol"):
        return "\n".join(f"- {line(item)}" for item in node.find_all("li"))
    if name == "details":
        summary = node.summary.extract()
        return folded(html.escape(summary.get_text()), blocks(node))
    if name == "div":
        return anchors(node) + box(node)
    return anchors(node) + line(node) if name == "p" else inline(node)


def box(node: Tag) -> str:
    """A verdict as a quotation; what moves as it stands at the start."""
    kinds = node.get("class", [])
    if "verdict" in kinds:
        return quoted(blocks(node))
    if {"slider", "calculator", "chooser"} & {*kinds}:
        return f"{moving(node)}\n\n{RUN}"
    return blocks(node) if node.find(["p", "div", "ul", "table"]) else line(node)


def moving(node: Tag) -> str:
    """Controls with their values, and what they show at the start."""
    rows = []
    for part in node.find_all(["label", "p", "img", "div"], recursive=False):
        if part.name == "img":
            rows.append(image(part["src"], part["alt"]))
        elif part.output:
            value = part.output.extract().get_text()
            rows.append(f"{line(part).strip().rstrip(':')}: **{escaped(value)}**")
        elif part.find("select"):
            rows.append(escaped(f"sentence: {part.option.get_text()}"))
        elif part.name == "div":
            rows.append(blocks(part))
    return "\n\n".join(rows).replace("**Drag** ", "")


def anchors(node: Tag) -> str:
    """What makes a verdict reachable."""
    return f'<a id="{node["id"]}"></a>\n\n' if node.get("id") else ""


def table(node: Tag) -> str:
    """A table of Markdown."""
    rows = [[line(cell) for cell in row(["th", "td"])] for row in node("tr")]
    head, *cells = rows
    return "\n".join(
        f"| {' | '.join(r)} |" for r in [head, ["---"] * len(head), *cells]
    )


def line(node: Tag) -> str:
    """What stands in one line of an element; marks that meet would be others."""
    said = ""
    for child in node.children:
        part = inline(child)
        said += " " * (said[-1:] == part[:1] == "*") + part
    return said


def inline(node: Tag | NavigableString) -> str:
    """Words, a formula, a link, …"""
    if isinstance(node, NavigableString):
        return escaped(str(node))
    if "tex" in node.get("class", []):
        return f"${formula(node.get_text().strip('$'))}$"
    if node.name == "a":
        return f"[{line(node)}]({node['href']})"
    mark = MARKS.get(node.name, "")
    mark = "**" if "badge" in node.get("class", []) else mark
    return f"{mark}{line(node)}{mark}"

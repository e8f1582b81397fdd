"""Sphinx extension: the text of every section, for a search that needs no server.

Browsers forbid pages from a folder to fetch anything, so all text is one script that
the search page loads (``search.js`` beside this file reads it; ``found.js`` shows the
hit on the page it leads to). Of code, only what is Chinese can be found.
"""

import html
import json
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from formulas import MARKED, typeset
from sphinx.application import Sphinx

# Also one whose attribute holds a script with a “>”.
TAG = re.compile(
    r"""<(script|style|svg|annotation)\b.*?</\1>|<(?:"[^"]*"|'[^']*'|[^>"'])+>""",
    re.DOTALL,
)
MATHML = re.compile(r"<math\b.*?</math>", re.DOTALL)
BRACKET = re.compile(r"(?<=[(\[]) | (?=[)\],])|(?<=\w) (?=[(\[])")
CHINESE = re.compile(r"[\u4e00-\u9fff]+")


def collect(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Keep a page's sections beside its pickled tree, as long as the page is kept."""
    if app.builder.format != "html":
        return
    found = [entry(node) for node in tree.findall(nodes.section) if title(node)]
    path = stored(app, docname)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def entry(section: nodes.section) -> tuple[str, str, str]:
    """Anchor, title and text of a section, the latter without its subsections."""
    name = title(section)
    below = [child for child in section.children if child is not name]
    text = " ".join(piece for child in below for piece in pieces(child))
    return section["ids"][0], normal(flat(name)), normal(text)


def title(node: nodes.Node) -> nodes.title | None:
    """The title of a section; the body of a theorem is a section without one."""
    found = [child for child in node.children if isinstance(child, nodes.title)]
    return found[0] if isinstance(node, nodes.section) and found else None


def pieces(node: nodes.Node) -> Iterator[str]:
    """The text of each paragraph, caption, cell or formula below a node."""
    if title(node):
        return
    if isinstance(node, nodes.literal_block) and "output" not in node["classes"]:
        yield from CHINESE.findall(node.astext())
    elif isinstance(node, nodes.raw | nodes.TextElement):
        yield flat(node)
    else:
        for child in node.children:
            yield from pieces(child)


def flat(node: nodes.Node) -> str:
    """A paragraph's text in one piece; of HTML and formulas what a reader sees."""
    if isinstance(node, nodes.raw):
        text = MARKED.sub(lambda m: spoken(html.unescape(m[1])), node.astext())
        return html.unescape(TAG.sub(" ", text))
    if isinstance(node, nodes.math | nodes.math_block):
        return html.unescape(spoken(node.astext().strip()))
    return "".join(map(flat, node.children)) if node.children else node.astext()


def spoken(tex: str) -> str:
    """A formula in plain characters, as HTML: n > 8.33 log N."""
    text = TAG.sub(" ", MATHML.search(typeset(tex))[0]).replace("\u2061", " ")
    return BRACKET.sub("", " ".join(text.split()))


def normal(text: str) -> str:
    """The form in which text is compared: one kind of space and of width."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def stored(app: Sphinx, docname: str) -> Path:
    """Where a page's sections are kept between builds."""
    return Path(app.doctreedir) / "sections" / f"{docname}.json"


def in_order(app: Sphinx, docname: str) -> Iterator[str]:
    """A page and all below it, as the table of contents has them."""
    yield docname
    for below in app.env.toctree_includes.get(docname, []):
        yield from in_order(app, below)


def write(app: Sphinx, error: Exception | None) -> None:
    """Write the sections of all pages into one script, and the scripts that use it."""
    if error or app.builder.format != "html":
        return
    rows = []
    for docname in in_order(app, app.config.root_doc):
        uri = app.builder.get_target_uri(docname)
        found = json.loads(stored(app, docname).read_text(encoding="utf-8"))
        rows += [[uri, at, title, found[0][1], text] for at, title, text in found]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    target = Path(app.outdir) / "_static"
    text = f"const SECTIONS = [\n{lines}\n];\n"
    (target / "sections.js").write_text(text, encoding="utf-8")
    for name in ("search.js", "found.js"):
        # Not in the book's own _static/: jupyter-book loads its scripts on every page.
        shutil.copyfile(Path(__file__).with_name(name), target / name)


def setup(app: Sphinx) -> dict[str, bool | int]:
    """Hook in before formulas become HTML, and where the build ends."""
    # Relative to the book: a path of this machine would change every page's stamp.
    app.config.templates_path.append("_ext/templates")
    app.add_js_file("found.js", loading_method="defer")
    app.connect("doctree-resolved", collect, priority=400)
    app.connect("build-finished", write)
    # Another number, when other text is collected, writes all pages again.
    return {"env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}

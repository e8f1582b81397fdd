"""Sphinx extension: formulas are typeset while the book is built, by KaTeX.

No script runs in the reader's browser, pages are complete without one, and a macro that
KaTeX does not know fails the build. KaTeX lies beside this file; V8 runs it.
"""

import atexit
import html
import re
import shutil
from functools import cache
from pathlib import Path

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

KATEX = Path(__file__).parent / "katex"
# What the package displays as HTML marks its formulas (blogcore.wording.formulas).
MARKED = re.compile(r'<span class="tex">\$(.*?)\$</span>', re.DOTALL)


@cache
def engine() -> MiniRacer:
    """KaTeX, loaded once, and closed while Python still runs.

    Left to the garbage collector, MiniRacer waits for its thread at a time when Python
    lets no other thread go on, and a finished build hangs.
    """
    racer = MiniRacer()
    atexit.register(racer.close)
    racer.eval((KATEX / "katex.min.js").read_text(encoding="utf-8"))
    return racer


@cache
def typeset(tex: str, display: bool = False) -> str:
    """A formula as HTML, with MathML beside it for screen readers.

    Raises ExtensionError with the formula if KaTeX cannot read it.
    """
    options = {"displayMode": display, "throwOnError": True, "strict": "error"}
    try:
        return engine().call("katex.renderToString", tex, options)
    except JSEvalException as error:
        message = str(error).split("\n")[0]
        raise ExtensionError(f"formula {tex!r}: {message}") from None


def in_text(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in a line."""
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate"))
    self.body.append(f"{typeset(node.astext())}</span>")
    raise nodes.SkipNode


def alone(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own, with its number and a link to it."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate"))
    self.body.append(typeset(node.astext().strip(), display=True))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>")
    raise nodes.SkipNode


def displayed(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Typeset the formulas of what code cells displayed."""
    for node in tree.findall(nodes.raw):
        if node["format"] == "html" and MARKED.search(node.astext()):
            text = MARKED.sub(lambda m: typeset(html.unescape(m[1])), node.astext())
            node.children = [nodes.Text(text)]


def copy_style(app: Sphinx) -> None:
    """Put the style sheet and its fonts beside the pages."""
    if app.builder.format == "html":
        target = Path(app.outdir) / "_static" / "katex"
        shutil.copytree(KATEX / "fonts", target / "fonts", dirs_exist_ok=True)
        shutil.copyfile(KATEX / "katex.min.css", target / "katex.min.css")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer, and the style sheet that every page needs."""
    app.add_html_math_renderer("built", (in_text, None), (alone, None))
    app.config.html_math_renderer = "built"
    app.add_css_file("katex/katex.min.css")
    app.connect("builder-inited", copy_style)
    app.connect("doctree-resolved", displayed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

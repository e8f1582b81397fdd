"""Plain notebooks: they say what the pages say, without any extension."""

import json
import re
from types import SimpleNamespace

import displays
import formulas
import nbformat
import plain
import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from pages import CHAPTERS, ROOT
from prose import Page, pieces
from sphinx.errors import ExtensionError

from blogcore.freshness import code_cells, text

# What only an extension would understand.
FOREIGN = re.compile(r"\{[\w:-]+\}`|^:::|\{glue|\{cite|\{eq\}|^\([\w-]+\)=$", re.M)
LABELLED = re.compile(r"\$\$[ \t]*\([\w-]+\)")
DISPLAY, INLINE = re.compile(r"\$\$(.*?)\$\$", re.S), re.compile(r"(?<!\\)\$([^$]+)\$")
CODE = re.compile(r"```.*?```|`[^`]*`", re.S)
WORD = re.compile(r"[\w.,]*\w")
MARKS = re.compile(r'<a id="[^"]*"></a>|\]\([^\s)]*\)|\\(?=\W)|</?(?:details|summary)>')


def document(*children: nodes.Node) -> Page:
    tree = nodes.document(None, None, "", *children)
    return Page(tree, {"figure": {"fig": (2, 3)}, "displaymath": {"eq": ("2a", 1)}})


def written(*children: nodes.Node) -> list[str | int]:
    page = document(*children)
    return list(pieces(page, page.tree))


def test_words_mean_themselves_and_formulas_stay_formulas():
    words = nodes.paragraph("", "", nodes.Text("2*3 a_b <x> "), nodes.math("", "|x|\n"))
    words += nodes.Text("th")
    assert written(words) == [r"2\*3 a\_b \<x> $\vert x\vert$-th"]


def test_an_equation_has_its_number_and_an_anchor_if_something_leads_to_it():
    equation = nodes.math_block("", "a\n=b", ids=["eq"], number=1)
    link = nodes.paragraph("", "", nodes.reference("", "(2a.1)", refid="eq"))
    assert written(equation) == ["$$\na\n=b \\tag{2a.1}\n$$"]
    anchored, said = written(equation.deepcopy(), link)
    assert anchored.startswith('<a id="eq"></a>\n\n$$')
    assert said == "[(2a.1)](#eq)"


def test_a_quotation_keeps_its_formulas_on_one_line():
    equation = nodes.math_block("", "a\n=b", ids=[], number=None)
    box = nodes.admonition("", nodes.title("", "Key"), equation)
    assert written(box) == ["> **Key**\n>\n> $$a =b$$"]


def test_a_kind_that_is_not_known_fails_the_build():
    with pytest.raises(ExtensionError, match="sidebar is not known"):
        written(nodes.sidebar("", nodes.paragraph("", "aside")))
    with pytest.raises(ExtensionError, match="subscript in a line is not known"):
        written(nodes.paragraph("", "", nodes.subscript("", "2")))


def test_the_packages_html_becomes_markdown():
    html = (
        '<div class="verdict verdict-holds" id="c1"><p><b>C1</b> <span class="tex">'
        '$a|b$</span> <span class="badge badge-holds">✓ holds</span></p><p>1 point; '
        '2*3.</p><svg class="bar"><text>0</text></svg></div>'
    )
    assert displays.markdown(html) == (
        '<a id="c1"></a>\n\n> **C1** $a\\vert b$ **✓ holds**\n>\n> 1 point; 2\\*3.'
    )
    table = "<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td><i>x|y</i></td></tr>"
    assert displays.markdown(table) == "| A | B |\n| --- | --- |\n| 1 | *x\\|y* |"


def test_marks_that_meet_stay_apart():
    strip = "<div><i>words</i><span><b>语言</b> <b>模型</b></span></div>"
    assert displays.markdown(strip) == "*words* **语言** **模型**"


def test_what_moves_stands_still_at_its_start():
    html = (
        '<div class="slider"><label><span><b>Drag</b> width:</span> <input> '
        '<output>32</output></label><img src="data:a" alt="one" hidden>'
        '<img src="data:b" alt="two"></div>'
    )
    said = displays.markdown(html)
    assert said.startswith('width: **32**\n\n<img src="data:b" alt="two"')
    assert "data:a" not in said
    assert said.endswith(displays.RUN)


def test_a_figure_is_an_image_that_untrusted_notebooks_show():
    output = {"output_type": "display_data", "metadata": {}}
    output["data"] = {"image/svg+xml": "<svg/>", "text/plain": "<Figure>"}
    found = displays.shown(output, 'A "line"')["data"]
    assert set(found) == {"text/html"}
    assert 'alt="A &quot;line&quot;"' in found["text/html"]
    output["data"] = {"application/papermill.record/text/plain": "1.0"}
    assert displays.shown(output, "") is None


def test_the_first_code_cell_says_what_to_do_where_the_package_is_missing(monkeypatch):
    here = plain.installation({})["source"]
    exec(compile(here, "cell", "exec"), {})  # the package is here: nothing happens
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="make setup"):
        exec(compile(here, "cell", "exec"), {})
    there = plain.installation({"repository_url": "https://host/book"})["source"]
    assert "%pip install" in there
    assert '"git+https://host/book#egg=blogcore"' in there


def test_no_button_leads_nowhere():
    for address in ("", "https://host/book"):
        config = SimpleNamespace(html_theme_options={"repository_url": address})
        plain.buttons(None, config)
        _, *shown = config.html_theme_options.values()
        assert shown == [bool(address)] * 2


def words(text: str) -> str:
    """Words and numbers alone, each between two spaces."""
    return f" {' '.join(WORD.findall(text))} "


def told(notebook: dict) -> str:
    """The Markdown of a notebook."""
    cells = [c for c in notebook["cells"] if c["cell_type"] == "markdown"]
    return "\n\n".join(map(text, cells))


def prose(notebook: dict) -> str:
    """The same without code."""
    return CODE.sub(" ", told(notebook))


@pytest.fixture(scope="module", params=CHAPTERS)
def page(request, site, soups) -> tuple[str, dict, BeautifulSoup]:
    """A page's name, its plain notebook, and the page itself."""
    path = site / "_sources" / f"{request.param}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return request.param, notebook, soups[request.param]


@pytest.mark.slow
class TestPage:
    """The plain notebook of each page beside the page."""

    def test_is_a_notebook_which_the_download_button_gives(self, page):
        name, notebook, soup = page
        nbformat.validate(notebook)
        links = [link["href"] for link in soup.select("a.btn-download-source-button")]
        assert f"../_sources/{name}.ipynb" in links

    def test_needs_no_extension(self, page):
        name, notebook, _ = page
        source = json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))
        for foreign in (FOREIGN, LABELLED):
            assert foreign.findall(told(source)), "the page itself has some"
            assert foreign.findall(told(notebook)) == []
        assert not re.search(r"\$\w", INLINE.sub("$", DISPLAY.sub("", prose(notebook))))

    def test_says_every_sentence_and_number_of_the_page(self, page):
        _, notebook, soup = page
        said = MARKS.sub("", INLINE.sub(" ", DISPLAY.sub(" ", prose(notebook))))
        said = words(said.replace("*", "").replace("\n>", "\n"))
        article = BeautifulSoup(str(soup.article), "html.parser")
        unsaid = ".katex, .eqno, .headerlink, .cell_output > .output, .calculator"
        unsaid += ", .chooser, code, .cell_input, .hide summary"
        for node in article.select(unsaid):
            node.replace_with(" ")
        parts = article.select("p, li:not(:has(p)), td, h2, h3")
        found = [words(part.get_text()) for part in parts]
        assert [p for p in found if p.strip() and p not in said] == []
        assert len(found) > 50
        numbers = [n.get_text() for n in soup.article.select(".pasted-text")]
        assert numbers
        assert [n for n in numbers if words(n) not in said] == []

    def test_has_the_code_of_the_page_and_its_outputs(self, page):
        name, notebook, soup = page
        first, *cells = code_cells(notebook)
        source = json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))
        written = [(cell["id"], text(cell)) for cell in code_cells(source)]
        assert first["id"] == "package"
        assert [(cell["id"], cell["source"]) for cell in cells] == written
        shown = json.dumps([cell["outputs"] for cell in cells])
        figures = soup.article.select(".cell_output img:not([hidden])")
        assert shown.count("<img src=") == len(figures)
        verdicts = soup.article.select(".verdict, p.check")
        assert verdicts
        assert [
            v["id"] for v in verdicts if f'<a id=\\"{v["id"]}\\">' not in shown
        ] == []
        assert "papermill.record" not in shown

    def test_formulas_are_read_by_what_vs_code_uses(self, page):
        _, notebook, _ = page
        displayed = DISPLAY.findall(prose(notebook))
        for tex in displayed:
            formulas.typeset(" ".join(tex.split()), display=True)
        for tex in INLINE.findall(DISPLAY.sub("", prose(notebook))):
            formulas.typeset(tex)
        assert displayed

    def test_links_lead_somewhere(self, page):
        _, notebook, _ = page
        whole = prose(notebook) + json.dumps(
            [cell["outputs"] for cell in code_cells(notebook)]
        ).replace('\\"', '"')
        ids = set(re.findall(r'<a id="([^"]*)">', whole))
        assert set(re.findall(r"\]\(#([^)]*)\)", whole)) - ids == set()

"""The book's own Sphinx extensions: formulas while building, numbers of audits."""

import base64
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import accessible
import described
import formulas
import frames
import ledger
import numbering
import pytest
import sections
import signs
import spans
import wide
from docutils import nodes
from sphinx.errors import ExtensionError

from blogcore.claims import load_claims


def test_a_formula_becomes_html_with_mathml_and_no_script():
    found = formulas.typeset(r"\mathbb{E}[x] < \tfrac12\text{梯度}")
    assert 'class="katex-html" aria-hidden="true"' in found
    assert "<math" in found
    assert "梯度" in found
    assert "<script" not in found
    formulas.typeset.cache_clear()
    assert formulas.typeset(r"\mathbb{E}[x] < \tfrac12\text{梯度}") == found


@pytest.mark.parametrize("attempt", range(3))
def test_a_process_that_typeset_a_formula_ends(attempt):
    """V8's thread held up the end of most processes, and a build hung for good."""
    code = "import formulas; formulas.typeset('x^2')"
    folder = Path(formulas.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, timeout=60)
    assert done.returncode == 0


def test_a_macro_that_is_unknown_fails_the_build_by_name():
    with pytest.raises(
        ExtensionError, match=r"formula '\\\\nabla\\\\nabler': .*nabler"
    ):
        formulas.typeset(r"\nabla\nabler")


def test_what_cells_display_is_typeset_where_it_is_marked():
    text = '<p onclick="${n}"><span class="tex">$a&lt;b$</span> costs 3$</p>'
    tree = nodes.container("", nodes.raw("", text, format="html"))
    formulas.displayed(None, tree, "page")
    shown = tree.astext()
    assert shown.startswith('<p onclick="${n}"><span class="katex">')
    assert shown.endswith("</span> costs 3$</p>")
    assert '<annotation encoding="application/x-tex">a&lt;b</annotation>' in shown


def test_fonts_of_the_style_sheet_lie_beside_it():
    sheet = (formulas.KATEX / "katex.min.css").read_text(encoding="utf-8")
    wanted = set(re.findall(r"url\(([^)]+)\)", sheet))
    assert {
        str(Path("fonts") / p.name) for p in formulas.KATEX.glob("fonts/*")
    } == wanted


def book(**pages) -> SimpleNamespace:
    """An environment after Sphinx has numbered: chapter 2 and its audit count on."""
    link = nodes.reference("", "Audit", anchorname="")
    below = nodes.reference("", "A section", anchorname="#a-section")
    figures = {"b": (2, 4), "a": (2, 3)}
    return SimpleNamespace(
        toc_fignumbers={
            "flood": {"figure": {"x": (2, 1), "y": (2, 2)}},
            "flood_audit": {"figure": figures, "theorem": {"t": (2, 2)}},
            "notes_audit": {"figure": {"z": (3,)}},
        },
        toc_secnumbers={"flood": {"": (2,)}, "notes": {}},
        titles={"flood_audit": nodes.title("", "Audit")},
        tocs={"flood_audit": nodes.container("", link, below)},
    )


def test_an_audit_has_its_chapters_number_with_a_letter_and_starts_at_one():
    env = book()
    assert numbering.forget_letters(None, env) == []
    assert numbering.letter_audits(None, env) == ["flood_audit"]
    assert env.toc_fignumbers["flood_audit"] == {
        "figure": {"a": ("2a", 1), "b": ("2a", 2)},
        "theorem": {"t": ("2a", 1)},
    }
    assert env.toc_fignumbers["flood"] == book().toc_fignumbers["flood"]
    assert env.toc_fignumbers["notes_audit"] == {"figure": {"z": (3,)}}
    assert env.toc_secnumbers["flood_audit"] == {"": ("2a",), "#a-section": None}
    assert env.titles["flood_audit"]["secnumber"] == ("2a",)


def test_pages_are_written_again_only_if_a_number_changed():
    env = book()
    numbering.letter_audits(None, env)
    numbering.forget_letters(None, env)
    assert env.toc_fignumbers == book().toc_fignumbers, "as Sphinx left it"
    (link, _) = env.tocs["flood_audit"].findall(nodes.reference)
    for numbered in (env.titles["flood_audit"], link):
        assert "secnumber" not in numbered, "the table of contents would count it on"
    assert numbering.letter_audits(None, env) == []
    numbering.forget_letters(None, env)
    env.toc_fignumbers["flood_audit"]["figure"]["c"] = (2, 5)
    assert numbering.letter_audits(None, env) == ["flood_audit"]


def test_a_section_is_found_by_its_own_text_and_of_code_by_chinese_only():
    below = nodes.section("", nodes.title("", "Below"), nodes.paragraph("", "deep"))
    below["ids"] = ["below"]
    said = nodes.paragraph("", "", nodes.Text("Ｔhe "), nodes.math("", r"\log H(p)"))
    output = nodes.literal_block("", "12 seen", classes=["output", "stream"])
    cells = nodes.container("", nodes.literal_block("", "code = '词'"), output)
    tex = '<span class="tex">$a_1&lt;\\lambda$</span>'
    number = """<b oninput='a => "9"'>8.33</b>"""
    shown = nodes.raw("", f"{number}<td>{tex}<svg>9</svg></td>", format="html")
    theorem = nodes.section("", nodes.paragraph("", "always"))
    title = nodes.title("", "Top ", nodes.math("", "n^2"))
    top = nodes.section("", title, said, cells, shown, theorem, below)
    top["ids"] = ["top", "other"]
    text = "The log H(p) 词 12 seen 8.33 a 1 < λ always"
    assert sections.entry(top) == ("top", "Top n 2", text)
    assert sections.entry(below) == ("below", "Below", "deep")


def test_chinese_says_that_it_is_chinese():
    words = "the post (梯度惩罚，又名《GP》。) says"
    parts = [(type(n).__name__, n.astext()) for n in spans.marked(words)]
    assert parts == [
        ("Text", "the post ("),
        ("inline", "梯度惩罚，又名"),
        ("Text", "《GP》。) says"),
    ]
    html = '<p title="苏">苏 x</p><span lang="zh">剑<b>林</b><span>苏</span></span>剑'
    assert spans.marked_html(html) == (
        '<p title="苏"><span lang="zh">苏</span> x</p>'
        '<span lang="zh">剑<b>林</b><span>苏</span></span><span lang="zh">剑</span>'
    )
    drawn = "<svg><text>苏</text></svg><select><option>剑</option></select>"
    assert spans.marked_html(drawn) == drawn


def test_t_ta_is_never_broken():
    kept, said = spans.marked("T-TA is fast")
    assert (kept["classes"], said) == (["whole"], " is fast")
    assert spans.marked_html("<b>T-TAX, T-TA</b>") == (
        '<b>T-TAX, <span class="whole">T-TA</span></b>'
    )


def test_wide_figures_are_marked_for_phones(tmp_path):
    assert wide.kind('<svg width="300pt"') == ""
    assert wide.kind('<svg width="500pt"') == "wide"
    assert wide.kind('<svg width="700.5pt"') == "wider"
    address = base64.b64encode(b'<svg width="700pt" height="1pt">').decode()
    image = f'<img src="data:image/svg+xml;base64,{address}" alt="a">'
    assert wide.marked(image).startswith('<img class="wider" src="data:')


def test_frames_are_files_that_the_page_names(tmp_path):
    drawing = b'<svg xmlns="x" width="300.0pt" height="150pt" viewBox="0 0 1 1">'
    uri = f"data:image/svg+xml;base64,{base64.b64encode(drawing).decode()}"
    html = f'<div class="slider"><img class="wide" src="{uri}" alt="a" hidden></div>'
    said = frames.moved(html, tmp_path, "../_images")
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == drawing
    assert f'<img class="wide" src="../_images/{path.name}" alt="a" hidden' in said
    assert 'width="400" height="200" loading="lazy">' in said
    assert frames.moved(html, tmp_path, "../_images") == said
    assert len([*tmp_path.iterdir()]) == 1


def test_a_page_is_described_by_its_first_sentences_that_do_not_cite():
    source = nodes.inline("", "[Su20]", classes=["bibtex-citation"])
    cites = nodes.paragraph(
        "", "The post, which is long enough to be taken " * 3, source
    )
    long = nodes.paragraph("", "", nodes.strong("", "Idea."), nodes.Text(" choose "))
    long += [nodes.math("", r"\gamma"), nodes.Text(" with care. " + "And on. " * 20)]
    tree = nodes.document(None, None, "", cites, long)
    said = described.description(tree)
    assert said.startswith("Choose γ with care. And on.")
    assert described.LEAST <= len(said) < 120
    minute = nodes.admonition("", nodes.paragraph("", "w" * 400), classes=["minute"])
    tree += minute
    assert described.description(tree).startswith("Wwww")
    assert described.description(nodes.document(None, None, "", cites)) == ""


def test_names_say_what_is_seen():
    fold = '<summary aria-label="Toggle hidden content">Show code</summary>'
    assert accessible.mended(fold) == "<summary>Show code</summary>"
    assert accessible.mended('<th class="head"><p></p></th>') == "<td></td>"
    brand = '<div class="sidebar-primary-item">\n<a class="navbar-brand logo">'
    assert 'role="navigation"' in accessible.mended(brand)
    icons = '<script src="../_static/scripts/fontawesome.js?digest=1"></script>'
    assert accessible.mended(f"{icons}<p>") == "<p>"
    other = '<div class="sidebar-primary-item">\n<nav>'
    assert accessible.mended(other) == other


def test_numbers_of_a_run_carry_a_minus_sign():
    pasted = [
        nodes.inline("", "", nodes.Text(said), classes=["pasted-text"])
        for said in ("-0.05", "3", "-no number")
    ]
    plain = nodes.inline("", "", nodes.Text("-7"))
    tree = nodes.document(None, None, "", nodes.paragraph("", "", *pasted, plain))
    signs.correct(None, tree, "page")
    said = [node.astext() for node in tree.findall(nodes.inline)]
    assert said == ["−0.05", "3", "-no number", "-7"]
    assert all(text.parent for text in tree.findall(nodes.Text))


def test_zero_has_no_sign_in_the_text_and_in_alternative_texts():
    said = ("-0.00 nat", "-0", "−0.0", "-0.04", "1e-0")
    pasted = [
        nodes.inline("", "", nodes.Text(s), classes=["pasted-text"]) for s in said
    ]
    html = '<img src="a-0" alt="At -0.00, -0.05 and −0."><p>-0.0</p>'
    raw = nodes.raw("", html, format="html")
    tree = nodes.document(None, None, "", nodes.paragraph("", "", *pasted), raw)
    signs.correct(None, tree, "page")
    found = [node.astext() for node in tree.findall(nodes.inline)]
    assert found == ["0.00 nat", "0", "0.0", "−0.04", "1e-0"]
    assert raw.astext() == '<img src="a-0" alt="At 0.00, -0.05 and 0."><p>-0.0</p>'


def test_no_line_of_the_reading_time_starts_with_a_dot():
    words = nodes.paragraph("", "", nodes.Text("35 minutes · difficulty ●●○"))
    signs.correct(None, nodes.document(None, None, "", words), "page")
    assert words.astext() == "35 minutes\xa0· difficulty\xa0●●○"


@pytest.mark.parametrize(
    ("formula", "behind", "kept"),
    [
        ("b", ". Then", "."),
        ("i", "-th token", "-th"),
        ("n", "-dimensional", "-"),
        ("N", "", ""),
        ("b", " and", ""),
        (r"\lambda=0.01", ") 26", ")"),
        (r"\theta_1=\theta_0-\varepsilon g", ". Then", ""),
    ],
)
def test_a_short_formula_and_the_mark_behind_it_stay_together(formula, behind, kept):
    words = nodes.paragraph("", "", nodes.math("", formula), nodes.Text(behind))
    whole = f"{formula}{behind}"
    tree = nodes.document(None, None, "", words)
    spans.mark(SimpleNamespace(builder=SimpleNamespace(format="html")), tree, "page")
    found = [n.astext() for n in tree.findall(nodes.inline) if "whole" in n["classes"]]
    assert "".join(found) == (formula + kept if kept else "")
    assert "".join(t.astext() for t in words.children) == whole
    assert len([*tree.findall(nodes.math)]) == 1


def test_a_bracket_stays_with_the_formula_that_it_opens():
    parts = [nodes.Text("a run ("), nodes.math("", "b"), nodes.Text(") and")]
    words = nodes.paragraph("", "", *parts)
    spans.keep_together(parts[1])
    assert [part.astext() for part in words] == ["a run ", "(b)", " and"]


def test_the_mark_behind_another_formula_stays_where_it_is():
    long = r"\theta_1=\theta_0-\varepsilon g"
    kinds = [nodes.math("", f) for f in (long, "c", "d")]
    texts = [nodes.Text(", "), nodes.Text(", "), nodes.Text(".")]
    parts = [part for pair in zip(kinds, texts, strict=True) for part in pair]
    words = nodes.paragraph("", "", *parts)
    for formula in kinds:
        spans.keep_together(formula)
    assert [part.astext() for part in words] == [long, ", ", "c,", " ", "d.", ""]


def test_no_line_ends_before_a_per_cent_sign():
    code = nodes.literal("", "", nodes.Text("5 % 3"))
    share = nodes.strong("", "", nodes.Text("10"))
    words = nodes.paragraph("", "", share, nodes.Text(" % of 20 %; 5%, "), code)
    words += nodes.Text("; is n > 8 log N")
    kinds = (nodes.math, nodes.math_block)
    formulas = [kind("", "", nodes.Text("a = b")) for kind in kinds]
    signs.correct(None, nodes.document(None, None, "", words, *formulas), "page")
    assert [formula.astext() for formula in formulas] == ["a = b"] * 2
    assert words.astext().endswith("; is n\N{NO-BREAK SPACE}> 8 log N")
    words.pop()
    assert words.astext() == "10\N{NO-BREAK SPACE}% of 20\N{NO-BREAK SPACE}%; 5%, 5 % 3"


def test_the_ledger_knows_which_claims_no_run_has_judged():
    stated = load_claims("flooding")
    checks = [claim for claim in stated if claim.kind == "check"]
    judged = [{"id": claim.id} for claim in stated if claim.id != "C13"]
    assert checks
    assert [claim.id for claim in ledger.waiting(stated, judged)] == ["C13"]
    assert ledger.waiting(checks, []) == []

"""The pattern of a chapter in numbers: the tutorial in front, the audit behind.

A chapter is held to it once it has its audit.
"""

import json
import re
import tomllib
from pathlib import Path

import measures
import pytest

from blogcore import recorded, runner
from blogcore.claims import load_claims
from blogcore.freshness import code_cells, text
from blogcore.report import AUDIT

ROOT = Path(__file__).parents[1]
CHAPTERS = ROOT / "chapters"
POSTS = [path.stem.removesuffix(AUDIT) for path in CHAPTERS.glob(f"*{AUDIT}.ipynb")]
PAGES = [name for post in sorted(POSTS) for name in (post, post + AUDIT)]
# words, code cells, open ones among them, lines of an open cell, figures: counted as a
# reader from outside would, roles, solutions and imports too.
LIMITS = {
    "tutorial": (3600, 35, 15, 15, range(7, 11)),
    "audit": (5000, 40, 40, 25, range(13)),
}
# Where the reader is told what a page takes.
READING = re.compile(r"Reading time \d+(–\d+)? minutes")
NEEDS = re.compile(r"you need: .+ · difficulty [●○]{3}")
HERO = 450  # words of prose before the first figure: about 1,500 pixels
MINUTE = 200  # words of a tutorial's “In one minute”, its numbers not counted


def read(page: str) -> dict:
    return json.loads((CHAPTERS / f"{page}.ipynb").read_text(encoding="utf-8"))


def part(page: str) -> str:
    return "audit" if page.endswith(AUDIT) else "tutorial"


def before_the_first_figure(notebook: dict) -> dict:
    """The cells above the first one that shows a figure."""
    cells = notebook["cells"]
    shown = [place for place, c in enumerate(cells) if "mystnb" in c["metadata"]]
    return {"cells": cells[: shown[0]]}


@pytest.mark.parametrize("page", PAGES)
class TestPage:
    """Every page of a chapter that has its audit."""

    def test_is_not_longer_than_its_limits(self, page):
        words, cells, opened, lines, _ = LIMITS[part(page)]
        notebook = read(page)
        assert measures.words(notebook) <= words
        assert len(code_cells(notebook)) <= cells
        visible = measures.open_cells(notebook)
        assert len(visible) <= opened, [c["id"] for c in visible]
        for cell in visible:
            assert measures.lines(cell) <= lines, cell["id"]

    def test_has_its_figures_with_names_and_captions(self, page):
        figures = measures.figures(read(page))
        assert len(figures) in LIMITS[part(page)][-1]
        for found in figures:
            assert found["figure"]["name"].startswith("fig-"), found
            assert len(found["figure"]["caption"]) > 20, found

    def test_what_moves_is_a_figure_too(self, page):
        for cell in code_cells(read(page)):
            if re.search(r"\b(slider|calculator)\(", text(cell)):
                assert "figure" in cell["metadata"].get("mystnb", {}), cell["id"]

    def test_titles_are_plain_text(self, page):
        for title in measures.titles(read(page)):
            assert not re.search(r"[$\\]|\{\w+\}`", title), title

    def test_says_at_the_top_what_it_takes(self, page):
        cells = read(page)["cells"]
        top = " ".join(text(cell) for cell in cells[:3])
        assert READING.search(top)
        assert NEEDS.search(top)

    def test_takes_its_colours_from_the_table(self, page):
        for cell in code_cells(read(page)):
            assert measures.literal_colours(text(cell)) == [], cell["id"]

    def test_a_cell_may_run_again(self, page):
        assert measures.reused_names(read(page)) == {}

    def test_settings_are_compared_with_those_that_are_judged(self, page):
        path = ROOT / "data" / "claims" / f"{page.removesuffix(AUDIT)}.toml"
        stated = tomllib.loads(path.read_text(encoding="utf-8")).get("settings", {})
        code = "\n".join(map(text, code_cells(read(page))))
        calls = re.findall(r"report\.settings\((.*?)\)\n?", code, re.DOTALL)
        given = re.findall(r"(\w+)=", " ".join(calls))
        assert sorted(given) == sorted(stated.get(part(page), {}))
        assert given, "a page has settings that a reader may change"


@pytest.mark.parametrize("post", POSTS)
class TestPost:
    """A tutorial, its audit, and their claims."""

    def test_opens_with_a_first_screen(self, post):
        notebook = read(post)
        top = before_the_first_figure(notebook)
        assert ":class: minute" in measures.prose(top)
        assert measures.words(top, measures.NOT_PROSE) <= HERO, "the picture comes late"
        code = "\n".join(map(text, code_cells(notebook)))
        assert "report.claimed()" in code

    def test_says_five_things_in_one_minute(self, post):
        (said,) = re.findall(
            r":class: minute\n(.*?)\n:::", measures.prose(read(post)), re.S
        )
        assert re.findall(r"(?m)^(\d)\. ", said) == list("12345")
        box = {"cells": [{"cell_type": "markdown", "source": said}]}
        assert measures.words(box, measures.NOT_PROSE) <= MINUTE

    def test_has_key_ideas_and_ends_with_what_to_remember(self, post):
        prose = measures.prose(read(post))
        assert 3 <= prose.count(":class: key-idea") <= 5
        assert prose.count(":class: takeaways") == 1

    def test_is_as_long_and_difficult_as_the_list_of_posts_says(self, post):
        stated = (ROOT / "data" / "posts.toml").read_text(encoding="utf-8")
        (said,) = (p for p in tomllib.loads(stated)["post"] if p["slug"] == post)
        dots = "●" * said["difficulty"] + "○" * (3 - said["difficulty"])
        prose = measures.prose(read(post))
        assert f"Reading time {said['minutes']} minutes" in prose
        assert f"difficulty {dots}" in prose

    def test_the_audit_is_the_tutorials_child(self, post):
        pages = runner.chapters(ROOT)
        assert pages[pages.index(post) + 1] == post + AUDIT
        toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
        child = rf"- file: {{}}{post}\n +sections:\n +- file: {{}}{post}{AUDIT}\n"
        assert re.search(child.format("chapters/", "chapters/"), toc)

    @pytest.mark.parametrize("page", ["", AUDIT])
    def test_what_is_recorded_repeats_todays_claims(self, post, page):
        stated = {claim.id: claim.statement for claim in load_claims(post)}
        for run in recorded.runs(ROOT / "data", post + page, "book"):
            for found in run["records"]:
                if found["kind"] == "verdict":
                    assert found["statement"] == stated[found["id"]], found["id"]

    def test_claims_say_what_they_measure_and_of_what(self, post):
        for claim in load_claims(post):
            if claim.kind == "claim":
                assert claim.quantity, claim.id
                assert claim.of, claim.id

    def test_the_tutorial_judges_what_others_claim(self, post):
        on_it = [c for c in load_claims(post) if c.page == "tutorial"]
        claims = [claim for claim in on_it if claim.kind == "claim"]
        ours = [claim for claim in claims if claim.author == "ours"]
        assert 3 <= len(claims) - len(ours) <= 8
        # A control stays with its experiment, however many there are.
        assert len([claim for claim in ours if "control" not in claim.test]) <= 2


def cell(source: str, *given: str, name="c", **metadata) -> dict:
    return {
        "cell_type": "code",
        "id": name,
        "source": source,
        "metadata": {"tags": list(given), **metadata},
    }


def text_cell(source: str) -> dict:
    return {"cell_type": "markdown", "id": "m", "metadata": {}, "source": source}


def test_words_are_those_outside_code_and_formulas():
    directive = ":::{note}\n:class: minute\n"
    body = "{cite}`x` three $a+b$ `code` [four](five.md) 3.5\n\n$$x$$"
    source = f"# Two words\n\n{directive}{body}\n\n```python\nno = 1\n```"
    notebook = {"cells": [text_cell(source), cell("not_a_word = 1")]}
    assert measures.words(notebook, measures.NOT_PROSE) == 4
    assert measures.words(notebook) == 4 + len(
        ["note", "class", "minute", "cite", "x", "code", "five", "md"]
    )


def test_open_code_is_what_no_tag_folds():
    cells = [cell("x = 1"), cell("y", "hide-input"), cell("z", "solution")]
    assert measures.open_cells({"cells": cells}) == cells[:1]


def test_every_line_of_a_cell_counts():
    assert measures.lines(cell("from a import (\n    b,\n)\n\nx = 1")) == 5


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('axes.plot(x, color="C0")', ["C0"]),
        ('looks = ["#ff0000", "method"]', ["#ff0000"]),
        ('axes.axhline(0, color="black")', ["black"]),
        ('for c, x in zip(("C1", "C2"), xs): report.judge("C4", x)', ["C1", "C2"]),
        ('axes.plot(x, y, "C3", label="C12")', ["C3"]),
        ('arrow = {"color": "grey", "arrowstyle": "->"}', ["grey"]),
        ('axes.fill(x, y, fc="none", ec="white", label="red herring")', []),
        ('axes.plot(x, **style.line("plain"), label="C12 holds")', []),
        ('axes.plot(x, color=style.color("plain"))', []),
    ],
)
def test_typed_colours_are_found(source, found):
    assert measures.literal_colours(source) == found


@pytest.mark.parametrize(
    ("sources", "reused"),
    [
        (["x = 1", "x = 2", "print(x)"], {"x"}),
        (["x = 1", "x = 2", "def f():\n    return x"], {"x"}),
        (["x = 1", "x += 1", "y = x"], {"x"}),
        (["for x in (1, 2):\n    y = x", "x = 3", "print(x)"], {"x"}),
        (["def f(): pass", "f = 2", "f"], {"f"}),
        (["x = 1\nprint(x)", "x = 2\nprint(x)"], set()),  # each has its own
        (["x = 1", "print([x for x in y])", "print(x)"], set()),
        (["x = 1", "x = 2", "print([x for x in y])"], set()),
        (["x = 1", "x = 2", "print([x + z for z in y])"], {"x"}),
        (["x = 1", "x = 2", "def f(x): return x"], set()),
        (["import x", "import x", "x.y"], set()),
        (["x = 1", "def f(x):\n    x = 2", "print(x)"], set()),
    ],
)
def test_names_that_a_rerun_would_mix_up_are_found(sources, reused):
    cells = [cell(source, name=str(place)) for place, source in enumerate(sources)]
    assert set(measures.reused_names({"cells": cells})) == reused

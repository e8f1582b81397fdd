"""What is shown beside figures: the package's own text, and tables that are escaped."""

from pages import Fragment

from blogcore import show
from blogcore.claims import Above
from blogcore.evidence import interval
from blogcore.report import Report


def test_a_table_escapes_its_cells_and_says_when_it_has_none(shown):
    show.table(["GPU", "b<1"], [["<H100>", 0.5], ["A&B", 1]], "none yet")
    show.table(["GPU", "b"], [], "no run < 1 yet")
    page = Fragment(shown[0][0])
    assert [cell["data-label"] for cell in page.all("td")] == ["GPU", "b<1"] * 2
    assert page.words == "GPUb<1<H100>0.5A&B1"
    assert shown[1][0] == "<p>no run &lt; 1 yet</p>"


def test_source_shows_the_packages_own_text(shown):
    show.source(interval, Above)
    text = shown[0][0]
    assert text.startswith("```python\ndef interval(")
    assert text.endswith("```")
    assert "\n\n\n@dataclass(frozen=True)\nclass Above:" in text


def test_source_dedents_a_method(shown):
    show.source(Report.judge)
    assert shown[0][0].startswith("```python\ndef judge(self")

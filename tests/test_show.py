"""What a chapter shows: escaped, described, recorded in the form the book reads."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from pages import Fragment

from blogcore import evidence, show
from blogcore.claims import Above, Claim, Within
from blogcore.evidence import Estimate, interval
from blogcore.show import Report, band, dots, effect, source

CLAIMS = [
    Claim("C1", "Where $L<b$ & <b>bold</b>", "post", "a < b", Above(0.03), "nat"),
    Claim("C2a", "It is one.", "ours", "slope", Within(1.0, 0.05)),
]
EFFECT = Estimate(0.2, 0.1, 0.3, 5, (("level=0.3", 7, 0.25), ("level=0.3", 8, 0.15)))

pytestmark = pytest.mark.usefixtures("house_style")


def recorded(shown) -> dict[str, tuple[str, dict]]:
    """name → (text, details) of the records among what is displayed."""
    return {
        meta["scrapbook"]["name"]: (data[f"{show.GLUE}text/plain"], meta["blogcore"])
        for data, meta in shown
        if meta
    }


def test_the_claims_table_states_predictions_and_escapes_what_it_shows(shown):
    Report("tides", "book", CLAIMS).predictions()
    page = Fragment(shown[0][0])
    assert page.all("table") == [{"class": "claims"}]
    labels = [cell["data-label"] for cell in page.all("td")]
    assert labels == ["Claim", "Whose", "Test", "Prediction"] * 2
    assert page.all("th") == [{"scope": "col"}] * 4
    assert "Where $L<b$ & <b>bold</b>" in page.words
    assert "a < b" in page.words
    assert "> 0.03 nat" in page.words
    assert "1 ± 0.05" in page.words


def test_judging_shows_a_box_and_records_the_effect(shown):
    Report("tides", "book", CLAIMS).judge("C1", EFFECT)
    page = Fragment(shown[0][0])
    box = {"class": "verdict verdict-holds", "id": "c1"}
    assert page.all("div") == [box]
    assert "Where $L<b$ & <b>bold</b>" in page.words
    assert "✓ holds" in page.words
    assert "0.20 nat [0.10, 0.30], n\u00a0=\u00a05; predicted > 0.03 nat" in page.words
    records = recorded(shown)
    assert {name: text for name, (text, _) in records.items()} == {
        "tides/c1": "0.2",
        "tides/c1-low": "0.1",
        "tides/c1-high": "0.3",
    }
    assert records["tides/c1"][1] == {
        "kind": "verdict",
        "id": "C1",
        "slug": "c1",
        "statement": CLAIMS[0].statement,
        "author": "post",
        "test": "a < b",
        "prediction": "> 0.03",
        "unit": "nat",
        "verdict": "holds",
        "mean": 0.2,
        "low": 0.1,
        "high": 0.3,
        "n": 5,
        "rows": [["level=0.3", 7, 0.25], ["level=0.3", 8, 0.15]],
    }
    assert shown[1][1]["scrapbook"]["mime_prefix"] == "application/papermill.record/"
    json.dumps(shown[1][1])


@pytest.mark.parametrize(
    ("low", "high", "verdict", "symbol"),
    [
        (0.1, 0.3, "holds", "✓"),
        (-0.3, -0.1, "contradicted", "✗"),
        (-0.1, 0.3, "undecided", "?"),
    ],
)
def test_the_verdict_is_the_predictions(shown, low, high, verdict, symbol):
    report = Report("tides", "book", CLAIMS)
    report.judge("C1", Estimate((low + high) / 2, low, high, 5))
    assert f"verdict-{verdict}" in shown[0][0]
    assert f"{symbol} {verdict}" in shown[0][0]
    assert recorded(shown)["tides/c1"][1]["verdict"] == verdict


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((0.2, 0.1, 0.3), "0.20 nat [0.10, 0.30], n\u00a0=\u00a05"),
        ((-0.123456, -0.173, -0.07), "−0.123 nat [−0.173, −0.070], n\u00a0=\u00a05"),
        ((1234.5, 1100, 1369), "1234 nat [1100, 1369], n\u00a0=\u00a05"),
        ((0.25, 0.25, 0.25), "0.25 nat [0.25, 0.25], n\u00a0=\u00a05"),
        ((3e-13, -1e-13, 7e-13), "3e−13 nat [−1e−13, 7e−13], n\u00a0=\u00a05"),
        ((0.0, 0.0, 0.0), "0 nat [0, 0], n\u00a0=\u00a05"),
    ],
)
def test_an_effect_is_written_to_two_digits_of_its_half_width(bounds, text):
    assert effect(Estimate(*bounds, 5), "nat") == text


def test_the_smoke_profile_judges_nothing_but_records_the_effect(shown):
    report = Report("tides", "smoke", CLAIMS)
    report.judge("C1", EFFECT)
    report.judge("C2a", EFFECT)
    report.verdicts()
    assert "verdict-not-judged" in shown[0][0]
    text, details = recorded(shown)["tides/c1"]
    assert (text, details["verdict"]) == ("0.2", "not judged")
    words = Fragment(shown[-1][0]).words
    assert words.count("– not judged") == 2
    assert not re.search("holds|contradicted|undecided", words)


def test_the_closing_table_links_every_claim_to_its_box(shown):
    report = Report("tides", "book", CLAIMS)
    report.judge("C2a", EFFECT)
    with pytest.raises(ValueError, match=r"never judged: \['C1'\]"):
        report.verdicts()
    report.judge("C1", EFFECT)
    report.verdicts()
    page = Fragment(shown[-1][0])
    assert [link["href"] for link in page.all("a")] == ["#c1", "#c2a"]
    labels = [cell["data-label"] for cell in page.all("td")]
    assert labels == ["Claim", "Whose", "Prediction", "Verdict", "Effect"] * 2
    assert "✗ contradicted" in page.words


def test_a_table_escapes_its_cells_and_says_when_it_has_none(shown):
    show.table(["GPU", "b"], [["<H100>", 0.5], ["A&B", 1]], "none yet")
    show.table(["GPU", "b"], [], "no run < 1 yet")
    page = Fragment(shown[0][0])
    assert [cell["data-label"] for cell in page.all("td")] == ["GPU", "b"] * 2
    assert page.words == "GPUb<H100>0.5A&B1"
    assert shown[1][0] == "<p>no run &lt; 1 yet</p>"


def test_a_value_is_recorded_as_a_plain_float(shown):
    report = Report("tides", "book", CLAIMS)
    report.value("slope", np.float64(0.5), tolerance="exact")
    report.value("count", 3)
    assert recorded(shown) == {
        "tides/slope": ("0.5", {"kind": "value", "tolerance": "exact"}),
        "tides/count": ("3.0", {"kind": "value", "tolerance": "none"}),
    }


def test_what_is_recorded_can_be_saved_and_compared_with_itself(shown, tmp_path):
    report = Report("tides", "book", CLAIMS)
    report.judge("C1", interval([0.1, 0.2, 0.4], [("a", 1, 0.1)]))
    report.value("x", 0.1, "exact")
    records = [
        {"name": name, "value": float(text), **details}
        for name, (text, details) in recorded(shown).items()
    ]
    path = tmp_path / "tides.json"
    evidence.save_records(path, "tides", [{"profile": "book", "records": records}])
    assert evidence.drift(evidence.load_records(path)[0]["records"], records) == []


def test_source_shows_the_packages_own_text(shown):
    source(interval, Above)
    text = shown[0][0]
    assert text.startswith("```python\ndef interval(")
    assert text.endswith("```")
    assert "\n\n\n@dataclass(frozen=True)\nclass Above:" in text


def test_source_dedents_a_method(shown):
    source(Report.value)
    assert shown[0][0].startswith("```python\ndef value(self")


def test_band_draws_every_seed_and_the_interval_of_their_mean():
    axes = plt.figure().subplots()
    values = np.random.default_rng(0).normal(size=(4, 6))
    band(axes, [0, 1, 2, 3], values, "loss", "C0")
    lines, mean = axes.lines[:-1], axes.lines[-1]
    assert [line.get_ydata().tolist() for line in lines] == values.T.tolist()
    np.testing.assert_allclose(mean.get_ydata(), values.mean(1))
    assert axes.get_legend_handles_labels()[1] == ["loss"]
    corners = axes.collections[0].get_paths()[0].vertices
    for x, row in enumerate(values):
        expected = interval(row)
        found = corners[corners[:, 0] == x, 1]
        limits = found.min(), found.max()
        assert limits == pytest.approx((expected.low, expected.high))


def test_dots_show_every_seed_and_the_interval_of_their_mean():
    axes = plt.figure().subplots()
    groups = [("plain", [0.1, 0.2, 0.4]), ("flooded", [0.3, 0.3, 0.6])]
    dots(axes, groups)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "plain",
        "flooded",
    ]
    drawn = [
        line.get_xdata().tolist() for line in axes.lines if len(line.get_xdata()) == 3
    ]
    assert drawn == [values for _, values in groups]
    for bar, (_, values) in zip(axes.containers, groups, strict=True):
        expected = interval(values)
        (limits,) = bar.lines[2][0].get_segments()
        ends = limits[:, 0].tolist()
        assert ends == pytest.approx([expected.low, expected.high])


def test_figures_in_a_notebook_are_svg_with_the_same_bytes_every_time():
    formatter = InteractiveShell.instance().display_formatter
    pictures = []
    for _ in range(2):
        figure, axes = plt.subplots()
        axes.fill_between([0, 1], 0, 1, hatch="/")
        pictures.append(formatter.format(figure)[0])
    assert "image/png" not in pictures[0]
    assert pictures[0] == pictures[1]
    assert "clip-path" in pictures[0]["image/svg+xml"]
    assert "<dc:date>" not in pictures[0]["image/svg+xml"]

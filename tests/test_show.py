"""What a chapter shows: escaped, described, recorded in the form the book reads."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
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
    assert ">\u00a00.03 nat" in page.words
    assert "1\u00a0±\u00a00.05" in page.words


def test_judging_shows_a_box_and_records_the_effect(shown):
    Report("tides", "book", CLAIMS).judge("C1", EFFECT)
    page = Fragment(shown[0][0])
    box = {"class": "verdict verdict-holds", "id": "c1"}
    assert page.all("div") == [box]
    assert "Where $L<b$ & <b>bold</b>" in page.words
    assert "✓ holds" in page.words
    assert (
        "0.20 nat [0.10, 0.30], n\u00a0=\u00a05; predicted >\u00a00.03 nat"
        in page.words
    )
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
    show.table(["GPU", "b<1"], [["<H100>", 0.5], ["A&B", 1]], "none yet")
    show.table(["GPU", "b"], [], "no run < 1 yet")
    page = Fragment(shown[0][0])
    assert [cell["data-label"] for cell in page.all("td")] == ["GPU", "b<1"] * 2
    assert page.words == "GPUb<1<H100>0.5A&B1"
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


@pytest.fixture
def keep(monkeypatch, tmp_path):
    """Save runs as the records of the chapter "tides", where the report looks."""
    monkeypatch.setattr(show, "DATA", tmp_path)

    def save(*runs: tuple[str, int, dict]) -> None:
        content = [{"profile": p, "seed": s, "records": r} for p, s, r in runs]
        (tmp_path / "records").mkdir(exist_ok=True)
        evidence.save_records(tmp_path / "records" / "tides.json", "tides", content)

    return save


def verdicts(**found: str) -> list[dict]:
    records = [
        {"name": f"tides/{name.lower()}", "kind": "verdict", "id": name, "verdict": v}
        for name, v in found.items()
    ]
    return [*records, {"name": "tides/x", "kind": "value", "value": 1.0}]


def values(**found: float) -> list[dict]:
    return [
        {"name": f"tides/{name}", "kind": "value", "value": value}
        for name, value in found.items()
    ]


def rows(text: str) -> list[list[str]]:
    """The cells of a table's head and of its rows."""
    soup = BeautifulSoup(text, "html.parser")
    found = [[cell.get_text() for cell in row.select("th, td")] for row in soup("tr")]
    labels = [[cell["data-label"] for cell in row("td")] for row in soup("tr")[1:]]
    assert labels == [found[0]] * len(labels)
    return found


def test_the_verdicts_under_other_root_seeds_are_read_from_the_records(shown, keep):
    report = Report("tides", "smoke", CLAIMS)
    report.other_seeds(0)
    keep(("book", 0, verdicts(C1="holds")), ("full", 1, verdicts(C1="holds")))
    report.other_seeds(0)
    sentence = "<p>No other root seed is recorded.</p>"
    assert [text for text, _ in shown] == [sentence] * 2
    keep(
        ("book", 0, verdicts(C1="holds", C2a="holds")),
        ("book", 1, verdicts(C1="undecided", C2a="contradicted")),
        ("full", 2, verdicts(C1="contradicted")),
        ("book", 3, verdicts(C1="holds", C9="a claim that was given up")),
    )
    report.other_seeds(0)
    assert rows(shown[-1][0]) == [
        ["Claim", "root seed 1", "root seed 3"],
        ["C1", "? undecided", "✓ holds"],
        ["C2a", "✗ contradicted", ""],
    ]


def test_what_the_full_profile_gave_is_one_cell_a_condition(shown, keep):
    report = Report("tides", "book", CLAIMS)
    report.recorded("moon", ("noise", "n", "metric"), across="n")
    three, five = [0.7, 0.72, 0.77], [-1234.0, -1334.0, -1250.0, -1290.0, -1300.0]
    drawn = {f"moon/0.2/64/loss/{seed}": x for seed, x in enumerate(three)}
    drawn |= {f"moon/0.2/128/loss/{seed}": x for seed, x in enumerate(five)}
    alone = {"moon/0.0/128/loss/0": 0.123456, "moon/0.0/128/<hits>/0": -1.0}
    others = {"moonlight/0.2/64/loss/0": 9.0, "sun/0.2/64/loss/0": 9.0, "c1": 9.0}
    keep(("book", 0, values(**drawn)))
    report.recorded("moon", ("noise", "n", "metric"), across="n")
    sentence = "<p>No run of the full profile is recorded yet.</p>"
    assert [text for text, _ in shown] == [sentence] * 2
    more = {f"moon/0.2/64/loss/{seed}": 0.74 for seed in (1000, 1001)}
    keep(
        ("full", 0, [*verdicts(C1="holds"), *values(**drawn, **alone, **others)]),
        ("full", 1, values(**more)),
    )
    report.recorded("moon", ("noise", "n", "metric"), across="n")
    e = interval([*three, 0.74, 0.74])
    assert rows(shown[-1][0]) == [
        ["noise", "metric", "n = 64", "n = 128"],
        ["0.2", "loss", f"0.734 ± {e.high - e.mean:.3f}", "−1282 ± 50"],
        ["0.0", "loss", "", "0.1235"],
        ["0.0", "<hits>", "", "−1"],
    ]


def test_columns_that_are_words_need_no_equals_sign(shown, keep):
    names = ("moon/loss/0", "moon/<i>/0", "moon/loss/1")
    keep(("full", 0, values(**dict.fromkeys(names, 0.25))))
    Report("tides", "book", CLAIMS).recorded("moon", ["metric"], across="metric")
    assert rows(shown[0][0]) == [["loss", "metric = <i>"], ["0.25 ± 0", "0.25"]]


def test_recorded_names_must_have_a_part_for_each_head_and_a_seed(shown, keep):
    report = Report("tides", "book", CLAIMS)
    with pytest.raises(ValueError, match="across: 'n' is not one of"):
        report.recorded("moon", ("noise",), across="n")
    keep(("full", 0, values(**{"moon/0.2/64/0": 1.0})))
    for heads in (("noise",), ("noise", "n", "metric")):
        with pytest.raises(ValueError, match=r"heads: .* \['0.2', '64'\] and a seed"):
            report.recorded("moon", heads, across="noise")
    assert not shown


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

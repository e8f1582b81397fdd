"""A page's claims before and after the run, escaped and recorded."""

import json
import re

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from pages import Fragment

from blogcore import claims, evidence, report
from blogcore.evidence import Estimate, interval
from blogcore.report import GLUE, Numbers, Report

CLAIMS = """\
[[claim]]
id = "C1"
statement = "Where $L<b$ & <b>bold</b>"
author = "post"
test = "a < b"
prediction = { above = [0.03] }
unit = "nat"
quantity = "test loss, plain minus flooded"
of = "pairs of runs"
[[claim]]
id = "C2a"
statement = "It is one."
author = "ours"
test = "slope"
prediction = { within = [1.0, 0.05] }
[[claim]]
id = "C3"
statement = "Far out."
author = "paper"
test = "elsewhere"
prediction = { below = [0] }
page = "audit"
[[claim]]
id = "C4"
statement = "It flips the sign."
author = "paper"
test = "difference"
prediction = { within = [0.0, 1e-10] }
page = "audit"
kind = "check"
[settings.tutorial]
LEVEL = 0.3
SIZES = [1, 2]
[settings.audit]
NOISE = 0.1
"""
FIRST = "Where $L<b$ & <b>bold</b>"
EFFECT = Estimate(0.2, 0.1, 0.3, 5, (("level=0.3", 7, 0.25), ("level=0.3", 8, 0.15)))


@pytest.fixture(autouse=True)
def keep(monkeypatch, tmp_path):
    """The claims of "tides"; and saves runs as its records, where the report looks."""
    for room in (claims, report):
        monkeypatch.setattr(room, "DATA", tmp_path)
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "tides.toml").write_text(CLAIMS, encoding="utf-8")

    def save(*runs: tuple[str, int, dict]) -> None:
        content = [{"profile": p, "seed": s, "records": r} for p, s, r in runs]
        (tmp_path / "records").mkdir(exist_ok=True)
        evidence.save_records(tmp_path / "records" / "tides.json", "tides", content)

    return save


def recorded(shown) -> dict[str, tuple[str, dict]]:
    """name → (text, details) of the records among what is displayed."""
    return {
        meta["scrapbook"]["name"]: (data[f"{GLUE}text/plain"], meta["blogcore"])
        for data, meta in shown
        if meta
    }


def test_a_page_has_the_claims_that_live_on_it():
    assert list(Report("tides", "book").claims) == ["C1", "C2a"]
    assert list(Report("tides_audit", "book").claims) == ["C3", "C4"]


def test_what_others_claim_stands_first_and_all_thresholds_in_a_fold(shown):
    Report("tides", "book").claimed()
    soup = BeautifulSoup(shown[0][0], "html.parser")
    (line,) = soup.select("ul.claimed li")
    assert line.get_text() == f"C1 {FIRST} (post)"
    assert line.a["href"] == "#c1"
    (fold,) = soup("details")
    assert [cell.get_text() for cell in fold.select("td:first-child")] == [
        f"C1 {FIRST}",
        "C2a It is one.",
    ]


def test_the_claims_table_states_predictions_and_escapes_what_it_shows(shown):
    Report("tides", "book").predictions()
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
    Report("tides", "book").judge("C1", EFFECT)
    soup = BeautifulSoup(shown[0][0], "html.parser")
    assert soup.div["id"] == "c1"
    assert soup.div["class"] == ["verdict", "verdict-holds"]
    claimed, measured = (p.get_text() for p in soup("p"))
    assert claimed == f"C1 {FIRST} ✓ holds"
    assert measured == (
        "Test loss, plain minus flooded: 0.20 nat [0.10, 0.30] over 5 pairs of runs; "
        "predicted: more than 0.03 nat."
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
        "statement": FIRST,
        "author": "post",
        "test": "a < b",
        "prediction": "> 0.03",
        "unit": "nat",
        "quantity": "test loss, plain minus flooded",
        "of": "pairs of runs",
        "verdict": "holds",
        "mean": 0.2,
        "low": 0.1,
        "high": 0.3,
        "n": 5,
        "rows": [["level=0.3", 7, 0.25], ["level=0.3", 8, 0.15]],
        "timed": False,
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
    report = Report("tides", "book")
    report.judge("C1", Estimate((low + high) / 2, low, high, 5))
    assert f"verdict-{verdict}" in shown[0][0]
    assert f"{symbol} {verdict}" in shown[0][0]
    assert recorded(shown)["tides/c1"][1]["verdict"] == verdict


def test_the_smoke_profile_judges_nothing_but_records_the_effect(shown):
    report = Report("tides", "smoke")
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
    report = Report("tides", "book")
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


def test_a_value_is_recorded_as_a_plain_float(shown):
    numbers = Numbers("tides")
    numbers.value("slope", np.float64(0.5), tolerance="exact")
    numbers.value("count", 3)
    assert recorded(shown) == {
        "tides/slope": ("0.5", {"kind": "value", "tolerance": "exact"}),
        "tides/count": ("3.0", {"kind": "value", "tolerance": "none"}),
    }


def test_what_is_recorded_can_be_saved_and_compared_with_itself(shown, tmp_path):
    report = Report("tides", "book")
    report.judge("C1", interval([0.1, 0.2, 0.4], [("a", 1, 0.1)]))
    report.value("x", 0.1, tolerance="exact")
    records = [
        {"name": name, "value": float(text), **details}
        for name, (text, details) in recorded(shown).items()
    ]
    path = tmp_path / "tides.json"
    evidence.save_records(
        path, "tides", [{"profile": "book", "seed": 0, "records": records}]
    )
    assert evidence.drift(evidence.load_records(path)[0]["records"], records) == []


def verdicts(**found: str) -> list[dict]:
    records = [
        {"name": f"tides/{name.lower()}", "kind": "verdict", "id": name, "verdict": v}
        | {"value": 1.0}
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
    report = Report("tides", "smoke")
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
        ["Claim", "root seed 1", "root seed 3", "all together"],
        ["C1", "? undecided", "✓ holds", ""],
        ["C2a", "✗ contradicted", "", ""],
    ]


def test_what_root_seeds_say_together_may_be_decided_where_none_is(shown, keep):
    """Several undecided runs are no proof that there is nothing to see."""
    runs = {0: (-0.1, 1.0, 0.9), 1: (1.2, 0.8, -0.2), 2: (0.7, 1.1, 0.1)}
    undecided = verdicts(C1="undecided")[0]

    def run(root, values):
        # Both arms of a contrast are recorded, while the effect is their difference.
        seeds = [100 * root + i for i in range(len(values))]
        rows = [["a", s, 5 + v] for s, v in zip(seeds, values, strict=True)]
        rows += [["b", s, 5.0] for s in seeds]
        found = interval(values)
        ends = {"mean": found.mean, "low": found.low, "high": found.high}
        return ("book", root, [undecided | ends | {"n": found.n, "rows": rows}])

    keep(*(run(root, values) for root, values in runs.items()))
    report = Report("tides", "book")
    report.other_seeds(0)
    pooled = interval([value for values in runs.values() for value in values])
    claim = report.claims["C1"]
    for values in runs.values():
        assert claim.prediction.verdict(interval(values)) == "undecided"
    assert rows(shown[-1][0])[1] == [
        "C1",
        *["? undecided"] * 2,
        f"✓ holds {pooled.mean:.2f} nat [{pooled.low:.2f}, {pooled.high:.2f}]",
    ]
    assert "computed after the verdicts were known" in shown[-1][0]


def test_repeats_of_the_same_seeds_are_not_pooled(shown, keep):
    rows_of_both = [["time", 0, 1.0], ["time", 1, 2.0]]
    timed = verdicts(C1="holds")[0] | {"rows": rows_of_both}
    keep(("book", 0, [timed]), ("book", 1, [timed]))
    Report("tides", "book").other_seeds(0)
    assert rows(shown[-1][0])[1] == ["C1", "✓ holds", ""]


def test_what_the_full_profile_gave_is_one_cell_a_condition(shown, keep):
    report = Report("tides", "book")
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
    Report("tides", "book").recorded("moon", ["metric"], across="metric")
    assert rows(shown[0][0]) == [["loss", "metric = <i>"], ["0.25 ± 0", "0.25"]]


def test_recorded_names_must_have_a_part_for_each_head_and_a_seed(shown, keep):
    report = Report("tides", "book")
    with pytest.raises(ValueError, match="across: 'n' is not one of"):
        report.recorded("moon", ("noise",), across="n")
    keep(("full", 0, values(**{"moon/0.2/64/0": 1.0})))
    for heads in (("noise",), ("noise", "n", "metric")):
        with pytest.raises(ValueError, match=r"heads: .* \['0.2', '64'\] and a seed"):
            report.recorded("moon", heads, across="noise")
    assert not shown


def test_a_value_with_a_sentence_is_read_in_plain_jupyter(shown):
    numbers = Numbers("tides")
    numbers.value("gain", -1.25, "early-stopping gains {:.1f} points, not -0.5 or x-2")
    (data, _), *_ = shown
    assert data["text/plain"] == "early-stopping gains −1.2 points, not −0.5 or x-2"
    assert data[f"{GLUE}text/plain"] == "-1.25"


@pytest.mark.parametrize(
    ("values", "exactly"),
    [
        (0.0, "Equal to the last bit."),
        (torch.tensor([0.0, 3e-13], requires_grad=True), "Equal to 10⁻¹²."),
        (np.array([[-1e-10, 0.0]]), "Equal to 10⁻¹⁰."),
    ],
)
def test_a_check_is_one_line_that_says_how_exactly_it_holds(shown, values, exactly):
    report = Report("tides_audit", "smoke")
    report.check("C4", values)
    (line,) = BeautifulSoup(shown[0][0], "html.parser")("p")
    assert (line["id"], line["class"]) == ("c4", ["check"])
    assert line.get_text() == f"= C4 It flips the sign. {exactly}"
    details = recorded(shown)["tides_audit/c4"][1]
    assert (details["kind"], details["exactly"]) == ("check", exactly)
    assert "verdict" not in details


def test_a_check_that_fails_stops_the_run(shown):
    with pytest.raises(AssertionError, match=r"C4: It flips the sign\. Equal to 10⁻⁹"):
        Report("tides_audit", "smoke").check("C4", [0.0, 2e-10])
    assert not shown


def test_a_check_of_another_number_says_where_its_values_lie(shown):
    Report("tides", "book").check("C2a", [0.98, 1.04])
    assert "Found 0.98 to 1.04; expected between 0.95 and 1.05." in shown[0][0]
    with pytest.raises(AssertionError, match=r"Found 0\.5; expected"):
        Report("tides", "book").check("C2a", 0.5)


def test_a_changed_setting_makes_every_box_explore_and_judge_nothing(shown):
    report = Report("tides", "book")
    report.settings(LEVEL=0.3)
    report.settings(SIZES=(1, 2))
    assert not shown, "nothing was changed"
    report.settings(LEVEL=torch.tensor(0.5).double())
    assert "You changed LEVEL from 0.3 to 0.5" in shown[-1][0]
    report.settings(SIZES=range(1, 3))
    report.judge("C1", EFFECT)
    box = next(data for data, meta in shown if not meta and "id=" in data)
    assert "✎ exploring" in box
    assert "you changed LEVEL from 0.3 to 0.5, so nothing is judged" in box
    assert not re.search("holds|predicted:", box)
    assert recorded(shown)["tides/c1"][1]["verdict"] == "exploring"
    report.check("C2a", 7.0)
    assert "Found 7; expected between 0.95 and 1.05" in shown[-2][0]
    report.settings(LEVEL=0.3)
    report.judge("C1", EFFECT)
    assert "✓ holds" in shown[-4][0]


@pytest.mark.parametrize("profile", ["smoke", "full"])
def test_other_profiles_have_other_settings(shown, profile):
    report = Report("tides", profile)
    report.settings(LEVEL=0.5)
    report.judge("C1", EFFECT)
    assert "exploring" not in shown[0][0]


def test_only_settings_of_the_claims_file_can_be_compared():
    with pytest.raises(ValueError, match=r"settings: \['NOISE'\] are not among"):
        Report("tides", "book").settings(NOISE=0.1)
    Report("tides_audit", "book").settings(NOISE=0.1)


def test_checks_stand_apart_in_the_closing_table_and_in_other_seeds(shown, keep):
    report = Report("tides_audit", "book")
    report.judge("C3", EFFECT)
    report.check("C4", 0.0)
    report.verdicts()
    soup = BeautifulSoup(shown[-1][0], "html.parser")
    assert [row.td.get_text() for row in soup.select("tbody tr")] == ["C3 Far out."]
    assert soup.p.get_text() == "Checks that passed: C4."
    assert soup.p.a["href"] == "#c4"

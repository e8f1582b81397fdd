"""Verdicts at every boundary, and claims that are read as they are written."""

import re
import tomllib

import pytest

from blogcore import claims
from blogcore.claims import Above, Below, Claim, Within, load_claims, load_settings
from blogcore.evidence import Estimate

ABOVE = [
    (0.2, 0.3, "holds"),
    (0.11, 0.3, "holds"),
    (0.1, 0.3, "undecided"),  # the threshold itself is not above the threshold
    (0.05, 0.3, "undecided"),
    (0.01, 0.09, "undecided"),  # a real effect, but smaller than predicted
    (-0.1, 0.3, "undecided"),
    (-0.3, 0.05, "undecided"),
    (-0.3, 0.0, "undecided"),
    (-0.3, -0.01, "contradicted"),
]
WITHIN = [
    (0.95, 1.05, "holds"),
    (0.9, 1.1, "holds"),  # the band is closed
    (0.89, 1.0, "undecided"),
    (1.0, 1.11, "undecided"),
    (0.8, 1.2, "undecided"),
    (0.5, 0.9, "undecided"),
    (1.1, 1.5, "undecided"),
    (0.5, 0.89, "contradicted"),
    (1.11, 1.5, "contradicted"),
]


def spanning(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 5)


@pytest.mark.parametrize(("low", "high", "verdict"), ABOVE)
def test_above_and_below_are_mirror_images(low, high, verdict):
    assert Above(0.1).verdict(spanning(low, high)) == verdict
    assert Below(-0.1).verdict(spanning(-high, -low)) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "holds"),
        (0.0, 0.2, "undecided"),
        (-0.2, 0.0, "undecided"),
        (-0.2, -0.01, "contradicted"),
    ],
)
def test_a_threshold_of_zero_asks_for_the_sign_alone(low, high, verdict):
    assert Above(0.0).verdict(spanning(low, high)) == verdict
    assert Below(0.0).verdict(spanning(-high, -low)) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.09, 0.2, "holds"),
        (-0.1, 0.2, "undecided"),  # the threshold itself is not above the threshold
        (-0.3, -0.1, "undecided"),  # nor is it below it
        (-0.3, -0.11, "contradicted"),
        (-0.09, -0.05, "holds"),  # worse, but not by the margin
    ],
)
def test_no_worse_than_at_the_edges_of_its_margin(low, high, verdict):
    assert Above(-0.1).verdict(spanning(low, high)) == verdict
    assert Below(0.1).verdict(spanning(-high, -low)) == verdict


def test_no_worse_than_is_contradicted_only_beyond_its_margin():
    assert Above(-0.1).verdict(spanning(-0.05, 0.2)) == "holds"
    assert Above(-0.1).verdict(spanning(-0.15, -0.05)) == "undecided"
    assert Above(-0.1).verdict(spanning(-0.3, -0.15)) == "contradicted"
    assert Below(0.1).verdict(spanning(0.15, 0.3)) == "contradicted"
    assert Below(0.1).verdict(spanning(0.05, 0.15)) == "undecided"


@pytest.mark.parametrize(("low", "high", "verdict"), WITHIN)
def test_within_asks_for_the_whole_interval(low, high, verdict):
    assert Within(1.0, 0.1).verdict(spanning(low, high)) == verdict


def test_predictions_read_as_they_judge():
    texts = [str(p) for p in (Above(0.03), Below(-2), Within(-1, 0.05), Within(0, 0))]
    assert texts == ["> 0.03", "< −2", "−1 ± 0.05", "= 0"]


CLAIM = """\
[[claim]]
id = "C1"
statement = "It helps."
author = "post"
test = "a against b"
prediction = { above = [0.03] }
[[claim]]
id = "C2"
statement = "It is one."
author = "ours"
test = "slope"
prediction = { within = [1.0, 0.05] }
unit = "nat"
page = "audit"
kind = "check"
quantity = "slope of the error"
of = "networks"
[settings.audit]
LEVEL = 0.3
"""


@pytest.fixture
def claims_file(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "DATA", tmp_path)
    (tmp_path / "claims").mkdir()
    return tmp_path / "claims" / "tides.toml"


def test_claims_are_read_as_they_are_written(claims_file):
    claims_file.write_text(CLAIM, encoding="utf-8")
    assert load_claims("tides") == [
        Claim("C1", "It helps.", "post", "a against b", Above(0.03)),
        Claim(
            "C2",
            "It is one.",
            "ours",
            "slope",
            Within(1.0, 0.05),
            "nat",
            page="audit",
            kind="check",
            quantity="slope of the error",
            of="networks",
        ),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("above", "more"),
        ("[0.03]", "[0.03, 1]"),
        ("[0.03]", "[nan]"),
        ("[0.03]", '["0.03"]'),
        ('"post"', '"nobody"'),
        ('test = "a against b"\n', ""),
        ("prediction = { above = [0.03] }\n", ""),
        ('author = "post"', 'author = "post"\ncolour = "red"'),
        ("{ above = [0.03] }", "0.1"),
        ("{ above = [0.03] }", "{ above = 0.1 }"),
        ("{ above = [0.03] }", "{ above = [0.1], below = [0.2] }"),
        ("{ above = [0.03] }", "{ above = [true] }"),
        ('author = "post"', 'author = "post"\npage = "preface"'),
        ('author = "post"', 'author = "post"\nkind = "guess"'),
        ('author = "post"', 'author = "post"\nquantity = 3'),
    ],
)
def test_a_claim_whose_fields_do_not_fit_is_refused_by_name(claims_file, old, new):
    assert CLAIM.count(old) == 1
    claims_file.write_text(CLAIM.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=r"tides\.toml: claim C1"):
        load_claims("tides")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no [[claim]] in it"),
        (b"claim = []", "no [[claim]] in it"),
        (b"claim = 3", "no [[claim]] in it"),
        (b"claim = [3]", "claim 3:"),
        (b"[[claim]", "not TOML"),
        ("# 淹没\n".encode("gbk"), "not UTF-8"),
        (CLAIM.replace('"C1"', "1").encode(), "claim 1: ValueError"),
        (CLAIM.replace('id = "C1"\n', "").encode(), "claim None:"),
        (CLAIM.replace("C2", "c1").encode(), "two claims have the same id"),
    ],
)
def test_a_file_that_holds_no_claims_is_refused_by_name(claims_file, content, message):
    claims_file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape("tides.toml: ")) as caught:
        load_claims("tides")
    assert message in str(caught.value)


def test_a_byte_order_mark_is_no_content(claims_file):
    claims_file.write_text(CLAIM, encoding="utf-8-sig")
    assert [claim.id for claim in load_claims("tides")] == ["C1", "C2"]


def test_settings_are_read_for_each_page(claims_file):
    claims_file.write_text(CLAIM, encoding="utf-8")
    assert load_settings("tides", "audit") == {"LEVEL": 0.3}
    message = r"tides\.toml: no table \[settings\.tutorial\]"
    for more in ("", "\n[settings]\ntutorial = 3"):
        claims_file.write_text(CLAIM.partition("[settings")[0] + more, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_settings("tides", "tutorial")


def test_every_committed_claims_file_can_be_read():
    files = sorted((claims.DATA / "claims").glob("*.toml"))
    assert files
    for file in files:
        found = load_claims(file.stem)
        stated = tomllib.loads(file.read_text(encoding="utf-8"))["claim"]
        assert [claim.id for claim in found] == [fields["id"] for fields in stated]
        assert len({claim.id.lower() for claim in found}) == len(found)

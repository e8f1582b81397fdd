"""The closing page: sentences say what the records say, the picture does not lie."""

import json
import re
from pathlib import Path

import lessons
import pytest

from blogcore.claims import Above, Below, Claim, Within, load_claims
from blogcore.evidence import Estimate

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "lessons.md").read_text(encoding="utf-8")
SAID = re.findall(r"\{claim\}`(\w+) (\w+): ([a-z ]+)`", TEXT)
OPPOSITE = {"holds": "contradicted", "contradicted": "holds"}


def recorded(post: str, name: str) -> dict[int, str]:
    """The verdicts on a claim in the book profile, by root seed."""
    claim = next(c for c in load_claims(post) if c.id == name)
    page = lessons.page(post, claim, ROOT)
    text = (ROOT / "data" / "records" / f"{page}.json").read_text(encoding="utf-8")
    return {
        run["run"]["seed"]: record["verdict"]
        for run in json.loads(text)["runs"]
        for record in run["records"]
        if run["run"]["profile"] == "book"
        if record["kind"] == "verdict" and record["id"] == name
    }


@pytest.mark.parametrize(("post", "name", "verdict"), SAID)
def test_a_lesson_says_what_the_records_say(post, name, verdict):
    found = recorded(post, name)
    assert found[0] == verdict
    assert OPPOSITE.get(verdict) not in found.values()


def test_every_lesson_has_its_evidence_and_types_no_result():
    _, *parts = TEXT.split("\n## ")
    *parts, limits = parts
    assert 5 <= len(parts) <= 6
    for part in parts:
        assert len(re.findall(r"\{claim\}", part)) >= 3, part
        assert "**So:**" in part
    assert limits.startswith("What small experiments cannot say")
    assert not re.search(r"\d\.\d|\d+ points", TEXT)
    measured = re.findall(r"\{effect\}`(\w+ \w+)`", TEXT)
    assert {*measured} <= {f"{post} {name}" for post, name, _ in SAID}


@pytest.mark.parametrize("prediction", [Above(0.5), Above(0), Below(-1), Within(2, 1)])
def test_a_mark_stands_right_of_the_band_only_where_the_claim_holds(prediction):
    claim = Claim("C1", "It is so.", "post", "try", prediction)
    for mean in (-9, -1.37, 0.01, 0.21, 0.83, 1.19, 2.02, 3.13, 9):
        for half in (0.05, 0.25, 2):
            estimate = Estimate(mean, mean - half, mean + half, 5)
            margin = lessons.margin(claim, estimate)
            verdict = prediction.verdict(estimate)
            assert (verdict == "holds") == (margin > 1)
            assert verdict != "contradicted" or margin < -1


def test_an_interval_that_is_a_point_stands_at_an_end():
    claim = Claim("C1", "It is so.", "post", "try", Within(0, 0))
    record = {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 3}
    assert lessons.place(claim, record) == 50 + lessons.EDGE
    record |= {"mean": 0.1, "low": 0.1, "high": 0.1}
    assert lessons.place(claim, record) == 50 - lessons.EDGE


def test_the_page_of_a_claim_is_read_from_its_file():
    claims = {claim.id: claim for claim in load_claims("flooding")}
    assert lessons.page("flooding", claims["C6"], ROOT) == "flooding"
    assert lessons.page("flooding", claims["C9"], ROOT) == "flooding_audit"

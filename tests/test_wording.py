"""Claims in a reader's words: numbers with two digits, bars that match the words."""

import re

import pytest
from bs4 import BeautifulSoup

from blogcore import wording
from blogcore.claims import Above, Below, Claim, Within
from blogcore.evidence import Estimate
from blogcore.wording import effect


def claim(prediction, unit="points", quantity="accuracy, flooded minus plain") -> Claim:
    return Claim(
        "C6", "It helps.", "post", "t", prediction, unit, quantity=quantity, of="runs"
    )


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((0.2, 0.1, 0.3), "0.20 nat [0.10, 0.30], n\u00a0=\u00a05"),
        ((-0.123456, -0.173, -0.07), "−0.123 nat [−0.173, −0.070], n\u00a0=\u00a05"),
        ((1234.5, 1100, 1369), "1234 nat [1100, 1369], n\u00a0=\u00a05"),
        ((0.25, 0.25, 0.25), "0.25 nat [0.25, 0.25], n\u00a0=\u00a05"),
        ((3e-13, -1e-13, 7e-13), "3e−13 nat [−1e−13, 7e−13], n\u00a0=\u00a05"),
        ((0.0, 0.0, 0.0), "0 nat [0, 0], n\u00a0=\u00a05"),
        ((-0.04, -12.0, 11.9), "0 nat [−12, 12], n\u00a0=\u00a05"),
    ],
)
def test_an_effect_is_written_to_two_digits_of_its_half_width(bounds, text):
    assert effect(Estimate(*bounds, 5), "nat") == text


def test_an_effect_says_over_how_many_of_what():
    words = effect(Estimate(7.3, 6.4, 8.2, 40), "points", "pairs of runs & more")
    assert words == "7.30 points [6.40, 8.20] over 40 pairs of runs &amp; more"


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (Above(3), "more than 3 log-odds"),
        (Above(-1), "more than −1 log-odds"),
        (Below(-0.5), "less than −0.5 log-odds"),
        (Within(1, 0.05), "between 0.95 and 1.05 log-odds"),
        (Within(0, 0.015), "between −0.015 and 0.015 log-odds"),
        (Within(2, 0), "exactly 2 log-odds"),
    ],
)
def test_a_prediction_is_said_in_words(prediction, words):
    found = claim(prediction, unit="log-odds")
    text = BeautifulSoup(
        wording.box(found, "holds", Estimate(1, 1, 1, 2)), "html.parser"
    )
    assert text("p")[1].get_text().endswith(f"; predicted: {words}.")


def test_a_claim_without_a_quantity_keeps_its_effect():
    old = Claim("C1", "s", "post", "t", Above(0.03), "nat")
    box = wording.box(old, "undecided", Estimate(0.05, 0.02, 0.08, 7))
    text = BeautifulSoup(box, "html.parser")("p")[1].get_text()
    assert text == (
        "0.050 nat [0.020, 0.080], n\u00a0=\u00a07; predicted: more than 0.03 nat."
    )


def numbers(path: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?[\d.]+", path)]


@pytest.mark.parametrize(
    ("prediction", "bounds", "inside"),
    [
        (Above(3), (6.4, 8.2), True),
        (Above(3), (1, 4), False),
        (Above(3), (-4, -1), False),
        (Below(-3), (-8, -6), True),
        (Below(0), (-1, 1), False),
        (Within(1, 0.05), (0.97, 1.01), True),
        (Within(1, 0.05), (0.9, 1.01), False),
        (Within(0, 0.01), (0.5, 0.6), False),
    ],
)
def test_the_bar_lies_in_the_shaded_part_if_and_only_if_the_claim_holds(
    prediction, bounds, inside
):
    e = Estimate(sum(bounds) / 2, *bounds, 5)
    assert (prediction.verdict(e) == "holds") == inside
    svg = BeautifulSoup(wording.bar(claim(prediction), e), "html.parser").svg
    left = float(svg.rect["x"])
    right = left + float(svg.rect["width"])
    low, _, high = numbers(svg("path")[-1]["d"])
    assert (left <= low and high <= right) == inside
    assert low < float(svg.circle["cx"]) < high
    assert min(left, low) >= 0
    assert max(right, high) <= wording.WIDTH


def test_the_bar_marks_zero_and_the_threshold_where_both_can_be_read():
    far = wording.bar(claim(Above(3)), Estimate(7, 6, 8, 5))
    labels = [t.get_text() for t in BeautifulSoup(far, "html.parser")("text")]
    assert labels == ["3", "0"]
    near = wording.bar(claim(Below(-0.01)), Estimate(7, 6, 8, 5))
    labels = [t.get_text() for t in BeautifulSoup(near, "html.parser")("text")]
    assert labels == ["−0.01"]


def test_a_bar_of_one_point_is_drawn():
    bar = wording.bar(claim(Within(0, 0)), Estimate(0, 0, 0, 5))
    assert "nan" not in bar


def test_the_bar_is_not_read_aloud_since_the_words_say_the_same():
    svg = BeautifulSoup(
        wording.bar(claim(Above(0)), Estimate(1, 0, 2, 5)), "html.parser"
    )
    assert svg.svg["aria-hidden"] == "true"


@pytest.mark.parametrize(
    ("exponent", "text"), [(-12, "10⁻¹²"), (3, "10³"), (0, "10⁰"), (-4, "10⁻⁴")]
)
def test_powers_of_ten_need_no_formula(exponent, text):
    assert wording.power_of_ten(exponent) == text

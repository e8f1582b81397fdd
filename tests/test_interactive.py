"""What a reader moves: described pictures, and formulas that the page computes."""

import base64
import re

import matplotlib.pyplot as plt
import pytest
from bs4 import BeautifulSoup
from pages import Fragment

from blogcore.interactive import calculator, slider

pytestmark = pytest.mark.usefixtures("house_style")


def frames(alt="a curve") -> list:
    out = []
    for value in ("0.1", '<"0.2">'):
        figure, axes = plt.subplots()
        axes.plot([0, 1, 2], [0, 1, float(re.sub(r"[^\d.]", "", value))])
        axes.fill_between([0, 1], 0, 1, hatch="/")
        out.append((value, alt, figure))
    return out


def test_a_slider_shows_one_described_picture_at_a_time(shown):
    slider("step <ε>", frames(alt='two "paths" & a <level>'))
    page = Fragment(shown[0][0])
    one, two = page.all("img")
    assert "hidden" in one
    assert "hidden" not in two, "it starts in the middle"
    assert one["alt"] == two["alt"] == 'two "paths" & a <level>'
    assert [one["data-value"], two["data-value"]] == ["0.1", '<"0.2">']
    (knob,) = page.all("input")
    assert (knob["min"], knob["max"], knob["value"]) == ("0", "1", "1")
    assert knob["aria-valuetext"] == '<"0.2">'
    assert page.words.split() == ["Drag", "step", "<ε>", '<"0.2">']
    assert "http" not in re.sub(r"base64,[^\"]*", "", shown[0][0])


def test_a_slider_starts_where_it_is_told(shown):
    slider("step", frames(), start=0)
    page = Fragment(shown[0][0])
    assert ["hidden" in image for image in page.all("img")] == [False, True]
    assert page.all("input")[0]["value"] == "0"
    for start in (2, -1):
        with pytest.raises(ValueError, match=f"start: {start}"):
            slider("step", frames(), start=start)


def test_a_slider_needs_a_description_of_every_picture(shown):
    for alt in ("", "  "):
        with pytest.raises(ValueError, match="alt text"):
            slider("step", frames(alt=alt))
    with pytest.raises(ValueError, match="two or more"):
        slider("step", frames()[:1])
    assert not shown


def test_the_same_figure_has_the_same_bytes_every_time(shown):
    slider("step", frames())
    slider("step", frames())
    assert shown[0] == shown[1]
    code = (
        Fragment(shown[0][0])
        .all("img")[0]["src"]
        .removeprefix("data:image/svg+xml;base64,")
    )
    picture = base64.b64decode(code).decode()
    assert "clip-path" in picture, "without ids the comparison above proves nothing"
    assert "<dc:date>" not in picture


def test_a_slider_leaves_no_figure_open_for_the_notebook_to_show_again(shown):
    slider("step", frames())
    assert plt.get_fignums() == []


TIDE = {
    "inputs": [
        ("x", "height <m> of N", (0, 6, 0.5, 3), 1000),
        ("phase", "phase", (-1, 1, 0.25, -0.25), -0.25),
    ],
    "steps": {"N": "10**x", "x_shown": "N", "level": "N*Math.abs(phase)+1e-3"},
    "results": [("level & more:", "level", 250.001), ("moon:", "phase", -0.25)],
}


def test_a_calculator_shows_its_numbers_before_any_script_runs(shown):
    calculator(**TIDE)
    page = Fragment(shown[0][0])
    words = "height <m> of N 1,000 phase −0.25 level & more: 250 moon: −0.25"
    hint, _, numbers = page.words.partition(".")
    assert hint == "Drag to recompute"
    assert re.sub(r"(?<=\d)(?=[a-z])", " ", numbers).split() == words.split()
    knobs = [
        {name: knob[name] for name in ("name", "min", "max", "step", "value")}
        for knob in page.all("input")
    ]
    assert [tuple(knob.values()) for knob in knobs] == [
        ("x", "0", "6", "0.5", "3"),
        ("phase", "-1", "1", "0.25", "-0.25"),
    ]
    spoken = [knob["aria-valuetext"] for knob in page.all("input")]
    assert spoken == ["1,000", "−0.25"]
    assert [out["data-of"] for out in page.all("output")] == [
        *("x", "phase"),
        *("level", "phase"),
    ]


def test_every_control_of_a_calculator_has_a_label(shown):
    calculator(**TIDE)
    soup = BeautifulSoup(shown[0][0], "html.parser")
    labels = [knob.find_parent("label").span.text for knob in soup("input")]
    assert labels == ["height <m> of N", "phase"]
    assert not soup("script"), "pages of the book load no inline script"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (95.94, "95.9"),
        (-0.5, "−0.5"),
        (1e5, "100,000"),
        (1234567, "1,230,000"),
        (0.00012345, "0.000123"),
        (2e-7, "0.0000002"),
    ],
)
def test_numbers_have_three_digits_and_no_exponent(shown, value, text):
    calculator([("x", "x", (-1, 1e9, 1, 0), value)], {}, [])
    assert Fragment(shown[0][0]).words.split()[-2:] == ["recompute.x", text]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [], "steps": {}, "results": []}, "inputs: there are none"),
        ({"results": [("depth:", "depth", 1)]}, r"results: \['depth'\] are not among"),
        ({"steps": {"N": "10**y"}}, r"steps: 'N' needs \['y'\] before it"),
        ({"steps": {"N": "level", "level": "x"}}, r"'N' needs \['level'\]"),
        ({"steps": {"N": "N+1"}}, r"'N' needs \['N'\]"),
        ({"steps": {"x": "1"}}, "'x' is no name, or taken"),
        ({"steps": {"Math": "1"}}, "'Math' is no name, or taken"),
        ({"steps": {'"><b>': "1"}}, "is no name"),
        ({"inputs": [("x", "x", (0, 1, 0.5, 2), 2)]}, "inputs: 'x' has the range"),
        ({"inputs": [("x", "x", (0, 1, 0, 1), 2)]}, "inputs: 'x' has the range"),
    ],
)
def test_a_calculator_that_could_not_compute_is_refused(shown, change, message):
    if "steps" in change or "inputs" in change:
        change = {"steps": {}, "results": []} | change
    with pytest.raises(ValueError, match=message):
        calculator(**TIDE | change)
    assert not shown

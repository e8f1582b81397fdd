"""What a reader moves: described pictures, and formulas that the page computes."""

import base64
import re

import matplotlib.pyplot as plt
import pytest
from pages import Fragment

from blogcore.interactive import slider

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
    assert "hidden" in two
    assert "hidden" not in one
    assert one["alt"] == two["alt"] == 'two "paths" & a <level>'
    assert [one["data-value"], two["data-value"]] == ["0.1", '<"0.2">']
    (knob,) = page.all("input")
    assert (knob["min"], knob["max"], knob["value"]) == ("0", "1", "0")
    assert knob["aria-valuetext"] == "0.1"
    assert page.words.split() == ["step", "<ε>", "0.1"]
    assert "http" not in re.sub(r"base64,[^\"]*", "", shown[0][0])


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

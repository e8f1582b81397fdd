"""One table of colours and dashes by meaning, that everybody can read."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.colors import to_rgb

from blogcore import style
from blogcore.evidence import interval

pytestmark = pytest.mark.usefixtures("house_style")


def luminance(rgb) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one, other) -> float:
    low, high = sorted(luminance(rgb) for rgb in (one, other))
    return (high + 0.05) / (low + 0.05)


def in_the_dark(rgb) -> np.ndarray:
    """What the style sheet's filter makes of a colour: invert(0.93), hue turned."""
    r, g, b = 0.93 - 0.86 * np.array(rgb)
    turn = np.array(
        [[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]]
    )
    return np.clip(turn @ [r, g, b], 0, 1)


def test_words_in_every_colour_can_be_read_in_light_and_dark():
    for meaning in style.MEANINGS:
        rgb = to_rgb(style.color(meaning))
        assert contrast(rgb, (1, 1, 1)) >= 4.5, meaning
        assert contrast(in_the_dark(rgb), to_rgb("#121212")) >= 4.5, meaning


def test_meanings_are_told_apart_by_colour_and_without_it():
    looks = [style.line(meaning) for meaning in style.MEANINGS]
    assert len({look["color"] for look in looks}) == len(looks)
    # The exact law is as solid as the method, and black.
    dashes = {str(style.line(m)["linestyle"]) for m in style.MEANINGS if m != "exact"}
    assert len(dashes) == len(looks) - 1


@pytest.mark.parametrize("seen", [np.array, in_the_dark])
def test_arms_are_far_apart_in_light_and_dark(seen):
    arms = [m for m in style.MEANINGS if m not in ("reference", "exact")]
    colors = [seen(to_rgb(style.color(meaning))) for meaning in arms]
    assert min(np.abs(a - b).max() for a, b in combinations(colors, 2)) > 0.25


# Viénot, Brettel and Mollon's projections, on linear light, for two kinds of blindness.
BLIND = {
    "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
}


@pytest.mark.parametrize("kind", BLIND)
def test_the_three_commonest_meanings_differ_for_colour_blind_readers(kind):
    seen = []
    for meaning in ("method", "plain", "control"):
        linear = np.array(to_rgb(style.color(meaning))) ** 2.2
        seen.append(np.clip(BLIND[kind] @ linear, 0, 1) ** (1 / 2.2))
    for one, other in combinations(seen, 2):
        assert np.abs(one - other).max() > 0.15


def test_a_line_may_be_drawn_by_its_meaning():
    (drawn,) = plt.plot([0, 1], **style.line("control"))
    assert drawn.get_color() == style.MEANINGS["control"][0]
    assert drawn.get_linestyle() == "--"  # matplotlib's name for any dashes


def test_shades_go_from_pale_to_dark_through_the_meanings_own_colour():
    shades = [to_rgb(style.shade(place, 5, "plain")["color"]) for place in range(5)]
    lights = [luminance(rgb) for rgb in shades]
    assert lights == sorted(lights, reverse=True)
    assert lights[0] > luminance(to_rgb(style.color("plain"))) > lights[-1]
    alone = to_rgb(style.shade(0, 1)["color"])
    assert alone == pytest.approx(to_rgb(style.color("method")))


def test_the_style_does_not_depend_on_a_readers_settings():
    style.use()
    expected = dict(plt.rcParams)
    plt.rcParams.update(
        {"axes.grid": True, "font.family": "serif", "text.usetex": True}
    )
    style.use()
    assert dict(plt.rcParams) == expected


@pytest.mark.parametrize("look", ["plain", style.shade(1, 3)])
def test_band_draws_every_seed_and_the_interval_of_their_mean(look):
    axes = plt.figure().subplots()
    values = np.random.default_rng(0).normal(size=(4, 6))
    style.band(axes, [0, 1, 2, 3], values, "loss", look)
    lines, mean = axes.lines[:-1], axes.lines[-1]
    color = style.color(look) if isinstance(look, str) else look["color"]
    assert {line.get_color() for line in axes.lines} == {color}
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
    groups = [("plain", [0.1, 0.2, 0.4], "plain"), ("flooded", [0.3, 0.3, 0.6])]
    style.dots(axes, groups)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["plain", "flooded"]
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [line.get_xdata().tolist() for line in drawn] == [g[1] for g in groups]
    assert drawn[0].get_color() == style.color("plain")
    for bar, (_, values, *_) in zip(axes.containers, groups, strict=True):
        expected = interval(values)
        (limits,) = bar.lines[2][0].get_segments()
        ends = limits[:, 0].tolist()
        assert ends == pytest.approx([expected.low, expected.high])


@pytest.mark.parametrize("look", ["extra", style.shade(0, 2)])
def test_a_line_is_named_at_its_end_in_its_own_colour(look):
    axes = plt.figure().subplots()
    style.end_label(axes, 3, 4, "flooded", look)
    (label,) = axes.texts
    color = style.color(look) if isinstance(look, str) else look["color"]
    assert (label.get_text(), label.get_color(), label.xy) == ("flooded", color, (3, 4))


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

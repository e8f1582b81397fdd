"""Drawings of mechanisms: where things lie, and that Chinese words stay words."""

import io

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from blogcore import diagrams, style
from blogcore.diagrams import Box

pytestmark = pytest.mark.usefixtures("house_style")


def svg() -> str:
    buffer = io.StringIO()
    plt.savefig(buffer, format="svg", metadata=style.SVG_METADATA)
    return buffer.getvalue()


def patches(axes, kind) -> list:
    return [patch for patch in axes.patches if isinstance(patch, kind)]


def test_a_canvas_is_empty_and_measured_in_units():
    axes = diagrams.canvas(12, 5)
    width, height = axes.figure.get_size_inches() / diagrams.UNIT
    assert (width, height) == (12, 5)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 12), (0, 5))
    assert not axes.axison
    svg()
    assert axes.get_position().bounds == (0, 0, 1, 1), "no layout moved it"


@pytest.mark.parametrize(
    ("toward", "point"),
    [
        ((9, 2), (4, 2)),  # to the right
        ((3, -7), (3, 1)),  # straight down
        ((4, 3), (4, 3)),  # through the corner
        ((7, 3), (4, 2.25)),
        ((3.5, 2), (3.5, 2)),  # a point inside is not left
    ],
)
def test_an_arrow_leaves_a_box_where_the_line_from_its_middle_does(toward, point):
    assert Box(3, 2, 2, 2).border(toward) == pytest.approx(point)


def test_arrows_run_from_border_to_border_with_their_words_beside():
    axes = diagrams.canvas(12, 5)
    one = diagrams.box(axes, (2, 2), "encoder", "plain", (2, 1))
    other = diagrams.box(axes, (8, 2), "head", "method", (2, 1))
    diagrams.arrow(axes, one, other, "vectors", "control")
    (drawn,) = patches(axes, FancyArrowPatch)
    start, end = drawn._posA_posB
    assert (start, end) == ((3, 2), (7, 2))
    assert drawn.get_edgecolor()[:3] == pytest.approx(
        plt.matplotlib.colors.to_rgb(style.color("control"))
    )
    label = axes.texts[-1]
    assert label.get_text() == "vectors"
    assert label.get_position() == (5, 2.35)
    assert len(patches(axes, FancyBboxPatch)) == 4  # a ground and a line each


@pytest.mark.parametrize(
    ("end", "bend", "side"),
    [
        ((8, 2), 0.3, (5, 0)),  # bends down, words below
        ((8, 2), -0.3, (5, 4)),
        ((2, 4), 0.0, (3, 3)),  # upright: words to the right
        ((2, 4), -0.5, (1, 3)),  # bends to the left
    ],
)
def test_words_of_a_bent_arrow_stand_outside_of_the_bend(end, bend, side):
    axes = diagrams.canvas(12, 5)
    diagrams.arrow(axes, (2, 2), end, "words", bend=bend)
    x, y = axes.texts[0].get_position()
    middle = ((2 + end[0]) / 2, (2 + end[1]) / 2)
    dot = (x - middle[0]) * (side[0] - middle[0]) + (y - middle[1]) * (
        side[1] - middle[1]
    )
    assert dot > 0


def test_a_matrix_shades_its_cells_and_names_its_rows():
    axes = diagrams.canvas(6, 6)
    found = diagrams.matrix(
        axes, (1, 5), [[0, 1, 0.5], [1, 0, 0]], ["a", "我"], "xyz", cell=1
    )
    assert found == Box(2.5, 4, 3, 2)
    grounds = patches(axes, Rectangle)[::2]
    assert [p.get_alpha() for p in grounds] == [0, 0.85, 0.425, 0.85, 0, 0]
    assert grounds[1].get_xy() == (2, 4)
    assert [text.get_text() for text in axes.texts] == ["a", "x", "y", "z"]


def test_tokens_lie_in_a_row_and_are_grey_unless_named():
    axes = diagrams.canvas(6, 2)
    boxes = diagrams.strip(axes, (0, 1), ["the", "[MASK]"], {1: "method"}, width=2)
    assert [(b.x, b.y) for b in boxes] == [(1, 1), (3, 1)]
    inks = [p.get_edgecolor() for p in patches(axes, FancyBboxPatch)[1::2]]
    names = ("reference", "method")
    assert inks == [plt.matplotlib.colors.to_rgba(style.color(n)) for n in names]


def test_a_number_line_places_its_values_and_bins():
    axes = diagrams.canvas(12, 2)
    bins = [(-1, 0, "low", "plain"), (0, 0.5, "high", "method")]
    place = diagrams.number_line(axes, ((1, 1), (11, 1)), (-1, 1), [-1, 0, 1], bins)
    assert [place(v) for v in (-1, 0, 1)] == [1, 6, 11]
    low, high = patches(axes, Rectangle)[::2]
    assert (low.get_x(), low.get_width()) == (1, 5)
    assert (high.get_x(), high.get_width()) == (6, 2.5)
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["low", "high", "−1", "0", "1"]


def test_chinese_words_stay_words_in_the_picture_and_need_no_font(recwarn):
    axes = diagrams.canvas(6, 2)
    diagrams.words(axes, (3, 1), "北京 <大学>\n& 上海", "#0069A8")
    diagrams.words(axes, (0.5, 1), "右", align="right")
    picture = svg()
    assert ">北京 &lt;大学&gt;</text>" in picture
    assert ">&amp; 上海</text>" in picture
    assert picture.count('text-anchor="middle"') == 2
    assert picture.count('text-anchor="end"') == 1
    assert picture == svg()
    assert not list(recwarn)

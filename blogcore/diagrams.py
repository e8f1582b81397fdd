"""Drawings of mechanisms: boxes, arrows, matrices, number lines, strips of tokens.

A drawing is a matplotlib figure without axes, measured in units of about half an inch,
y upwards. Colours are those of ``style``, by meaning. Words with Chinese characters
stay text in the SVG, so that the reader's own font draws them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from blogcore import style

UNIT = 0.45  # inches
SIZE = 11  # points, of all words
HAN = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A drawn box: its middle and its size."""

    x: float
    y: float
    width: float
    height: float

    def border(self, toward: Point) -> Point:
        """Where the line from the middle to a point leaves the box."""
        dx, dy = toward[0] - self.x, toward[1] - self.y
        ratios = [
            half / abs(d) if d else inf
            for half, d in ((self.width / 2, dx), (self.height / 2, dy))
        ]
        share = min(*ratios, 1.0)
        return self.x + share * dx, self.y + share * dy


def canvas(width: float, height: float) -> Axes:
    """An empty drawing of ``width`` × ``height`` units; 12 fill a page's column."""
    figure = plt.figure(figsize=(width * UNIT, height * UNIT), layout="constrained")
    figure.set_layout_engine("none")  # or saving turns the settings' engine on again
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return axes


def words(
    axes: Axes, middle: Point, text: str, color: str = "black", align: str = "center"
) -> None:
    """Words beside a point: their middle there, or their "left" or "right" end.

    Formulas and line breaks as in matplotlib; Chinese words hold no formulas. Raises
    ValueError for those.
    """
    if not HAN.search(text):
        axes.text(*middle, text, ha=align, va="center", color=color, fontsize=SIZE)
    elif "$" in text:
        raise ValueError(f"text: {text!r} has Chinese words and a formula")
    else:
        axes.add_artist(_Han(middle, text, color, align))


def box(
    axes: Axes,
    middle: Point,
    text: str,
    meaning: str = "method",
    size: Point = (2.4, 1.0),
) -> Box:
    """A rounded box with words in it; ``size`` is (width, height)."""
    (x, y), (width, height) = middle, size
    ink = style.color(meaning)
    corner = (x - width / 2, y - height / 2)
    shape = {"boxstyle": "round,pad=0,rounding_size=0.15", "linewidth": 1.3}
    for alpha, colors in ((0.16, {"fc": ink, "ec": "none"}), (1, {"fc": "none"})):
        look = {"ec": ink} | colors | shape
        axes.add_patch(FancyBboxPatch(corner, width, height, alpha=alpha, **look))
    words(axes, middle, text)
    return Box(x, y, width, height)


def arrow(
    axes: Axes,
    start: Box | Point,
    end: Box | Point,
    text: str = "",
    meaning: str = "exact",
    bend: float = 0.0,
) -> None:
    """An arrow between boxes (from border to border) or points, with words beside it.

    ``bend`` curves it; the dashes are the meaning's.
    """
    from_, to = _middle(start), _middle(end)
    ends = [
        end_.border(other) if isinstance(end_, Box) else end_
        for end_, other in ((start, to), (end, from_))
    ]
    look = style.line(meaning)
    axes.add_patch(
        FancyArrowPatch(
            *ends,
            arrowstyle="-|>",
            mutation_scale=12,
            shrinkA=2,
            shrinkB=2,
            linewidth=1.3,
            connectionstyle=f"arc3,rad={bend}",
            **look,
        )
    )
    if text:
        middle, align = _beside(*ends, bend)
        words(axes, middle, text, str(look["color"]), align)


def matrix(
    axes: Axes,
    corner: Point,
    values: Sequence[Sequence[float]],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    meaning: str = "method",
    cell: float = 0.7,
) -> Box:
    """Cells shaded by values from 0 to 1, the upper left one at ``corner``.

    A mask is a matrix of 0 and 1. ``rows`` and ``columns`` are written at its left and
    above. Raises ValueError for values outside 0 … 1 or names that do not fit.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"values: {values.tolist()} is no matrix of 0 … 1")
    for name, given, size in zip(
        ("rows", "columns"), (rows, columns), values.shape, strict=True
    ):
        if len(given) not in (0, size):
            raise ValueError(f"{name}: {list(given)} are not {size} names")
    (left, top), ink = corner, style.color(meaning)
    for (row, column), value in np.ndenumerate(values):
        place = left + column * cell, top - (row + 1) * cell
        axes.add_patch(Rectangle(place, cell, cell, fc=ink, alpha=0.85 * value, lw=0))
        axes.add_patch(Rectangle(place, cell, cell, fc="none", ec="#8A909C", lw=0.6))
    for row, text in enumerate(rows):
        words(axes, (left - 0.15, top - (row + 0.5) * cell), text, align="right")
    for column, text in enumerate(columns):
        words(axes, (left + (column + 0.5) * cell, top + 0.35), text)
    height, width = (cell * size for size in values.shape)
    return Box(left + width / 2, top - height / 2, width, height)


def strip(
    axes: Axes,
    corner: Point,
    tokens: Sequence[str],
    meanings: Sequence[str] | Mapping[int, str] = (),
    width: float = 1.0,
) -> list[Box]:
    """Tokens in a row of boxes from ``corner`` (left, middle) on; returns the boxes.

    ``meanings`` colours them, one each or some by place; the others are grey.
    """
    given = dict(meanings if isinstance(meanings, Mapping) else enumerate(meanings))
    if not given.keys() <= set(range(len(tokens))):
        raise ValueError(f"meanings: {given} for {len(tokens)} tokens")
    left, y = corner
    return [
        box(
            axes,
            (left + (place + 0.5) * width, y),
            token,
            given.get(place, "reference"),
            (0.9 * width, 0.8),
        )
        for place, token in enumerate(tokens)
    ]


def number_line(
    axes: Axes,
    span: tuple[Point, Point],
    bounds: tuple[float, float],
    ticks: Sequence[float],
    bins: Sequence[tuple[float, float, str, str]] = (),
) -> Callable[[float], float]:
    """A line of numbers between two points of equal height; returns value → x.

    ``bins`` are (from, to, words above, meaning). Raises ValueError for a line that is
    not level, or no width.
    """
    (left, y), (right, other) = span
    least, most = bounds
    if y != other or not left < right or not least < most:
        raise ValueError(
            f"span, bounds: {span}, {bounds} are no line from left to right"
        )

    def place(value: float) -> float:
        return left + (right - left) * (value - least) / (most - least)

    for start, end, text, meaning in bins:
        ink, wide = style.color(meaning), place(end) - place(start)
        fill = Rectangle((place(start), y), wide, 0.5, fc=ink, alpha=0.25, lw=0)
        axes.add_patch(fill)
        axes.add_patch(Rectangle((place(start), y), wide, 0.5, fc="none", ec=ink))
        words(axes, (place(start) + wide / 2, y + 0.85), text, ink)
    axes.plot([left, right], [y, y], color="black", linewidth=1)
    for tick in ticks:
        axes.plot([place(tick)] * 2, [y - 0.1, y + 0.1], color="black", linewidth=1)
        words(axes, (place(tick), y - 0.4), f"{tick:g}".replace("-", "−"))
    return place


class _Han(Artist):
    """Words that stay text in the SVG: no font has to be here, and none is embedded."""

    def __init__(self, place: Point, text: str, color: str, align: str):
        super().__init__()
        self.place, self.text, self.ink = place, text, color
        self.anchor = {"left": "start", "center": "middle", "right": "end"}[align]

    def draw(self, renderer) -> None:
        """Write a text element; a renderer of pixels leaves the place empty."""
        writer = getattr(renderer, "writer", None)
        if writer is None:
            return
        x, y = self.axes.transData.transform(self.place)
        lines = self.text.split("\n")
        for row, line in enumerate(lines):
            down = (row - (len(lines) - 1) / 2) * 1.25 + 0.36
            writer.element(
                "text",
                line,
                attrib={
                    "x": f"{x:.2f}",
                    "y": f"{renderer.height - y + down * SIZE:.2f}",
                    "text-anchor": self.anchor,
                    "font-size": f"{SIZE:g}",
                    "font-family": "sans-serif",
                    "fill": self.ink,
                },
            )


def _middle(thing: Box | Point) -> Point:
    return (thing.x, thing.y) if isinstance(thing, Box) else thing


def _beside(start: Point, end: Point, bend: float) -> tuple[Point, str]:
    """Where an arrow's words stand: outside of its bend, else above or to the right."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    x = (start[0] + end[0] + bend * dy) / 2
    y = (start[1] + end[1] - bend * dx) / 2
    if abs(dx) > abs(dy):
        return (x, y + (-0.35 if bend * dx > 0 else 0.35)), "center"
    left = bend * dy < 0
    return (x + (-0.2 if left else 0.2), y), "right" if left else "left"

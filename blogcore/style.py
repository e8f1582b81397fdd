"""How figures look: one table of colours and dashes by meaning, who draws by it."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib_inline.backend_inline import set_matplotlib_formats

from blogcore.evidence import interval

# Okabe and Ito's hues, dark enough to write words with: told apart by colour-blind
# readers, and still after the inversion by which the pages' dark mode shows figures.
# Dashes tell the same meanings apart without any colour.
MEANINGS = {
    "method": ("#0069A8", "-"),  # what the post proposes
    "plain": ("#B84A00", (0, (6, 2))),  # training without it
    "control": ("#007A59", (0, (4, 1.5, 1, 1.5))),  # what could explain the effect away
    "extra": ("#A8527F", (0, (2, 1.2))),  # one more arm
    "further": ("#6E7000", (0, (8, 2, 2, 2))),  # and yet another
    "reference": ("#55595F", (0, (1, 1.5))),  # a level, a threshold, a known value
    "exact": ("#000000", "-"),  # a law in closed form
}
COLOURS = [color for color, _ in MEANINGS.values()]
SVG_METADATA = {"Date": None, "Creator": None}
Look = str | Mapping[str, object]


def use() -> None:
    """The house plot style, whatever a reader's own settings are.

    Calm axes on a transparent ground, and always the same bytes.
    """
    plt.rcdefaults()
    set_matplotlib_formats("svg", metadata=SVG_METADATA)
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.transparent": True,
            "figure.figsize": (5.4, 3.5),
            "font.size": 12,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "path.simplify_threshold": 0.5,
            "svg.hashsalt": "blogcore",
        }
    )


def line(meaning: str) -> dict[str, object]:
    """Colour and dashes of a meaning, as matplotlib's ``plot`` takes them.

    Raises ValueError for a meaning that the table does not have.
    """
    if meaning not in MEANINGS:
        raise ValueError(f"meaning: {meaning!r} is not one of {list(MEANINGS)}")
    color, dashes = MEANINGS[meaning]
    return {"color": color, "linestyle": dashes}


def color(meaning: str) -> str:
    """The colour alone, for bars, areas and dots."""
    return str(line(meaning)["color"])


def shade(place: int, of: int, meaning: str = "method") -> dict[str, object]:
    """The look of the ``place``-th of ``of`` lines that are ordered (sizes, levels).

    The meaning's own hue, from pale at the first to dark at the last. Raises
    ValueError unless 0 ≤ place < of.
    """
    if not 0 <= place < of:
        raise ValueError(f"place: {place!r} is not one of 0 … {of - 1}")
    weight = 1.0 if of == 1 else 0.45 + 0.9 * place / (of - 1)
    toward = 1.0 if weight < 1 else 0.0  # white, then black
    mixed = [toward + (c - toward) * min(weight, 2 - weight) for c in _rgb(meaning)]
    return {"color": to_hex(mixed), "linestyle": "-"}


def band(axes: Axes, x: Sequence[float], values, label: str, look: Look) -> None:
    """The mean over seeds with its 95 % interval, and a thin line for each seed.

    ``values`` is (len(x), S); the interval is the t-interval of ``evidence.interval``;
    ``look`` a meaning, or what ``shade`` returns. Raises ValueError for other shapes.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or len(values) != len(x) or values.shape[1] < 2:
        raise ValueError(
            f"values: shape {values.shape} is not ({len(x)}, S) with S ≥ 2"
        )
    look = line(look) if isinstance(look, str) else dict(look)
    estimates = [interval(seeds) for seeds in values]
    low, high = [e.low for e in estimates], [e.high for e in estimates]
    axes.plot(x, values, color=look["color"], linewidth=0.5, alpha=0.35)
    axes.fill_between(x, low, high, color=look["color"], alpha=0.25, linewidth=0)
    axes.plot(x, [e.mean for e in estimates], label=label, **look)


def dots(axes: Axes, groups: Sequence[tuple]) -> None:
    """One row a condition: every seed a dot, the mean with its 95 % interval beside.

    ``groups`` are (name, values) or (name, values, meaning); without a meaning rows
    take the table's colours in turn. Raises ValueError for fewer than two values.
    """
    for row, (name, values, *given) in enumerate(groups):
        values = np.asarray(values, dtype=float)
        if values.ndim != 1 or len(values) < 2:
            raise ValueError(f"groups: {name!r} has shape {values.shape}, not (S ≥ 2,)")
        ink = color(*given) if given else COLOURS[row % len(COLOURS)]
        e = interval(values)
        below, bars = [row + 0.13] * len(values), [[e.mean - e.low], [e.high - e.mean]]
        axes.plot(values, below, "o", color=ink, alpha=0.35)
        axes.errorbar(e.mean, row - 0.13, xerr=bars, fmt="D", color=ink, capsize=3)
    axes.set_yticks(range(len(groups)), [name for name, *_ in groups])
    axes.invert_yaxis()


def end_label(axes: Axes, x: float, y: float, text: str, look: Look) -> None:
    """Write a line's name at its end (x, y), to the right, in the line's colour."""
    ink = color(look) if isinstance(look, str) else look["color"]
    axes.annotate(
        text,
        (x, y),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=ink,
        annotation_clip=False,
    )


def _rgb(meaning: str) -> tuple[float, float, float]:
    return to_rgb(color(meaning))

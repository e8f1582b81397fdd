"""Tables of what is recorded, with a small plot for each row or cell.

The pages show them with a picture, their plain notebooks without. The words and numbers
of the tables stay, so that the pictures need no others.
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import inf

from bs4 import BeautifulSoup, Tag
from ledger import estimate

from blogcore import recorded
from blogcore.claims import Above, Below, Claim, load_claims
from blogcore.evidence import Estimate
from blogcore.report import AUDIT
from blogcore.runtime import DATA
from blogcore.wording import effect

# Of an interval's picture: width, distance of its lines, room for the axis; of a dot's:
# width and height, and the height of a point on a curve.
WIDTH, LINE, AXIS = 190, 8, 18
CELL, FLAT, CURVE = 72, 9, 34
OWN = (
    "A line a root seed, that of this page ({}) on top; the thick one: all together. "
    "Marks: the threshold and zero, or both ends of what was predicted."
)
SHARED = "Dots and bars: mean and interval. {} a scale of its own."
Run = tuple[int, Mapping]  # a root seed, and what was recorded of a claim under it


def pictured(call: Sequence, text: str) -> str:
    """The HTML of a table that ``report.from_records(*call)`` made, with its plots."""
    soup = BeautifulSoup(text, "html.parser")
    if not soup.table or soup.find("details"):  # nothing is recorded yet
        return text
    kind, page, *arguments = call
    if kind == "other seeds":
        with_intervals(soup, page, *arguments)
    else:
        with_dots(soup, factors(soup, *arguments))
    return str(soup)


def with_intervals(soup: BeautifulSoup, page: str, seed: int, names: list) -> None:
    """A column more: each claim's interval under each root seed, and all together."""
    runs = sorted(recorded.runs(DATA, page, "book"), key=lambda r: r["seed"] != seed)
    stated = {claim.id: claim for claim in load_claims(page.removesuffix(AUDIT))}
    head, *rows = soup("tr")
    head.append(cell(soup, "th", "Intervals; shaded: what was predicted", scope="col"))
    for name, row in zip(names, rows, strict=True):
        pooled = recorded.together(runs, name)
        found = under(runs, name)
        drawn = drawing(stated[name], found, pooled) if name in stated else ""
        row.append(cell(soup, "td", drawn + below(row("td")[-1])))
    explain(soup, OWN.format(seed))


def below(together: Tag) -> str:
    """Take the numbers out of a cell, which keeps its verdict: they go below a plot."""
    numbers = together.find_all(string=True, recursive=False)
    said = "".join(text.extract() for text in numbers).strip()
    return f'<span class="pooled">{escape(said)}</span>' if said else ""


def under(runs: Sequence[Mapping], name: str) -> list[Run]:
    """What the runs recorded of a claim."""
    return [
        (run["seed"], record)
        for run in runs
        for record in run["records"]
        if record["kind"] == "verdict" and record["id"] == name
    ]


def drawing(claim: Claim, found: Sequence[Run], pooled: Estimate | None = None) -> str:
    """The intervals of a claim, a line a root seed and one for all, on one axis."""
    if not found:
        return ""
    estimates = [estimate(record) for _, record in found]
    names = [f"root seed {seed}" for seed, _ in found]
    kinds = [colour(record["verdict"]) for _, record in found]
    if pooled:
        estimates, names = [*estimates, pooled], [*names, "all together"]
        kinds.append(colour(claim.prediction.verdict(pooled)) + " pooled")
    low, high = bounds(claim)
    marks = [b for b in (low, high) if abs(b) < inf]
    marks = [*marks, 0.0] if len(marks) == 1 else marks
    ends = [end for e in estimates for end in (e.low, e.high)]
    x = scale([*marks, *ends], WIDTH)
    bottom = LINE * len(estimates) + 4
    shade = (max(x(low), 0), min(x(high), WIDTH))
    lines = "".join(
        line(x, e, LINE * (place + 0.5) + 2, kind)
        for place, (e, kind) in enumerate(zip(estimates, kinds, strict=True))
    )
    said = "; ".join(
        f"{name}: {effect(e, claim.unit, ' ').partition(' over ')[0]}"
        for e, name in zip(estimates, names, strict=True)
    )
    return (
        svg(WIDTH, bottom + AXIS, f'role="img" aria-label="{claim.id}, {said}"')
        + f'<rect x="{shade[0]:.1f}" y="0" width="{max(shade[1] - shade[0], 1):.1f}" '
        f'height="{bottom}" opacity=".16"/><path d="M0 {bottom}H{WIDTH}" '
        f'stroke="currentColor" opacity=".45"/>{ticks(x, marks, bottom)}{lines}</svg>'
    )


def bounds(claim: Claim) -> tuple[float, float]:
    """From where to where the predicted values go."""
    predicted = claim.prediction
    if isinstance(predicted, Above):
        return predicted.threshold, inf
    if isinstance(predicted, Below):
        return -inf, predicted.threshold
    around = predicted.target, predicted.tolerance
    return around[0] - around[1], around[0] + around[1]


def colour(verdict: str) -> str:
    """The class that gives a verdict its colour."""
    return "is-" + verdict.replace(" ", "-")


def line(x, found: Estimate, y: float, kind: str) -> str:
    """An interval and its mean."""
    return (
        f'<g class="{kind}">'
        f'<path d="M{x(found.low):.1f} {y}H{x(found.high):.1f}" '
        'stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="{x(found.mean):.1f}" cy="{y}" r="3"/></g>'
    )


def ticks(x, marks: Sequence[float], bottom: float) -> str:
    """Marks on the axis with their numbers, but for one that would lie on another."""
    drawn, taken = "", []
    for mark in marks:
        place = x(mark)
        if any(abs(place - other) < 34 for other in taken):
            continue
        taken.append(place)
        anchor = "start" if place < 20 else "end" if place > WIDTH - 20 else "middle"
        number = f"{mark:g}".replace("-", "−")
        drawn += (
            f'<path d="M{place:.1f} {bottom - 3}v6" stroke="currentColor"/>'
            f'<text x="{place:.1f}" y="{bottom + 14}" text-anchor="{anchor}">'
            f"{number}</text>"
        )
    return drawn


def factors(soup: BeautifulSoup, what: object, *more: object) -> int:
    """How many columns of a table name what its values belong to."""
    if isinstance(what, Mapping):  # the summary of an experiment with units
        names = {*what["table"][0], what["rows"], "code"}
    else:
        heads, across = more
        names = {*heads} - {across}
    heads = [head.get_text() for head in soup("th")]
    return next((i for i, head in enumerate(heads) if head not in names), len(heads))


def with_dots(soup: BeautifulSoup, first: int) -> None:
    """In each cell from the column ``first`` on its mean and interval as a plot.

    Columns with heads like “n = 8” are a curve along their row. Else the cells of a
    column share a scale, or those of them whose rows begin with the same name.
    """
    head, *rows = soup("tr")
    named, *heads = [th.get_text() for th in head("th")]
    values = heads[first - 1 :]
    curve = len(values) > 2 and all(" = " in name for name in values)
    kinds = [row.td.get_text() for row in rows]
    apart = first > 1 and not all(map(number, kinds))
    groups: dict[tuple, list] = {}
    for place, (row, kind) in enumerate(zip(rows, kinds, strict=True)):
        for column, td in enumerate(row("td")[first:]):
            key = (place,) if curve else (column, kind if apart else "")
            groups.setdefault(key, []).append(td)
    drawn = [dotted(soup, group, curve) for group in groups.values()]
    if any(drawn):
        whose = f"Each column, for each {named}, has" if apart else "Each column has"
        explain(soup, SHARED.format("Each row has" if curve else whose))


def dotted(soup: BeautifulSoup, group: Sequence[Tag], curve: bool) -> bool:
    """Add to each cell its plot; nothing where there is nothing to compare."""
    known = [(td, value) for td in group if (value := number(td.get_text()))]
    ends = [end for _, (mean, half) in known for end in (mean - half, mean + half)]
    if len(known) < 2 or min(ends) == max(ends):
        return False
    at = scale(ends, CURVE if curve else CELL)
    for td, (mean, half) in known:
        low, mid, high = at(mean - half), at(mean), at(mean + half)
        drawn = upright(low, mid, high) if curve else level(low, mid, high)
        # Above the number, which may take a line or two: heights are compared.
        td.insert(0 if curve else len(td), BeautifulSoup(drawn, "html.parser"))
    return True


def number(text: str) -> tuple[float, float] | None:
    """Mean and half interval of “10.5 ± 0.2”; half 0 of a number; else nothing."""
    try:
        mean, *half = map(float, text.replace("−", "-").split(" ± "))
    except ValueError:
        return None
    return mean, (half or [0.0])[0]


def level(low: float, mean: float, high: float) -> str:
    """A dot with its interval on a faint line."""
    y = FLAT / 2
    return (
        svg(CELL, FLAT, 'aria-hidden="true"')
        + f'<path d="M0 {y}H{CELL}" stroke="currentColor" opacity=".25"/>'
        f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="{mean:.1f}" cy="{y}" r="3.2"/></svg>'
    )


def upright(low: float, mean: float, high: float) -> str:
    """A dot at its height, which the next cell's dot is compared with."""
    low, mean, high = (CURVE - value for value in (low, mean, high))
    return (
        svg(12, CURVE, 'aria-hidden="true"', "dots upright")
        + f'<path d="M6 {low:.1f}V{high:.1f}" stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="6" cy="{mean:.1f}" r="3.2"/></svg>'
    )


def svg(width: float, height: float, more: str, kinds: str = "dots") -> str:
    """The beginning of a plot."""
    return (
        f'<svg class="{kinds}" width="{width}" height="{height}" viewBox="0 0 {width} '
        f'{height}" {more} fill="currentColor" stroke="none" font-size="11">'
    )


def explain(soup: BeautifulSoup, said: str) -> None:
    """Say below the table how its plots are read."""
    soup.table.insert_after(cell(soup, "p", said, **{"class": "scales"}))


def scale(values: Sequence[float], width: float):
    """From values to places between the ends of ``width``, with room for a dot."""
    low, high = min(values), max(values)
    room = 5.0
    return lambda v: room + (width - 2 * room) * (v - low) / ((high - low) or 1.0)


def cell(soup: BeautifulSoup, name: str, text: str, **attributes: str) -> Tag:
    """An element that holds some HTML."""
    made = soup.new_tag(name, **attributes)
    made.append(BeautifulSoup(text, "html.parser"))
    return made

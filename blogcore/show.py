"""What a reader sees of a run: source text, figures, claims tables, verdict boxes."""

import html
import inspect
import textwrap
from collections.abc import Iterable, Sequence
from itertools import chain
from math import floor, isfinite, log10

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, Markdown, display
from matplotlib.axes import Axes
from matplotlib_inline.backend_inline import set_matplotlib_formats

from blogcore.claims import Claim
from blogcore.evidence import Estimate, interval, load_records
from blogcore.runtime import DATA, PROFILES

# Okabe and Ito's palette: told apart by colour-blind readers, and still after the
# inversion by which the pages' dark mode shows figures.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
SYMBOLS = {"holds": "✓", "contradicted": "✗", "undecided": "?", "not judged": "–"}
SVG_METADATA = {"Date": None, "Creator": None}
GLUE = "application/papermill.record/"


def style() -> None:
    """The house plot style: calm axes, transparent ground, always the same bytes."""
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


def source(*objects: object) -> None:
    """Show the package's own text of functions or classes: the code that runs."""
    texts = [textwrap.dedent(inspect.getsource(thing)).strip() for thing in objects]
    display(Markdown("```python\n" + "\n\n\n".join(texts) + "\n```"))


def band(axes: Axes, x: Sequence[float], values, label: str, color: str) -> None:
    """The mean over seeds with its 95 % interval, and a thin line for each seed.

    ``values`` is (len(x), S); the interval is the t-interval of ``evidence.interval``.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or len(values) != len(x) or values.shape[1] < 2:
        raise ValueError(
            f"values: shape {values.shape} is not ({len(x)}, S) with S ≥ 2"
        )
    estimates = [interval(seeds) for seeds in values]
    low, high = [e.low for e in estimates], [e.high for e in estimates]
    axes.plot(x, values, color=color, linewidth=0.5, alpha=0.35)
    axes.fill_between(x, low, high, color=color, alpha=0.25, linewidth=0)
    axes.plot(x, [e.mean for e in estimates], color=color, label=label)


def dots(axes: Axes, groups: Sequence[tuple[str, Sequence[float]]]) -> None:
    """One row a condition: every seed a dot, the mean with its 95 % interval beside."""
    for row, (name, values) in enumerate(groups):
        values = np.asarray(values, dtype=float)
        if values.ndim != 1 or len(values) < 2:
            raise ValueError(f"groups: {name!r} has shape {values.shape}, not (S ≥ 2,)")
        color, e = COLOURS[row % len(COLOURS)], interval(values)
        below, bars = [row + 0.13] * len(values), [[e.mean - e.low], [e.high - e.mean]]
        axes.plot(values, below, "o", color=color, alpha=0.35)
        axes.errorbar(e.mean, row - 0.13, xerr=bars, fmt="D", color=color, capsize=3)
    axes.set_yticks(range(len(groups)), [name for name, _ in groups])
    axes.invert_yaxis()


def table(heads: Sequence[str], rows: Sequence[Sequence], otherwise: str) -> None:
    """Rows under their heads, or the sentence ``otherwise`` if there are none yet."""
    heads, *cells = [[html.escape(str(cell)) for cell in row] for row in [heads, *rows]]
    display(HTML(_table(heads, cells) if cells else f"<p>{html.escape(otherwise)}</p>"))


class Report:
    """A chapter's claims from the table before the run to the table after it.

    Judging displays a box, and records the effect under ``chapter/id`` so that prose
    and ledger can quote it. In the smoke profile nothing is judged.
    """

    def __init__(self, chapter: str, profile: str, claims: Sequence[Claim]):
        if profile not in PROFILES:
            raise ValueError(f"profile: {profile!r} is not one of {PROFILES}")
        self.chapter, self.profile = chapter, profile
        self.claims = {claim.id: claim for claim in claims}
        self.judged: dict[str, tuple[str, Estimate]] = {}
        if len({name.lower() for name in self.claims}) != len(claims):
            ids = [claim.id for claim in claims]
            raise ValueError(f"claims: two of them have the same id among {ids}")

    def predictions(self) -> None:
        """The table of claims as written down before the run."""
        heads = ["Claim", "Whose", "Test", "Prediction"]
        rows = [
            [_statement(c), c.author, html.escape(c.test), _prediction(c)]
            for c in self.claims.values()
        ]
        display(HTML(_table(heads, rows)))

    def judge(self, name: str, estimate: Estimate) -> None:
        """Compare an estimate with a claim's prediction; show and record it."""
        claim = self.claims.get(name)
        if claim is None:
            raise ValueError(f"name: {name!r} is not one of {list(self.claims)}")
        smoke = self.profile == "smoke"
        verdict = "not judged" if smoke else claim.prediction.verdict(estimate)
        self.judged[name] = (verdict, estimate)
        slug = name.lower()
        display(HTML(_box(slug, claim, verdict, estimate)))
        self._record(slug, estimate.mean, _details(claim, verdict, estimate))
        self.value(f"{slug}-low", estimate.low)
        self.value(f"{slug}-high", estimate.high)

    def value(self, name: str, number: float, tolerance: str = "none") -> None:
        """Record a number for the prose; ``tolerance`` "exact" guards it to 1e-9."""
        if tolerance not in ("exact", "none"):
            raise ValueError(f"tolerance: {tolerance!r} is not 'exact' or 'none'")
        if not isfinite(number):
            raise ValueError(f"number: {name} is {number!r}, not a finite number")
        self._record(name, number, {"kind": "value", "tolerance": tolerance})

    def verdicts(self) -> None:
        """The table after the run; ValueError if a claim was never judged."""
        missing = self.claims.keys() - self.judged.keys()
        if missing:
            raise ValueError(f"claims: never judged: {sorted(missing)}")
        rows = [
            [
                _statement(claim, link=True),
                claim.author,
                _prediction(claim),
                badge(self.judged[name][0]),
                effect(self.judged[name][1], claim.unit),
            ]
            for name, claim in self.claims.items()
        ]
        heads = ["Claim", "Whose", "Prediction", "Verdict", "Effect"]
        display(HTML(_table(heads, rows)))

    def other_seeds(self, seed: int) -> None:
        """The recorded verdicts of the book profile under root seeds but ``seed``."""
        runs = [run for run in _runs(self.chapter, "book") if run["seed"] != seed]
        display(HTML(_by_seed(runs, self.claims)))

    def recorded(self, prefix: str, heads: Sequence[str], across: str) -> None:
        """What the full profile gave: means over all recorded seeds ± half intervals.

        ``value`` recorded it as ``prefix/…/seed``, one part a head; a column for each
        part found under the head ``across``. Raises ValueError if that is no head, or
        for a name with more or fewer parts.
        """
        found = _values(_runs(self.chapter, "full"), f"{self.chapter}/{prefix}/")
        columns, rows = _spreads(found, heads, across)
        table(columns, rows, "No run of the full profile is recorded yet.")

    def _record(self, name: str, number: float, details: dict) -> None:
        metadata = {
            "scrapbook": {"name": f"{self.chapter}/{name}", "mime_prefix": GLUE},
            "blogcore": details,
        }
        display({f"{GLUE}text/plain": repr(float(number))}, raw=True, metadata=metadata)


def _runs(chapter: str, profile: str) -> list[dict]:
    runs = load_records(DATA / "records" / f"{chapter}.json")
    return [run for run in runs if run["profile"] == profile]


def _by_seed(runs: Sequence[dict], names: Iterable[str]) -> str:
    """A table of each claim's verdict in each run, empty where it had none."""
    if not runs:
        return "<p>No other root seed is recorded.</p>"
    found = [{r.get("id"): r.get("verdict") for r in run["records"]} for run in runs]
    rows = [
        [name, *(badge(v[name]) if v.get(name) else "" for v in found)]
        for name in names
    ]
    heads = ("Claim", *(f"root seed {run['seed']}" for run in runs))
    return _table(heads, rows, "claims seeds")


def _values(runs: Sequence[dict], stem: str) -> list[tuple[list[str], float]]:
    """The parts of each recorded name behind ``stem``, and the value."""
    return [
        (record["name"].removeprefix(stem).split("/"), record["value"])
        for run in runs
        for record in run["records"]
        if record["name"].startswith(stem)
    ]


def _spreads(
    found: Sequence[tuple[Sequence[str], float]], heads: Sequence[str], across: str
) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table with the values grouped by all parts but the seed."""
    if across not in heads:
        raise ValueError(f"across: {across!r} is not one of {tuple(heads)}")
    groups: dict[tuple, dict[str, list[float]]] = {}
    for (*parts, _), value in found:
        if len(parts) != len(heads):
            raise ValueError(f"heads: {tuple(heads)} do not name {parts} and a seed")
        place = dict(zip(heads, parts, strict=True))
        column = place.pop(across)
        row = groups.setdefault(tuple(place.values()), {})
        row.setdefault(column, []).append(value)
    columns = list(dict.fromkeys(chain(*groups.values())))
    names = [c if c[:1].isalpha() else f"{across} = {c}" for c in columns]
    rows = [
        [*place, *(_spread(row.get(column, [])) for column in columns)]
        for place, row in groups.items()
    ]
    return [*(head for head in heads if head != across), *names], rows


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "".join(f"{value:.4g}" for value in values).replace("-", "−")
    e = interval(values)
    half = (e.high - e.low) / 2
    return f"{e.mean:{_digits(half)}} ± {half:{_digits(half)}}".replace("-", "−")


def _details(claim: Claim, verdict: str, estimate: Estimate) -> dict:
    return {
        "kind": "verdict",
        "id": claim.id,
        "slug": claim.id.lower(),
        "statement": claim.statement,
        "author": claim.author,
        "test": claim.test,
        "prediction": str(claim.prediction),
        "unit": claim.unit,
        "verdict": verdict,
        "mean": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "rows": [list(row) for row in estimate.rows],
    }


def _box(slug: str, claim: Claim, verdict: str, estimate: Estimate) -> str:
    kind = verdict.replace(" ", "-")
    return (
        f'<div class="verdict verdict-{kind}" id="{slug}">'
        f"<p>{_statement(claim)} {badge(verdict)}</p>"
        f"<p>{effect(estimate, claim.unit)}; predicted {_prediction(claim)}</p></div>"
    )


def _statement(claim: Claim, link: bool = False) -> str:
    name = f'<a href="#{claim.id.lower()}">{claim.id}</a>' if link else claim.id
    return f"<b>{name}</b> {html.escape(claim.statement)}"


def badge(verdict: str) -> str:
    """A verdict as HTML: by symbol, word and (in the book's style) colour."""
    kind = verdict.replace(" ", "-")
    return f'<span class="badge badge-{kind}">{SYMBOLS[verdict]} {verdict}</span>'


def _prediction(claim: Claim) -> str:
    number = str(claim.prediction).replace("-", "−").replace(" ", "\u00a0")
    return html.escape(f"{number} {claim.unit}".strip())


def effect(estimate: Estimate, unit: str) -> str:
    """An effect as HTML; its interval's half width gets two digits."""
    half = (estimate.high - estimate.low) / 2
    bounds = (estimate.mean, estimate.low, estimate.high)
    mean, low, high = (f"{v:{_digits(half)}}".replace("-", "−") for v in bounds)
    number = f"{mean} {unit}".strip()
    return html.escape(f"{number} [{low}, {high}], n\u00a0=\u00a0{estimate.n}")


def _digits(half: float) -> str:
    return f".{max(1 - floor(log10(half)), 0)}f" if half >= 1e-6 else ".3g"


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], kinds: str = "claims"
) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{name}">{cell}</td>'
            for name, cell in zip(heads, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    head, body = f"<thead><tr>{head}</tr></thead>", f"<tbody>{body}</tbody>"
    return f'<table class="{kinds}">{head}{body}</table>'

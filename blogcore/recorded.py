"""What is recorded of large runs, as tables: of the full profile, and of units."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from math import expm1, log1p
from pathlib import Path

from blogcore import wording
from blogcore.evidence import Estimate, interval, load_records, pooled
from blogcore.show import escaped, plain_table
from blogcore.unitcode import digest, parts
from blogcore.unitfiles import Row, recorded
from blogcore.units import PACKAGE, PLANNED, tagged

FEWEST = 3  # seeds for a verdict
Found = list[tuple[list[str], float | None]]  # None: not recorded yet


def runs(data: Path, page: str, profile: str) -> list[dict]:
    """A page's recorded runs of one profile."""
    found = load_records(data / "records" / f"{page}.json")
    return [run for run in found if run["profile"] == profile]


def together(found: Sequence[dict], name: str) -> Estimate | None:
    """A claim's interval over the seeds of all runs, as if they had been one.

    Relative changes in per cent are pooled as logarithms, as each run averages them.
    None for fewer than two runs that judged it, and where they share seeds, as repeats
    of a timing and units do: those are no further evidence.
    """
    judged = [
        record
        for run in found
        for record in run["records"]
        if record.get("id") == name and record.get("rows")
    ]
    seeds = [{(label, seed) for label, seed, _ in r["rows"]} for r in judged]
    if len(judged) < 2 or len(set.union(*seeds)) < sum(map(len, seeds)):
        return None
    runs = [Estimate(r["mean"], r["low"], r["high"], r["n"]) for r in judged]
    try:
        return pooled(runs)
    except ValueError:  # the mean is not amid its interval: a ratio's is, in logarithms
        return _scaled(pooled([_scaled(e, _logarithm) for e in runs]), _per_cent)


def _scaled(e: Estimate, scale: Callable[[float], float]) -> Estimate:
    return Estimate(scale(e.mean), scale(e.low), scale(e.high), e.n)


def _logarithm(change: float) -> float:
    """Of the ratio behind a relative change in per cent."""
    return log1p(change / 100)


def _per_cent(logarithm: float) -> float:
    return 100 * expm1(logarithm)


def of_profile(
    data: Path, page: str, prefix: str, heads: Sequence[str], across: str
) -> str:
    """What the full profile recorded as ``prefix/…/seed``, as a table of means."""
    found = _values(runs(data, page, "full"), f"{page}/{prefix}/")
    columns, rows = _spreads(found, heads, across)
    return plain_table(columns, rows, "No run of the full profile is recorded yet.")


class Standing:
    """How far an experiment's units are, in the records of a page.

    ``summary`` is ``Experiment.summary()``. A row counts for its settings if it is by
    today's code; one by earlier code stands in for it as long as there is none.
    """

    def __init__(self, data: Path, page: str, summary: Mapping):
        self.page, self.table = page, summary["table"]
        self.name, self.rows_head = summary["name"], summary["rows"]
        self.seconds = summary["seconds"]
        cells = tagged(data.parent, page)
        self.code = parts(cells, self.name, PACKAGE)
        rows = [r for r in recorded(data, page) if r["experiment"] == self.name]
        self.today = {_key(r["settings"]): r for r in rows if r["code"] == self.code}
        older = sorted(rows, key=lambda row: row["date"])
        self.older = {_key(r["settings"]): r for r in older if r["code"] != self.code}

    @property
    def missing(self) -> list[Mapping]:
        """The settings that have no row by today's code."""
        return [s for s in self.table if _key(s) not in self.today]

    def row(self, settings: Mapping) -> Row | None:
        """The row of these settings, by today's code if there is one."""
        key = _key(settings)
        return self.today.get(key) or self.older.get(key)

    def seeds(self, arm: Mapping) -> tuple[dict[int, Row], int]:
        """An arm's rows by today's code, by seed, and how many seeds are planned."""
        planned = [s for s in self.table if arm.items() <= s.items()]
        found = [(s["seed"], self.today.get(_key(s))) for s in planned]
        return {seed: row for seed, row in found if row}, len(planned)


def of_units(data: Path, page: str, summary: Mapping, across: str) -> str:
    """An experiment's table of means over the seeds that are there, and how it stands.

    Where nothing is recorded the command to fill it comes first, the arms are folded.
    """
    standing = Standing(data, page, summary)
    factors = [name for name in standing.table[0] if name != "seed"]
    rows = [standing.row(settings) for settings in standing.table]
    some_older = any(row and row["code"] != standing.code for row in rows)
    heads = [*factors, *(["code"] if some_older else [])]
    heads += [standing.rows_head] if standing.rows_head else []
    pairs = list(zip(standing.table, rows, strict=True))
    begun = {tuple(_factors(settings)) for settings, row in pairs if row}
    found = [
        ([*_arm(settings, row, standing, some_older), *place, ""], value)
        for settings, row in pairs
        if row or tuple(_factors(settings)) not in begun
        for place, value in _places(standing, row, rows)
    ]
    columns, body = _spreads(found, [*heads, "metric"], across)
    told = _told(standing, rows)
    if found:
        return plain_table(columns, body, "") + told
    shown = factors or ["seed"]
    arms = dict.fromkeys(tuple(str(s[n]) for n in shown) for s in standing.table)
    folded = plain_table(shown, list(arms), "")
    return f"{told}<details><summary>What would run</summary>{folded}</details>"


def contrast(
    data: Path,
    page: str,
    summary: Mapping,
    metric: str,
    arms: Sequence[Mapping],
    times: float,
) -> tuple[Estimate | None, str]:
    """Mean over seeds of metric(first arm) − metric(second), or why there is none.

    An arm names settings, a label where units give several rows, and a metric if it has
    one of its own. Every planned seed must be there, and three at least: judging on the
    way would be choosing when to stop. Pairs are of one kind of device: a card draws
    other numbers than the CPU. Raises ValueError for an arm that the table does not
    have.
    """
    standing, sides, cards, rows = Standing(data, page, summary), [], [], []
    for arm in arms:
        label, of = str(arm.get(standing.rows_head, "")), arm.get("metric", metric)
        settings = {
            k: v for k, v in arm.items() if k not in ("metric", standing.rows_head)
        }
        found, planned = standing.seeds(settings)
        if not planned:
            raise ValueError(f"arm: {standing.name} has none with {settings}")
        if len(found) < max(planned, FEWEST):
            return None, f"{len(found)} of {max(planned, FEWEST)} seeds are recorded"
        sides.append({s: times * r["values"][label][of] for s, r in found.items()})
        cards.append({seed: row["device"] != "cpu" for seed, row in found.items()})
        named = ", ".join(f"{key}={value}" for key, value in arm.items())
        rows += [(named, seed, value) for seed, value in sides[-1].items()]
    first, second = sides[0], sides[-1]
    common = sorted(cards[0].items() & cards[-1].items())
    if len(common) < FEWEST:
        where = "in both arms, on one kind of device"
        return None, f"{len(common)} of {FEWEST} seeds are recorded {where}"
    values = [first[s] - (second[s] if len(sides) > 1 else 0) for s, _ in common]
    return interval(values, rows), ""


def _key(settings: Mapping) -> str:
    return digest(dict(settings))


def _factors(settings: Mapping) -> list[str]:
    return [str(value) for name, value in settings.items() if name != "seed"]


def _arm(settings: Mapping, row: Row | None, standing: Standing, mark: bool) -> list:
    if not mark:
        return _factors(settings)
    whose = "today’s" if row and row["code"] == standing.code else "earlier"
    return [*_factors(settings), whose if row else ""]


def _places(standing: Standing, row: Row | None, rows: Sequence[Row | None]) -> Found:
    """A row's label, if it has one, and metric, with their values.

    A row that is missing has the places of one that is there, without values.
    """
    like = row or next(filter(None, rows), {"values": {}})
    return [
        ([*([label] if standing.rows_head else []), metric], value if row else None)
        for label, metrics in like["values"].items()
        for metric, value in metrics.items()
    ]


def _told(standing: Standing, rows: Sequence[Row | None]) -> str:
    """Seeds, device, seconds and date of what is there; what is missing, and how."""
    there, sentences = [row for row in rows if row], []
    if there:
        devices = ", ".join(sorted({row["device"] for row in there}))
        seconds = sum(row["seconds"] for row in there)
        dates = sorted({row["date"][:10] for row in there})
        days = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
        sentences.append(f"{len(there)} runs on {devices}, {seconds:.0f} s, {days}.")
    sentences += _older(standing, there)
    if standing.missing:
        sentences.append(_needed(standing, bool(there)))
    return "".join(f"<p>{sentence}</p>" for sentence in sentences)


def _older(standing: Standing, there: Sequence[Row]) -> list[str]:
    """What has changed since the rows by earlier code."""
    old = [row["code"] for row in there if row["code"] != standing.code]
    if not old:
        return []
    names = sorted({n for code in [*old, standing.code] for n in code})
    changed = [n for n in names if any(c.get(n) != standing.code.get(n) for c in old)]
    return [
        f"By earlier code, judging nothing: {len(old)} of these runs. Changed "
        f"since: {escaped(', '.join(changed))}."
    ]


def _needed(standing: Standing, begun: bool) -> str:
    seconds = len(standing.missing) * standing.seconds
    long = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    done = len(standing.table) - len(standing.missing)
    seeds = [_seeds(standing)] if done else []
    start = f"{done} of {len(standing.table)} runs" if done else "Not run"
    start += " by today’s code" if begun else ""
    return (
        f"{', '.join([start, *seeds])}. Missing runs: {len(standing.missing)}, "
        f"about {long} on {PLANNED} (planned): "
        f"<code>blogcore full {standing.page} --units DIR</code>"
    )


def _seeds(standing: Standing) -> str:
    """“2 of 3 seeds”: how many the arm with the fewest has."""
    arms = [{k: v for k, v in s.items() if k != "seed"} for s in standing.table]
    if any("seed" not in settings for settings in standing.table):
        return "no seeds"
    counts = [(len(found), planned) for found, planned in map(standing.seeds, arms)]
    return "{} of {} seeds".format(*min(counts))


def _values(found: Sequence[dict], stem: str) -> Found:
    """The parts of each recorded name behind ``stem``, and the value."""
    return [
        (record["name"].removeprefix(stem).split("/"), record["value"])
        for run in found
        for record in run["records"]
        if record["name"].startswith(stem)
    ]


def _spreads(
    found: Found, heads: Sequence[str], across: str
) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table with the values grouped by all parts but the seed."""
    if across not in heads:
        raise ValueError(f"across: {across!r} is not one of {tuple(heads)}")
    groups: dict[tuple, dict[str, list[float]]] = {}
    for (*named, _), value in found:
        if len(named) != len(heads):
            raise ValueError(f"heads: {tuple(heads)} do not name {named} and a seed")
        place = dict(zip(heads, named, strict=True))
        column = place.pop(across)
        row = groups.setdefault(tuple(place.values()), {})
        row.setdefault(column, []).extend([] if value is None else [value])
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
    form = wording.digits(half)
    return f"{e.mean:{form}} ± {half:{form}}".replace("-", "−")

"""From seeds and conditions to numbers: tables, paired contrasts, intervals, records.

An experiment is run once for a whole table: it takes one column a factor and returns
one column a metric, so that all its rows can train side by side.
"""

import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from math import isfinite, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from blogcore.runtime import of_the_book, write_safely

CONFIDENCE = 0.95
EXACT = 1e-9
VERSIONS = ("torch", "numpy", "scipy", "scikit-learn")
Experiment = Callable[[pd.DataFrame], Mapping[str, Sequence[float]]]
Condition = Mapping[str, object]
Row = tuple[str, int, float]


def sweep(experiment: Experiment, **factors: Iterable) -> pd.DataFrame:
    """The full factorial table: every combination of the factors, with the metrics.

    ``experiment`` gets the table of combinations (a column a factor, the last factor
    varies fastest) and returns one sequence a metric, in the order of the rows. Raises
    ValueError for an empty factor, or a metric of another length or not finite.
    """
    factors = {name: list(values) for name, values in factors.items()}
    empty = [name for name, values in factors.items() if not values]
    if not factors or empty:
        raise ValueError(f"factors: need at least one value each, none for {empty}")
    rows = pd.DataFrame(product(*factors.values()), columns=list(factors))
    measured = {
        name: np.asarray(v, dtype=float) for name, v in experiment(rows).items()
    }
    for name, values in measured.items():
        if name in factors:
            raise ValueError(f"metric {name}: is the name of a factor")
        if values.shape != (len(rows),):
            raise ValueError(f"metric {name}: shape {values.shape}, not ({len(rows)},)")
        if not np.isfinite(values).all():
            first = rows[~np.isfinite(values)].iloc[0].to_dict()
            raise ValueError(f"metric {name}: not finite where {first}")
    return rows.assign(**measured)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % t-interval, and the rows that it comes from.

    ``rows`` are (condition, seed, value); unit is that of the mean.
    """

    mean: float
    low: float
    high: float
    n: int
    rows: tuple[Row, ...] = ()


def interval(values: Sequence[float], rows: Sequence[Row] = ()) -> Estimate:
    """Mean ± t₀.₉₇₅(n−1) · s/√n, s the standard deviation over seeds.

    Raises ValueError for fewer than two values or one that is not finite.
    """
    values = np.asarray(list(values), dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"values: {values.tolist()} must be two or more finite numbers"
        )
    half = _quantile(len(values)) * values.std(ddof=1) / sqrt(len(values))
    mean = float(values.mean())
    return Estimate(
        mean, mean - float(half), mean + float(half), len(values), tuple(rows)
    )


def pooled(estimates: Sequence[Estimate]) -> Estimate:
    """The interval of all values behind several intervals, as if they had been one run.

    n = Σ nᵢ, mean = Σ nᵢ mᵢ / n, and the squares about it are Σ (nᵢ − 1) sᵢ² +
    nᵢ (mᵢ − mean)², with sᵢ from the half width. Raises ValueError for an interval
    whose mean is not its middle: that is no t-interval of its values.
    """
    counts = np.array([e.n for e in estimates])
    means, lows, highs = np.array([[e.mean, e.low, e.high] for e in estimates]).T
    half = (highs - lows) / 2
    if not np.allclose((highs + lows) / 2, means, rtol=1e-9, atol=1e-9 * half.max()):
        raise ValueError(f"estimates: {[*means]} are not amid {[*lows]} and {[*highs]}")
    spreads = half * np.sqrt(counts) / _quantile(counts)
    mean = float(counts @ means / counts.sum())
    squares = (counts - 1) @ spreads**2 + counts @ (means - mean) ** 2
    n = int(counts.sum())
    wide = float(_quantile(n) * sqrt(squares / (n - 1) / n))
    return Estimate(mean, mean - wide, mean + wide, n)


def estimate(values: Sequence[float], seeds: Sequence[int], label: str) -> Estimate:
    """The interval of one value a seed, where there is no table to take it from."""
    values = [float(value) for value in values]
    if len(values) != len(seeds):
        raise ValueError(f"values: {len(values)} of them for {len(seeds)} seeds")
    return interval(values, [(label, *row) for row in zip(seeds, values, strict=True)])


def timed(calls: Mapping[str, Callable[[], object]], repeats: int) -> pd.DataFrame:
    """Processor seconds of each call, a row a repeat: the calls take turns.

    What slows the machine down for a while then meets all of them; a first round is not
    counted. Raises ValueError for no call, or fewer than two repeats.
    """
    if not calls or repeats < 2:
        raise ValueError(f"repeats: {repeats} of {list(calls)}, need 2 of 1 or more")
    rows = [
        {name: _spent(call) for name, call in calls.items()} for _ in range(repeats + 1)
    ]
    return pd.DataFrame(rows[1:])


def where(table: pd.DataFrame, condition: Condition) -> pd.DataFrame:
    """The rows in which every named factor has the given value; ValueError if none."""
    chosen = pd.Series(True, index=table.index)
    for factor, value in condition.items():
        if factor not in table:
            raise ValueError(f"condition: no factor {factor!r} among {list(table)}")
        chosen &= table[factor] == value
    if not chosen.any():
        raise ValueError(f"condition: no row has {dict(condition)}")
    return table[chosen]


def average(table: pd.DataFrame, metric: str, condition: Condition) -> Estimate:
    """Mean of a metric over the seeds of one condition, with its interval."""
    values = _by_seed(table, metric, condition)
    return interval(values, _rows(condition, values))


def contrast(table: pd.DataFrame, metric: str, a: Condition, b: Condition) -> Estimate:
    """Mean over seeds of metric(a) − metric(b), paired by seed, with its interval.

    Raises ValueError if their seeds differ, or a seed has several rows.
    """
    left, right = _by_seed(table, metric, a), _by_seed(table, metric, b)
    if list(left.index) != list(right.index):
        raise ValueError(f"seeds: {list(left.index)} and {list(right.index)} differ")
    return interval(left - right, _rows(a, left) + _rows(b, right))


def drift(old: Sequence[Mapping], new: Sequence[Mapping]) -> list[str]:
    """What differs between two runs' records beyond what their seeds' spread allows.

    An exact value may move by 1e-9, a claim's effect as long as the two intervals
    overlap. A verdict may become undecided, or decided, if the effect stays: another
    processor can move an interval that ends at its threshold. It may not turn into its
    opposite. What was timed is not compared, nor what units gave: that is read from a
    file and not computed anew. Returns one message a record.
    """
    before, after = (
        {r["name"]: r for r in records if not r.get("units")} for records in (old, new)
    )
    messages = [f"{name}: no longer recorded" for name in before.keys() - after.keys()]
    messages += [f"{name}: not in the records" for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        messages += _drift_of(name, before[name], after[name])
    return sorted(messages)


def environment(device: str) -> dict[str, object]:
    """What a record says about where it was obtained."""
    return {
        "device": device,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS},
    }


def save_records(path: Path, chapter: str, runs: Sequence[Mapping]) -> None:
    """Write a chapter's recorded runs as JSON, a record a line: diffs read well."""
    blocks = []
    for run in runs:
        head = {key: value for key, value in run.items() if key != "records"}
        lines = ",\n".join(_json(record) for record in run["records"])
        blocks.append(f'{{"run": {_json(head)},\n"records": [\n{lines}\n]}}')
    text = (
        f'{{"chapter": {_json(chapter)},\n"runs": [\n' + ",\n".join(blocks) + "\n]}\n"
    )
    write_safely(path, text.encode())


def load_records(path: Path) -> list[dict]:
    """The recorded runs of a chapter, [] if there is no file yet.

    Raises ValueError if the file is not what ``save_records`` wrote, or if there is no
    book around it.
    """
    if not of_the_book(path).exists():
        return []
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return [_checked(run["run"], run["records"]) for run in content["runs"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"path: {path} holds no records ({error!r})") from error


def _quantile(n):
    """t₀.₉₇₅(n − 1)."""
    return stats.t.ppf((1 + CONFIDENCE) / 2, np.asarray(n) - 1)


def _spent(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _checked(head: Mapping, records: Sequence[Mapping]) -> dict:
    """A recorded run; an error where something that we rely on is missing."""
    if not isinstance(head["profile"], str) or not isinstance(head["seed"], int):
        raise ValueError(f"{head} has no profile and seed")
    for record in records:
        if not isinstance(record["name"], str) or not isfinite(record["value"]):
            raise ValueError(f"{record} has no name and finite value")
        if not all(isfinite(record[key]) for key in ("low", "high") if key in record):
            raise ValueError(f"{record} has no finite interval")
    return {**head, "records": [*records]}


def _by_seed(table: pd.DataFrame, metric: str, condition: Condition) -> pd.Series:
    if metric not in table:
        raise ValueError(f"metric: {metric!r} is not among {list(table)}")
    column = where(table, condition).set_index("seed")[metric].sort_index()
    if not column.index.is_unique:
        raise ValueError(f"condition: {dict(condition)} leaves several rows a seed")
    return column


def _rows(condition: Condition, values: pd.Series) -> tuple[Row, ...]:
    label = ", ".join(f"{factor}={value}" for factor, value in condition.items())
    return tuple((label, int(seed), float(value)) for seed, value in values.items())


def _drift_of(name: str, old: Mapping, new: Mapping) -> list[str]:
    kinds = ["claim" if "verdict" in record else "value" for record in (new, old)]
    if kinds[0] != kinds[1]:
        return [f"{name}: a {kinds[0]}, recorded as a {kinds[1]}"]
    if new.get("timed"):
        return []
    verdicts = {old.get("verdict"), new.get("verdict")}
    if len(verdicts) > 1 and not verdicts & {"undecided"}:
        return [f"{name}: verdict {new.get('verdict')}, recorded {old.get('verdict')}"]
    if "low" in old and isfinite(old["low"]):
        gap = max(new["low"] - old["high"], old["low"] - new["high"])
        if not gap <= EXACT:  # not ">": a NaN is a drift
            spread = f"the recorded spread of {old['mean']:g}"
            return [f"{name}: {new['mean']:g} is outside {spread}"]
    elif (
        old.get("tolerance") == "exact"
        and not abs(old["value"] - new["value"]) <= EXACT
    ):
        return [f"{name}: {new['value']!r}, recorded {old['value']!r}"]
    return []


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)

"""Large experiments as units: a function, a table of settings, a result for each row.

The cells of a page that are tagged ``unit`` hold them. They run by themselves, without
Jupyter, in one namespace with PROFILE, SEED and DEVICE: a machine with a GPU needs the
package, the page and the data, and nothing that draws.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import isfinite
from pathlib import Path

from blogcore.checks import check_integer, check_number
from blogcore.freshness import code_cells, text
from blogcore.prepared import Prepared
from blogcore.unitcode import defined, digest, parts, reached

Settings = dict[str, object]
TAG = "unit"
PLAIN = (str, int, float, bool)
PLANNED = "one H100"  # the card that the seconds of an experiment were planned for


@dataclass(frozen=True)
class Experiment:
    """A function whose every call with settings of its table is a unit.

    ``rows`` heads the labels of a unit that gives several rows; ``seconds`` is what a
    unit was planned to take, ``workers`` how many side by side a device bears,
    ``processes`` how many share one unit under torchrun; ``tiny`` are the settings of a
    unit that a test runs.
    """

    function: Callable
    table: tuple[Settings, ...]
    seconds: float
    workers: int = 1
    processes: int = 1
    rows: str = ""
    tiny: Settings = field(default_factory=dict)

    def __call__(self, *arguments: object, **settings: object) -> object:
        """The function itself, as it stands on the page."""
        return self.function(*arguments, **settings)

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    def summary(self) -> dict:
        """What a table of results needs to know, as plain data."""
        table = [dict(settings) for settings in self.table]
        about = {"name": self.name, "rows": self.rows, "table": table}
        return about | {"seconds": self.seconds}


@dataclass(frozen=True)
class Unit:
    """One row of an experiment's table on a page, under the code as it now is."""

    page: str
    experiment: Experiment
    settings: Settings
    code: Mapping[str, str]

    @property
    def name(self) -> str:
        """Page, experiment, hash of the settings, hash of the code."""
        ends = digest(self.settings), digest(dict(self.code))
        return "-".join([self.page, self.experiment.name, *ends])

    def __str__(self):
        told = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.page} {self.experiment.name} ({told})"


def grid(**factors: Sequence) -> list[Settings]:
    """Every combination of the factors' values; tables add up with ``+``.

    Raises ValueError for a factor without values.
    """
    empty = [name for name, values in factors.items() if not list(values)]
    if empty:
        raise ValueError(f"factors: no values for {empty}")
    return [
        dict(zip(factors, values, strict=True)) for values in product(*factors.values())
    ]


def experiment(
    *,
    seconds: float,
    workers: int = 1,
    processes: int = 1,
    rows: str = "",
    tiny: Mapping[str, object] | None = None,
    arms: Sequence[Settings] = ({},),
    **settings: Sequence,
) -> Callable[[Callable], Experiment]:
    """Make a function an experiment: ``@experiment(seconds=20, level=[0.0, 0.5], …)``.

    The table holds every combination of the settings' values with each of ``arms``,
    seed by seed, so that an interruption leaves arms with equal numbers of seeds. The
    function returns numbers by metric, or, with ``rows``, such numbers by label. Raises
    ValueError for settings that the function does not take, that are no plain values,
    or that occur twice.
    """
    check_number("seconds", seconds, 0)
    check_integer("workers", workers, 1)
    check_integer("processes", processes, 1)
    combined = [arm | row for row in grid(**settings) for arm in arms]
    table = [
        dict(sorted(row.items(), key=lambda item: item[0] == "seed"))
        for row in combined
    ]
    seeds = list(dict.fromkeys(row.get("seed") for row in table))
    table.sort(key=lambda row: seeds.index(row.get("seed")))

    def made(function: Callable) -> Experiment:
        for row in [*table, *([tiny] if tiny else [])]:
            _check_settings(function, row)
        if len({digest(row) for row in table}) < len(table):
            raise ValueError(f"{function.__name__}: some settings occur twice")
        given = (tuple(table), seconds, workers, processes, rows, dict(tiny or {}))
        return Experiment(function, *given)

    return made


def _check_settings(function: Callable, row: Mapping[str, object]) -> None:
    name = function.__name__
    for key, value in row.items():
        finite = not isinstance(value, float) or isfinite(value)
        if not isinstance(value, PLAIN) or not finite:
            raise ValueError(f"{name}: {key} = {value!r} is no plain value")
    try:
        inspect.signature(function).bind(**row)
    except TypeError as error:
        raise ValueError(f"{name}: does not take {row} ({error})") from error


class Page:
    """The units of one page: its tagged cells, executed.

    Raises ValueError for a page that does not exist or whose cells fail.
    """

    def __init__(self, root: Path, slug: str, seed: int = 0, device: str = "auto"):
        self.slug, self.cells = slug, tagged(root, slug)
        given = {"PROFILE": "full", "SEED": seed, "DEVICE": device}
        self.scope: dict[str, object] = {"__name__": f"{slug} (units)", **given}
        for number, cell in enumerate(self.cells):
            try:
                code = compile(cell, f"<{slug}, unit cell {number}>", "exec")
                exec(code, self.scope)
            except Exception as error:
                first = cell.strip().partition("\n")[0]
                raise ValueError(
                    f"{slug}: unit cell {number}, `{first}`: {error!r}"
                ) from error

    @property
    def experiments(self) -> dict[str, Experiment]:
        """The experiments by name, in their order."""
        found = self.scope.items()
        return {name: e for name, e in found if isinstance(e, Experiment)}

    def code(self, name: str) -> dict[str, str]:
        """The code that an experiment depends on, by hash."""
        return parts(self.cells, name, PACKAGE)

    def units(self) -> list[Unit]:
        """Every unit of every experiment, in order."""
        return [
            Unit(self.slug, experiment, settings, code)
            for name, experiment in self.experiments.items()
            for code in [self.code(name)]
            for settings in experiment.table
        ]

    def loaders(self, name: str = "") -> list[Prepared]:
        """The data that an experiment reaches, or all that the page has."""
        found = self.scope.items()
        loaders = {key: p for key, p in found if isinstance(p, Prepared)}
        if not name:
            return list(loaders.values())
        names = {n for s in reached(self.cells, name) for n in defined(s)}
        return [loader for key, loader in loaders.items() if key in names]


PACKAGE = Path(__file__).parent


def tagged(root: Path, slug: str) -> list[str]:
    """The sources of a page's cells that are tagged ``unit``; [] if it has none.

    Raises ValueError for a page that does not exist or is no notebook.
    """
    known = sorted(path.stem for path in (root / "chapters").glob("*.ipynb"))
    if slug not in known:
        raise ValueError(f"page: {slug!r} is not one of {', '.join(known)}")
    try:
        content = (root / "chapters" / f"{slug}.ipynb").read_text(encoding="utf-8")
        cells = code_cells(json.loads(content))
        return [text(c) for c in cells if TAG in c["metadata"].get("tags", [])]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{slug}: no notebook ({error!r})") from error


def paged(root: Path, slugs: Sequence[str]) -> Iterator[str]:
    """The pages among these that have units."""
    return (slug for slug in slugs if tagged(root, slug))

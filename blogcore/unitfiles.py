"""What became of units, a file each: claimed, written whole or not at all, gathered.

A folder of units is all that workers share, on one machine or on several: who holds
the lock of a unit has it in hand, and the system frees the lock of a process that dies.
Two folders are merged by copying.
"""

import json
import os
import platform
import secrets
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from filelock import FileLock, Timeout

from blogcore.runtime import of_the_book, write_safely
from blogcore.unitcode import digest
from blogcore.units import Unit

ERROR, LOCK = ".error", ".lock"
KEYS = ("page", "experiment", "settings", "values", "seconds", "device", "date")
KEYS += ("versions", "code", "data", "processes")
Values = dict[str, dict[str, float]]
Row = dict[str, object]


@dataclass(frozen=True)
class Folder:
    """A folder of units.

    Raises ValueError if nothing can be written into it.
    """

    path: Path

    def __post_init__(self):
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # On another host a process may have our number, and clear ours away.
            probe = self.path / f".writable-{secrets.token_hex(8)}"
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise ValueError(
                f"units: {self.path} cannot be written ({error})"
            ) from error

    def rows(self) -> list[Row]:
        """Every row that lies here; ValueError for a file that is cut or altered."""
        return [read(path) for path in sorted(self.path.glob("*.json"))]

    def row(self, unit: Unit) -> Path:
        """Where a unit's row lies, once it is done."""
        return self.path / f"{unit.name}.json"

    def error(self, unit: Unit) -> Path:
        """Where a failed unit's traceback lies."""
        return self.path / f"{unit.name}{ERROR}"

    def open(self, units: Sequence[Unit]) -> list[Unit]:
        """The units that have neither been done nor failed."""
        names = set(os.listdir(self.path))
        return [u for u in units if not {f"{u.name}.json", u.name + ERROR} & names]

    def done(self, units: Sequence[Unit]) -> list[Unit]:
        """The units that have a row."""
        return [u for u in units if self.row(u).exists()]

    def failed(self, units: Sequence[Unit]) -> list[Unit]:
        """The units that have failed, here and wherever the folder was copied from."""
        failed = [u for u in units if self.error(u).exists()]
        done = {unit.name for unit in self.done(failed)}
        return [unit for unit in failed if unit.name not in done]

    @contextmanager
    def claim(self, unit: Unit) -> Iterator[bool]:
        """Try to take a unit in hand; whether it is ours, and still to be done.

        The lock file says who has it, for those who look.
        """
        path = self.path / f".{unit.name}{LOCK}"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0.05, poll_interval=0.01)  # somebody may just look
        except Timeout:
            yield False
            return
        try:
            mine = bool(self.open([unit]))
            if mine:
                begun = f"{platform.node()} {os.getpid()} {time.time():.0f}"
                path.write_text(begun, encoding="ascii")
            yield mine
        finally:
            path.unlink(missing_ok=True)  # a second holder would find the row
            lock.release()

    def write(self, unit: Unit, values: Values, about: Mapping[str, object]) -> None:
        """Keep what a unit gave, and where, when, how long, from which data."""
        row = {
            "page": unit.page,
            "experiment": unit.experiment.name,
            "settings": unit.settings,
            "values": values,
            "code": dict(unit.code),
            **about,
        }
        write_safely(self.row(unit), f"{_json(row)}\n".encode())

    def fail(self, unit: Unit, error: BaseException) -> None:
        """Keep what went wrong with a unit."""
        told = "".join(traceback.format_exception(error))
        write_safely(self.error(unit), f"{unit}\n{told}".encode())


def in_hand(folder: Folder, units: Sequence[Unit]) -> list[Unit]:
    """The units that some process has taken and not finished."""
    found = []
    for unit in units:
        path = folder.path / f".{unit.name}{LOCK}"
        if path.exists():
            try:
                with FileLock(path, timeout=0):
                    pass
            except Timeout:
                found.append(unit)
    return found


def held_by(folder: Folder, pid: int, units: Sequence[Unit]) -> list[Unit]:
    """The units whose lock a process of this machine left behind."""
    found, wanted = [], [platform.node(), str(pid)]
    for unit in units:
        with suppress(OSError):
            text = (folder.path / f".{unit.name}{LOCK}").read_text(encoding="ascii")
            found += [unit] if text.rsplit(" ", 1)[0].rsplit(" ", 1) == wanted else []
    return found


def checked(unit: Unit, result: object) -> Values:
    """What a unit gave, by label and metric; ValueError unless finite numbers."""
    labelled = bool(unit.experiment.rows)
    rows = result if labelled else {"": result}
    if not isinstance(rows, Mapping) or not rows:
        raise ValueError(f"{unit}: gave {rows!r}, not numbers by label and metric")
    return {str(label): _numbers(unit, label, row) for label, row in rows.items()}


def _numbers(unit: Unit, label: str, row: object) -> dict[str, float]:
    if not isinstance(row, Mapping) or not row:
        raise ValueError(f"{unit}: gave {row!r}, not numbers by metric")
    for name, value in row.items():
        number = float(value)
        if not isfinite(number):
            where = f"{label} {name}".strip()
            raise ValueError(f"{unit}: {where} is {number}, not a finite number")
    return {str(name): float(value) for name, value in row.items()}


def read(path: Path) -> Row:
    """The row in a file; ValueError, saying what to do, if it is not whole."""
    try:
        row = _sound(json.loads(path.read_text(encoding="utf-8")))
        if path.stem != name_of(row):
            raise ValueError(f"its content is that of {name_of(row)}")
        return row
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"units: {path} is cut or altered ({error}); delete it, and its unit runs "
            "again"
        ) from error


def name_of(row: Mapping) -> str:
    """The name of the unit that a row belongs to."""
    ends = digest(row["settings"]), digest(row["code"])
    return "-".join([row["page"], row["experiment"], *ends])


def _sound(row: Mapping) -> Row:
    """The row, if it has all that a row has, and finite numbers."""
    missing = [key for key in KEYS if key not in row]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    numbers = [v for metrics in row["values"].values() for v in metrics.values()]
    if not numbers or not all(isfinite(v) for v in [*numbers, row["seconds"]]):
        raise ValueError("a value is no finite number")
    return dict(row)


def recorded(data: Path, page: str) -> list[Row]:
    """The rows that the book keeps for a page, [] if there are none.

    ``data`` is the book's folder of data. Raises ValueError if the file is damaged.
    """
    path = of_the_book(data / "units" / f"{page}.json")
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [_sound(row) for row in content["units"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"path: {path} holds no units ({error!r})") from error


def merge(data: Path, page: str, units: Sequence[Unit], rows: Sequence[Row]) -> int:
    """Add a page's rows to those that the book keeps; how many are new.

    Of two rows for one unit the older stays. A row by earlier code stays until there is
    one by today's code; one of an experiment that the page does not have is left out.
    Raises ValueError for rows of one experiment and one code that come from different
    data.
    """
    old, known = recorded(data, page), {unit.experiment.name for unit in units}
    given = [r for r in rows if r["page"] == page and r["experiment"] in known]
    by_name: dict[str, Row] = {}
    for row in sorted([*old, *given], key=lambda row: row["date"]):
        by_name.setdefault(name_of(row), row)
    check_data(by_name.values())
    names = {unit.name for unit in units}
    done = {_what(row) for name, row in by_name.items() if name in names}
    kept = {
        n: row for n, row in by_name.items() if n in names or _what(row) not in done
    }
    lines = ",\n".join(_json(kept[name]) for name in sorted(kept))
    content = f'{{"page": {_json(page)},\n"units": [\n{lines}\n]}}\n'
    write_safely(data / "units" / f"{page}.json", content.encode())
    return len(kept.keys() - {name_of(row) for row in old})


def _what(row: Mapping) -> tuple[str, str]:
    return row["experiment"], digest(row["settings"])


def check_data(rows: Sequence[Row]) -> None:
    """Raise ValueError if rows of one experiment and code come from different data."""
    found: dict[tuple, Row] = {}
    for row in rows:
        key = row["page"], row["experiment"], digest(row["code"])
        first = found.setdefault(key, row)
        if first["data"] != row["data"]:
            raise ValueError(
                f"{row['page']} {row['experiment']}: rows from different data, "
                f"{name_of(first)} and {name_of(row)}; delete those of the wrong data"
            )


def clear(folder: Folder, units: Sequence[Unit]) -> None:
    """Forget failures, so that their units are tried again."""
    for unit in units:
        with suppress(FileNotFoundError):
            folder.error(unit).unlink()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)

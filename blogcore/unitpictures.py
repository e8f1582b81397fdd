"""The pictures that units left beside their rows: read whole, and gathered with them.

A row knows them by name and hash: one that is missing, cut or another's is told.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from blogcore.keeping import picture_file
from blogcore.runtime import write_safely
from blogcore.unitfiles import Row, merge, name_of, recorded
from blogcore.units import Unit


def contents(folder: Path, row: Row) -> dict[str, bytes]:
    """A row's pictures, PNG, by name; ValueError for one that is not whole."""
    found = {}
    for name, (file, digest) in _named(row).items():
        path = folder / file
        found[name] = path.read_bytes() if path.is_file() else b""
        if sha256(found[name]).hexdigest() != digest:
            what = "cut or altered" if found[name] else "missing"
            raise ValueError(
                f"pictures: {path}, {name} of {name_of(row)}, is {what}; put it back, "
                "or delete that row where the picture should be, and its unit runs "
                "again"
            )
    return found


def merge_all(
    folder: Path, data: Path, page: str, units: Sequence[Unit], rows: Sequence[Row]
) -> int:
    """``unitfiles.merge``, and the rows' pictures go to ``data/units/<page>``.

    Raises ValueError, and records nothing, if one of them is not whole. What a kill on
    the way leaves out, the same call adds.
    """
    given = [(row, contents(folder, row)) for row in rows if row["page"] == page]
    new, home = merge(data, page, units, rows), data / "units" / page
    there = recorded(data, page)
    for row, found in given:
        if row in there:  # and not an older one of the same unit
            for name, (file, _) in _named(row).items():
                write_safely(home / file, found[name])
    kept = {file for row in there for file, _ in _named(row).values()}
    for path in home.glob("*.png"):
        if path.name not in kept:  # of a row that another has replaced
            path.unlink()
    return new


def _named(row: Mapping) -> dict[str, tuple[str, str]]:
    """File and hash of each picture of a row, by name."""
    stem = name_of(row)
    return {
        name: (picture_file(stem, name), digest)
        for name, digest in row.get("pictures", {}).items()
    }

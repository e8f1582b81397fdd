"""Whether an executed chapter is still what its sources would give.

It is, as long as its stamp is the same: a hash of the code cells, the rooms that they
import directly or through other rooms, what lies beside the chapters, the data files,
constraints.txt, the versions that are installed and the parameters; and as long as
nobody touched its outputs. Prose is not part of it.
"""

import ast
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import requires, version
from pathlib import Path

from blogcore.evidence import load_records
from blogcore.execution import ENVIRONMENT

PARAMETERS = ("PROFILE", "SEED", "DEVICE")


@dataclass(frozen=True)
class Job:
    """A chapter of the book under ``root`` and the parameters to execute it with."""

    root: Path
    slug: str
    profile: str = "book"
    seed: int = 0
    device: str = "auto"

    @property
    def source(self) -> Path:
        """The chapter as it was written."""
        return self.root / "chapters" / f"{self.slug}.ipynb"

    @property
    def target(self) -> Path:
        """The chapter as it was executed."""
        folder = self.root / "_build" / "executed" / f"{self.profile}-{self.seed}"
        return folder / f"{self.slug}.ipynb"

    @property
    def records(self) -> Path:
        """What earlier runs of the chapter gave."""
        return self.root / "data" / "records" / f"{self.slug}.json"

    @property
    def parameters(self) -> dict[str, object]:
        """The values that papermill writes below the parameters cell."""
        values = (self.profile, self.seed, self.device)
        return dict(zip(PARAMETERS, values, strict=True))

    def runs(self, others: bool) -> list[dict]:
        """The recorded runs of this profile and seed, or all the others."""
        key = (self.profile, self.seed)
        runs = load_records(self.records)
        return [r for r in runs if ((r["profile"], r["seed"]) != key) == others]


def stamp(job: Job) -> str:
    """The sha256 over everything that the executed chapter depends on.

    A data file belongs to the chapter that bears its name or names it, in its own code
    or through a room; an audit's claims lie in the file of its post. Records are left
    out: a page shows today's, whenever it ran (``runner.graft``). Raises ValueError for
    a chapter that does not take our parameters.
    """
    cells = _code(job)
    code = "\n".join(text(cell) for cell in cells)
    beside = [p for p in _files(job.root / "chapters") if p.suffix != ".ipynb"]
    modules = [path for path in beside if path.suffix == ".py"]
    texts = [code, *(path.read_text(encoding="utf-8") for path in modules)]
    rooms = rooms_of(texts, job.root / "blogcore")
    names = "".join([*texts, *(room.read_text(encoding="utf-8") for room in rooms)])
    data = {
        path
        for path in _files(job.root / "data")
        if path.stem == job.slug or path.name in names
    }
    claims = job.root / "data" / "claims" / f"{job.slug.removesuffix('_audit')}.toml"
    data |= {claims} if claims.is_file() else set()
    files = {job.root / "constraints.txt", *rooms, *beside, *data} - {job.records}
    parts = {
        "parameters": job.parameters,
        "cells": [[cell["id"], text(cell)] for cell in cells],
        "files": {str(p.relative_to(job.root)): _digest(p) for p in files},
        "environment": ENVIRONMENT | installed(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def seal(notebook: Mapping) -> str:
    """The sha256 of an executed notebook's cells: a changed output shows."""
    cells = json.dumps(notebook["cells"], sort_keys=True)
    return hashlib.sha256(cells.encode()).hexdigest()


def is_fresh(job: Job, new_stamp: str) -> bool:
    """Whether there is an executed chapter, as it was written, with this stamp."""
    try:
        executed = json.loads(job.target.read_text(encoding="utf-8"))
        found = executed["metadata"]["blogcore"]
        return found["stamp"] == new_stamp and found["seal"] == seal(executed)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@cache
def installed() -> dict[str, str]:
    """The versions of Python and of what the package needs, as they are installed."""
    needed = [re.match(r"[\w.-]+", r)[0] for r in requires("blogcore") if ";" not in r]
    return {"python": platform.python_version()} | {n: version(n) for n in needed}


def text(cell: Mapping) -> str:
    """A cell's source, which a file may hold as one string or as its lines."""
    return "".join(cell["source"])


def code_cells(notebook: Mapping) -> list[dict]:
    """The notebook's code cells in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _code(job: Job) -> list[dict]:
    """The chapter's code cells; ValueError unless it can be executed and grafted."""
    try:
        cells = code_cells(json.loads(job.source.read_text(encoding="utf-8")))
        ids = {cell["id"] for cell in cells}
        tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{job.slug}: no notebook with cell ids: {error!r}") from error
    names = re.findall(r"(?m)^(\w+) *=", "\n".join(map(text, tagged)))
    if len(tagged) != 1 or sorted(names) != sorted(PARAMETERS):
        raise ValueError(
            f"{job.slug}: {len(tagged)} cells tagged 'parameters' define {names}; "
            f"exactly one must define exactly {list(PARAMETERS)}"
        )
    if len(ids) < len(cells):
        raise ValueError(f"{job.slug}: two cells have the same id")
    return cells


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, behind links too, caches and hidden ones left out."""
    been = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        been.add(os.path.realpath(place))
        folders[:] = [
            name
            for name in folders
            if name[0] not in "._" and os.path.realpath(Path(place, name)) not in been
        ]
        paths = (Path(place, name) for name in names if name[0] != ".")
        yield from (path for path in paths if path.is_file())


def rooms_of(texts: list[str], package: Path) -> list[Path]:
    """The modules that code imports, directly or through other modules."""
    found, queue = {package / "__init__.py"}, [*texts]
    while queue:
        for name in _imported(queue.pop(), package):
            path = package / f"{name}.py"
            if path.is_file() and path not in found:
                found.add(path)
                queue.append(path.read_text(encoding="utf-8"))
    return sorted(found)


def _imported(code: str, package: Path) -> set[str]:
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a line magic, say: take it to import every room
        return {path.stem for path in package.glob("*.py")}
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            here = [package.name] if node.level else []
            origin = ".".join(filter(None, [*here, node.module]))
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return {n.split(".")[1] for n in names if n.startswith(f"{package.name}.")}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

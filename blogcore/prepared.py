"""Data that are read from their sources once, and then lie ready as plain arrays.

Decoding pictures or cutting texts takes a minute in every process; the arrays that come
of it are mapped into memory in a blink, by all workers alike. They are known by the
sources' hashes: a source that has changed since is told, not used.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from blogcore.runtime import real_data

FOLDER, CONTENTS = "prepared", "contents.json"
DIGITS = 16
Arrays = dict[str, torch.Tensor | np.ndarray]


class Prepared:
    """A function from the folder of real data to arrays by name, called at most once.

    ``needs`` are the files that it reads, or patterns of their names, and no others;
    “a or b” is the first that there is. A call gives what lies below the ``place``,
    prepared first if it is not there yet; without a place what the function reads; and
    after ``draw()`` what ``drawn`` makes up: arrays of the same form for tests. Numbers
    come as tensors.
    """

    def __init__(self, function: Callable, needs: tuple[str, ...], drawn: Callable):
        self.function, self.needs, self.drawn = function, needs, drawn
        self.name = function.__name__
        self.place: Path | None = None
        self.code = ""
        self._arrays: Arrays | None = None
        self.__doc__ = function.__doc__

    def settle(self, place: Path, code: str) -> None:
        """Say where the arrays lie, and which code makes them."""
        if (self.place, self.code) != (place, code):
            self.place, self.code, self._arrays = place, code, None

    def __call__(self) -> Arrays:
        """The arrays; ValueError for data that are missing, cut or changed."""
        if self._arrays is None:
            self._arrays = self._mapped() if self.place else self._read()
        return self._arrays

    def draw(self) -> None:
        """From now on give what ``drawn`` makes up."""
        self._arrays = _tensors(self.drawn())

    @property
    def home(self) -> Path:
        """The folder of these arrays."""
        return self.place / FOLDER / f"{self.name}-{self.code}"

    def prepare(self) -> str:
        """Make the arrays if they are not there; the hash of what they come from."""
        self.home.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.home}.lock"):
            if not (self.home / CONTENTS).exists():
                folder = real_data(*self.needs)
                sources = _digests(folder, self.needs)
                _write(self.home, self.function(folder), sources)
        return self.sources()

    def sources(self) -> str:
        """The hash of the sources; ValueError if they have changed since prepared."""
        then = self._contents()["sources"]
        if os.environ.get("BLOGCORE_DATA"):
            now = _digests(real_data(*self.needs), self.needs)
            for name in sorted(then.keys() | now.keys()):
                if then.get(name) != now.get(name):
                    raise ValueError(
                        f"{self.name}: {name} is not what it was when {self.home} was "
                        "prepared; put it back, or use another folder of units"
                    )
        return _short(then)

    def _read(self) -> Arrays:
        return _tensors(self.function(real_data(*self.needs)))

    def _mapped(self) -> Arrays:
        self.prepare()
        files = self._contents()["files"]
        return {name: self._map(name, digest) for name, digest in files.items()}

    def _map(self, name: str, digest: str) -> torch.Tensor | np.ndarray:
        path = self.home / f"{name}.npy"
        if not path.is_file() or _digest(path) != digest:
            raise ValueError(
                f"{path}: missing or cut; delete {self.home}, prepare again"
            )
        return _tensor(np.load(path, mmap_mode="c"))  # changes stay in memory

    def _contents(self) -> dict:
        path = self.home / CONTENTS
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {key: dict(found[key]) for key in ("sources", "files")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: cannot be read ({error}); delete {self.home}, prepare again"
            ) from error


def _write(home: Path, arrays: Mapping[str, object], sources: dict[str, str]) -> None:
    """Write all arrays beside, then move them into place at once."""
    with tempfile.TemporaryDirectory(dir=home.parent) as name:
        beside, files = Path(name) / home.name, {}
        beside.mkdir()
        for key, array in arrays.items():
            path = beside / f"{key}.npy"
            np.save(path, np.asarray(array), allow_pickle=False)
            files[key] = _digest(path)
        content = json.dumps({"sources": sources, "files": files}, indent=1)
        (beside / CONTENTS).write_text(content, encoding="utf-8")
        shutil.rmtree(home, ignore_errors=True)
        os.replace(beside, home)


def _digests(folder: Path, needs: Sequence[str]) -> dict[str, str]:
    """The hash of every file that is needed, by its name in the folder."""
    found: set[Path] = set()
    for need in needs:
        there = [[*folder.glob(pattern)] for pattern in need.split(" or ")]
        found |= {*next(filter(None, there))}
    files = {file.relative_to(folder).as_posix(): file for file in found}
    return {name: _digest(files[name]) for name in sorted(files)}


def prepared(
    *needs: str, drawn: Callable[[], Mapping]
) -> Callable[[Callable], Prepared]:
    """Make a function from the data's folder to arrays one that reads only once.

    ``@prepared("images/mnist.npz", drawn=some_images)``; see ``Prepared``. Raises
    ValueError if no file is named.
    """
    if not needs:
        raise ValueError("needs: names no file of the data")
    return lambda function: Prepared(function, needs, drawn)


def _tensors(arrays: Mapping[str, object]) -> Arrays:
    return {name: _tensor(array) for name, array in arrays.items()}


def _tensor(array: object) -> torch.Tensor | np.ndarray:
    array = np.asarray(array)
    return array if array.dtype.kind in "US" else torch.from_numpy(array)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(digests: Mapping[str, str]) -> str:
    content = json.dumps(dict(digests), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:DIGITS]

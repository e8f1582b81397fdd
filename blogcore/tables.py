"""Rows of text files: tab- or comma-separated, JSON, archives; errors name the line."""

import csv
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

Row = tuple[str, list[str]]  # where it stands, for messages; its fields


def column(path: Path, name: str | int | None) -> Iterator[str]:
    """The texts in one column: by name, by number in a file without heads, or lines.

    A .json file holds an object a line, an archive .csv files. Raises FileNotFoundError
    or ValueError, naming file and line.
    """
    if isinstance(name, str):
        yield from (text for _, (text,) in named(path, [name]))
        return
    for text in _opened(path).values():
        for line in text.split("\n"):
            yield line if name is None else line.split("\t")[name]


def named(path: Path, names: Sequence[str]) -> Iterator[Row]:
    """The fields of these names of each row of a .tsv, .csv, .json or .zip of .csv.

    All are texts; but what JSON calls ``label`` may be a number there.
    """
    for file, text in _opened(path).items():
        read = _objects if path.suffix == ".json" else _table
        yield from read(text, file, names)


def split(
    path: Path, separator: str | None, parts: int, heads: str | None = None
) -> Iterator[Row]:
    """The ``parts`` fields of each line that is not blank; there is at least one.

    ``separator`` None means white space. A line that begins with ``heads`` has two.
    """
    text = _opened(path)[path.name]
    if not text.strip():
        raise ValueError(f"{path.name}, line 1: the file is blank")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            fields = [field.strip() for field in line.split(separator)]
            where = f"{path.name}, line {number}"
            expected = 2 if fields[0] == heads else parts
            if len(fields) != expected or not all(fields):
                raise ValueError(f"{where}: {line.strip()!r} is not {expected} fields")
            yield where, fields


def _opened(path: Path) -> dict[str, str]:
    """The text of a file, or of each .csv in an archive, by name."""
    if not path.is_file():
        raise FileNotFoundError(f"folder: {path} is not there")
    if path.suffix != ".zip":
        return {path.name: _decoded(path.read_bytes(), path.name)}
    try:
        with ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.endswith(".csv"))
            tables = {f"{path.name}/{name}": archive.read(name) for name in names}
    except (BadZipFile, EOFError, OSError, RuntimeError, zlib.error) as error:
        raise ValueError(f"{path.name}: damaged ({error})") from error
    return {name: _decoded(content, name) for name, content in tables.items()}


def _decoded(content: bytes, name: str) -> str:
    """The text in a file's content, less a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{name}, line {line}: not UTF-8 ({error.reason})") from error


def _table(text: str, file: str, names: Sequence[str]) -> Iterator[Row]:
    """Columns of a table: tab-separated without quotes, or comma-separated."""
    tabs = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    form = tabs if file.endswith(".tsv") else {"strict": True}
    table = csv.reader(io.StringIO(text), **form)
    try:
        head = next(table, [])
        for name in names:
            if name not in head:
                raise csv.Error(f"no column {name}")
        places = [head.index(name) for name in names]
        for row in table:
            if row and len(row) != len(head):
                raise csv.Error(f"{len(row)} fields, expected {len(head)}")
            if row:
                yield f"{file}, line {table.line_num}", [row[p] for p in places]
    except csv.Error as error:
        where = max(1, table.line_num)
        raise ValueError(f"{file}, line {where}: {error}") from error


def _objects(text: str, file: str, names: Sequence[str]) -> Iterator[Row]:
    """Entries of the JSON objects in a text, an object a line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line:
            where = f"{file}, line {number}"
            try:
                entries = json.loads(line)
                found = [entries[name] for name in names]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{where}: {error!r}") from error
            for name, value in zip(names, found, strict=True):
                class_number = name == "label" and type(value) is int
                if not class_number and not isinstance(value, str):
                    raise ValueError(f"{where}: {value!r} is not a text")
            yield where, [str(value) for value in found]

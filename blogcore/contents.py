"""The book's table of contents: where it lies, and the chapters in their order."""

import os
from collections.abc import Iterator
from pathlib import Path

import yaml


def find_root(start: Path | None = None) -> Path:
    """The folder with the book's ``_toc.yml``: ``start``, or the nearest one.

    Without ``start`` it is sought from the working directory upwards, then beside the
    package. Raises ValueError if there is none, or its path cannot be searched.
    """
    here = Path.cwd()
    nearest = [here, *here.parents, Path(__file__).parents[1]]
    places = nearest if start is None else [Path(start)]
    for place in places:
        if (place / "_toc.yml").is_file():
            root = place.resolve()
            if os.pathsep in str(root):
                raise ValueError(f"root: {root} must not contain {os.pathsep!r}")
            return root
    raise ValueError(f"root: no _toc.yml in {places[0]}")


def chapters(root: Path | None = None) -> list[str]:
    """The names of the chapters in the order of ``_toc.yml``.

    Raises ValueError, naming the file, if it is no table of contents.
    """
    path = find_root(root) / "_toc.yml"
    try:
        toc = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(toc, dict) or not isinstance(toc.get("root"), str):
            raise ValueError(f"{toc!r} has no root")
        return list(_listed(toc))
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: no table of contents: {reason}") from error


def _listed(entry: dict) -> Iterator[str]:
    """Every chapter that a table of contents names, in its order."""
    name = entry.get("file", "")
    if not isinstance(name, str):
        raise ValueError(f"file: {name!r} is no text")
    if name.startswith("chapters/"):
        yield name.removeprefix("chapters/").removesuffix(".ipynb")
    for key in ("parts", "chapters", "sections"):
        below = entry.get(key, [])
        if not isinstance(below, list) or not all(isinstance(b, dict) for b in below):
            raise ValueError(f"{key}: {below!r} is no list of entries")
        for item in below:
            if key != "parts" and not {"file", "url", "glob"} & item.keys():
                raise ValueError(f"{key}: {item!r} names no file")
            yield from _listed(item)

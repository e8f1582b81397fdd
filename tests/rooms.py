"""The map of rooms: README's table, made of the import contract and of docstrings.

``make format`` writes it; a test compares.
"""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- rooms, by make format -->\n", "<!-- end of rooms -->\n"


def layers() -> list[list[str]]:
    """The rooms of each layer, from above to below."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    found = [re.findall(r"\w+", layer) for layer in contract["layers"]]
    return [layer for layer in found if layer != ["__main__"]]


def about(room: str) -> str:
    """The first line of a room's docstring."""
    text = (ROOT / "blogcore" / f"{room}.py").read_text(encoding="utf-8")
    return (
        ast.get_docstring(ast.parse(text))
        .partition("\n")[0]
        .rstrip(".")
        .replace("|", r"\|")
    )


def table() -> str:
    """Markdown: a row a room, layers numbered from above."""
    lines = ["| layer | room | what it holds |", "|---|---|---|"]
    for number, layer in enumerate(layers(), start=1):
        lines += [f"| {number} | `{room}` | {about(room)} |" for room in sorted(layer)]
    return "\n".join(lines) + "\n"


def with_map(readme: str) -> str:
    """README with today's table between its marks."""
    before, _, rest = readme.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    README.write_text(with_map(README.read_text(encoding="utf-8")), encoding="utf-8")

"""What a reader does with a page: run it, change its settings, run it again.

One process plays a kernel. ``python reader.py PAGE '[[SEED, CHANGED], ...]'`` runs the
page from top to bottom for each pair, all in one namespace and in the smoke profile,
and prints as JSON what each run recorded, or which cell ended it and why.
"""

import ast
import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # as a kernel

from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from blogcore import runner
from blogcore.freshness import code_cells, text

CHAPTERS = Path(__file__).parents[1] / "chapters"
TRY = re.compile(r"#.*\btry ([\d.]+)")


def settings_cells(slug: str) -> list[dict]:
    """The cells of a page that ask to be changed."""
    cells = code_cells(json.loads((CHAPTERS / f"{slug}.ipynb").read_text("utf-8")))
    return [cell for cell in cells if asks_for_change(cell)]


def asks_for_change(cell: dict) -> bool:
    """Whether a cell is tagged ``settings`` or says so in a comment."""
    return "settings" in cell["metadata"].get("tags", []) or re.search(
        r"#.*\bchange me\b", text(cell)
    )


def changed(source: str) -> str:
    """A settings cell as a reader would leave it: every number is another one.

    ``NAME = number`` and the smoke number of ``NAME = by_profile(…)`` change: to what
    the line's comment says («try 3»), else n to n + 1 and x to 0.9 x.
    """
    tree, lines = ast.parse(source), source.splitlines()
    for node in tree.body:
        number = _number(node)
        if number is not None:
            suggested = TRY.search(lines[node.end_lineno - 1])
            number.value = (
                ast.literal_eval(suggested[1].rstrip("."))
                if suggested
                else _another(number.value)
            )
    return ast.unparse(tree)


def _number(node: ast.stmt) -> ast.Constant | None:
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return None
    value = node.value
    if isinstance(value, ast.Call):  # by_profile(PROFILE, smoke=2, book=10, full=10)
        value = next((k.value for k in value.keywords if k.arg == "smoke"), None)
    plain = isinstance(value, ast.Constant) and type(value.value) in (int, float)
    return value if plain else None


def _another(number: float) -> float:
    return number + 1 if isinstance(number, int) else 0.9 * number


class Kernel:
    """A kernel in this process; figures are drawn, what is shown is kept."""

    def __init__(self):
        self.shell = InteractiveShell.instance()
        self.shell.showtraceback = lambda *_, **__: None

    def run(self, slug: str, seed: int, change: bool) -> dict:
        """Run a page from top to bottom: its records, or its error."""
        page = json.loads((CHAPTERS / f"{slug}.ipynb").read_text("utf-8"))
        self.shell.display_pub = CapturingDisplayPublisher()
        for cell in code_cells(page):
            source = text(cell)
            if "parameters" in cell["metadata"].get("tags", []):
                source = f'PROFILE = "smoke"\nSEED = {seed}\nDEVICE = "auto"\n'
            elif change and asks_for_change(cell):
                source = changed(source)
            with contextlib.redirect_stdout(io.StringIO()):
                done = self.shell.run_cell(source)
            error = done.error_before_exec or done.error_in_exec
            if error is not None:
                kind = type(error).__name__
                return {"error": f"cell {cell['id']}: {kind}: {error}"[:300]}
        shown = {"cell_type": "code", "outputs": self.shell.display_pub.outputs}
        return {"records": runner.ledger({"cells": [shown]})}


if __name__ == "__main__":
    page, runs = sys.argv[1], json.loads(sys.argv[2])
    kernel = Kernel()
    json.dump([kernel.run(page, *run) for run in runs], sys.stdout)

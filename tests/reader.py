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
    """A settings cell as a reader would leave it: each of its settings is another one.

    Settings are names in capitals. A number changes to what its line's comment says
    («try 3»), else n to n + 1 and x to 0.9 x; of ``by_profile(…)`` the smoke number
    does. A list of three or more loses its last entry, of fewer its numbers change.
    """
    tree, lines = ast.parse(source), source.splitlines()
    for node in tree.body:
        if isinstance(node, ast.Assign) and _names(node.targets[0]):
            tried = TRY.search(lines[node.end_lineno - 1])
            node.value = _another(node.value)
            if tried and isinstance(node.value, ast.Constant):
                node.value.value = ast.literal_eval(tried[1].rstrip("."))
    return ast.unparse(tree)


def _names(target: ast.expr) -> bool:
    """Whether it is a setting's name, or several."""
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    return all(isinstance(name, ast.Name) and name.id.isupper() for name in names)


def _another(value: ast.expr) -> ast.expr:
    """Another value of the same kind, for what a reader would change by hand."""
    if isinstance(value, ast.Constant) and type(value.value) in (int, float):
        number = value.value
        value.value = number + 1 if isinstance(number, int) else 0.9 * number
    elif isinstance(value, ast.List) and len(value.elts) > 2:
        value.elts.pop()
    elif isinstance(value, ast.List | ast.Tuple):
        value.elts = [_another(element) for element in value.elts]
    elif isinstance(value, ast.Call) and ast.unparse(value.func) == "by_profile":
        for choice in value.keywords:
            if choice.arg == "smoke":
                choice.value = _another(choice.value)
    return value


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

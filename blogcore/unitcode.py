"""The code that a large experiment depends on, as hashes that prose does not change.

An experiment is a function in the tagged cells of its page. It depends on the
statements of these cells that it reaches through names, and on the rooms that these
import, directly or through others. Comments, docstrings and line breaks are left out;
so is how units are run, the arguments of ``@experiment`` and ``@prepared`` among it: a
further seed changes no row that exists.
"""

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from blogcore.freshness import rooms_of

DECORATORS = ("experiment", "prepared")
HOW = ("units", "prepared")  # rooms that say how units run, not what they compute
DIGITS = 10


def digest(value: object) -> str:
    """The first ten digits of the sha256 of plain data, the same on every machine."""
    content = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()[:DIGITS]


def parts(cells: Sequence[str], name: str, package: Path) -> dict[str, str]:
    """What the code called ``name`` consists of: the cells' part and rooms, by hash.

    ``package`` is the folder of the rooms. Raises ValueError if no cell defines it.
    """
    statements = reached(cells, name)
    texts = [ast.unparse(statement) for statement in statements]
    rooms = [room for room in rooms_of(texts, package) if room.stem not in HOW]
    found = {room.stem: _plain(room) for room in rooms}
    found["cells"] = digest([_tree(statement) for statement in statements])
    return found


def reached(cells: Sequence[str], name: str) -> list[ast.stmt]:
    """The statements of the cells that ``name`` needs, in their order.

    What defines no name, a call that sets something, is always needed.
    """
    statements = [s for cell in cells for s in _single(ast.parse(cell))]
    if not any(name in defined(s) for s in statements):
        raise ValueError(f"{name}: no cell tagged 'unit' defines it")
    wanted, kept, new = {name}, set(), [None]
    while new:
        new = [
            place
            for place, s in enumerate(statements)
            if place not in kept and (not defined(s) or defined(s) & wanted)
        ]
        kept |= set(new)
        wanted |= {read for place in new for read in _read(statements[place])}
    return [statements[place] for place in sorted(kept)]


def _single(tree: ast.Module) -> list[ast.stmt]:
    """The statements, an import for each name, without what only runs units."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module in [
            f"blogcore.{name}" for name in HOW
        ]:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            fields = dict(ast.iter_fields(node))
            found += [type(node)(**fields | {"names": [a]}) for a in node.names]
            continue
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [d for d in node.decorator_list if not _runs(d)]
        found.append(node)
    return found


def _runs(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Name) and called.id in DECORATORS


def defined(statement: ast.stmt) -> set[str]:
    """The names that a statement gives at the top level of its cell."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {a.asname or a.name.partition(".")[0] for a in statement.names}
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    return _names(statement, ast.Store)


def _read(statement: ast.stmt) -> set[str]:
    return _names(statement, ast.Load)


def _names(statement: ast.stmt, kind: type) -> set[str]:
    nodes = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return {node.id for node in nodes if isinstance(node.ctx, kind)}


def _plain(room: Path) -> str:
    return digest(_tree(ast.parse(room.read_text(encoding="utf-8"))))


def _tree(node: object) -> object:
    """A syntax tree as plain data, alike in all versions of Python: empty fields go."""
    if isinstance(node, list):
        return [_tree(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields: Mapping[str, object] = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
        fields = fields | {"body": node.body[_documented(node) :]}
    found = {name: _tree(v) for name, v in fields.items() if v not in (None, [])}
    return [type(node).__name__, found]


def _documented(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether the first statement is a docstring."""
    first = node.body[0] if node.body else None
    value = first.value if isinstance(first, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)

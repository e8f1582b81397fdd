"""What can be counted in a notebook: words, open code, figures, names that clash."""

import ast
import re
import symtable
from collections import defaultdict
from collections.abc import Iterator

from blogcore.freshness import code_cells, text

# What is no word of the prose: code, formulas, roles, options and addresses.
NOT_PROSE = re.compile(
    r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|\{[\w:]+\}`[^`]*`|`[^`]*`|^:+[\w{][^\n]*$|https?:\S+|\]\([^)]*\)",
    re.DOTALL | re.MULTILINE,
)
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell", "solution"}
# A tone in any string; a number or a name of a colour only where one is asked for: by
# the name of an argument, or behind data that are drawn. Elsewhere "C4" is a claim.
TONE = re.compile(r"C0|#[0-9A-Fa-f]{3,8}|(?:tab|xkcd):.*")
NUMBER = re.compile(r"C\d")
DRAWN = {"plot", "loglog", "semilogx", "semilogy", "scatter", "band", "errorbar", "zip"}
COLOURED = {"color", "c", "fc", "ec", "facecolor", "edgecolor", "colors"}
GROUNDS = {"none", "white"}


def tags(cell: dict) -> set[str]:
    return set(cell["metadata"].get("tags", []))


def prose(notebook: dict) -> str:
    """The text of a notebook without its code."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join(map(text, cells))


def words(notebook: dict) -> int:
    return len(re.findall(r"[^\W\d_]+", NOT_PROSE.sub(" ", prose(notebook))))


def length(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


def lines_of_code(source: str) -> int:
    """The lines of a cell without its imports, which take one line a name."""
    kinds = (ast.Import, ast.ImportFrom)
    imports = [node for node in ast.parse(source).body if isinstance(node, kinds)]
    return len(source.splitlines()) - sum(map(length, imports))


def open_cells(notebook: dict) -> list[dict]:
    """The code that a reader of the page sees without a click."""
    return [cell for cell in code_cells(notebook) if not tags(cell) & FOLDED]


def figures(notebook: dict) -> list[dict]:
    """What a figure's caption, name and alt text are, figure by figure."""
    described = [c["metadata"].get("mystnb", {}) for c in code_cells(notebook)]
    return [found for found in described if "figure" in found or "image" in found]


def titles(notebook: dict) -> list[str]:
    found = NOT_CODE.sub("", prose(notebook))
    return re.findall(r"(?m)^#+ .*$", found)


NOT_CODE = re.compile(r"```.*?```", re.DOTALL)


def literal_colours(source: str) -> list[str]:
    """The colours that a cell types instead of taking them from the table."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if is_text(node) and TONE.fullmatch(node.value):
            found.append(node.value)
        for value in asked(node):
            if is_text(value) and value.value not in GROUNDS:
                found += [value.value] if not TONE.fullmatch(value.value) else []
    return found


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def asked(node: ast.AST) -> Iterator[ast.AST]:
    """What stands where a colour is asked for."""
    if isinstance(node, ast.Call):
        yield from (word.value for word in node.keywords if word.arg in COLOURED)
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        deep = [n for argument in node.args for n in ast.walk(argument)]
        texts = [n for n in deep if is_text(n) and NUMBER.fullmatch(n.value)]
        yield from texts if name in DRAWN else []
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value in COLOURED:
                yield value


def names(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell gives at its top level, and those it reads from there."""
    tree = Scoped().visit(ast.parse(source))
    top = symtable.symtable(ast.unparse(tree), "cell", "exec")
    given = {s.get_name() for s in top.get_symbols() if s.is_assigned()}
    imported = {s.get_name() for s in top.get_symbols() if s.is_imported()}
    read = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    for scope in inner(top):
        symbols = scope.get_symbols()
        read |= {s.get_name() for s in symbols if s.is_global() and s.is_referenced()}
    return given - imported, read


class Scoped(ast.NodeTransformer):
    """Comprehensions as lambdas, so that their variables are their own.

    (From Python 3.12 on, symtable counts them among the names of the cell.)
    """

    def visit(self, node: ast.AST) -> ast.AST:
        node = super().visit(node)
        if not hasattr(node, "generators"):
            return node
        kept = [getattr(node, part, None) for part in ("elt", "key", "value")]
        kept = [part for part in kept if part]
        for step in reversed(node.generators):
            bound = [n.id for n in ast.walk(step.target) if isinstance(n, ast.Name)]
            taken = ast.parse(f"lambda {', '.join(bound)}: ()", mode="eval").body
            taken.body = ast.Tuple([*step.ifs, *kept], ast.Load())
            kept = [step.iter, taken]
        return ast.Tuple(kept, ast.Load())


def inner(scope: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """The functions, classes and comprehensions in a scope, at any depth."""
    for child in scope.get_children():
        yield child
        yield from inner(child)


def reused_names(notebook: dict) -> dict[str, list[str]]:
    """Names that two cells give and a third reads, with the cells that give them.

    Such a third cell means something else after the second has run again.
    """
    givers, readers = defaultdict(list), defaultdict(list)
    for cell in code_cells(notebook):
        given, read = names(text(cell))
        for name in given:
            givers[name].append(cell["id"])
        for name in read - given:
            readers[name].append(cell["id"])
    return {n: cells for n, cells in givers.items() if len(cells) > 1 and readers[n]}

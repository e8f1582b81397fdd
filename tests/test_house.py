"""The house rules that a machine can check, in the package, the chapters, the files."""

import ast
import json
import os
import re
import tomllib
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

import pytest
import yaml
from measures import NOT_PROSE, length, lines

from blogcore import runner
from blogcore.freshness import PARAMETERS, code_cells, text
from blogcore.report import AUDIT

ROOT = Path(__file__).parents[1]
MODULES = sorted([*ROOT.glob("blogcore/*.py"), *ROOT.glob("_ext/*.py")])
TESTS = sorted(ROOT.glob("tests/**/test_*.py"))
CHAPTERS = sorted(ROOT.glob("chapters/*.ipynb"))
VAGUE = {"utils", "util", "misc", "helpers", "common", "core", "src", "lib"}
# Spelled in pieces, so that this file keeps the rules too.
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
UNSAFE = re.compile(
    r"\bpic" r"kle\.load|torch\.lo" r'ad\(|filterwarnings\("ig' r"nore|exce" r"pt:"
)
LOCAL = re.compile(r"(?<![\w.)])/(?:home|root|work|Users|tmp)/\w")
CITED = re.compile(r"\{cite(?::\w+)?\}`")
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+")
LABEL = re.compile(r"^(?:\$\$ )?\(([\w-]+)\)=?$|^:(?:label|name): (\S+)$", re.MULTILINE)


def named(paths):
    return [pytest.param(p, id=str(p.relative_to(ROOT))) for p in paths]


def written() -> list[Path]:
    """Every file that belongs to the book: all but what .gitignore names."""
    ignored = [
        line.rstrip("/") for line in (ROOT / ".gitignore").read_text("utf-8").split()
    ]
    found = []

    # In a linked worktree .git is a file, and an environment may be a link.
    def kept(names: list[str]) -> list[str]:
        ours = [n for n in names if not any(fnmatch(n, i) for i in (".git", *ignored))]
        return sorted(ours)

    for folder, folders, files in os.walk(ROOT):
        folders[:] = kept(folders)
        found += [Path(folder) / name for name in kept(files)]
    return [
        path for path in found if path.suffix not in {".png", ".safetensors", ".woff2"}
    ]


def nodes(path: Path, *kinds):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def functions(path: Path):
    return nodes(path, ast.FunctionDef, ast.AsyncFunctionDef)


def notebook(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def prose(path: Path) -> list[str]:
    """The paragraphs of a chapter."""
    cells = [c for c in notebook(path)["cells"] if c["cell_type"] == "markdown"]
    return [p for cell in cells for p in re.split(r"\n\s*\n", text(cell))]


@pytest.mark.parametrize("path", named(MODULES))
class TestModule:
    """STYLE in numbers, for every module of the package and the extensions."""

    def test_is_one_idea_long(self, path):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
        assert path.stem not in VAGUE
        assert not re.search(r"\d", path.stem.replace("2d", "")), "ideas, not numbers"

    def test_functions_and_classes_are_short(self, path):
        for node in functions(path):
            assert length(node) <= 45, node.name
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = [a.arg for a in arguments if a.arg not in ("self", "cls")]
            assert len(names) <= 7, node.name
        for node in nodes(path, ast.ClassDef):
            assert length(node) <= 90, node.name

    def test_says_what_its_public_names_are(self, path):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree)
        public = [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef))]
        for owner in public:
            for node in owner.body:
                kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
                name = getattr(node, "name", "_")
                # What forward does, the docstring of its module says.
                if isinstance(node, kinds) and name[0] != "_" and name != "forward":
                    assert ast.get_docstring(node), f"{node.name} has no docstring"

    def test_imports_name_the_room(self, path):
        for node in nodes(path, ast.ImportFrom):
            assert node.level == 0, f"relative import, line {node.lineno}"
            assert node.names[0].name != "*", f"star import, line {node.lineno}"


@pytest.mark.parametrize("path", named(TESTS))
def test_every_test_can_fail(path):
    for function in functions(path):
        if function.name.startswith("test_"):
            called = ast.unparse(function)
            checks = re.search(r"\bassert|raises\(|\bcheck\w*\(|\bexpect\(", called)
            assert checks, f"{function.name} asserts nothing"


@pytest.mark.parametrize("path", named(CHAPTERS))
class TestChapter:
    """The form in which a chapter is kept, and the rhythm in which it is told."""

    def test_is_kept_without_outputs(self, path):
        book = notebook(path)
        ids = [cell["id"] for cell in book["cells"]]
        assert len(set(ids)) == len(ids)
        assert set(book["metadata"]) <= {"kernelspec", "language_info"}
        assert book["metadata"]["kernelspec"]["name"] == "python3"
        for cell in code_cells(book):
            assert cell["outputs"] == [], cell["id"]
            assert cell["execution_count"] is None, cell["id"]
            assert "papermill" not in cell["metadata"], cell["id"]

    def test_takes_the_three_parameters(self, path):
        cells = code_cells(notebook(path))
        tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
        assert len(tagged) == 1
        values = {}
        exec(text(tagged[0]), {}, values)
        assert values == dict(zip(PARAMETERS, ("book", 0, "auto"), strict=True))

    def test_has_the_rhythm(self, path):
        cells = notebook(path)["cells"]
        assert text(cells[0]).startswith("# ")
        kinds = "".join(cell["cell_type"][0] for cell in cells)
        assert "ccc" not in kinds, "three code cells without prose"
        shown = [c for c in cells if "solution" not in c["metadata"].get("tags", [])]
        assert len(code_cells({"cells": shown})) <= 55  # less in test_pattern.py
        for cell in code_cells({"cells": cells}):
            assert lines(cell) <= 25, cell["id"]

    def test_has_its_figures(self, path):
        cells = code_cells(notebook(path))
        alts = [
            c["metadata"].get("mystnb", {}).get("image", {}).get("alt") for c in cells
        ]
        least = 0 if path.stem.endswith(AUDIT) else 6
        assert least <= sum(map(bool, alts)) <= 12

    def test_types_no_result(self, path):
        """A decimal number in prose is pasted from the run, a setting or a quotation.

        A setting stands in the code as well, a quotation in a paragraph that cites.
        """
        code = "\n".join(map(text, code_cells(notebook(path))))
        post = path.stem.removesuffix(AUDIT)
        claims = ROOT / "data" / "claims" / f"{post}.toml"
        code += claims.read_text(encoding="utf-8") if claims.exists() else ""
        settings = {float(number) for number in DECIMAL.findall(code)}
        for paragraph in prose(path):
            if CITED.search(paragraph):
                continue
            for number in DECIMAL.findall(NOT_PROSE.sub(" ", paragraph)):
                assert float(number) in settings, f"{number} is typed: {paragraph}"

    def test_is_listed_once_finished(self, path):
        assert runner.chapters(ROOT).count(path.stem) == 1
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        # Merged twice, a row of the table once stood there three times.
        assert readme.count(f"](chapters/{path.stem}.ipynb)") == 1


def test_no_label_is_used_twice():
    """Labels of equations, theorems and exercises are one namespace for the book.

    Claims have their numbers as anchors (#c6a), which no label may take.
    """
    books = ["\n".join(map(text, notebook(path)["cells"])) for path in CHAPTERS]
    labels = ["".join(found) for book in books for found in LABEL.findall(book)]
    assert len(labels) > 40
    assert {name for name in labels if labels.count(name) > 1} == set()
    assert [name for name in labels if re.fullmatch(r"[cC]\d+[a-z]?", name)] == []


def test_the_posts_are_listed_in_one_order():
    """Every chapter belongs to a post, and the book has the order of the posts."""
    stated = (ROOT / "data" / "posts.toml").read_text(encoding="utf-8")
    posts = [post["slug"] for post in tomllib.loads(stated)["post"]]
    assert len(posts) == 8
    pages = [page.removesuffix(AUDIT) for page in runner.chapters(ROOT)]
    listed = list(dict.fromkeys(pages))
    assert listed == [slug for slug in posts if slug in listed]


def test_every_file_is_finished_and_knows_no_machine():
    paths = written()
    assert ROOT / "README.md" in paths
    for path in paths:
        content = path.read_text(encoding="utf-8")
        for rule in (UNFINISHED, UNSAFE, LOCAL):
            found = rule.search(content)
            assert not found, f"{path.relative_to(ROOT)}: {found.group()}"


def test_names_are_ideas():
    for path in written():
        parts = path.relative_to(ROOT).with_suffix("").parts
        assert not VAGUE & set(parts), path
        assert not re.search(r"\b(ch|chapter)_?\d", "/".join(parts)), path


def test_every_dependency_has_one_exact_version():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    for line in pins:
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), line
    normal = [re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() for pin in pins]
    assert len(set(normal)) == len(normal)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    for name in [*project["project"]["dependencies"], *chain(*extras)]:
        assert re.sub(r"[-_.]+", "-", name).lower() in normal, f"{name} is not pinned"


def test_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = project["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_readme_names_what_there_is_and_its_code_runs(capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"```\n(README\.md.*?)```", readme, re.DOTALL)
    for name in re.findall(r"(?m)^(\S+)", tree):
        assert (ROOT / name).exists(), f"{name} is in the README's tree only"
    for room in ROOT.glob("blogcore/[a-z]*.py"):
        assert f"`{room.stem}`" in readme, f"{room.stem} is not in the README"
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(code, {})
    shown = re.search(r"prints `([^`]+)`", readme).group(1)
    assert capsys.readouterr().out.strip() == shown


def test_actions_are_pinned_to_a_commit():
    for path in ROOT.glob(".github/workflows/*.yml"):
        text = path.read_text(encoding="utf-8")
        uses = re.findall(r"uses: *(\S+)(.*)", text)
        assert uses, path
        for action, comment in uses:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), action
            assert re.search(r"# v\d", comment), f"{action}: which version is it?"
        assert "permissions:\n  contents: read" in text

"""Every chapter in its smoke profile: five processes, the same numbers and outputs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from blogcore import runner
from blogcore.freshness import code_cells, text
from blogcore.report import AUDIT

ROOT = Path(__file__).parents[1]
SOURCES = ("blogcore", "chapters", "data")
GLUE = re.compile(r"\{glue:text\}`(\w+)\.ipynb::([^:`]+)(?::[^`]*)?`")


class Chapter:
    """A chapter as written, and what each of its five executions gave."""

    def __init__(self, slug: str, folder: Path):
        self.slug = slug
        self.source = read(ROOT / "chapters" / f"{slug}.ipynb")
        roots = [ROOT, *(copy_of_the_book(folder / str(n)) for n in (1, 2, 3))]
        plain = folder / "plain.ipynb"
        commands = [
            *(("blogcore.runner", "run", slug, "--root", root) for root in roots),
            ("papermill", ROOT / "chapters" / f"{slug}.ipynb", plain),
        ]
        together([[*c, *SMOKE[c[0]]] for c in commands])
        paths = [runner.executed_path(slug, "smoke", root=root) for root in roots]
        self.executed = [read(path) for path in [*paths, plain]]


SMOKE = {
    "blogcore.runner": ("--profile", "smoke"),
    "papermill": ("-p", "PROFILE", "smoke", "--no-progress-bar"),
}


def copy_of_the_book(root: Path) -> Path:
    """What executing needs, in another folder."""
    for name in SOURCES:
        shutil.copytree(ROOT / name, root / name)
    for name in ("_toc.yml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    return root


def together(commands) -> list[str]:
    """Run modules side by side, each with its own hash seed; what they said."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, command in enumerate(commands)
    ]
    said = [process.communicate()[0] for process in running]
    for process, words in zip(running, said, strict=True):
        assert process.returncode == 0, words
    return said


def read(path: Path) -> dict:
    return nbformat.read(path, as_version=4)


def outputs(notebook: dict) -> dict[str, list]:
    """The outputs of each cell that somebody wrote, by its id."""
    cells = code_cells(notebook)
    written = [c for c in cells if "injected-parameters" not in c["metadata"]["tags"]]
    return {cell["id"]: cell["outputs"] for cell in written}


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module", params=runner.chapters())
def chapter(request, tmp_path_factory) -> Chapter:
    """The chapter, executed by the runner in four folders and by plain papermill."""
    return Chapter(request.param, tmp_path_factory.mktemp(request.param))


def test_ledgers_of_five_processes_are_equal(chapter):
    first, *others = (runner.ledger(notebook) for notebook in chapter.executed)
    assert first, "a chapter records something"
    assert len(others) == 4
    for other in others:
        assert other == first


def test_every_output_is_the_same_in_every_folder(chapter):
    first, *others = (outputs(notebook) for notebook in chapter.executed)
    for other in others:
        assert other == first


def test_smoke_profile_judges_nothing(chapter):
    records = runner.ledger(chapter.executed[0])
    verdicts = {r["verdict"] for r in records if r["kind"] == "verdict"}
    assert verdicts <= {"not judged"}


def test_no_cell_writes_to_stderr_or_shows_an_address(chapter):
    for cell, shown in outputs(chapter.executed[0]).items():
        assert all(o.get("name") != "stderr" for o in shown), f"{cell}: {shown}"
        assert not re.search(r" at 0x[0-9a-f]{6}|" + str(ROOT), json.dumps(shown)), cell


def test_cells_with_a_picture_and_only_they_have_alt_text(chapter):
    shown = outputs(chapter.executed[0])
    for cell in code_cells(chapter.source):
        image = any("image" in str(list(o.get("data", {}))) for o in shown[cell["id"]])
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        assert image == (len(alt) > 20), f"cell {cell['id']}: alt text {alt!r}"


def test_solutions_ran(chapter):
    counts = {c["id"]: c["execution_count"] for c in code_cells(chapter.executed[0])}
    cells = code_cells(chapter.source)
    solutions = [c for c in cells if "solution" in c["metadata"].get("tags", [])]
    least = 0 if chapter.slug.endswith(AUDIT) else 4
    assert least <= len(solutions) <= 6
    for cell in solutions:
        assert "assert " in text(cell), f"solution {cell['id']} checks nothing"
        assert counts[cell["id"]], f"solution {cell['id']} did not run"


def test_prose_names_only_what_is_recorded(chapter):
    known = {record["name"] for record in runner.ledger(chapter.executed[0])}
    prose = " ".join(
        text(c) for c in chapter.source["cells"] if c["cell_type"] == "markdown"
    )
    used = GLUE.findall(prose)
    assert len(used) == prose.count("{glue:")
    assert used, "no number of the prose comes from the run"
    for slug, name in used:
        assert slug != chapter.slug or name in known, f"{name} is not recorded"

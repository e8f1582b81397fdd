"""Every page in its smoke profile: two ways to run it, the same numbers and outputs.

The second way is that of a reader who has downloaded a page's plain notebook.
"""

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
from blogcore.freshness import Job, code_cells, is_fresh, stamp, text
from blogcore.report import AUDIT

ROOT = Path(__file__).parents[1]
SOURCES = ("blogcore", "chapters", "data")
GLUE = re.compile(r"\{glue:text\}`(\w+)\.ipynb::([^:`]+)(?::[^`]*)?`")

RUN = ("blogcore.runner", "run")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Chapter:
    """A page as written; what the runner made of it here, and of its plain notebook
    papermill elsewhere.
    """

    def __init__(self, slug: str, elsewhere: Path, said: str, site: Path):
        self.slug, self.root = slug, elsewhere
        self.source = read(ROOT / "chapters" / f"{slug}.ipynb")
        job = Job(ROOT, slug, "smoke")
        assert is_fresh(job, stamp(job)), said
        plain = elsewhere / f"plain-{slug}.ipynb"
        arguments = ("-p", "PROFILE", "smoke", "--no-progress-bar")
        downloaded = site / "_sources" / "chapters" / f"{slug}.ipynb"
        run(elsewhere, 1, "papermill", downloaded, plain, *arguments)
        self.executed = read(job.target)
        self.plain = read(plain)


def copy_of_the_book(root: Path) -> Path:
    """What executing needs, in another folder."""
    for name in SOURCES:
        shutil.copytree(ROOT / name, root / name)
    for name in ("_toc.yml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    return root


def run(root: Path, hash_seed: int, *command) -> None:
    """Run a module with the book and the package below ``root``, to its good end."""
    settings = {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=root,
        env=os.environ | settings,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def read(path: Path) -> dict:
    return nbformat.read(path, as_version=4)


def outputs(notebook: dict) -> dict[str, list]:
    """The outputs of each cell that somebody wrote, by its id."""
    cells = code_cells(notebook)
    added = {"injected-parameters", "package"}
    written = [c for c in cells if not added & {*c["metadata"]["tags"]}]
    return {cell["id"]: cell["outputs"] for cell in written}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """The book in another folder."""
    return copy_of_the_book(tmp_path_factory.mktemp("elsewhere") / "book")


@pytest.fixture(scope="module", params=runner.chapters())
def chapter(request, elsewhere, smoke, site) -> Chapter:
    """The page, executed by the runner here and by plain papermill in a copy."""
    return Chapter(request.param, elsewhere, smoke, site)


def test_runner_and_papermill_in_another_folder_record_the_same(chapter):
    recorded = runner.ledger(chapter.executed)
    assert recorded, "a chapter records something"
    assert runner.ledger(chapter.plain) == recorded


def test_every_output_is_the_same_in_both_folders(chapter):
    assert outputs(chapter.plain) == outputs(chapter.executed)


@pytest.mark.long
def test_ledgers_of_five_processes_are_equal(chapter):
    for hash_seed in (2, 3, 4):
        shutil.rmtree(chapter.root / "_build", ignore_errors=True)
        run(chapter.root, hash_seed, *RUN, chapter.slug, "--profile", "smoke")
        again = read(Job(chapter.root, chapter.slug, "smoke").target)
        assert outputs(again) == outputs(chapter.executed)


def test_smoke_profile_judges_nothing(chapter):
    records = runner.ledger(chapter.executed)
    judged = [r for r in records if r["kind"] == "verdict" and not r.get("units")]
    verdicts = {record["verdict"] for record in judged}
    assert verdicts <= {"not judged"}


def test_no_cell_writes_to_stderr_or_shows_an_address(chapter):
    for cell, shown in outputs(chapter.executed).items():
        assert all(o.get("name") != "stderr" for o in shown), f"{cell}: {shown}"
        assert not re.search(r" at 0x[0-9a-f]{6}|" + str(ROOT), json.dumps(shown)), cell


def test_cells_with_a_picture_and_only_they_have_alt_text(chapter):
    shown = outputs(chapter.executed)
    for cell in code_cells(chapter.source):
        image = any("image" in str(list(o.get("data", {}))) for o in shown[cell["id"]])
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        assert image == (len(alt) > 20), f"cell {cell['id']}: alt text {alt!r}"


def test_solutions_ran(chapter):
    counts = {c["id"]: c["execution_count"] for c in code_cells(chapter.executed)}
    cells = code_cells(chapter.source)
    solutions = [c for c in cells if "solution" in c["metadata"].get("tags", [])]
    least = 0 if chapter.slug.endswith(AUDIT) else 4
    assert least <= len(solutions) <= 6
    for cell in solutions:
        assert "assert " in text(cell), f"solution {cell['id']} checks nothing"
        assert counts[cell["id"]], f"solution {cell['id']} did not run"


def test_prose_names_only_what_is_recorded(chapter):
    known = {record["name"] for record in runner.ledger(chapter.executed)}
    prose = " ".join(
        text(c) for c in chapter.source["cells"] if c["cell_type"] == "markdown"
    )
    used = GLUE.findall(prose)
    assert len(used) == prose.count("{glue:")
    assert used, "no number of the prose comes from the run"
    for slug, name in used:
        assert slug != chapter.slug or name in known, f"{name} is not recorded"

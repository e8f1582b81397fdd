"""Pages in a reader's hands: another root seed, other settings, a kernel used twice."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import reader

from blogcore import runner
from blogcore.freshness import Job, text

ROOT = Path(__file__).parents[1]
PLAIN, CHANGED = False, True
HUGE = [10**30, 10**400]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def start(slug: str, runs: list) -> subprocess.Popen:
    """Run a page in one fresh kernel, once for each (root seed, changed or not)."""
    command = [sys.executable, ROOT / "tests" / "reader.py", slug, json.dumps(runs)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT / "chapters", encoding="utf-8", **pipes)


def finish(process: subprocess.Popen) -> list[dict]:
    """What each run gave."""
    said, complained = process.communicate()
    assert process.returncode == 0, complained[-4000:]
    return json.loads(said)


@pytest.fixture(scope="module", params=runner.chapters())
def slug(request) -> str:
    """The name of a page."""
    return request.param


@pytest.fixture(scope="module")
def runs(slug) -> list[dict]:
    """In one kernel: root seed 1 with other settings, then the page as it is."""
    return finish(start(slug, [(1, CHANGED), (0, PLAIN)]))


def test_runs_under_another_root_seed_with_other_settings(slug, runs):
    assert runs[0].get("records"), runs[0]
    for source in map(text, reader.settings_cells(slug)):
        same = ast.unparse(ast.parse(source))
        assert reader.changed(source) != same, f"nothing to change: {source}"
    if not reader.settings_cells(slug):
        pytest.skip(f"{slug} has no settings cell yet: only its root seed was changed")


def test_a_kernel_that_is_used_again_forgets_the_settings_before(slug, runs, smoke):
    """It gives what the runner's fresh kernel gives."""
    executed = json.loads(Job(ROOT, slug, "smoke").target.read_text("utf-8"))
    assert runs[1].get("records") == runner.ledger(executed), smoke


@pytest.mark.long
def test_runs_under_twenty_root_seeds(slug):
    seeds = [*range(20), *HUGE]
    given = finish(start(slug, [(seed, PLAIN) for seed in seeds]))
    failed = {
        seed: run["error"]
        for seed, run in zip(seeds[:20], given, strict=False)
        if "error" in run
    }
    assert failed == {}
    for run in given[20:]:  # passed, or refused in a line
        assert "error" not in run or "root: 1000" in run["error"]


def test_a_settings_cell_is_changed_as_its_lines_say():
    cell = """\
LEVEL = 0.5  # nat
STEPS = by_profile(PROFILE, smoke=10, book=300, full=300)
WIDTH = 64  # change me: try 32.
RATE, TIMES = 0.1, 3
SIZES, PAIR = [1, 2, 4], [(8, 0.5), (9, "b")]
NAME = "a"
half = STEPS // 2
report.settings(LEVEL=LEVEL)
"""
    assert reader.changed(cell).splitlines() == [
        "LEVEL = 0.45",
        "STEPS = by_profile(PROFILE, smoke=11, book=300, full=300)",
        "WIDTH = 32",
        "RATE, TIMES = (0.09000000000000001, 4)",
        "SIZES, PAIR = ([1, 2], [(9, 0.45), (10, 'b')])",
        "NAME = 'a'",
        "half = STEPS // 2",
        "report.settings(LEVEL=LEVEL)",
    ]

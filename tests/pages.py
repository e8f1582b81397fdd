"""The rendered book and what is on its pages, for the tests that read them."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import yaml
from bs4 import BeautifulSoup
from filelock import FileLock

from blogcore import interactive, report, runner, show, style
from blogcore.freshness import Job, is_fresh, stamp

ROOT = Path(__file__).parents[1]
JUPYTER_BOOK = Path(sys.executable).with_name("jupyter-book")
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))


def listed(entries: list[dict]) -> list[str]:
    """The pages of a table of contents, each before its children."""
    return [
        name
        for entry in entries
        for name in [entry["file"], *listed(entry.get("sections", []))]
    ]


PAGES = [TOC["root"], *(n for part in TOC["parts"] for n in listed(part["chapters"]))]
CHAPTERS = [name for name in PAGES if name.startswith("chapters/")]


def rendered(root: Path) -> Path:
    """The folder of the pages that ``render`` makes: apart from those of make book."""
    return root / "_build" / "tested" / "_build" / "html"


def render(root: Path, profile: str, **environment: str) -> subprocess.Popen:
    """Start to bring the pages below ``root`` up to date, with the package there."""
    path = os.pathsep.join([str(root), environment.pop("PYTHONPATH", "")])
    command = [JUPYTER_BOOK, "build", root, "-W", "-n", "--keep-going"]
    command += ["--path-output", rendered(root).parents[1]]
    settings = os.environ | {"BLOGCORE_PROFILE": profile, "PYTHONPATH": path}
    settings |= environment
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=root, env=settings, **pipe)


def finish(build: subprocess.Popen) -> str:
    """Wait for a build; what it said, which is shown if it failed."""
    said, _ = build.communicate()
    assert build.returncode == 0, said[-4000:]
    return said


def once(tmp_path_factory, name: str, action) -> str:
    """Do something once for all of xdist's workers; the text that it gave."""
    base = tmp_path_factory.getbasetemp()
    # A worker's folder lies in the session's; without workers it is the session's.
    done = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{done}.lock"):
        if not done.exists():
            done.write_text(action(), encoding="utf-8")
    return done.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> str:
    """Brings every page up to date in its smoke profile; what the command said."""

    def action() -> str:
        command = [sys.executable, "-m", "blogcore.runner", "run", "--profile", "smoke"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
        return done.stdout + done.stderr

    return once(tmp_path_factory, "smoke", action)


@pytest.fixture(scope="session")
def profile(tmp_path_factory) -> str:
    """Whose runs the tested pages show: make book's, if it has made them, or smoke's.

    To execute the book takes longer than all tests together, and most of what can be
    wrong with a page is as wrong in its smoke profile.
    """

    def action() -> str:
        jobs = [Job(ROOT, slug) for slug in runner.chapters(ROOT)]
        return "book" if all(is_fresh(job, stamp(job)) for job in jobs) else "smoke"

    return once(tmp_path_factory, "profile", action)


@pytest.fixture(scope="session")
def site(tmp_path_factory, profile: str, smoke: str) -> Path:
    """The folder of the pages, brought up to date."""
    once(tmp_path_factory, "rendered", lambda: finish(render(ROOT, profile)))
    return rendered(ROOT)


@pytest.fixture(scope="session")
def soups(site: Path) -> dict[str, BeautifulSoup]:
    """Every page of the book, the search page too, as parsed HTML."""
    texts = {n: (site / f"{n}.html").read_text("utf-8") for n in [*PAGES, "search"]}
    return {name: BeautifulSoup(text, "html.parser") for name, text in texts.items()}


class Fragment(HTMLParser):
    """The tags of a piece of HTML in order, its text; every tag must be closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.words = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def shown(monkeypatch) -> list:
    """What is displayed, as (data, metadata)."""
    outputs = []

    def display(thing, raw=False, metadata=None):
        text = thing.get("text/html", thing) if raw else thing.data
        outputs.append((text, metadata))

    for room in (show, interactive, report):
        monkeypatch.setattr(room, "display", display)
    return outputs


@pytest.fixture
def house_style():
    """Figures as the chapters draw them, and none left open."""
    with plt.rc_context():
        style.use()
        yield
    plt.close("all")

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

from blogcore import interactive, report, show, style

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


def render(root: Path, **environment: str) -> subprocess.Popen:
    """Start to bring the pages below ``root`` up to date, with the package there."""
    path = os.pathsep.join([str(root), environment.pop("PYTHONPATH", "")])
    command = [JUPYTER_BOOK, "build", root, "-W", "-n", "--keep-going"]
    settings = os.environ | environment | {"PYTHONPATH": path}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=root, env=settings, **pipe)


def finish(build: subprocess.Popen) -> None:
    """Wait for a build, and show what it said if it failed."""
    said, _ = build.communicate()
    assert build.returncode == 0, said[-4000:]


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id: str) -> Path:
    """The folder of the pages, brought up to date once for all of xdist's workers."""
    done = tmp_path_factory.getbasetemp().parent / "rendered"
    with FileLock(f"{done}.lock"):
        if worker_id == "master" or not done.exists():
            finish(render(ROOT))
            done.touch()
    return ROOT / "_build" / "html"


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
        outputs.append((thing if raw else thing.data, metadata))

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

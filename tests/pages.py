"""The rendered book and what is on its pages, for the tests that read them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup
from filelock import FileLock

ROOT = Path(__file__).parents[1]
JUPYTER_BOOK = Path(sys.executable).with_name("jupyter-book")
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(p["file"] for part in TOC["parts"] for p in part["chapters"])]
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

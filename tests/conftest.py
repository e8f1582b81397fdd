"""What several test files share: one thread, and a book small enough to sabotage."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

import shapes

shapes.begin()  # before anything imports a room

import contextlib
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pages import (  # noqa: F401 (shared fixtures)
    house_style,
    profile,
    shown,
    site,
    smoke,
    soups,
)
from xdist.scheduler import LoadFileScheduling

from blogcore import runner

# A shell's background job ignores what a keyboard sends, one under nohup a hang-up, and
# so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
for ignored in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(ignored, signal.SIG_DFL)

ROOT = Path(__file__).parents[1]
TOC = """\
format: jb-book
root: index
parts:
  - chapters:
      - file: chapters/falling
  - chapters:
      - file: chapters/painting
      - file: index
"""
ROOMS = {
    "__init__": '"""A package."""\n',
    "gravity": "G = 9.81\n",
    "motion": "from blogcore.gravity import G\n\nfall = lambda t: G * t**2 / 2\n",
    "colour": "RED = 'red'\n",
}
PARAMETERS = 'PROFILE = "book"\nSEED = 0\nDEVICE = "auto"\n'
RECORD = """\
from IPython.display import display

mime = "application/papermill.record/"
display(
    {mime + "text/plain": repr(fall(2.0) + SEED)},
    metadata={
        "scrapbook": {"name": "falling/height", "mime_prefix": mime},
        "blogcore": {"kind": "value", "tolerance": "exact"},
    },
    raw=True,
)
"""
FALLING = [
    "import json\n\nfrom blogcore.motion import fall\n",
    'assert abs(fall(2.0) - 19.62) < 1e-12, "the law of falling is off"\n',
    RECORD,
    'print(PROFILE, SEED, open("../data/heights.csv").read())\n',
]
PAINTING = ["from blogcore import colour\n", "print(colour.RED)\n"]


class Book:
    """A book of two chapters in a folder of its own, and the command that runs it."""

    def __init__(self, root: Path):
        self.root = root
        self.write("_toc.yml", TOC)
        self.write("constraints.txt", "torch==0\n")
        self.write("data/heights.csv", "19.62\n")
        for name, text in ROOMS.items():
            self.write(f"blogcore/{name}.py", text)
        self.chapter("falling", FALLING)
        self.chapter("painting", PAINTING)

    def write(self, name: str, text: str) -> None:
        """Write a file of the book."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def chapter(
        self, slug: str, code: list[str], prose="Words.", parameters=PARAMETERS
    ):
        """Write a chapter: prose, parameters cell, code cells."""
        cells = [{"cell_type": "markdown", "id": "p", "metadata": {}, "source": prose}]
        for number, source in enumerate([parameters, *code]):
            tags = ["parameters"] if number == 0 else []
            cells.append(
                {
                    "cell_type": "code",
                    "id": f"c{number}",
                    "metadata": {"tags": tags},
                    "source": source,
                    "outputs": [],
                    "execution_count": None,
                }
            )
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = {"cells": cells, "metadata": {"kernelspec": kernel}}
        notebook |= {"nbformat": 4, "nbformat_minor": 5}
        self.write(f"chapters/{slug}.ipynb", json.dumps(notebook))

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start the command ``blogcore run`` on this book."""
        command = [sys.executable, "-m", "blogcore.runner", "run", *arguments]
        return subprocess.Popen(
            [*command, "--root", str(self.root)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """The command's exit status and message, without its start-up time."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                status = runner.main(["run", *arguments, "--root", str(self.root)])
            except SystemExit as error:
                status = error.code
        return status, said.getvalue()

    def processes(self) -> list[psutil.Process]:
        """The kernels of this book that are alive."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.root / "chapters"):
                    found.append(process)
        return found

    def executed(self, slug: str, run: str = "book-0") -> Path:
        """Where an executed chapter lies."""
        return self.root / "_build" / "executed" / run / f"{slug}.ipynb"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file stays in one process, and so do the files that share the rendered book.

    The files that execute every page are divided by page: whole, the last of them would
    keep one process busy for minutes while the others have nothing left to do.
    (The groups of xdist 3.8 have no effect under pytest 9.2: no id gets their suffix.)
    """

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(("tests/test_book.py", "tests/test_browser.py")):
                return "book"
            if nodeid.startswith(("tests/test_chapters.py", "tests/test_readers.py")):
                file, _, test = nodeid.partition("::")
                return file + test.partition("[")[2]
            return super()._split_scope(nodeid)

    return Scheduler(config, log)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """A fresh small book."""
    return Book(tmp_path)

"""The package by itself: rooms, version, needs, and a wheel far from the book."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import rooms

import blogcore
from blogcore import runner

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
ROOMS = sorted(path.stem for path in ROOT.glob("blogcore/[a-z]*.py"))
# What is imported under another name, and what is started and not imported.
NAMES = {
    "IPython": "ipython",
    "PIL": "pillow",
    "matplotlib_inline": "matplotlib-inline",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
STARTED = {"ipykernel"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run Python in another process; what it said."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", **options)


def test_dir_names_the_rooms_and_a_room_is_an_attribute():
    assert sorted({*dir(blogcore)} - {"__version__"}) == ROOMS
    assert blogcore.__version__ == PROJECT["version"]
    code = "import blogcore; print(blogcore.sphere.__name__, blogcore.__version__)"
    assert python("-c", code).stdout.split() == ["blogcore.sphere", PROJECT["version"]]
    with pytest.raises(AttributeError, match=r"no room 'utils', but asking, "):
        blogcore.utils  # noqa: B018


def test_the_map_of_rooms_is_that_of_today():
    readme = rooms.README.read_text(encoding="utf-8")
    assert readme == rooms.with_map(readme), "make format writes the map of rooms"
    assert readme.count(rooms.BEGIN) == readme.count(rooms.END) == 1
    assert sorted(room for layer in rooms.layers() for room in layer) == ROOMS
    # A merge once left older tables of rooms below the map.
    after = readme[readme.index(rooms.END) + len(rooms.END) :]
    assert after.lstrip().startswith("## The tree")


@pytest.mark.slow
def test_the_package_is_the_command(capsys, monkeypatch):
    """In the locale of the seventies, too, where nothing but ASCII can be said."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["blogcore"])
    with pytest.raises(SystemExit):
        runner.main(["--help"])
    said = python("-m", "blogcore", "--help", env=os.environ | ASCII).stdout
    assert said == capsys.readouterr().out
    assert said.startswith("usage: blogcore")


def imported() -> set[str]:
    """What the rooms import from elsewhere, by the names of the packages."""
    found = set()
    for path in ROOT.glob("blogcore/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.partition(".")[0])
    return {NAMES.get(n, n) for n in found - {"blogcore"} - sys.stdlib_module_names}


def test_every_dependency_is_imported_by_a_room():
    """What chapters or pages need beyond that are extras."""
    given = {re.match(r"[\w.-]+", name)[0] for name in PROJECT["dependencies"]}
    assert given - STARTED == imported()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """A folder with the package as a wheel brings it, and nothing of the book."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-text"):
        shutil.copy(ROOT / name, source)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "blogcore", source / "blogcore", ignore=skip)
    code = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    built = python("-c", code, cwd=source)
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = source.glob("*.whl")
    target = tmp_path_factory.mktemp("elsewhere")
    shutil.unpack_archive(wheel, target, "zip")
    return target


def test_a_wheel_holds_every_room_and_says_that_it_is_typed(elsewhere):
    held = {path.stem for path in elsewhere.glob("blogcore/[a-z]*.py")}
    assert sorted(held) == ROOMS
    assert (elsewhere / "blogcore" / "py.typed").is_file()


ASKING = """
import sys

sys.path.insert(0, sys.argv[1])
from blogcore import claims, evidence, report, runtime

assert claims.__file__.startswith(sys.argv[1])
for call in (
    lambda: claims.load_claims("flooding"),
    lambda: report.Report("flooding", "book"),
    lambda: evidence.load_records(runtime.DATA / "records" / "flooding.json"),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""


@pytest.mark.slow
def test_without_the_book_its_claims_and_records_are_asked_for(elsewhere):
    done = python("-c", ASKING, elsewhere, cwd=elsewhere)
    said = done.stdout.splitlines()
    assert len(said) == 3, done.stderr
    assert all("come with a checkout of the book" in line for line in said)

"""A run does not depend on whose machine it is: settings, folders, locale, signals."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blogcore import runner, texts

ROOT = Path(__file__).parents[1]
DRAWING = """\
import matplotlib.pyplot as plt

figure, axes = plt.subplots()
axes.plot([0, 1], [0, 1])[0].get_linewidth()
"""
IMAGES = ("mnist", "cifar10_jpeg")
OTHERS = {"HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"}


def draw(book, *code: str, alt: str = "a line that rises") -> None:
    """Make the second chapter one with a figure."""
    book.chapter("painting", list(code))
    path = book.root / "chapters" / "painting.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][-1]["metadata"]["mystnb"] = {"image": {"alt": alt}}
    path.write_text(json.dumps(notebook), encoding="utf-8")


def shown(book) -> list[dict]:
    """What the cells of the second chapter show."""
    executed = json.loads(book.executed("painting").read_text(encoding="utf-8"))
    return [output for cell in executed["cells"][2:] for output in cell["outputs"]]


@pytest.mark.slow
def test_the_users_own_configuration_changes_nothing(book, monkeypatch, tmp_path):
    draw(book, "import sys\nprint(sys.executable)\n", DRAWING)
    assert book.run("painting", "--jobs", "1")[0] == 0
    expected = shown(book)
    assert expected[0]["text"].strip() == sys.executable
    assert "image/png" in expected[-1]["data"]
    home = tmp_path / "home"
    foreign = {"argv": ["false"], "display_name": "other", "language": "python"}
    for name, content in {
        "kernels/python3/kernel.json": json.dumps(foreign),
        "matplotlibrc": "lines.linewidth: 40\nfigure.facecolor: red\n",
        "profile_default/startup/00-first.py": "print('good morning')\n",
        "start.py": "print('good morning')\n",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content, encoding="utf-8")
    for name in (
        "JUPYTER_PATH",
        "JUPYTER_DATA_DIR",
        "JUPYTER_CONFIG_DIR",
        "IPYTHONDIR",
    ):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("MATPLOTLIBRC", str(home / "matplotlibrc"))
    monkeypatch.setenv("PYTHONSTARTUP", str(home / "start.py"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    book.executed("painting").unlink()
    status, said = book.run("painting")
    assert status == 0, said
    assert shown(book) == expected


@pytest.mark.slow
def test_a_home_that_cannot_be_written_leaves_no_words_on_the_page(book, monkeypatch):
    for name in OTHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null/home")
    draw(book, DRAWING)
    status, said = book.run("painting")
    assert status == 0, said
    assert all(output.get("name") != "stderr" for output in shown(book))


@pytest.mark.slow
def test_asserts_are_made_under_pythonoptimize(book, monkeypatch):
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    book.chapter("painting", ["assert 1 == 2, 'two numbers'\n"])
    status, said = book.run("painting")
    assert status == 1
    assert "AssertionError: two numbers" in said


def test_python_without_asserts_is_named_on_import():
    for option, warned in [("-O", True), ("-B", False)]:
        command = [sys.executable, option, "-c", "import blogcore"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8")
        assert ("no check of this book is made" in done.stderr) == warned


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "alt", "fault"),
    [
        ("import sys\nprint(1, file=sys.stderr)\n", "", "writes to stderr: 1"),
        ("x = 1\n", "a line that rises", "its figure is missing"),
    ],
)
def test_a_run_with_a_fault_is_kept_but_never_fresh(book, code, alt, fault):
    book.chapter("painting", [code])
    if alt:
        draw(book, code)
    for _ in range(2):
        status, said = book.run("painting")
        assert status == 1
        first = code.partition("\n")[0]
        assert f"painting: code cell 2, `{first}`: {fault}" in said
        assert "painting: executed" in said
        assert book.executed("painting").is_file()


def test_a_root_that_cannot_be_searched_is_refused(tmp_path):
    root = tmp_path / "a:b"
    root.mkdir()
    (root / "_toc.yml").write_text("root: index\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"root: .*a:b must not contain ':'"):
        runner.find_root(root)


@pytest.mark.slow
def test_real_data_are_seen_from_where_the_command_was_given(book, monkeypatch):
    monkeypatch.chdir(book.root)
    monkeypatch.setenv("BLOGCORE_DATA", "data")
    show = "import os\nprint(os.environ['BLOGCORE_DATA'])\n"
    book.chapter("painting", [show])
    assert book.run("painting")[0] == 0
    assert shown(book)[0]["text"].strip() == str(book.root / "data")


@pytest.mark.slow
def test_a_run_in_the_locale_of_the_seventies(book):
    """Python reads and writes ASCII there, unless it is told otherwise."""
    code = ["print('面向', open('../data/heights.csv').read())\n"]
    book.chapter("painting", code, prose="自然")
    book.write("data/heights.csv", "词向量\n")
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "blogcore.runner", "run", "--root", book.root]
    done = subprocess.run(
        [*command, "painting"], env=os.environ | old, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert shown(book)[0]["text"] == "面向 词向量\n\n"
    book.chapter("painting", ["raise ValueError('词')\n"])
    done = subprocess.run(
        [*command, "painting"], env=os.environ | old, capture_output=True
    )
    assert done.returncode == 1
    assert rb"ValueError: \u8bcd" in done.stderr


def test_data_readme_names_every_file_that_is_read():
    told = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    read = [*texts.EVERYTHING, *texts.SIMILARITY.values(), *texts.ANALOGIES]
    read += [name for files in texts.SOURCES.values() for name in files]
    read += ["cifar-10-batches-bin", *(f"images/{n}.npz" for n in IMAGES)]
    read += [path.rpartition("/")[0] for path, _ in texts.PAIRS.values()]
    assert [name for name in read if name not in told] == []


def opens_without_encoding(path: Path) -> list[int]:
    """The lines that read or write text in whatever encoding the locale has."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", "")  # open, and not Image.open
        if getattr(node.func, "attr", "") in ("read_text", "write_text"):
            name = node.func.attr
        given = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
        mode = [ast.unparse(a) for a in node.args[1:2]] + [given.get("mode", "''")]
        positional = {"read_text": 1, "write_text": 2, "open": 9}.get(name)
        text = positional is not None and not any("b'" in m for m in mode)
        text &= len(node.args) < (positional or 0) and "b" not in "".join(mode)
        piped = given.get("text") == "True" or "universal_newlines" in given
        if (text or piped) and "encoding" not in given:
            lines.append(node.lineno)
    return lines


def test_no_text_is_read_in_the_encoding_of_the_locale(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(
        "open(p)\nopen(p, 'rb')\np.read_text()\np.read_text('utf-8')\n"
        "run(c, text=True)\nopen(p, 'w', encoding='utf-8')\np.write_text(t)\n",
        encoding="utf-8",
    )
    assert opens_without_encoding(bad) == [1, 3, 5, 7]
    sources = [
        p for n in ("blogcore", "_ext", "tests") for p in ROOT.glob(f"{n}/**/*.py")
    ]
    found = {path.name: opens_without_encoding(path) for path in sources}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_python_may_lie_in_a_folder_with_a_space():
    plain = os.environ | {"LC_ALL": "C"}  # make quotes in the locale's own marks
    options = {"cwd": ROOT, "env": plain, "capture_output": True, "encoding": "utf-8"}
    command = ["make", "--dry-run", "--always-make", "setup", "PYTHON=/x y/python3"]
    made = subprocess.run(command, **options)
    assert made.returncode == 0, made.stderr
    assert '"/x y/python3" -m venv .venv' in made.stdout
    command[-1] = "PYTHO=/x y/python3"
    made = subprocess.run(command, **options)
    assert made.returncode == 2
    assert "unknown: PYTHO; allowed" in made.stderr


@pytest.mark.parametrize(
    ("fonts", "chromium", "installs"),
    [("Noto Sans CJK", True, False), ("", True, True), ("Noto", False, True)],
)
def test_ci_installs_what_the_browser_tests_need(tmp_path, fonts, chromium, installs):
    folder = tmp_path / "bin"
    folder.mkdir()
    said = {"fc-list": f"printf '%s' '{fonts}'", "id": "echo 0"}
    if chromium:
        said["chromium"] = "true"
    said |= dict.fromkeys(("apt-get", "make"), f'echo "$0 $@" >> {tmp_path}/log')
    for name in ("bash", "dirname"):
        found = subprocess.run(["which", name], capture_output=True, encoding="utf-8")
        (folder / name).symlink_to(found.stdout.strip())
    for name, line in said.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    settings = os.environ | {"PATH": str(folder)}
    subprocess.run([folder / "bash", ROOT / ".ci" / "run"], env=settings, check=True)
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert ("chromium fonts-noto-cjk" in log) == installs
    assert [line.split()[-1] for line in log.splitlines()][-3:] == [
        "lint",
        "book",
        "test",
    ]


def test_a_slider_is_a_figure():
    """Its images stand in its HTML; a table in its place is none."""

    def faults(html: str) -> list[str]:
        metadata = {"tags": [], "mystnb": {"image": {"alt": "A line that rises."}}}
        outputs = [{"output_type": "display_data", "data": {"text/html": html}}]
        cell = {"cell_type": "code", "source": "show()", "outputs": outputs}
        return runner._faults({"cells": [cell | {"metadata": metadata}]})

    assert faults('<div class="slider"><img></div>') == []
    assert "its figure is missing" in "".join(faults("<table></table>"))

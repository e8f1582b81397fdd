"""Units: named by settings and code, done once, never torn, resumed after a kill."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from blogcore import crew, full, unitcode, unitfiles, worker
from blogcore.unitfiles import Folder
from blogcore.units import Page, experiment, grid
from blogcore.worker import Work

ROOT = Path(__file__).parents[1]
IMPORTS = """\
import time
from pathlib import Path

from blogcore.prepared import prepared
from blogcore.units import experiment, grid

LOG = Path({log!r})
"""
TIDES = """\
@prepared("tides.txt", drawn=lambda: {"heights": [1.0, 2.0]})
def tides(folder):
    said = (folder / "tides.txt").read_text(encoding="utf-8")
    return {"heights": [float(x) for x in said.split()]}
"""
SLEEPER = """\
@experiment(seconds=0.3, level=[1, 2], seed=[0, 1, 2], tiny={"level": 1, "seed": 0})
def moon(level, seed, long=0.3):
    \"\"\"A unit that says that it begins.\"\"\"
    with open(LOG, "a", encoding="utf-8") as file:
        file.write(f"{level}/{seed}\\n")
    time.sleep(long)  # it works
    return {"height": level + 0.1 * seed + tides()["heights"].sum().item()}
"""


class Small:
    """A book with one page of units, its data, and a folder of units."""

    def __init__(self, root: Path):
        self.root, self.log, self.units = root, root / "log", root / "units"
        self.folder = Folder(self.units)
        (root / "chapters").mkdir()
        (root / "data").mkdir()
        (root / "_toc.yml").write_text(
            "format: jb-book\nroot: index\nchapters:\n- file: chapters/tide\n",
            encoding="utf-8",
        )
        (root / "real").mkdir()
        (root / "real" / "tides.txt").write_text("1 2 3.5", encoding="utf-8")
        self.write(IMPORTS.format(log=str(self.log)), TIDES, SLEEPER)

    def write(self, *cells: str) -> None:
        """Write the page: its tagged cells, and one that is not."""
        self.cells = cells
        made = [
            {
                "cell_type": "code",
                "id": f"u{i}",
                "metadata": {"tags": tags},
                "source": s,
            }
            for i, (s, tags) in enumerate(
                [*((cell, ["unit"]) for cell in cells), ("import matplotlib", [])]
            )
        ]
        path = self.root / "chapters" / "tide.ipynb"
        path.write_text(json.dumps({"cells": made}), encoding="utf-8")

    def change(self, old: str, new: str) -> None:
        """Change a cell of the page."""
        assert any(old in cell for cell in self.cells)
        self.write(*(cell.replace(old, new) for cell in self.cells))

    def work(self, **more) -> Work:
        """What is to be done on the page, as it now is."""
        page = Page(self.root, "tide")
        return Work([page], self.folder, self.root / "data", "cpu", **more)

    def go(self) -> int:
        """Be a worker in this very process; how many units failed."""
        return worker.work_through(self.work(), print)

    def command(self, *options: str) -> list[str]:
        """The command line."""
        python = [sys.executable, "-m", "blogcore", "full"]
        fixed = ["--units", str(self.units), "--root", str(self.root)]
        return [*python, *(options or ["tide"]), *fixed, "--device", "cpu"]

    def begun(self) -> list[str]:
        """The units that have begun, in order."""
        return self.log.read_text(encoding="utf-8").split() if self.log.exists() else []

    def heights(self) -> dict[tuple, float]:
        """What lies in the folder, by settings."""
        rows = self.folder.rows()
        return {
            (r["settings"]["level"], r["settings"]["seed"]): r["values"][""]["height"]
            for r in rows
        }


ALL = [f"{level}/{seed}" for seed in range(3) for level in (1, 2)]
HEIGHTS = {
    (lev, s): pytest.approx(lev + 0.1 * s + 6.5) for s in range(3) for lev in (1, 2)
}


@pytest.fixture
def small(tmp_path, monkeypatch) -> Small:
    """A small book; its units take no time, unless a test wants them to."""
    monkeypatch.setenv("BLOGCORE_DATA", str(tmp_path / "real"))
    book = Small(tmp_path)
    book.change("long=0.3", "long=0")
    return book


class TestTables:
    def test_a_table_is_every_combination_seed_by_seed(self):
        arms = grid(noise=[0.2], level=[0.0, 0.5]) + grid(noise=[0.0], level=[0.0])

        @experiment(seconds=1, arms=arms, seed=[4, 5])
        def run(noise, level, seed, epochs=3):
            return {}

        assert [tuple(s.values()) for s in run.table] == [
            (noise, level, seed)
            for seed in (4, 5)
            for noise, level in [(0.2, 0.0), (0.2, 0.5), (0.0, 0.0)]
        ]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"seed": []}, r"no values for \['seed'\]"),
            ({"seed": [0], "depth": [1]}, "does not take"),
            ({"level": [1]}, "does not take"),
            ({"seed": [0, 0]}, "some settings occur twice"),
            ({"seed": [None]}, "seed = None is no plain value"),
            ({"seed": [float("nan")]}, "seed = nan is no plain value"),
            ({"seed": [0], "seconds": -1}, "seconds: -1 is not a finite number"),
            ({"seed": [0], "workers": 0}, "workers: 0 is not an integer ≥ 1"),
            ({"seed": [0], "tiny": {"seed": 0, "size": 1}}, "does not take"),
        ],
    )
    def test_settings_must_fit_the_function(self, settings, message):
        with pytest.raises(ValueError, match=message):

            @experiment(**{"seconds": 1} | settings)
            def run(seed, level=1):
                return {}


CODE = """\
import math
from blogcore import motion as moved

STEP = 2
def helper(x):
    '''Half of it.'''
    return moved.half(x) * STEP  # rounded
@experiment(seconds=3, seed=[0])
def run(seed):
    return helper(seed)
def other(): return math.pi
"""
MOTION = "from blogcore.push import by\ndef half(x):\n    return by(x) / 2\n"


class TestCode:
    @pytest.fixture
    def package(self, tmp_path) -> Path:
        folder = tmp_path / "blogcore"
        folder.mkdir()
        (folder / "__init__.py").write_text("", encoding="utf-8")
        (folder / "motion.py").write_text(MOTION, encoding="utf-8")
        (folder / "push.py").write_text("def by(x):\n    return x\n", encoding="utf-8")
        (folder / "other.py").write_text("", encoding="utf-8")
        return folder

    def test_it_is_the_cells_part_and_the_rooms_that_it_reaches(self, package):
        found = unitcode.parts([CODE], "run", package)
        assert sorted(found) == ["__init__", "cells", "motion", "push"]
        texts = [unitcode.ast.unparse(s) for s in unitcode.reached([CODE], "run")]
        assert [text.split("\n")[0] for text in texts] == [
            "from blogcore import motion as moved",
            "STEP = 2",
            "def helper(x):",
            "def run(seed):",
        ]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("  # rounded", "  # up"),
            ("Half of it.", "A half."),
            ("seconds=3, seed=[0]", "seconds=5, seed=[0, 1]"),
            ("math.pi", "math.e"),
            ("return moved.half(x) * STEP", "return (\n        moved.half(x) * STEP)"),
        ],
    )
    def test_words_tables_and_what_it_does_not_reach_change_nothing(
        self, package, old, new
    ):
        assert old in CODE
        changed = unitcode.parts([CODE.replace(old, new)], "run", package)
        assert changed == unitcode.parts([CODE], "run", package)

    @pytest.mark.parametrize(
        ("old", "new"),
        [("STEP = 2", "STEP = 3"), ("helper(seed)", "helper(seed + 1)")],
    )
    def test_a_changed_line_changes_the_cells(self, package, old, new):
        changed = unitcode.parts([CODE.replace(old, new)], "run", package)
        before = unitcode.parts([CODE], "run", package)
        assert {n for n in before if changed[n] != before[n]} == {"cells"}

    def test_a_changed_line_of_a_room_changes_the_room_a_comment_does_not(
        self, package
    ):
        before = unitcode.parts([CODE], "run", package)
        (package / "push.py").write_text(
            '"""Push."""\n\n\ndef by(x):  # x\n    return x', encoding="utf-8"
        )
        assert unitcode.parts([CODE], "run", package) == before
        (package / "push.py").write_text(
            "def by(x):\n    return x + 0\n", encoding="utf-8"
        )
        after = unitcode.parts([CODE], "run", package)
        assert {n for n in before if after[n] != before[n]} == {"push"}

    def test_a_name_that_no_cell_defines_is_an_error(self, package):
        with pytest.raises(
            ValueError, match="absent: no cell tagged 'unit' defines it"
        ):
            unitcode.parts([CODE], "absent", package)


class TestOneWorker:
    def test_all_units_are_done_seed_by_seed_and_only_once(self, small):
        assert small.go() == 0
        assert small.go() == 0
        assert small.begun() == ALL
        assert small.heights() == HEIGHTS

    def test_a_row_says_where_it_comes_from(self, small):
        small.go()
        row = small.folder.rows()[0]
        assert row["settings"].keys() == {"level", "seed"}
        assert row["device"] == "cpu"
        assert len(row["data"]) == 16
        assert row["processes"] == 1
        assert row["versions"]["torch"]
        assert row["date"].endswith("+00:00")
        assert row["code"].keys() == {"__init__", "cells"}

    def test_a_comment_makes_nothing_stale_a_line_everything(self, small):
        small.go()
        small.change("# it works", "# it sleeps")
        small.change('"""A unit that says that it begins."""', '"""Words."""')
        small.change("seed=[0, 1, 2]", "seed=[0, 1, 2, 3]")
        small.go()
        assert small.begun() == [*ALL, "1/3", "2/3"]
        small.change("0.1 * seed", "0.2 * seed")
        assert len(small.work().fitting(1)) == 8
        small.go()
        assert len(list(small.units.glob("*.json"))) == 16, "old rows stay"

    def test_the_longest_come_first_and_what_does_not_fit_is_not_begun(self, small):
        longer = SLEEPER.replace("seconds=0.3", "seconds=100").replace("moon", "sun")
        small.write(*small.cells, longer)
        units = small.work(deadline=time.time() + 60).fitting(1)
        assert {u.experiment.name for u in units} == {"moon"}
        units = small.work(deadline=time.time() + 116).fitting(1)
        assert [u.experiment.name for u in units] == ["sun"] * 6 + ["moon"] * 6
        assert [u.settings["seed"] for u in units[:6]] == [0, 0, 1, 1, 2, 2]

    def test_what_a_run_took_here_is_the_next_estimate(self, small):
        small.change("long=0", "long=0.4")
        small.change("seed=[0, 1, 2]", "seed=[0]")
        small.go()
        small.change("seed=[0]", "seed=[0, 1]")
        work = small.work()
        assert 0.4 <= work.estimates()[work.fitting(1)[0].name] < 0.7

    def test_an_arm_that_has_run_here_is_its_own_estimate(self, small, monkeypatch):
        small.go()
        work, rows = small.work(), small.work().folder.rows()
        slow = rows[0]["settings"]
        taken = [r | {"seconds": 9.0 if r["settings"] == slow else 1.0} for r in rows]
        monkeypatch.setattr(Folder, "rows", lambda self: taken)
        arm = {n: v for n, v in slow.items() if n != "seed"}
        for unit in work.units:
            same = arm.items() <= unit.settings.items()
            assert work.estimates()[unit.name] == (9.0 if same else 1.0)
        assert len({*work.estimates().values()}) == 2

    @pytest.mark.parametrize(
        ("gives", "message"),
        [
            ('{"height": float("nan")}', "ValueError: .* height is nan, not a finite"),
            ("{}", r"ValueError: .* gave \{\}, not numbers by metric"),
            ("1 / 0", "ZeroDivisionError"),
        ],
    )
    def test_a_failure_stops_no_other_and_is_tried_again_on_request(
        self, small, gives, message
    ):
        small.change(
            "    time.sleep",
            f"    if level == 2 and seed: return {gives}\n    time.sleep",
        )
        assert small.go() == 2
        assert len(small.heights()) == 4
        errors = sorted(small.units.glob("*.error"))
        assert len(errors) == 2
        text = errors[0].read_text(encoding="utf-8")
        assert text.startswith("tide moon (level=2, seed=")
        assert (
            unitcode.digest({"level": 2, "seed": 1}) in errors[0].name + errors[1].name
        )
        assert re.search(message, text), text
        assert small.go() == 0, "nothing is tried again by itself"
        assert len(small.begun()) == 6
        unitfiles.clear(small.folder, small.work().units)
        assert small.go() == 2
        assert len(small.begun()) == 8

    def test_several_rows_of_one_unit_have_labels(self, small):
        small.change("seconds=0.3", 'seconds=0.3, rows="hour"')
        small.change(
            'return {"height"', 'return {"noon": {"height": 1}, "six": {"height"'
        )
        small.change(".sum().item()}", ".sum().item()}}")
        assert small.go() == 0
        values = small.folder.rows()[0]["values"]
        assert values.keys() == {"noon", "six"}
        assert values["noon"] == {"height": 1.0}


class TestBadInput:
    def test_a_file_cut_in_half_is_named_and_the_rest_is_kept(self, small):
        small.go()
        cut = sorted(small.units.glob("*.json"))[2]
        whole = cut.read_text(encoding="utf-8")
        cut.write_text(whole[: len(whole) // 2], encoding="utf-8")
        with pytest.raises(
            ValueError, match=f"{cut.name} is cut or altered .*delete it"
        ):
            small.go()
        cut.unlink()
        small.go()
        assert small.heights() == HEIGHTS
        assert len(small.begun()) == 7

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"level": 1', '"level": 2'),  # another unit's
            ('"height": ', '"height": NaN, "x": '),
            ('"seconds": ', '"second": '),
        ],
    )
    def test_an_altered_file_is_named(self, small, old, new):
        small.go()
        path = next(
            p
            for p in small.units.glob("*.json")
            if old in p.read_text(encoding="utf-8")
        )
        path.write_text(
            path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8"
        )
        with pytest.raises(ValueError, match=f"{path.name} is cut or altered"):
            small.folder.rows()

    def test_data_that_changed_since_are_told(self, small):
        small.go()
        small.change("seed=[0, 1, 2]", "seed=[0, 1, 2, 3]")
        (small.root / "real" / "tides.txt").write_text("1 2 4", encoding="utf-8")
        with pytest.raises(
            ValueError, match=r"tides: tides.txt is not what it was when"
        ):
            small.go()
        shutil.rmtree(small.units / "prepared")
        with pytest.raises(
            ValueError, match="tide moon: rows are here from other data"
        ):
            small.go()
        assert len(small.begun()) == 6

    def test_other_files_beside_the_data_change_nothing(self, small):
        small.change('"tides.txt", drawn', '"*.txt", "tides.txt or low.txt", drawn')
        before = small.work().settle()
        shutil.rmtree(small.units / "prepared")
        for name in (".DS_Store", "low.csv"):
            (small.root / "real" / name).write_text("x", encoding="utf-8")
        assert small.work().settle() == before
        (small.root / "real" / "low.txt").write_text("x", encoding="utf-8")
        with pytest.raises(ValueError, match=r"tides: low\.txt is not what it was"):
            small.work().settle()

    def test_without_the_sources_what_was_prepared_is_enough(self, small, monkeypatch):
        small.work().settle()
        monkeypatch.delenv("BLOGCORE_DATA")
        assert small.go() == 0

    @pytest.mark.parametrize("cut", ["heights.npy", "contents.json"])
    def test_prepared_data_that_are_cut_are_told(self, small, cut):
        small.work().settle()
        (path,) = small.units.glob(f"prepared/*/{cut}")
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(ValueError, match=r"delete .*, prepare again"):
            small.go()
        assert small.begun() == []

    def test_missing_data_are_told_before_any_unit(self, small, monkeypatch):
        (small.root / "real" / "tides.txt").unlink()
        with pytest.raises(ValueError, match=r"BLOGCORE_DATA: .* lacks tides.txt"):
            small.go()
        monkeypatch.delenv("BLOGCORE_DATA")
        with pytest.raises(ValueError, match="BLOGCORE_DATA: not set"):
            small.go()
        assert small.begun() == []

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["tides"], "page: 'tides' is not one of tide"),
            ([], "page: name one or several, or give --all"),
            (["tide", "--all"], "page: name one or several, or give --all"),
            (["tide", "--budget", "-1"], "budget: -1.0 is not a finite number ≥ 0"),
            (["tide", "--workers", "0"], "workers: 0 is not an integer ≥ 1"),
            (["tide", "--seed", "-1"], "seed: -1 is not in 0"),
            (["tide", "--device", "abacus"], "device: 'abacus' is neither"),
        ],
    )
    def test_a_wrong_command_is_one_clear_line(self, small, capsys, options, message):
        fixed = ["--units", str(small.units), "--root", str(small.root)]
        assert full.main([*fixed, *options]) == 1
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert said[0].startswith(f"blogcore: {message}")
        assert small.begun() == []

    def test_a_folder_that_cannot_be_written_is_told(self, small, capsys):
        taken = small.root / "_toc.yml"
        given = ["tide", "--units", str(taken), "--root", str(small.root)]
        assert full.main(given) == 1
        assert f"units: {taken} cannot be written" in capsys.readouterr().err

    def test_a_budget_below_the_shortest_unit_is_told(self, small, capsys):
        fixed = ["tide", "--units", str(small.units), "--root", str(small.root)]
        small.change("seconds=0.3", "seconds=30")
        assert full.main([*fixed, "--budget", "20"]) == 1
        assert "the shortest open unit needs 34 s" in capsys.readouterr().err

    def test_what_will_not_fit_is_told_before_the_work(self, small, capsys):
        small.change("seconds=0.3", "seconds=30")
        work, units = small.work(), small.work().units
        work.deadline = time.time() + 70
        for count, said in ((1, "about 4 will not fit"), (2, "about 2 will not fit")):
            full._tell_plan(work, units, count)
            told = capsys.readouterr().err
            assert told == f"6 units, 180 s on one H100 (planned); {said}\n"
        work.deadline = math.inf
        full._tell_plan(work, units, 1)
        assert "fit" not in capsys.readouterr().err

    def test_cells_that_fail_are_named(self, small):
        small.change("LOG = Path", "LOG = Pat")
        with pytest.raises(
            ValueError, match="tide: unit cell 0, `import time`: NameErr"
        ):
            small.work()


def finish(process: subprocess.Popen) -> str:
    """Wait for a command; what it said."""
    _, said = process.communicate(timeout=600)
    return said


def start(small: Small, *options: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        small.command(*options),
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=ROOT,
        **more,
    )


def wait_for(true, seconds: float = 400) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


class TestCommand:
    """In processes of their own."""

    @pytest.mark.slow
    def test_two_workers_do_every_unit_once(self, small):
        small.change("long=0", "long=0.3")
        process = start(small, "tide", "--workers", "2", "--budget", "900")
        said = finish(process)
        assert process.returncode == 0, said
        assert sorted(small.begun()) == sorted(ALL)
        assert small.heights() == HEIGHTS
        assert "6 of 6 units done" in said
        assert not list(small.units.glob(".*")), "no locks, nothing half-written"
        assert not [p for p in small.units.glob("*.json") if p.stat().st_size == 0]

    @pytest.mark.slow
    @pytest.mark.parametrize("victim", ["worker", "command"])
    def test_a_kill_loses_the_unit_in_hand_and_nothing_else(self, small, victim):
        hangs = '60 * ((level, seed) == (1, 1) and not LOG.with_name("go").exists())'
        small.change("sleep(long)", f"sleep({hangs})")
        process = start(small, "tide", "--workers", "1")
        wait_for(lambda: small.begun()[-1:] == ["1/1"])
        (lock,) = small.units.glob(".*.lock")
        wait_for(lambda: len(lock.read_text(encoding="utf-8").split()) == 3)
        holder = int(lock.read_text(encoding="utf-8").split()[1])
        os.kill(holder if victim == "worker" else process.pid, signal.SIGKILL)
        said = finish(process)
        if victim == "worker":
            assert process.returncode == 1
            assert "status -9 with tide moon (level=1, seed=1) in hand" in said
        wait_for(lambda: not alive(holder))
        assert small.begun() == ALL[:3]
        assert len(small.heights()) == 2
        (small.root / "go").touch()
        assert small.go() == 0
        assert small.begun() == [*ALL[:3], *ALL[2:]]
        assert small.heights() == HEIGHTS

    def test_data_without_arrays_have_a_hash_too(self, small):
        small.change("[float(x) for x in said.split()]}", "[]} if said == 'x' else {}")
        (found,) = small.work().settle().values()
        assert found

    def test_a_lock_is_that_of_a_process_and_its_host(self, small, monkeypatch):
        units = small.work().units[:3]
        for unit, host in zip(units, ("here", "there", ""), strict=True):
            text = f"{host} 17 1700000000" if host else ""
            (small.units / f".{unit.name}.lock").write_text(text, encoding="ascii")
        monkeypatch.setattr(unitfiles.platform, "node", lambda: "here")
        assert unitfiles.held_by(small.folder, 17, units) == units[:1]
        assert unitfiles.held_by(small.folder, 18, units) == []

    def test_folders_do_not_meet_when_they_are_tried(self, tmp_path, monkeypatch):
        """Another host's process of our number may have cleared our file away."""
        seen = []
        monkeypatch.setattr(Path, "touch", lambda path: seen.append(path.name))
        for _ in range(2):
            Folder(tmp_path)
        assert len(set(seen)) == 2

    def test_a_worker_whose_time_is_over_is_ended_whatever_it_does(self):
        code = (
            "import time; from blogcore import worker; worker.GRACE = 0.2; "
            "worker._give_up_after(time.time() + 0.2); time.sleep(500)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=400)
        assert done.returncode == -signal.SIGALRM == crew.GIVEN_UP

    def test_a_worker_that_had_begun_none_says_so(self, small, capsys):
        ended = SimpleNamespace(returncode=crew.GIVEN_UP, pid=os.getpid())
        crew.tell_death(small.work(), ended)
        said = "given up 5 s after the end of the budget with no unit in hand\n"
        assert capsys.readouterr().err == said

    def test_the_unit_that_was_given_up_is_named_and_leaves_nothing(
        self, small, capsys
    ):
        work = small.work()
        unit = work.units[0]
        with small.folder.claim(unit) as mine:
            assert mine
            ended = SimpleNamespace(returncode=crew.GIVEN_UP, pid=os.getpid())
            crew.tell_death(work, ended)
        said = capsys.readouterr().err
        assert f"the end of the budget with {unit} in hand, for 0 s" in said
        assert list(small.units.glob("tide*")) == []

    @pytest.mark.slow
    def test_what_how_to_read_names_is_enough(self, small, tmp_path):
        """Neither Jupyter nor matplotlib nor anything else, not even its version."""
        without = tmp_path / "without"
        without.mkdir()
        for name in not_named():
            module = MODULES.get(name, name.replace("-", "_"))
            content = f"raise ImportError({name!r})"
            (without / f"{module}.py").write_text(content, encoding="utf-8")
        site = WITHOUT.format(not_named())
        (without / "sitecustomize.py").write_text(site, encoding="utf-8")
        path = {"PYTHONPATH": f"{without}:{ROOT}"}
        process = start(small, "--all", env=os.environ | path)
        said = finish(process)
        assert process.returncode == 0, said
        assert small.heights() == HEIGHTS


MODULES = {"scikit-learn": "sklearn", "ipython": "IPython"}
WITHOUT = """\
from importlib import metadata

given = metadata.version


def version(name):
    if name in {}:
        raise metadata.PackageNotFoundError(name)
    return given(name)


metadata.version = version
"""


def not_named() -> list[str]:
    """What pip would install and units do not need, as the book says."""
    told = (ROOT / "how_to_read.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"--no-deps -e \.`, and ([^.]*?), are\s+enough", told)
    names = {name.lower() for name in re.split(r",\s+|\s+and\s+", named)}
    with open(ROOT / "pyproject.toml", "rb") as file:
        whole = tomllib.load(file)["project"]["dependencies"]
    return [name for name in whole if name.lower() not in names | {"numpy"}]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "zombie" not in status.read_text(encoding="utf-8")


class TestRestOfTheCommand:
    def fixed(self, small: Small) -> list[str]:
        return ["tide", "--units", str(small.units), "--root", str(small.root)]

    def test_prepare_needs_no_unit_and_says_where(self, small, capsys):
        assert full.main([*self.fixed(small), "--prepare"]) == 0
        assert "tide: tides " in capsys.readouterr().err
        (path,) = small.units.glob("prepared/*/heights.npy")
        assert np.load(path).tolist() == [1.0, 2.0, 3.5]

    def test_list_says_what_is_missing_and_how_long(self, small, capsys):
        small.change("seed=[0, 1, 2]", "seed=[0]")
        small.go()
        small.change("seed=[0]", "seed=[0, 1, 2]")
        small.change("0.1 * seed", "0.1 * seed + (1 / 0 if seed == 2 else 0)")
        capsys.readouterr()
        small.change("level=[1, 2]", "level=[1]")
        small.go()
        capsys.readouterr()
        assert full.main([*self.fixed(small), "--device", "cpu", "--list"]) == 0
        assert capsys.readouterr().out == (
            "tide moon: 3 units: 2 done, 1 failed, 2 by earlier code or settings\n"
        )

    def test_a_unit_in_hand_is_not_open_as_well(self, small, capsys):
        with small.folder.claim(small.work().units[0]) as mine:
            assert mine
            assert full.main([*self.fixed(small), "--device", "cpu", "--list"]) == 0
        said = "tide moon: 6 units: 1 in hand, 5 open, about 2 s on one H100 (planned)"
        assert capsys.readouterr().out == f"{said}\n"

    def test_seconds_that_were_planned_are_not_sold_as_measured(self, small, capsys):
        """A reader without a card would believe in minutes where it takes hours."""
        both = [*self.fixed(small), "--device", "cpu"]
        assert full.main([*both, "--list"]) == 0
        assert capsys.readouterr().out == (
            "tide moon: 6 units: 6 open, about 2 s on one H100 (planned)\n"
        )
        assert full.main(both) == 0
        assert "new on cpu: the first units may take" in capsys.readouterr().err
        small.change("seed=[0, 1, 2]", "seed=[0, 1, 2, 3]")
        assert full.main([*both, "--list"]) == 0
        assert capsys.readouterr().out.endswith(" s on cpu\n")

    def test_merge_keeps_rows_until_there_are_newer_ones(self, small, capsys):
        small.go()
        assert full.main([*self.fixed(small), "--merge"]) == 0
        data, said = small.root / "data", capsys.readouterr().err
        assert "6 new rows" in said
        first = unitfiles.recorded(data, "tide")
        assert first == small.folder.rows()
        small.change("0.1 * seed", "0.2 * seed")
        small.change("seed=[0, 1, 2]", "seed=[0]")
        small.go()
        full.main([*self.fixed(small), "--merge"])
        rows = unitfiles.recorded(data, "tide")
        assert len(rows) == 6
        code = small.work().units[0].code
        today = [r["settings"] for r in rows if r["code"] == code]
        assert [settings["seed"] for settings in today] == [0, 0]

    def test_merge_takes_no_rows_from_different_data(self, small):
        small.go()
        path = sorted(small.units.glob("*.json"))[0]
        row = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(row | {"data": "0" * 16}), encoding="utf-8")
        assert full.main([*self.fixed(small), "--merge"]) == 1
        assert not (small.root / "data" / "units").exists()

    def test_merge_leaves_out_what_the_page_no_longer_runs(self, small, capsys):
        small.go()
        small.change("def moon", "def sun")
        assert full.main([*self.fixed(small), "--merge"]) == 0
        said = capsys.readouterr().err
        assert "tide: left out, 6 rows of what it no longer runs" in said
        assert unitfiles.recorded(small.root / "data", "tide") == []

    def test_a_unit_that_failed_elsewhere_and_is_done_is_done(self, small, capsys):
        small.go()
        small.folder.fail(small.work().units[0], ValueError("on another machine"))
        capsys.readouterr()
        assert full.main([*self.fixed(small), "--list"]) == 0
        assert capsys.readouterr().out == "tide moon: 6 units: 6 done\n"
        assert full.main(self.fixed(small)) == 0


TOGETHER = """\
import torch
import torch.distributed as together

@experiment(seconds=0.1, processes=2, seed=[0, 1])
def shared(seed):
    found = torch.tensor([seed + 10.0 * together.get_rank()])
    together.all_reduce(found)
    with open(LOG, "a", encoding="utf-8") as file:
        file.write(f"shared/{seed}\\n")
    return {"sum": found.item()}
"""


@pytest.mark.slow
def test_torchrun_does_shared_units_together_and_the_others_one_each(small):
    """The first process has ended long before the second, and tells the sum of all."""
    small.write(*small.cells, TOGETHER)
    small.change("import time", "import os\nimport time")
    small.change("time.sleep(long)", "time.sleep(0.2 + 4 * int(os.environ['RANK']))")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", "2", "-m", "blogcore", *small.command()[3:]]
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        torchrun,
        env=os.environ | quiet,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    begun = small.begun()
    assert begun[:4] == ["shared/0"] * 2 + ["shared/1"] * 2
    assert sorted(begun[4:]) == sorted(ALL)
    sums = [r["values"][""]["sum"] for r in small.folder.rows() if r["processes"] == 2]
    assert sorted(sums) == [10.0, 12.0]
    assert "8 of 8 units done" in done.stderr

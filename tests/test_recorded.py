"""What a page shows of units: none, some, all, by earlier code; and what it judges."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from blogcore import claims, recorded, report, unitfiles
from blogcore.contest import relative
from blogcore.report import Report
from blogcore.runner import ledger
from blogcore.runtime import DATA
from blogcore.unitcode import parts
from blogcore.units import PACKAGE, Page

CELL = """\
from blogcore.units import experiment, grid

@experiment(seconds=30, arms=grid(noise=[0.2], level=[0.0, 0.5]), seed=[0, 1, 2])
def moon(noise, level, seed):
    return {"accuracy": 0.5, "loss": 1.0}

@experiment(seconds=200, rows="way", depth=[2], seed=[0, 1, 2])
def ways(depth, seed):
    return {"old": {"hits": 1.0}, "new": {"hits": 2.0}}
"""
CLAIMS = """\
[[claim]]
id = "C1"
statement = "It rises."
author = "post"
test = "a - b"
prediction = { above = [1.0] }
unit = "points"
quantity = "accuracy, a minus b"
of = "pairs of runs"
"""
A, B = {"noise": 0.2, "level": 0.5}, {"noise": 0.2, "level": 0.0}


class Records:
    """A book with one page; rows are put into its records."""

    def __init__(self, root: Path):
        self.data = root / "data"
        (self.data / "claims").mkdir(parents=True)
        (self.data / "claims" / "tides.toml").write_text(CLAIMS, encoding="utf-8")
        (root / "chapters").mkdir()
        cell = {"cell_type": "code", "id": "u", "metadata": {"tags": ["unit"]}}
        text = json.dumps({"cells": [cell | {"source": CELL}]})
        (root / "chapters" / "tides.ipynb").write_text(text, encoding="utf-8")
        self.page = Page(root, "tides")
        self.moon, self.ways = self.page.experiments.values()

    def put(self, experiment, settings, values, code=None, **more) -> None:
        """Add a row."""
        today = parts([CELL], experiment.name, PACKAGE)
        row = {
            "page": "tides",
            "experiment": experiment.name,
            "settings": settings,
            "values": values if experiment.rows else {"": values},
            "seconds": 20.5,
            "device": "NVIDIA H100",
            "date": "2026-11-28T10:00:00+00:00",
            "versions": {},
            "code": code or today,
            "data": "0",
            "processes": 1,
        }
        unitfiles.merge(self.data, "tides", self.page.units(), [row | more])

    def moons(self, seeds, code=None, gain=0.1, **more) -> None:
        """Rows of the first experiment: accuracy rises with the level, by ``gain``."""
        for seed in seeds:
            for arm in (A, B):
                accuracy = 0.5 + 0.01 * seed + gain * (arm is A) * (1 + 0.01 * seed)
                values = {"accuracy": accuracy, "loss": 1.0}
                self.put(self.moon, {**arm, "seed": seed}, values, code, **more)

    def moved(self, settings, device: str) -> None:
        """Let the row of these settings be of another device."""
        path = self.data / "units" / "tides.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        (row,) = (r for r in content["units"] if r["settings"] == settings)
        row["device"] = device
        path.write_text(json.dumps(content), encoding="utf-8")

    def shown(self, experiment, across="metric") -> tuple[list[list[str]], str]:
        """The table and the sentences below it."""
        text = recorded.of_units(self.data, "tides", experiment.summary(), across)
        soup = BeautifulSoup(text, "html.parser")
        rows = [[cell.get_text() for cell in r.select("th, td")] for r in soup("tr")]
        return rows, " ".join(p.get_text() for p in soup("p"))


@pytest.fixture
def records(tmp_path, monkeypatch) -> Records:
    found = Records(tmp_path)
    for room in (claims, report):
        monkeypatch.setattr(room, "DATA", found.data)
    return found


def test_nothing_recorded_shows_the_arms_and_the_command(records):
    rows, told = records.shown(records.moon)
    assert rows == [["noise", "level"], ["0.2", "0.0"], ["0.2", "0.5"]]
    assert told == (
        "Not run. Missing runs: 6, about 3 minutes on one H100 (planned): "
        "blogcore full tides --units DIR"
    )
    text = recorded.of_units(records.data, "tides", records.moon.summary(), "metric")
    assert BeautifulSoup(text, "html.parser").select("p ~ details table"), "folded"


def test_an_experiment_of_seeds_alone_shows_its_seeds(records):
    table = tuple({"seed": seed} for seed in (0, 1, 2))
    alone = replace(records.ways, table=table)
    rows, told = records.shown(alone)
    assert rows == [["seed"], ["0"], ["1"], ["2"]]
    assert told.startswith("Not run. Missing runs: 3,")


def test_some_recorded_show_means_over_the_seeds_that_are_there(records):
    records.moons([0])
    records.put(records.moon, {**A, "seed": 1}, {"accuracy": 0.7, "loss": 1.0})
    rows, told = records.shown(records.moon)
    assert rows[0] == ["noise", "level", "accuracy", "loss"]
    assert rows[1] == ["0.2", "0.0", "0.5", "1"]
    assert rows[2][2].startswith("0.65 ± ")
    assert told.startswith("3 runs on NVIDIA H100, 62 s, 2026-11-28. 3 of 6 runs by to")
    assert "1 of 3 seeds" in told
    assert "Missing runs: 3, about 2 minutes" in told


def test_an_arm_without_rows_stands_in_the_table_all_the_same(records):
    records.put(records.moon, {**A, "seed": 1}, {"accuracy": 0.7, "loss": 1.0})
    rows, told = records.shown(records.moon)
    assert rows[1:] == [["0.2", "0.0", "", ""], ["0.2", "0.5", "0.7", "1"]]
    assert "0 of 3 seeds" in told


def test_all_recorded_name_device_seconds_and_days_and_no_command(records):
    records.moons([0, 1])
    records.moons([2], date="2026-12-01T10:00:00+00:00", device="cpu")
    _, told = records.shown(records.moon)
    assert told == "6 runs on NVIDIA H100, cpu, 123 s, 2026-11-28 to 2026-12-01."


def test_rows_by_earlier_code_are_marked_until_there_are_others(records):
    now = parts([CELL], "moon", PACKAGE)
    records.moons([0, 1, 2], code=now | {"cells": "0", "optim": "1"})
    rows, told = records.shown(records.moon)
    assert rows[0] == ["noise", "level", "code", "accuracy", "loss"]
    assert [row[2] for row in rows[1:]] == ["earlier", "earlier"]
    assert "By earlier code, judging nothing: 6 of these runs." in told
    assert "Changed since: cells, optim." in told
    assert "Missing runs: 6," in told
    records.moons([0, 1, 2])
    rows, told = records.shown(records.moon)
    assert rows[0] == ["noise", "level", "accuracy", "loss"]
    assert "earlier" not in told


def test_an_arm_that_never_ran_is_nobodys(records):
    now = parts([CELL], "moon", PACKAGE)
    values = {"accuracy": 0.7, "loss": 1.0}
    records.put(records.moon, {**A, "seed": 1}, values, now | {"cells": "0"})
    rows, told = records.shown(records.moon)
    assert rows[1:] == [
        ["0.2", "0.0", "", "", ""],
        ["0.2", "0.5", "earlier", "0.7", "1"],
    ]
    assert "Not run by today’s code. Missing runs: 6," in told
    records.put(records.moon, {**B, "seed": 0}, values)
    rows, _ = records.shown(records.moon)
    assert [row[2] for row in rows[1:]] == ["today’s", "earlier"]


def test_units_with_several_rows_have_a_column_for_their_labels(records):
    for seed in (0, 1):
        values = {"old": {"hits": 1.0 + seed}, "<new>": {"hits": 3.0}}
        records.put(records.ways, {"depth": 2, "seed": seed}, values)
    rows, _ = records.shown(records.ways)
    assert rows[0] == ["depth", "way", "hits"]
    assert rows[1][:2] == ["2", "old"]
    assert rows[2] == ["2", "<new>", "3 ± 0"]
    rows, _ = records.shown(records.ways, across="way")
    assert rows[0] == ["depth", "metric", "old", "way = <new>"]


def judged(records, *arms, **more) -> Report:
    found = Report("tides", "book")
    found.judge_units("C1", records.moon, "accuracy", *arms, **more)
    return found


@pytest.mark.parametrize(
    ("seeds", "code", "why"),
    [
        ([], None, "0 of 3 seeds are recorded"),
        ([0, 2], None, "2 of 3 seeds are recorded"),
        ([0, 1, 2], {"cells": "0"}, "0 of 3 seeds are recorded"),
    ],
)
def test_what_is_not_all_there_by_todays_code_is_not_judged(
    records, shown, seeds, code, why
):
    records.moons(seeds, code)
    page = judged(records, A, B, times=100)
    soup = BeautifulSoup(shown[-1][0], "html.parser")
    statement, told = (p.get_text() for p in soup("p"))
    assert statement == "C1 It rises. – not run"
    assert told == f"{why}; predicted: more than 1 points."
    assert soup.div["id"] == "c1"
    page.verdicts()
    assert "– not run" in BeautifulSoup(shown[-1][0], "html.parser").get_text()


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "holds"), (-0.1, "contradicted")])
def test_all_seeds_are_judged_in_pairs_in_the_claims_unit(
    records, shown, gain, verdict
):
    records.moons([0, 1, 2], gain=gain)
    judged(records, A, B, times=100)
    outputs = [
        {"data": d if isinstance(d, dict) else {"text/html": d}, "metadata": m or {}}
        for d, m in shown
    ]
    cell = {"cell_type": "code", "outputs": outputs}
    first, *ends = ledger({"cells": [cell]})
    assert first["verdict"] == verdict
    assert first["value"] == pytest.approx(101 * gain)
    assert first["n"] == 3
    assert len(first["rows"]) == 6
    assert [r["name"] for r in ends] == ["tides/c1-low", "tides/c1-high"]
    assert all(r["units"] for r in [first, *ends])


def test_a_card_and_the_cpu_are_no_pair(records, shown):
    """Under one seed a card draws other numbers."""
    records.moons([0, 1, 2])
    for seed in (1, 2):
        records.moved({**B, "seed": seed}, device="cpu")
    judged(records, A, B)
    said = BeautifulSoup(shown[-1][0], "html.parser").get_text()
    assert "1 of 3 seeds are recorded in both arms, on one kind of device" in said


def test_one_arm_alone_and_an_arm_with_a_metric_of_its_own(records, shown):
    records.moons([0, 1, 2])
    alone = judged(records, B).judged["C1"][1]
    assert alone.mean == pytest.approx(0.51)
    own = judged(records, A | {"metric": "loss"}, B).judged["C1"][1]
    assert own.mean == pytest.approx(0.49)


def test_an_arm_that_is_not_planned_is_an_error(records):
    with pytest.raises(ValueError, match="arm: moon has none with"):
        judged(records, {"noise": 0.3}, B)


def test_a_damaged_file_of_records_is_named(records):
    records.moons([0])
    path = records.data / "units" / "tides.json"
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with pytest.raises(ValueError, match=r"tides.json holds no units"):
        records.shown(records.moon)


def relative_run(root: int, logs: list[float]) -> dict:
    found = relative(logs, [100 * root + i for i in range(len(logs))], "ratio")
    record = {"id": "C1", "kind": "verdict", "rows": [*map(list, found.rows)]}
    ends = {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}
    return {"seed": root, "records": [record | ends]}


def test_relative_changes_are_taken_together_as_each_run_averages_them():
    """Half and double are no change on average, and not a quarter more."""
    runs = [relative_run(0, [-0.7, 0.7, 0.1]), relative_run(1, [0.7, -0.7, 0.2, -0.3])]
    found = recorded.together(runs, "C1")
    whole = relative([-0.7, 0.7, 0.1, 0.7, -0.7, 0.2, -0.3], range(7), "ratio")
    ends = (whole.mean, whole.low, whole.high)
    assert (found.mean, found.low, found.high) == pytest.approx(ends, rel=1e-9)


@pytest.mark.parametrize("page", sorted(p.stem for p in (DATA / "records").iterdir()))
def test_all_together_lies_among_what_the_root_seeds_gave(page):
    """A mean over runs is between the least and the greatest of theirs."""
    runs, pooled_claims = recorded.runs(DATA, page, "book"), 0
    for name in {r["id"] for run in runs for r in run["records"] if "id" in r}:
        found = recorded.together(runs, name)
        means = [
            r["mean"]
            for run in runs
            for r in run["records"]
            if r.get("id") == name and "mean" in r
        ]
        if found is not None:
            pooled_claims += 1
            slack = 1e-9 * max(map(abs, means))
            assert min(means) - slack <= found.mean <= max(means) + slack, name
    assert pooled_claims

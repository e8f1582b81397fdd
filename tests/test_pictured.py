"""Plots beside the tables of what is recorded: each value at its own place."""

from types import SimpleNamespace

import executed
import pictured
import pytest
from bs4 import BeautifulSoup

from blogcore.claims import Above, Claim, Within
from blogcore.evidence import Estimate
from blogcore.show import plain_table, table_html


def soup(text: str) -> BeautifulSoup:
    return BeautifulSoup(text, "html.parser")


def record(low: float, high: float, verdict: str) -> dict:
    ends = {"mean": (low + high) / 2, "low": low, "high": high, "n": 9}
    return ends | {"kind": "verdict", "id": "C1", "verdict": verdict}


def claim(prediction) -> Claim:
    return Claim("C1", "It gains.", "ours", "a minus b", prediction, "points")


def test_intervals_stand_on_one_axis_a_line_a_root_seed():
    found = [(0, record(1, 3, "undecided")), (2, record(3, 5, "holds"))]
    drawn = soup(pictured.drawing(claim(Above(2)), found)).svg
    first, second = (float(c["cx"]) for c in drawn("circle"))
    shade = drawn.rect
    end = float(shade["x"]) + float(shade["width"])
    assert first == pytest.approx(float(shade["x"]), abs=0.1)  # 2, the threshold
    assert end == pictured.WIDTH  # no value is too large
    assert first < second < end
    assert [g["class"] for g in drawn("g")] == [["is-undecided"], ["is-holds"]]
    assert [t.get_text() for t in drawn("text")] == ["2", "0"]
    said = drawn["aria-label"]
    assert said.startswith("C1, root seed 0: 2.0 points [1.0, 3.0]; root seed 2: ")


def test_all_root_seeds_together_are_the_last_line():
    pooled = Estimate(2.5, 2.2, 2.8, 10)
    runs = [(0, record(1, 3, "undecided")), (2, record(2, 4, "undecided"))]
    drawn = soup(pictured.drawing(claim(Above(2)), runs, pooled)).svg
    assert [g["class"] for g in drawn("g")][-1] == ["is-holds", "pooled"]
    heights = [float(c["cy"]) for c in drawn("circle")]
    assert heights == sorted(heights)
    assert len(heights) == 3
    assert drawn["aria-label"].endswith("; all together: 2.50 points [2.20, 2.80]")


def test_what_is_predicted_is_shaded_between_its_ends():
    drawn = soup(pictured.drawing(claim(Within(0, 1)), [(0, record(-2, 2, "x"))])).svg
    low, high = float(drawn.rect["x"]), float(drawn.rect["width"])
    assert (low, low + high) == pytest.approx(
        (pictured.WIDTH / 4 + 2.5, 3 * pictured.WIDTH / 4 - 2.5)
    )


def test_the_page_itself_stands_first_among_the_root_seeds(monkeypatch):
    runs = [{"seed": s, "records": [record(s, s + 1, "holds")]} for s in (0, 1, 2)]
    monkeypatch.setattr(pictured.recorded, "runs", lambda *_: runs)
    monkeypatch.setattr(pictured, "load_claims", lambda post: [claim(Above(0))])
    heads = ["Claim", "root seed 0", "all together"]
    rows = [["C1", "holds", "<b>holds</b> 1.0 &lt; nat"], ["C2", "", ""]]
    text = table_html(heads, rows, "seeds")
    call = ["other seeds", "painting_audit", 1, ["C1", "C2"]]
    shown = soup(pictured.pictured(call, text))
    first, second = shown("td")[3], shown("td")[7]
    label = first.svg["aria-label"]
    assert [label.index(f"root seed {s}:") for s in (1, 0, 2)] == sorted(
        label.index(f"root seed {s}:") for s in range(3)
    )
    assert not second.svg  # no claim of that name is stated any more
    assert shown("td")[2].get_text().strip() == "holds"
    assert first.select_one(".pooled").get_text() == "1.0 < nat"  # below its plot
    assert "this page (1) on top" in shown.select_one("p.scales").get_text()


def dots(table: str, along: str, *call) -> list[float]:
    shown = soup(pictured.pictured(["recorded", "page", *call], table))
    return [float(circle[along]) for circle in shown.select("svg.dots circle")]


def test_cells_of_a_column_share_a_scale_if_their_rows_begin_alike():
    heads = ["data", "kind", "nats"]
    rows = [
        ["A", "x", "90.0 ± 1.0"],
        ["A", "y", "92"],
        ["B", "x", "9000"],
        ["B", "y", ""],
    ]
    call = "full", (*heads[:2], "metric"), "metric"
    found = dots(plain_table(heads, rows, ""), "cx", *call)
    right = pictured.CELL - 5
    middle = 5 + (pictured.CELL - 10) / 3
    assert found == pytest.approx([middle, right], abs=0.1)


def test_ordered_columns_are_a_curve_along_their_row():
    heads, rows = ["N", "n = 8", "n = 16", "n = 32"], [["512", "3", "1", "2"]]
    found = dots(plain_table(heads, rows, ""), "cy", "full", ("N", "n"), "n")
    top, bottom = 5, pictured.CURVE - 5
    assert found == pytest.approx([top, bottom, (top + bottom) / 2])


def test_a_column_of_settings_gets_no_dots():
    summary = {"table": [{"level": 0.1, "seed": 0}], "rows": ""}
    table = plain_table(["level", "loss"], [["0.1", "−2"], ["0.5", "1.5"]], "")
    shown = soup(pictured.pictured(["units", "page", summary, "metric"], table))
    assert [bool(td.svg) for td in shown("td")] == [False, True] * 2
    assert shown.select_one("p.scales").get_text().endswith("scale of its own.")


def test_where_nothing_is_recorded_nothing_is_drawn():
    for text in (
        "<p>Not run.</p>",
        f"<details>{plain_table(['a'], [['1']], '')}</details>",
    ):
        assert (
            pictured.pictured(["recorded", "page", "full", ("a",), "a"], text) == text
        )


def test_a_page_is_read_again_once_units_of_it_are_recorded(tmp_path):
    (tmp_path / "data" / "units").mkdir(parents=True)
    (tmp_path / "_toc.yml").touch()
    app = SimpleNamespace(srcdir=tmp_path)
    app.config = SimpleNamespace(executed_profile="book")
    known = {str(path) for path in executed.needed(app, "chapters/one")}
    env = SimpleNamespace(found_docs=["index", "chapters/one"], dependencies={})
    env.dependencies["chapters/one"] = known
    assert executed.newly_recorded(app, env) == []
    one = tmp_path / "data" / "units" / "one.json"
    one.write_text("{}", encoding="utf-8")
    assert executed.newly_recorded(app, env) == ["chapters/one"]

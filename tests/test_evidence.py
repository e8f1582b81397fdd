"""From rows to estimates: pairing, intervals, records and their drift."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from blogcore.evidence import (
    Estimate,
    average,
    contrast,
    drift,
    environment,
    estimate,
    interval,
    load_records,
    pooled,
    save_records,
    sweep,
    timed,
    where,
)


def measured(rows: pd.DataFrame) -> dict:
    """A metric in which every row has a value of its own."""
    return {"loss": rows["seed"] + 10 * rows["level"], "hits": -rows["seed"]}


@pytest.fixture
def table() -> pd.DataFrame:
    return sweep(measured, level=[0.0, 0.3], seed=[7, 3, 5])


def test_sweep_runs_once_over_the_full_factorial_with_the_last_factor_fastest():
    calls = []

    def experiment(rows):
        calls.append(rows[["level", "seed"]].values.tolist())
        return measured(rows)

    found = sweep(experiment, level=(x for x in [0.0, 0.3]), seed=range(2))
    assert calls == [[[0.0, 0], [0.0, 1], [0.3, 0], [0.3, 1]]]
    assert list(found) == ["level", "seed", "loss", "hits"]
    assert found["loss"].tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"loss": [1.0, 2.0]}, r"metric loss: shape \(2,\), not \(3,\)"),
        ({"loss": [[1.0], [2.0], [3.0]]}, r"metric loss: shape \(3, 1\)"),
        ({"loss": [1.0, math.nan, 2.0]}, "metric loss: not finite where {'seed': 1}"),
        ({"loss": [1.0, 2.0, -math.inf]}, "metric loss: not finite where {'seed': 2}"),
        ({"seed": [1.0, 2.0, 3.0]}, "metric seed: is the name of a factor"),
    ],
)
def test_sweep_refuses_a_metric_that_does_not_fit(metrics, message):
    with pytest.raises(ValueError, match=message):
        sweep(lambda rows: metrics, seed=range(3))


def test_where_needs_every_factor_to_agree(table):
    chosen = where(table, {"level": 0.3, "seed": 5})
    assert chosen["loss"].tolist() == [8.0]
    assert len(where(table, {"level": 0.3})) == 3
    assert len(where(table, {})) == 6


@pytest.mark.parametrize("count", [2, 3, 10, 50])
def test_the_interval_is_students(count):
    values = np.random.default_rng(count).normal(3, 2, count)
    found = interval(values)
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx(
        (values.mean(), low, high), rel=1e-12
    )
    assert found.n == count


def test_an_interval_covers_the_truth_nineteen_times_in_twenty():
    samples = np.random.default_rng(0).normal(size=(4000, 5))
    found = [interval(sample) for sample in samples]
    hits = sum(e.low <= 0 <= e.high for e in found)
    assert stats.binomtest(hits, 4000, 0.95).pvalue > 0.01


def test_parts_that_are_pooled_are_the_whole():
    parts = [0.4, 0.1, 0.9], [-0.3, 0.2], [0.5, 0.5, 0.8, -0.1]
    whole = interval([value for part in parts for value in part])
    found = pooled([interval(part) for part in parts])
    for name in ("mean", "low", "high", "n"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    assert pooled([whole]).low == pytest.approx(whole.low, rel=1e-12)


def test_an_interval_that_is_not_about_its_mean_is_not_pooled():
    with pytest.raises(ValueError, match=r"estimates: .*2.0.* are not amid"):
        pooled([Estimate(2.0, 1.0, 4.0, 5)])


def test_an_average_speaks_of_one_condition_seed_by_seed(table):
    found = average(table, "loss", {"level": 0.3})
    assert found.mean == pytest.approx(8.0)
    assert found.rows == (
        ("level=0.3", 3, 6.0),
        ("level=0.3", 5, 8.0),
        ("level=0.3", 7, 10.0),
    )


def test_a_contrast_pairs_by_seed_whatever_the_order_of_the_rows(table):
    noisy = table.assign(loss=table["loss"] + 100.0 * table["seed"] ** 2)
    shuffled = noisy.sample(frac=1, random_state=1)
    for rows in (noisy, shuffled):
        found = contrast(rows, "loss", {"level": 0.3}, {"level": 0.0})
        assert (found.low, found.mean, found.high) == pytest.approx((3, 3, 3))
        assert (found.n, len(found.rows)) == (3, 6)
        assert [row[:2] for row in found.rows] == [
            (f"level={level}", seed) for level in (0.3, 0.0) for seed in (3, 5, 7)
        ]
    back = contrast(noisy, "loss", {"level": 0.0}, {"level": 0.3})
    assert back.mean == pytest.approx(-3)


def test_a_contrasts_interval_is_that_of_the_differences(table):
    noise = [0.0, 0.0, 0.0, 0.1, -0.2, 0.4]
    found = contrast(
        table.assign(loss=table["loss"] + noise), "loss", {"level": 0.3}, {"level": 0.0}
    )
    expected = interval([3.1, 2.8, 3.4])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_contrast_refuses_conditions_that_cannot_be_paired(table):
    one, two = {"level": 0.3}, {"level": 0.0}
    with pytest.raises(ValueError, match=r"seeds: \[3, 5, 7\] and \[3, 5\] differ"):
        contrast(table.drop(index=0), "loss", one, two)
    twice = pd.concat([table, table])
    with pytest.raises(ValueError, match="several rows a seed"):
        contrast(twice, "loss", one, two)


def test_an_estimate_from_bare_values_keeps_its_rows():
    found = estimate([1.0, 3.0], [4, 9], "slope")
    assert found == interval([1.0, 3.0], [("slope", 4, 1.0), ("slope", 9, 3.0)])


def judged(low=0.1, mean=0.2, high=0.3, verdict="holds") -> dict:
    numbers = {"low": low, "mean": mean, "high": high, "value": mean}
    return {"name": "tides/c1", "kind": "verdict", "verdict": verdict} | numbers


def valued(value, tolerance="exact") -> dict:
    return {"name": "tides/x", "kind": "value", "value": value, "tolerance": tolerance}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (judged(), judged(), None),
        (judged(), judged(low=0.3, mean=0.4, high=0.5), None),  # they touch
        (judged(), judged(low=0.31, mean=0.4, high=0.5), "outside the recorded spread"),
        (judged(), judged(low=-0.5, mean=-0.3, high=0.09), "outside the recorded"),
        (judged(), judged(low=math.nan), "outside the recorded spread"),
        (judged(), judged(verdict="undecided"), None),  # an interval's end moved
        (judged(verdict="undecided"), judged(verdict="contradicted"), None),
        (judged(), judged(verdict="contradicted"), "contradicted, recorded holds"),
        (judged(), judged(verdict="not judged"), "verdict not judged, recorded holds"),
        (valued(1.0), valued(1.0 + 1e-10), None),
        (valued(1.0), valued(1.0 + 1e-8), "1.00000001, recorded 1.0"),
        # The tolerance itself is allowed, what lies beyond is not.
        (valued(0.0), valued(1e-9), None),
        (valued(0.0), valued(math.nextafter(1e-9, 1)), "recorded 0.0"),
        (judged(high=0.0), judged(low=1e-9, mean=1, high=2), None),
        (judged(high=0.0), judged(low=math.nextafter(1e-9, 1), high=2), "outside"),
        (judged(low=0.0), judged(low=-2, mean=-1, high=-1e-9), None),
        (judged(low=0.0), judged(low=-2, high=-math.nextafter(1e-9, 1)), "outside"),
        (valued(1.0), valued(math.nan), "nan, recorded 1.0"),
        (valued(1.0, "none"), valued(2.0, "none"), None),
        (valued(1.0), judged(), "no longer recorded"),
        (valued(1.0), judged() | {"name": "tides/x"}, "a claim, recorded as a value"),
        (judged() | {"name": "tides/x"}, valued(1.0), "a value, recorded as a claim"),
    ],
)
def test_drift_is_what_seeds_cannot_explain(old, new, message):
    found = drift([old], [new])
    assert bool(found) == (message is not None)
    if message:
        assert message in " ".join(found)
        assert all(line.startswith("tides/") for line in found)


def test_what_was_timed_is_not_compared():
    far = judged() | {"mean": 99.0, "low": 98.0, "high": 100.0}
    assert drift([judged()], [far])
    assert drift([judged()], [far | {"timed": True}]) == []


def test_drift_names_records_that_came_or_went():
    assert drift([judged(), valued(1.0)], [judged()]) == ["tides/x: no longer recorded"]
    assert drift([judged()], [judged(), valued(1.0)]) == ["tides/x: not in the records"]
    assert drift([], []) == []


def test_records_come_back_as_they_were_one_a_line(tmp_path):
    path = tmp_path / "records" / "tides.json"
    records = [judged() | {"statement": 'grün "梯度" <b> \n'}, valued(0.1)]
    runs = [
        {"profile": "book", "seed": 0, "records": records},
        {"profile": "full", "seed": 1, "records": []},
    ]
    save_records(path, "tides", runs)
    assert load_records(path) == runs
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["chapter"] == "tides"
    assert sum('"name": "tides/' in line for line in text.splitlines()) == 2
    assert "梯度" in text
    save_records(path, "tides", load_records(path))
    assert path.read_text(encoding="utf-8") == text


HEAD = '{"profile": "book", "seed": 0}'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"runs": null}',
        '{"runs": [null]}',
        '{"runs": [{"run": null, "records": []}]}',
        '{"runs": [{"run": {"profile": "book"}, "records": []}]}',
        *(
            f'{{"runs": [{{"run": {HEAD}, "records": {records}}}]}}'
            for records in (
                "null",
                "[null]",
                '[{"value": 1}]',
                '[{"name": "x"}]',
                '[{"name": "x", "value": NaN}]',
                '[{"name": "x", "value": 1, "low": null}]',
            )
        ),
    ],
)
def test_malformed_records_are_refused_by_the_name_of_their_file(tmp_path, content):
    path = tmp_path / "tides.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"path: .*tides.json holds no records"):
        load_records(path)
    path.write_bytes(content.encode() + b"\xff")
    with pytest.raises(ValueError, match=r"path: .*tides.json holds no records"):
        load_records(path)


def test_there_are_no_records_before_the_first_run(tmp_path):
    assert load_records(tmp_path / "none.json") == []


def test_a_number_that_json_does_not_know_is_not_written(tmp_path):
    runs = [{"profile": "book", "records": [valued(math.nan)]}]
    with pytest.raises(ValueError, match="JSON"):
        save_records(tmp_path / "tides.json", "tides", runs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b'{"runs": 3}', b'{"runs": [{"run": 1}]}', b"\xff\xfe"],
)
def test_a_file_that_holds_no_records_is_refused(tmp_path, content):
    path = tmp_path / "tides.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"path: {path} holds no records"):
        load_records(path)


def test_every_truncation_of_a_record_file_is_refused(tmp_path):
    path = tmp_path / "tides.json"
    save_records(path, "tides", [{"profile": "book", "records": [judged()]}])
    whole = path.read_bytes().rstrip()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="holds no records"):
            load_records(path)


def test_the_environment_says_where_a_record_comes_from():
    found = environment("cpu")
    assert found["device"] == "cpu"
    assert set(found["versions"]) == {"torch", "numpy", "scipy", "scikit-learn"}
    json.dumps(found)


def test_timed_calls_take_turns_and_a_first_round_is_not_counted():
    order = []
    calls = {name: lambda n=name: order.append(n) for name in ("own", "shared")}
    table = timed(calls, 3)
    assert order == ["own", "shared"] * 4
    assert list(table) == ["own", "shared"]
    assert table.shape == (3, 2)
    assert (table.to_numpy() >= 0).all()


def test_more_work_takes_more_processor_time():
    calls = {"little": lambda: sum(range(1000)), "much": lambda: sum(range(300_000))}
    table = timed(calls, 5)
    assert table["much"].median() > table["little"].median()

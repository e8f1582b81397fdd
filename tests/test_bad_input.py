"""Wrong calls are refused at once, and the message names argument and value."""

import math
import time

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from torch import nn

from blogcore import data, evidence, landscape, networks, objectives, show, training
from blogcore.claims import Above, Below, Claim, Within
from blogcore.data import Examples
from blogcore.objectives import classification
from blogcore.runtime import by_profile, device, seeds, stream, write_safely

NAN, INF = math.nan, math.inf
DICE = stream(0, "bad input")
TEN = Examples(torch.zeros(10, 4), torch.zeros(10, dtype=torch.int64))
TWO = data.stack([TEN, TEN])
NET = networks.mlp((4, 3), [DICE, DICE], networks.tanh)
ALONE = nn.Linear(4, 3)
SGD = torch.optim.SGD(NET.parameters(), lr=0.1)
TABLE = pd.DataFrame({"arm": ["a", "a", "b"], "seed": [0, 1, 0], "loss": [1.0, 2, 3]})
CLAIM = {"id": "C1", "statement": "s", "author": "post", "test": "t"}
CLAIM |= {"prediction": Above(0.1)}
REPORT = show.Report("tides", "book", [Claim(**CLAIM)])


def penalise(*settings):
    return objectives.finite_difference_penalty(classification, *settings)


def flip(labels=TEN.labels, rate=0.1, classes=2):
    return data.flip_labels(labels, rate, classes, DICE)


def train(steps):
    return training.train(NET, lambda step: TEN, classification, SGD, steps)


def axes():
    return plt.figure().subplots()


# room: [(the call, words that its message must hold), …]
WRONG = {
    "runtime": [
        (lambda: device("gpu"), "device: 'gpu'"),
        (lambda: device("cuda:99"), "device: 'cuda:99'"),
        (lambda: device(None), "device: None"),
        (lambda: stream(-1, "init"), "seed: -1"),
        (lambda: stream(1.0, "init"), "seed: 1.0"),
        (lambda: stream(True, "init"), "seed: True"),
        (lambda: stream("0", "init"), "seed: '0'"),
        (lambda: stream(0, 7), "name: 7"),
        (lambda: seeds(-1, 5), "root: -1"),
        (lambda: seeds(0.0, 5), "root: 0.0"),
        (lambda: seeds(0, 0), "count: 0"),
        (lambda: seeds(0, 501), "count: 501"),
        (lambda: seeds(0, 5.0), "count: 5.0"),
        (lambda: seeds(0, 5, "test"), "purpose: 'test'"),
        (lambda: by_profile("fast", smoke=1, book=2, full=3), "profile: 'fast'"),
        (lambda: by_profile("book", smoke=1, book=2), "choices: ['book', 'smoke']"),
        (lambda: by_profile("book", smoke=1, book=2, full=3, x=4), "'x'"),
        (lambda: write_safely("x", "text"), "bytes-like object"),
    ],
    "data": [
        (lambda: data.sinusoid(0, DICE), "count: 0"),
        (lambda: data.sinusoid(2.0, DICE), "count: 2.0"),
        (lambda: data.sinusoid(True, DICE), "count: True"),
        (lambda: data.split(TEN, [], DICE), "sizes: []"),
        (lambda: data.split(TEN, [5, 0], DICE), "sizes: 0"),
        (lambda: data.split(TEN, [8, 3], DICE), "sizes: [8, 3]"),
        (lambda: data.split(TEN, [2.0], DICE), "sizes: 2.0"),
        (lambda: flip(rate=-0.1), "rate: -0.1"),
        (lambda: flip(rate=1.1), "rate: 1.1"),
        (lambda: flip(rate=NAN), "rate: nan"),
        (lambda: flip(rate="0.1"), "rate: '0.1'"),
        (lambda: flip(classes=1), "classes: 1"),
        (lambda: flip(TEN.labels + 2), "labels: 2 … 2"),
        (lambda: flip(TEN.labels - 1), "labels: -1 … -1"),
        (lambda: flip(TEN.labels[:0]), "labels: torch.int64 of shape (0,)"),
        (lambda: flip(TWO.labels), "labels: torch.int64 of shape (2, 10)"),
        (lambda: flip(TEN.labels.float()), "labels: torch.float32"),
        (lambda: data.stack([]), "members: "),
        (lambda: data.stack([TEN, Examples(*(t[:5] for t in TEN))]), "members: "),
        (lambda: data.shuffled(TEN, 0, [0]), "size: 0"),
        (lambda: data.shuffled(TEN, 11, [0]), "size: 11"),
        (lambda: data.shuffled(TEN, 2.0, [0]), "size: 2.0"),
        (lambda: data.shuffled(TEN, 2, []), "seeds: []"),
        (lambda: data.shuffled(TWO, 2, [0]), "seeds: [0]"),
        (lambda: data.shuffled(TWO, 2, [0, 1, 2]), "seeds: [0, 1, 2]"),
        (lambda: data.shuffled(TEN, 2, [0, -1])(0), "seed: -1"),
    ],
    "networks": [
        (lambda: networks.mlp((4,), [DICE], networks.tanh), "widths: (4,)"),
        (lambda: networks.mlp((4, 0, 2), [DICE], networks.tanh), "widths: (4, 0, 2)"),
        (lambda: networks.mlp((4, 2.0), [DICE], networks.tanh), "widths: (4, 2.0)"),
        (lambda: networks.mlp((4, 2), [], networks.tanh), "generators: "),
        (lambda: networks.resnet18(0), "classes: 0"),
        (lambda: networks.resnet18(10, width=0), "width: 0"),
    ],
    "objectives": [
        (lambda: objectives.flood(classification, -0.1), "level: -0.1"),
        (lambda: objectives.flood(classification, NAN), "level: nan"),
        (lambda: objectives.flood(classification, torch.tensor([0, INF])), "level: [0"),
        (lambda: objectives.flood(classification, "0.1"), "'str'"),
        (lambda: objectives.iflood(-1), "level: -1"),
        (
            lambda: objectives.flood(classification, torch.ones(3))(NET, TEN),
            "level: shape (3,)",
        ),
        (
            lambda: objectives.flood(classification, torch.ones(2))(ALONE, TEN),
            "level: shape (2,)",
        ),
        (lambda: objectives.iflood(torch.ones(3))(NET, TEN), "level: shape (3,)"),
        (lambda: objectives.gradient_penalty(classification, -1.0), "strength: -1.0"),
        (lambda: objectives.gradient_penalty(classification, INF), "strength: inf"),
        (lambda: objectives.gradient_penalty(classification, "1"), "strength: '1'"),
        (lambda: penalise(NAN, 0.1), "strength: nan"),
        (lambda: penalise(1.0, 0.0), "distance: 0.0"),
        (lambda: penalise(1.0, -0.1), "distance: -0.1"),
        (lambda: penalise(1.0, INF), "distance: inf"),
        (
            lambda: objectives.signed(lambda step: TEN, (), same_batch=True),
            "sizes: ()",
        ),
        (
            lambda: objectives.signed(lambda step: TEN, (0.1, NAN), same_batch=True),
            "sizes: ",
        ),
    ],
    "landscape": [
        (
            lambda: (
                landscape.as_function(classification, nn.Linear(4, 3), TEN)
                and landscape.as_function(classification, networks.resnet18(2, 4), TEN)
            ),
            "model: ",
        ),
        (
            lambda: landscape.sharpness(torch.sum, torch.ones(1, 2), DICE, 0),
            "iterations: 0",
        ),
    ],
    "training": [
        (lambda: train(-1), "steps: -1"),
        (lambda: train(2.5), "steps: 2.5"),
        (lambda: training.Checkpoint("x", 0), "every: 0"),
        (lambda: training.Checkpoint("x", 1.5), "every: 1.5"),
        (lambda: training.Probe(0, dict), "every: 0"),
        (lambda: training.linear_decay(SGD, 0), "steps: 0"),
        (lambda: training.StopBelow(NET, NAN), "level: nan"),
    ],
    "evidence": [
        (lambda: evidence.sweep(len), "factors: "),
        (lambda: evidence.sweep(len, seed=[1], level=[]), "['level']"),
        (lambda: evidence.interval([1.0]), "values: [1.0]"),
        (lambda: evidence.interval([]), "values: []"),
        (lambda: evidence.interval([1.0, NAN]), "values: [1.0, nan]"),
        (lambda: evidence.interval([[1.0, 2.0]]), "values: [[1.0, 2.0]]"),
        (lambda: evidence.estimate([1.0, 2.0], [1], "x"), "values: 2"),
        (lambda: evidence.where(TABLE, {"level": 1}), "condition: no factor 'level'"),
        (lambda: evidence.where(TABLE, {"arm": "c"}), "condition: no row has"),
        (lambda: evidence.average(TABLE, "hits", {"arm": "a"}), "metric: 'hits'"),
        (lambda: evidence.average(TABLE, "loss", {"arm": "b"}), "values: [3.0]"),
        (lambda: evidence.average(TABLE, "loss", {}), "condition: {}"),
        (
            lambda: evidence.contrast(TABLE, "loss", {"arm": "a"}, {"arm": "b"}),
            "seeds: [0, 1] and [0]",
        ),
    ],
    "claims": [
        (lambda: Above(NAN), "threshold: nan"),
        (lambda: Below("0"), "threshold: '0'"),
        (lambda: Within(1.0, -0.1), "tolerance: -0.1"),
        (lambda: Within(INF, 0.1), "target: inf"),
        (lambda: Claim(**CLAIM | {"author": "me"}), "author: 'me'"),
        (lambda: Claim(**CLAIM | {"id": "C 1"}), "id: 'C 1'"),
        (lambda: Claim(**CLAIM | {"id": '"><b'}), "id: "),
        (lambda: Claim(**CLAIM | {"prediction": 0.1}), "prediction: 0.1"),
    ],
    "show": [
        (lambda: show.Report("tides", "draft", []), "profile: 'draft'"),
        (lambda: show.Report("t", "book", [Claim(**CLAIM)] * 2), "claims: "),
        (lambda: REPORT.judge("C9", evidence.interval([1, 2])), "name: 'C9'"),
        (lambda: REPORT.verdicts(), "claims: never judged: ['C1']"),
        (lambda: REPORT.value("x", NAN), "x is nan"),
        (lambda: REPORT.value("x", 1.0, "roughly"), "tolerance: 'roughly'"),
        (
            lambda: show.band(axes(), [0, 1], [[1, 2]], "x", "C0"),
            "values: shape (1, 2)",
        ),
        (lambda: show.band(axes(), [0], [[1]], "x", "C0"), "values: shape (1, 1)"),
        (lambda: show.dots(axes(), [("one", [1.0])]), "groups: 'one'"),
        (lambda: show.slider("x", []), "frames: "),
        (lambda: show.slider("x", [("1", "", None)] * 2), "frames: "),
        (lambda: show.source(3), "object"),
    ],
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")
    assert not list(tmp_path.iterdir()), "something was left behind"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(call, words, id=f"{room} {words}")
        for room, rows in WRONG.items()
        for call, words in rows
    ],
)
def test_a_wrong_call_is_refused_by_name(call, words):
    start = time.perf_counter()
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert words in str(caught.value)
    assert time.perf_counter() - start < 1


def test_the_table_of_wrong_calls_is_long_enough():
    assert sum(map(len, WRONG.values())) >= 100

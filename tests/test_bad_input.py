"""Wrong calls are refused at once, and the message names argument and value."""

import math
import time

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from torch import nn

from blogcore import (
    data,
    diagrams,
    evidence,
    interactive,
    landscape,
    networks,
    objectives,
    optim,
    show,
    sphere,
    style,
    training,
    wordvec,
)
from blogcore.checkpoint import Checkpoint
from blogcore.claims import Above, Below, Claim, Within
from blogcore.data import Examples
from blogcore.objectives import classification
from blogcore.report import Report
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
REPORT = Report("nvae_audit", "book")


def penalise(*settings):
    return objectives.finite_difference_penalty(classification, *settings)


def flip(labels=TEN.labels, rate=0.1, classes=2):
    return data.flip_labels(labels, rate, classes, DICE)


def train(steps):
    return training.train(NET, lambda step: TEN, classification, SGD, steps)


def rows(centre, context=None, block=2):
    return wordvec.row_softmax(centre, centre if context is None else context, block)


def skipgram(centre, context=None, dimension=2, generators=(DICE,), scale=0.25):
    other = centre if context is None else context
    return wordvec.SkipGram(centre, other, dimension, generators, scale)


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
        (lambda: data.noise_entropy(1.1), "rate: 1.1"),
        (lambda: data.noise_entropy(0.1, 1), "classes: 1"),
        (lambda: data.noisy_sinusoid(0, 0.1, 0, "train"), "count: 0"),
        (lambda: data.noisy_sinusoid(10, -0.1, 0, "train"), "rate: -0.1"),
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
        (lambda: objectives.flood(classification, "0.1"), "level: '0.1'"),
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
        (lambda: objectives.negative_sampling(0), "count: 0"),
        (lambda: objectives.negative_sampling(-1), "count: -1"),
        (lambda: objectives.negative_sampling(NAN), "count: nan"),
        (lambda: objectives.negative_sampling(INF), "count: inf"),
        (lambda: objectives.negative_sampling("5"), "count: '5'"),
    ],
    "sphere": [
        *[
            case
            for law in (sphere.log_partition, sphere.entropy_gap)
            for case in (
                (lambda law=law: law(0.99), "n: 0.99"),
                (lambda law=law: law(-3), "n: -3"),
                (lambda law=law: law(NAN), "n: nan"),
                (lambda law=law: law(INF), "n: inf"),
                (lambda law=law: law("3"), "n: '3'"),
                (lambda law=law: law(2e12), "n: 2000000000000.0"),
                (lambda law=law: law(3, -0.1), "beta: -0.1"),
                (lambda law=law: law(3, NAN), "beta: nan"),
                (lambda law=law: law(3, INF), "beta: inf"),
                (lambda law=law: law(3, 1e12), "beta: 1000000000000.0"),
            )
        ],
        *[
            case
            for law in (sphere.saddle, sphere.slope, sphere.offset)
            for case in (
                (lambda law=law: law(-1), "beta: -1"),
                (lambda law=law: law(NAN), "beta: nan"),
                (lambda law=law: law(INF), "beta: inf"),
                (lambda law=law: law("1"), "beta: '1'"),
            )
        ],
        (lambda: sphere.needed_dimension(-0.1), "entropy: -0.1"),
        (lambda: sphere.needed_dimension(NAN), "entropy: nan"),
        (lambda: sphere.needed_dimension(INF), "entropy: inf"),
        (lambda: sphere.needed_dimension(1, -1), "beta: -1"),
        (lambda: sphere.needed_dimension(1, 0), "beta: 0"),
        (lambda: sphere.needed_dimension(10, 1e-9), "beta: 1e-09"),
        (lambda: sphere.memorising_dimension(0.5), "count: 0.5"),
        (lambda: sphere.memorising_dimension(NAN), "count: nan"),
        (lambda: sphere.memorising_dimension(INF), "count: inf"),
        (lambda: sphere.memorising_dimension(10, -1), "beta: -1"),
        (lambda: sphere.memorising_dimension(10, 1e-13), "beta: 1e-13"),
        (lambda: sphere.cosine_density(0.1, 1), "n: 1 has no density"),
        (lambda: sphere.cosine_density(0.1, 0), "n: 0"),
        (lambda: sphere.cosine_density(1.0, 3), "cosine: 1.0"),
        (lambda: sphere.cosine_density(NAN, 3), "cosine: nan"),
        (lambda: sphere.cosine_tail(-0.1, 3), "cosine: -0.1"),
        (lambda: sphere.cosine_tail(1.1, 3), "cosine: 1.1"),
        (lambda: sphere.cosine_tail(NAN, 3), "cosine: nan"),
        (lambda: sphere.cosine_tail(0.1, 0.5), "n: 0.5"),
        (lambda: sphere.cosine_quantile(0.6, 3), "tail: 0.6"),
        (lambda: sphere.cosine_quantile(-0.1, 3), "tail: -0.1"),
        (lambda: sphere.cosine_quantile(0.1, NAN), "n: nan"),
        (lambda: sphere.frozen_exponent(3, 10), "n: 3"),
        (lambda: sphere.frozen_exponent(NAN, 10), "n: nan"),
        (lambda: sphere.frozen_exponent(INF, 10), "n: inf"),
        (lambda: sphere.frozen_exponent(9, 1), "count: 1"),
        (lambda: sphere.frozen_exponent(9, INF), "count: inf"),
        (lambda: sphere.frozen_exponent(9, 10, 0), "beta: 0"),
        (lambda: sphere.frozen_exponent(9, 10, -1), "beta: -1"),
        (lambda: sphere.poisson_dirichlet_entropy(1), "exponent: 1"),
        (lambda: sphere.poisson_dirichlet_entropy(-0.1), "exponent: -0.1"),
        (lambda: sphere.poisson_dirichlet_entropy(1.1), "exponent: 1.1"),
        (lambda: sphere.poisson_dirichlet_entropy(NAN), "exponent: nan"),
    ],
    "wordvec": [
        (lambda: wordvec.on_sphere(0, 3, DICE), "count: 0"),
        (lambda: wordvec.on_sphere(2.0, 3, DICE), "count: 2.0"),
        (lambda: wordvec.on_sphere(2, 0, DICE), "dimension: 0"),
        (lambda: wordvec.on_sphere(2, True, DICE), "dimension: True"),
        (lambda: wordvec.on_sphere(2, 3, DICE, -1), "beta: -1"),
        (lambda: wordvec.on_sphere(2, 3, DICE, NAN), "beta: nan"),
        (lambda: rows(torch.ones(3)), "centre: shape (3,)"),
        (lambda: rows(torch.ones(0, 3)), "centre: shape (0, 3)"),
        (lambda: rows(torch.ones(3, 0)), "centre: shape (3, 0)"),
        (lambda: rows(torch.ones(1, 3, 2)), "centre: shape (1, 3, 2)"),
        (lambda: rows(torch.ones(3, 2), torch.ones(0, 2)), "context: shape (0, 2)"),
        (lambda: rows(torch.ones(3, 2), torch.ones(3, 4)), "context: 4 dimensions"),
        (lambda: rows(torch.ones(3, 2) * NAN), "centre: holds"),
        (lambda: rows(torch.ones(3, 2), torch.ones(3, 2) * INF), "context: holds"),
        (lambda: rows(torch.ones(3, 2) * 1e30), "centre: the energies"),
        (lambda: rows(torch.ones(3, 2).long()), "centre: torch.int64"),
        (
            lambda: rows(torch.ones(3, 2), torch.ones(3, 2).double()),
            "context: torch.float64",
        ),
        (lambda: rows(torch.ones(3, 2), block=0), "block: 0"),
        (lambda: rows(torch.ones(3, 2), block=1.5), "block: 1.5"),
        (lambda: skipgram(torch.ones(0)), "centre_marginal: "),
        (lambda: skipgram(torch.zeros(3)), "centre_marginal: "),
        (lambda: skipgram(torch.ones(3), -torch.ones(3)), "context_marginal: "),
        (lambda: skipgram(torch.ones(3) * NAN), "centre_marginal: "),
        (lambda: skipgram(torch.ones(3) * INF), "centre_marginal: "),
        (lambda: skipgram(torch.ones(2, 3)), "centre_marginal: shape (2, 3)"),
        (lambda: skipgram(torch.ones(1, 1, 3)), "centre_marginal: shape (1, 1, 3)"),
        (lambda: skipgram(torch.tensor(1.0)), "centre_marginal: shape ()"),
        (lambda: skipgram(torch.ones(3), dimension=0), "dimension: 0"),
        (lambda: skipgram(torch.ones(3), generators=[]), "generators: "),
        (lambda: skipgram(torch.ones(3), scale=-1), "scale: -1"),
        (lambda: skipgram(torch.ones(3), scale=NAN), "scale: nan"),
        (lambda: wordvec.pmi(torch.ones(3)), "joint: shape (3,)"),
        (lambda: wordvec.pmi(torch.ones(0, 3)), "joint: shape (0, 3)"),
        (lambda: wordvec.pmi(-torch.ones(3, 3)), "joint: holds an entry"),
        (lambda: wordvec.pmi(torch.ones(3, 3) * NAN), "joint: holds an entry"),
        (lambda: wordvec.pmi(torch.ones(3, 3) * INF), "joint: holds an entry"),
        (lambda: wordvec.pmi(torch.eye(3)[:2]), "joint: a row or column"),
        (lambda: wordvec.pmi(torch.eye(3)[:, :2]), "joint: a row or column"),
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
        (lambda: Checkpoint("x", 0, "run"), "every: 0"),
        (lambda: Checkpoint("x", 1.5, "run"), "every: 1.5"),
        (lambda: Checkpoint("x", 1, ""), "run: ''"),
        (lambda: Checkpoint("x", 1, 7), "run: 7"),
        (lambda: training.Probe(0, dict), "every: 0"),
        (lambda: optim.linear_decay(SGD, 0), "steps: 0"),
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
        (lambda: evidence.timed({}, 3), "repeats: 3 of []"),
        (lambda: evidence.timed({"a": int}, 1), "repeats: 1 of ['a']"),
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
        (lambda: Above(True), "threshold: True"),
        (lambda: Within(1.0, -0.1), "tolerance: -0.1"),
        (lambda: Within(INF, 0.1), "target: inf"),
        (lambda: Claim(**CLAIM | {"author": "me"}), "author: 'me'"),
        (lambda: Claim(**CLAIM | {"id": "C 1"}), "id: 'C 1'"),
        (lambda: Claim(**CLAIM | {"id": '"><b'}), "id: "),
        (lambda: Claim(**CLAIM | {"prediction": 0.1}), "prediction: 0.1"),
    ],
    "report": [
        (lambda: Report("nvae", "draft"), "profile: 'draft'"),
        (lambda: REPORT.judge("C99", evidence.interval([1, 2])), "name: 'C99'"),
        (lambda: REPORT.check("C99", 0.0), "name: 'C99'"),
        (lambda: REPORT.check("C1", [0.0, NAN]), "values: of C1 are [0.0, nan]"),
        (lambda: REPORT.check("C1", []), "values: of C1 are []"),
        (lambda: REPORT.verdicts(), "claims: never judged: ['C1'"),
        (lambda: REPORT.settings(PACE=1), "settings: ['PACE'] are not among"),
        (lambda: REPORT.value("x", NAN), "x is nan"),
        (lambda: REPORT.value("x", 1.0, tolerance="roughly"), "tolerance: 'roughly'"),
        (lambda: REPORT.value("x", 1.0, "it gains"), "sentence: 'it gains' has no {}"),
    ],
    "style": [
        (
            lambda: style.band(axes(), [0, 1], [[1, 2]], "x", "method"),
            "values: shape (1, 2)",
        ),
        (lambda: style.band(axes(), [0], [[1]], "x", "plain"), "values: shape (1, 1)"),
        (lambda: style.band(axes(), [0], [[1, 2]], "x", "C0"), "meaning: 'C0'"),
        (lambda: style.dots(axes(), [("one", [1.0])]), "groups: 'one'"),
        (lambda: style.dots(axes(), [("one", [1, 2], "blue")]), "meaning: 'blue'"),
        (lambda: style.line("red"), "meaning: 'red'"),
        (lambda: style.shade(3, 3), "place: 3"),
        (lambda: style.end_label(axes(), 0, 0, "end", "red"), "meaning: 'red'"),
    ],
    "diagrams": [
        (lambda: diagrams.matrix(axes(), (0, 0), [[2]]), "values: [[2.0]]"),
        (lambda: diagrams.matrix(axes(), (0, 0), [1, 0]), "values: [1.0, 0.0]"),
        (
            lambda: diagrams.matrix(axes(), (0, 0), [[1]], ["a", "b"]),
            "rows: ['a', 'b']",
        ),
        (lambda: diagrams.strip(axes(), (0, 0), ["a"], {1: "plain"}), "meanings: {1:"),
        (lambda: diagrams.words(axes(), (0, 0), "概率 $p$"), "text: '概率 $p$'"),
        (
            lambda: diagrams.number_line(axes(), ((0, 0), (1, 1)), (0, 1), []),
            "span, bounds: ((0, 0), (1, 1))",
        ),
    ],
    "show": [
        (lambda: interactive.slider("x", []), "frames: "),
        (lambda: interactive.slider("x", [("1", "", None)] * 2), "frames: "),
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
    start = time.process_time()
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert words in str(caught.value)
    assert time.process_time() - start < 1


def test_the_table_of_wrong_calls_is_long_enough():
    assert sum(map(len, WRONG.values())) >= 100

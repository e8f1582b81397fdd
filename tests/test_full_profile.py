"""The code of the full profile runs, on a handful of images and a narrow network."""

import ast
from functools import partial
from itertools import product
from pathlib import Path

import nbformat
import pytest
import torch
from pages import Fragment

from blogcore import data, evidence, networks, phrases, report, tasks
from blogcore.data import Examples
from blogcore.freshness import code_cells, text
from blogcore.runtime import seeds
from blogcore.tokens import BertTokenizer
from blogcore.words import WordTokenizer

CHAPTERS = Path(__file__).parents[1] / "chapters"


@pytest.fixture(scope="module")
def cells() -> list:
    """The code cells of the audit of Flooding."""
    path = CHAPTERS / "flooding_audit.ipynb"
    return code_cells(nbformat.read(path, as_version=4))


@pytest.fixture
def flooding(cells) -> dict:
    """What the audit's imports and its CIFAR-10 cell define."""
    scope: dict = {}
    for cell in cells:
        if text(cell).startswith("import ") or "def cifar_run" in text(cell):
            exec(text(cell).partition("style.use()")[0], scope)
    return scope | {"plain": scope["objectives"].classification}


@pytest.mark.slow
def test_a_cifar_run_gives_finite_scores_and_repeats(flooding, monkeypatch):
    narrow = partial(networks.resnet18, width=4)
    monkeypatch.setattr(networks, "resnet18", narrow)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(120, 3, 32, 32, generator=generator)
    labels = torch.arange(120) % 10
    sets = Examples(images[:80], labels[:80]), Examples(images[80:], labels[80:])
    run = flooding["cifar_run"]
    run.__globals__.update(flooding)
    first, second = (run(0.2, 0.5, 3, sets, epochs=2, batch=20) for _ in range(2))
    assert first == second
    assert set(first) == {"loss", "accuracy", "train_loss"}
    assert all(0 <= value < 20 for value in first.values())
    assert first["accuracy"] <= 1


def test_what_a_full_run_records_is_what_the_next_page_shows(
    cells, flooding, shown, monkeypatch, tmp_path
):
    """Three seeds an arm go in, one row an arm with means and intervals comes out."""
    (cell,) = (text(c) for c in cells if 'report.recorded("cifar"' in text(c))
    monkeypatch.setattr(report, "DATA", tmp_path)
    monkeypatch.setenv("BLOGCORE_DATA", str(tmp_path))
    empty = Examples(torch.zeros(0), torch.zeros(0))
    monkeypatch.setattr(data, "cifar10", lambda folder: (empty, empty))
    numbers = report.Numbers("flooding_audit")
    scope = flooding | {
        "PROFILE": "full",
        "SEED": 2,
        "DEVICE": "cpu",
        "report": numbers,
    }
    scope["cifar_run"] = lambda noise, level, seed, sets: {
        "loss": level + 0.01 * (seed % 3),
        "accuracy": 0.75,
    }
    exec(cell, scope)
    assert shown.pop()[0] == "<p>No run of the full profile is recorded yet.</p>"
    records = {
        meta["scrapbook"]["name"]: {"kind": "value", "value": float(*texts.values())}
        for texts, meta in shown
    }
    noisy = [(0.2, level) for level in (0.0, 0.5, 0.7, 0.8, 0.94)]
    arms = [*noisy, (0.0, 0.0), (0.0, 0.5)]
    assert list(records) == [
        f"flooding_audit/cifar/{noise}/{level}/{metric}/{seed}"
        for (noise, level), seed in product(arms, seeds(2, 3))
        for metric in ("loss", "accuracy")
    ]
    (tmp_path / "records").mkdir()
    rows = [{"name": name, **record} for name, record in records.items()]
    run = {"profile": "full", "seed": 2, "records": rows}
    path = tmp_path / "records" / "flooding_audit.json"
    evidence.save_records(path, "flooding_audit", [run])
    exec(cell, scope | {"PROFILE": "smoke"})
    table = Fragment(shown[-1][0])
    assert len(table.all("th")) == 4
    assert len(table.all("tr")) == 1 + len(arms)
    assert table.words.startswith("noiselevellossaccuracy0.20.00.010 ± 0.0250.75 ± 0")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MNIST", "CIFAR-10"])
def test_fifteen_groups_train_without_overflow(name):
    """The deepest hierarchy of the NVAE chapter, for a few steps on made-up images."""
    source = nbformat.read(CHAPTERS / "nvae_audit.ipynb", as_version=4)
    scope: dict = {}
    for cell in map(text, code_cells(source)):
        kinds = (ast.Import, ast.ImportFrom)
        imports = [node for node in ast.parse(cell).body if isinstance(node, kinds)]
        exec(compile(ast.Module(imports, []), "imports", "exec"), scope)
        if "def at_scale" in cell or cell.startswith("LAYOUTS = {"):
            exec(cell.split("if PROFILE")[0], scope)
    _, likelihood, draw = scope["SETS"][name]
    shape = (8, likelihood.channels, 32, 32)
    pictures = torch.randint(256, shape, generator=torch.Generator().manual_seed(0))
    part = Examples(pictures.to(torch.uint8), torch.zeros(8))
    arm = scope["LAYOUTS"]["15 groups, relative"]
    nats = scope["at_scale"](arm, 0, (part, part), likelihood, draw, steps=4, batch=8)
    assert 0 < nats < 1e6


@pytest.mark.slow
def test_characters_and_words_continue_for_equal_operations():
    """What the WoBERT audit would do on a GPU, with a narrow net and two steps."""
    book = nbformat.read(CHAPTERS / "wobert_audit.ipynb", as_version=4)
    scope: dict = {}
    for cell in code_cells(book):
        source = text(cell)
        if source.startswith("import ") or "def pretrain" in source:
            exec(source.partition("style.use()")[0], scope)
        if "def tune" in source or "def continued" in source:
            exec(source, scope)
    found = phrases.phrases(500)
    scope["data"] = found
    scope["letters"] = BertTokenizer(found.base)
    scope["word_reader"] = WordTokenizer(found.vocabulary)
    scope["SHAPE"] |= {"width": 8, "heads": 2, "layers": 1, "inner": 8}
    labels = torch.tensor([0, 1] * 40)
    sets = [tasks.LabelledTexts(found.texts[:80], None, labels, ("a", "b"))] * 3
    first = scope["continued"](found.texts[:40], sets, 3, 5, torch.device("cpu"))
    assert set(first) == {"characters", "words = mean", "words random"}
    assert all(0 <= score <= 100 for score in first.values())
    assert first == scope["continued"](
        found.texts[:40], sets, 3, 5, torch.device("cpu")
    )

"""The code of the full profile runs, on a handful of images and a narrow network."""

import ast
from pathlib import Path

import nbformat
import pytest
import torch

from blogcore import phrases, tasks
from blogcore.data import Examples
from blogcore.freshness import code_cells, text
from blogcore.tokens import BertTokenizer
from blogcore.words import WordTokenizer

CHAPTERS = Path(__file__).parents[1] / "chapters"


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

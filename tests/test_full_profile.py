"""The code of the full profile runs, on a handful of images and a narrow network."""

from functools import partial
from pathlib import Path

import nbformat
import pytest
import torch

from blogcore import networks
from blogcore.data import Examples
from blogcore.freshness import code_cells, text

CHAPTERS = Path(__file__).parents[1] / "chapters"


@pytest.fixture
def flooding() -> dict:
    """What the Flooding chapter's imports and its CIFAR-10 cell define."""
    cells = code_cells(nbformat.read(CHAPTERS / "flooding.ipynb", as_version=4))
    scope: dict = {}
    for cell in cells:
        if text(cell).startswith("import ") or "def cifar_run" in text(cell):
            exec(text(cell), scope)
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

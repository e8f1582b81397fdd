"""The code of the full profile runs, on a handful of images and a narrow network."""

from pathlib import Path

import nbformat
import pytest
import torch

from blogcore.data import Examples
from blogcore.freshness import code_cells, text

CHAPTERS = Path(__file__).parents[1] / "chapters"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MNIST", "CIFAR-10"])
def test_fifteen_groups_train_without_overflow(name):
    """The deepest hierarchy of the NVAE chapter, for a few steps on made-up images."""
    source = nbformat.read(CHAPTERS / "nvae.ipynb", as_version=4)
    scope: dict = {}
    for cell in map(text, code_cells(source)):
        wanted = ("import ", "from ", "def at_scale", "ARMS = {")
        if cell.startswith(wanted):
            exec(cell.split("if PROFILE")[0].split("style.use()")[0], scope)
        if "nvae_cells = {" in cell:
            exec(cell[cell.index("nvae_cells = {") : cell.index("scales = ")], scope)
    _, likelihood, draw = scope["SETS"][name]
    shape = (8, likelihood.channels, 32, 32)
    pictures = torch.randint(256, shape, generator=torch.Generator().manual_seed(0))
    part = Examples(pictures.to(torch.uint8), torch.zeros(8))
    arm = scope["ARMS"]["15 groups, relative"]
    nats = scope["at_scale"](arm, 0, (part, part), likelihood, draw, steps=4, batch=8)
    assert 0 < nats < 1e6

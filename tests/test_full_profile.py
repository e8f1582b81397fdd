"""The code of the full profile runs, on a handful of images and a narrow network."""

import ast
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

"""The deepest machine of the large runs holds, on a handful of made-up images."""

from pathlib import Path

import pytest
import torch

from blogcore.units import Page

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("pictures", ["MNIST", "CIFAR-10"])
def test_fifteen_groups_train_without_overflow(pictures):
    page = Page(ROOT, "nvae_audit", device="cpu")
    torch.set_num_threads(1)
    for loader in page.loaders("deep_hierarchy"):
        loader.draw()
    few = {"steps": 4, "batch": 8, "draws": 2}
    layout = "15 groups, relative"
    nats = page.experiments["deep_hierarchy"](pictures, layout, 0, **few)["nats"]
    assert 0 < nats < 1e6

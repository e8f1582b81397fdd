"""The units of all pages run on a made-up device beside the CPU, which none waits for.

Its steps, that is; they measure on the way, before and after.
"""

from math import isfinite
from pathlib import Path

import pytest
import torch
from card import card
from torch import nn
from torch.utils._pytree import tree_leaves

from blogcore import objectives, training
from blogcore.contents import chapters
from blogcore.data import Examples, shuffled
from blogcore.runtime import stream
from blogcore.units import Page, paged

ROOT = Path(__file__).parents[1]
PAGES = list(paged(ROOT, chapters(ROOT)))
UNITS = [(slug, name) for slug in PAGES for name in Page(ROOT, slug).experiments]


@pytest.mark.slow
@pytest.mark.parametrize(("slug", "name"), UNITS)
def test_a_tiny_unit_never_mixes_devices_nor_waits_in_a_step(slug, name, monkeypatch):
    page = Page(ROOT, slug, device="meta")
    torch.set_num_threads(1)
    for loader in page.loaders():
        loader.draw()
    experiment = page.experiments[name]
    with card(monkeypatch):
        found = experiment(**experiment.tiny)
    assert all(isfinite(value) for value in tree_leaves(found))


def trained(place: str) -> list[torch.Tensor]:
    """Losses and weights of a perceptron that was flooded on this device."""
    inputs = torch.randn(20, 3, generator=stream(0, "inputs"))
    known = Examples(inputs, torch.arange(20) % 4).to(torch.device(place))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4)).to(place)
    asked = objectives.flood(objectives.bfloat16(objectives.classification), 0.5)
    adam = torch.optim.AdamW(model.parameters(), 0.1, fused=True)
    history = training.train(model, shuffled(known, 5, 0), asked, adam, 9)
    return [history["loss"].cpu(), *(p.detach().cpu() for p in model.parameters())]


def test_a_training_gives_there_what_it_gives_on_the_cpu(monkeypatch):
    expected = trained("cpu")
    with card(monkeypatch):
        found = trained("meta")
    assert all(map(torch.equal, found, expected))


def test_what_a_card_forbids_is_found(monkeypatch):
    with card(monkeypatch):
        there = torch.tensor([1.0, 2.0], device="meta")
        assert (there.device.type, (2 * there).sum().item()) == ("meta", 6.0)
        assert there[torch.tensor([1])].item() == 2.0  # indices may lie on the CPU
        with pytest.raises(RuntimeError, match="on the CPU and on the card"):
            there + torch.ones(2)
        with pytest.raises(RuntimeError, match="the CPU's dice thrown on the card"):
            torch.rand(2, generator=torch.Generator(), device="meta")
        with pytest.raises(RuntimeError, match="the CPU's dice thrown on the card"):
            there.bernoulli(0.5, generator=torch.Generator())
        dice = torch.Generator("meta").manual_seed(1)
        drawn = torch.rand(2, generator=dice, device="meta")
    expected = torch.rand(2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn.values, expected)


def test_a_wait_inside_a_step_is_found(monkeypatch):
    def looks(model, batch):
        loss, parts = objectives.classification(model, batch)
        return loss / loss.item(), parts

    known = Examples(torch.zeros(4, 3), torch.arange(4))
    with card(monkeypatch):
        model, there = nn.Linear(3, 4).to("meta"), known.to(torch.device("meta"))
        adam = torch.optim.AdamW(model.parameters())
        with pytest.raises(RuntimeError, match="waits for the card inside a training"):
            training.train(model, lambda step: there, looks, adam, 1)

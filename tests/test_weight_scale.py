"""The full profile on weight scales runs: a few images, narrow networks."""

from pathlib import Path

import nbformat
import pytest
import torch

from blogcore import objectives, rescaling
from blogcore.data import Examples
from blogcore.freshness import code_cells, text

CHAPTER = Path(__file__).parents[1] / "chapters" / "weight_scale_audit.ipynb"
NEEDED = ("import torch", "def cifar_run", "def plain_conv", "PENALTIES = {")


@pytest.fixture(scope="module")
def audit() -> dict:
    """What the imports and the cells on CIFAR-10 define, without the report."""
    scope: dict = {"plain": objectives.classification}
    for cell in code_cells(nbformat.read(CHAPTER, as_version=4)):
        code = text(cell)
        if any(name in code for name in NEEDED):
            exec(code.split("style.use()")[0], scope)
    return scope


def images(count: int) -> Examples:
    generator = torch.Generator().manual_seed(count)
    drawn = torch.randn(count, 3, 32, 32, generator=generator)
    return Examples(drawn, torch.arange(count) % 10)


def test_the_plain_network_can_be_shifted(audit):
    torch.manual_seed(0)
    model = audit["plain_convolutions"](4).double()
    inputs = images(3).inputs.double()
    assert len(rescaling.layers(model)) == 7
    twin = rescaling.shift(model, [8.0, *[1.0] * 5, 1 / 8])
    torch.testing.assert_close(twin(inputs), model(inputs), rtol=1e-10, atol=1e-10)


def test_every_kind_of_arm_is_in_the_table(audit):
    assert {(kind, penalty) for kind, penalty, *_ in audit["ARMS"]} == {
        (kind, penalty)
        for kind in ("plain", "ResNet-18")
        for penalty in ("none", "L2", "log")
    }
    assert len(set(audit["ARMS"])) == len(audit["ARMS"])


@pytest.mark.slow
def test_an_arm_of_each_kind_gives_finite_scores_and_repeats(audit):
    sets = images(80), images(40)
    firsts = {arm[:2]: arm for arm in reversed(audit["ARMS"])}
    for arm in firsts.values():
        settings = {"epochs": 1, "batch": 20, "width": 4}
        found, again = (audit["cifar_run"](arm, 3, sets, **settings) for _ in "ab")
        assert found == again
        assert set(found) == {"loss", "accuracy", "train_loss", "log_norm"}
        assert 0 <= found["accuracy"] <= 1

"""The convolutional network of the audit on weight scales is the one that it says."""

from pathlib import Path

import torch

from blogcore import rescaling
from blogcore.units import Page

ROOT = Path(__file__).parents[1]


def test_the_plain_network_can_be_shifted():
    torch.manual_seed(0)
    model = Page(ROOT, "weight_scale_audit").scope["plain_convolutions"](4).double()
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(3, 3, 32, 32, generator=generator).double()
    assert len(rescaling.layers(model)) == 7
    twin = rescaling.shift(model, [8.0, *[1.0] * 5, 1 / 8])
    torch.testing.assert_close(twin(inputs), model(inputs), rtol=1e-10, atol=1e-10)

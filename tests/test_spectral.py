"""How far a convolution stretches, against its matrix written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blogcore import spectral
from blogcore.runtime import stream


def normal(*shape, seed=0) -> torch.Tensor:
    return torch.randn(shape, generator=stream(seed, "test"), dtype=torch.float64)


def convolution(**settings) -> nn.Conv2d:
    layer = nn.Conv2d(3, 4, 3, **{"padding": 1} | settings).double()
    with torch.no_grad():
        layer.weight.copy_(normal(*layer.weight.shape))
    return layer


def stretch(layer: nn.Conv2d, size: int) -> torch.Tensor:
    """The largest singular value of the map of size × size images, zeros around."""
    basis = torch.eye(layer.in_channels * size**2, dtype=torch.float64)
    images = basis.view(-1, layer.in_channels, size, size)
    matrix = F.conv2d(images, layer.weight, padding=layer.padding).flatten(1)
    return torch.linalg.svdvals(matrix).max()


def test_periodic_stretch_is_that_of_the_wrapped_matrix():
    layer = convolution(padding_mode="circular", bias=False)
    basis = torch.eye(3 * 36, dtype=torch.float64).view(-1, 3, 6, 6)
    wrapped = torch.linalg.svdvals(layer(basis).flatten(1)).max()
    assert abs(spectral.periodic_stretch(layer.weight, 6) - wrapped) < 1e-10


def test_zeros_around_an_image_stretch_less_than_wrapping_around():
    layer = convolution()
    bound = spectral.periodic_stretch(layer.weight, 30)
    values = [stretch(layer, size) for size in (3, 5, 8)]
    assert values == sorted(values)
    assert values[-1] < bound < 1.1 * values[-1]


def test_the_kernel_underestimates_the_map():
    """All ones, 3 × 3: the kernel's value is 3, the map's nears 9 on large images."""
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    nn.init.ones_(layer.weight)
    assert abs(spectral.kernel_norm(layer) - 3) < 1e-12
    assert 8.5 < stretch(layer, 16) < 9
    assert abs(spectral.periodic_stretch(layer.weight, 16) - 9) < 1e-10
    layer = convolution()
    kernel = spectral.kernel_norm(layer)
    assert kernel < stretch(layer, 8) < 3 * kernel


def test_a_convolution_before_batchnorm_does_not_care_for_its_scale():
    layer, norm = convolution(), nn.BatchNorm2d(4, eps=1e-12).double()
    x = normal(8, 3, 6, 6, seed=1)
    before = norm(layer(x))
    with torch.no_grad():
        layer.weight.mul_(10)
        layer.bias.mul_(10)
    assert (norm(layer(x)) - before).abs().max() < 1e-9


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (4, 3)])
def test_a_kernel_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match=r"kernel: shape \(4, 3"):
        spectral.periodic_stretch(torch.ones(shape), 2)

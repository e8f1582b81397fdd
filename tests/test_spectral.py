"""How far a convolution stretches: the exact value, its estimate, and the penalty."""

import pytest
import torch
from torch import nn

from blogcore import spectral
from blogcore.cells import EncoderCell, GenerativeCell
from blogcore.runtime import stream
from blogcore.spectral import PowerIteration, image_map, kernel_map


def normal(*shape, seed=0) -> torch.Tensor:
    return torch.randn(shape, generator=stream(seed, "test"), dtype=torch.float64)


def convolution(**settings) -> nn.Conv2d:
    layer = nn.Conv2d(3, 4, 3, **{"padding": 1} | settings).double()
    with torch.no_grad():
        layer.weight.copy_(normal(*layer.weight.shape))
    return layer


@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2}, {"padding": 0}, {"dilation": 2, "padding": 2}]
)
def test_the_matrix_of_a_convolution_is_the_convolution(settings):
    layer, x = convolution(**settings, bias=False), normal(5, 3, 6, 6, seed=1)
    matrix = spectral.as_matrix(layer, 6)
    expected = layer(x).flatten(1)
    torch.testing.assert_close(x.flatten(1) @ matrix.T, expected, rtol=0, atol=1e-10)
    singular = torch.linalg.svdvals(matrix).max()
    assert abs(spectral.stretch(layer, 6) - singular) < 1e-10


@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2}, {"dilation": 2}, {"padding": 0}]
)
def test_power_iteration_finds_the_largest_singular_value(settings):
    layer = convolution(**settings)
    for linear, exact in (
        (image_map(layer, 6), spectral.stretch(layer, 6)),
        (kernel_map(layer), spectral.kernel_norm(layer)),
    ):
        estimate = PowerIteration(linear, stream(0, "power"), first=3000)
        assert abs(estimate() - exact) < 1e-10
        rough = PowerIteration(linear, stream(0, "power"), first=1)
        values = [rough().item() for _ in range(5)]
        assert not rough.v.requires_grad
        assert values == sorted(values)
        assert values[-1] <= exact + 1e-10


def test_the_gradient_of_the_estimate_is_that_of_the_singular_value():
    layer = convolution()
    for linear, exact in (
        (image_map(layer, 4), lambda: spectral.stretch(layer, 4)),
        (kernel_map(layer), lambda: spectral.kernel_norm(layer)),
    ):
        estimate = PowerIteration(linear, stream(0, "power"), first=5000)
        (found,) = torch.autograd.grad(estimate(), layer.weight)
        (expected,) = torch.autograd.grad(exact(), layer.weight)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_power_iteration_follows_with_few_rounds():
    layer = convolution()
    calls = []
    linear = kernel_map(layer)
    counted = linear._replace(adjoint=lambda u: calls.append(1) or linear.adjoint(u))
    estimate = PowerIteration(counted, stream(0, "power"))
    estimate()
    assert len(calls) == 40
    estimate()
    assert len(calls) == 44


def test_periodic_stretch_is_that_of_the_wrapped_matrix():
    layer = convolution(padding_mode="circular", bias=False)
    basis = torch.eye(3 * 36, dtype=torch.float64).view(-1, 3, 6, 6)
    wrapped = torch.linalg.svdvals(layer(basis).flatten(1)).max()
    assert abs(spectral.periodic_stretch(layer.weight, 6) - wrapped) < 1e-10


def test_the_kernel_underestimates_the_map():
    """All ones, 3 × 3: the kernel's value is 3, the map's nears 9 on large images."""
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    nn.init.ones_(layer.weight)
    assert abs(spectral.kernel_norm(layer) - 3) < 1e-12
    assert 8.5 < spectral.stretch(layer, 16) < 9
    assert abs(spectral.periodic_stretch(layer.weight, 16) - 9) < 1e-10
    layer = convolution()
    kernel = spectral.kernel_norm(layer)
    assert kernel < spectral.stretch(layer, 8) < 3 * kernel


def test_the_penalty_sums_kernels_and_gains():
    machine = nn.Sequential(EncoderCell(8), GenerativeCell(8, 3)).double()
    penalty = spectral.spectral_penalty(machine, stream(0, "power"))
    kernels = [m for m in machine.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in machine.modules() if isinstance(m, nn.BatchNorm2d)]
    expected = sum(spectral.kernel_norm(layer) for layer in kernels)
    expected = expected + sum(layer.weight.abs().max() for layer in norms)
    for _ in range(60):
        found = penalty()
    assert norms
    assert abs(found - expected) < 1e-3 * expected
    found.backward()


def test_penalised_adds_and_reports():
    def objective(model, batch):
        return torch.tensor(2.0), {"loss": torch.tensor(2.0)}

    loss, parts = spectral.penalised(objective, 0.5, lambda: torch.tensor(3.0))(0, 0)
    assert (loss, parts["loss"], parts["penalty"]) == (3.5, 2, 3)


def test_a_convolution_before_batchnorm_does_not_care_for_its_scale():
    layer, norm = convolution(), nn.BatchNorm2d(4, eps=1e-12).double()
    x = normal(8, 3, 6, 6, seed=1)
    before = norm(layer(x))
    with torch.no_grad():
        layer.weight.mul_(10)
        layer.bias.mul_(10)
    assert (norm(layer(x)) - before).abs().max() < 1e-9


def test_wrong_calls_are_refused_by_name():
    calls = [
        (ValueError, "strength: -1", lambda: spectral.penalised(len, -1, lambda: 0)),
        (
            ValueError,
            "first: 0",
            lambda: PowerIteration(kernel_map(convolution()), stream(0, "p"), first=0),
        ),
        (
            ValueError,
            "following: 0",
            lambda: PowerIteration(
                kernel_map(convolution()), stream(0, "p"), following=0
            ),
        ),
        (ValueError, "size: 0", lambda: spectral.stretch(convolution(), 0)),
        (ValueError, "size: 0", lambda: image_map(convolution(), 0)),
        (
            ValueError,
            "kernel: shape (4, 3, 3, 3)",
            lambda: spectral.periodic_stretch(convolution().weight, 2),
        ),
    ]
    for kind, words, call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert words in str(caught.value)

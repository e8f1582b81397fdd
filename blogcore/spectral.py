"""How much a convolution can stretch: its largest singular value, exact and estimated.

A convolution is a linear map of whole images. What NVAE penalises is the largest
singular value of its *kernel* written as a matrix, a different number: the map's is up
to √(kernel's places) larger.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.grad import conv2d_input

from blogcore.checks import check_integer, check_number

Penalty = Callable[[], torch.Tensor]
LEAST_NORM = 1e-12


def as_matrix(layer: nn.Conv2d, size: int) -> torch.Tensor:
    """The convolution without bias as a matrix: (outputs · places, inputs · size²)."""
    check_integer("size", size, 1)
    channels = layer.in_channels
    basis = torch.eye(channels * size**2, dtype=layer.weight.dtype)
    images = basis.to(layer.weight.device).view(-1, channels, size, size)
    return _applied(layer, images).flatten(1).T


def stretch(layer: nn.Conv2d, size: int) -> torch.Tensor:
    """Largest singular value of the convolution on size × size images: exact.

    Costs O((channels · size²)³): for small images.
    """
    return torch.linalg.matrix_norm(as_matrix(layer, size), 2)


def periodic_stretch(kernel: torch.Tensor, size: int) -> torch.Tensor:
    """The same for images that wrap around, from the Fourier transform of the kernel.

    max over frequencies of the largest singular value of the (outputs, inputs) matrix
    K̂(ω): an upper bound on every smaller image with zeros around it, as the sizes grow
    also its limit. Source: Sedghi, Gupta and Long (2019), theorem 6.
    """
    if kernel.ndim != 4 or max(kernel.shape[2:]) > size:
        raise ValueError(
            f"kernel: shape {tuple(kernel.shape)} is not (outputs, inputs, k, k) with "
            f"k ≤ {size}"
        )
    return torch.linalg.matrix_norm(
        torch.fft.fft2(kernel, (size, size)).permute(2, 3, 0, 1), 2
    ).max()


def kernel_norm(layer: nn.Conv2d) -> torch.Tensor:
    """Largest singular value of the kernel as a matrix (outputs, inputs · k²)."""
    return torch.linalg.matrix_norm(layer.weight.flatten(1), 2)


class LinearMap(NamedTuple):
    """W v and Wᵀ u as functions of a weight, and the shape of a v."""

    weight: nn.Parameter
    shape: tuple[int, ...]
    forward: Callable[[torch.Tensor], torch.Tensor]
    adjoint: Callable[[torch.Tensor], torch.Tensor]


def kernel_map(layer: nn.Conv2d) -> LinearMap:
    """The kernel as a matrix: what NVAE regularises."""
    return LinearMap(
        layer.weight,
        (layer.weight[0].numel(),),
        lambda v: layer.weight.flatten(1) @ v,
        lambda u: layer.weight.flatten(1).T @ u,
    )


def image_map(layer: nn.Conv2d, size: int) -> LinearMap:
    """The convolution of size × size images, without its bias."""
    check_integer("size", size, 1)
    shape = (1, layer.in_channels, size, size)
    settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return LinearMap(
        layer.weight,
        shape,
        partial(_applied, layer),
        lambda u: conv2d_input(shape, layer.weight, u, *settings),
    )


class PowerIteration:
    """An estimate of a map's largest singular value that follows a moving W.

    A call does some rounds of u ← Wv/‖·‖, v ← Wᵀu/‖·‖ without gradient, ``first`` of
    them at the first call and ``following`` later, and returns uᵀWv ≤ σ_max, whose
    gradient is u vᵀ. Source: Yoshida and Miyato (2017), algorithm 1; 40 and 4 rounds
    in the public code of NVAE.
    """

    def __init__(
        self, linear: LinearMap, generator, *, first: int = 40, following: int = 4
    ):
        check_integer("first", first, 1)
        check_integer("following", following, 1)
        self.linear, self.rounds, self.following = linear, first, following
        self.v = torch.randn(linear.shape, generator=generator)

    def __call__(self) -> torch.Tensor:
        with torch.no_grad():
            self.v = self.v.to(self.linear.weight)
            for _ in range(self.rounds):
                u = self.linear.forward(self.v)
                u = u / u.norm().clamp(min=LEAST_NORM)
                v = self.linear.adjoint(u)
                self.v = v / v.norm().clamp(min=LEAST_NORM)
        self.rounds = self.following
        return (u * self.linear.forward(self.v)).sum()


def spectral_penalty(model: nn.Module, generator: torch.Generator) -> Penalty:
    """Σ σ_max(kernel) over the convolutions + Σ max |γ| over the BatchNorms.

    A BatchNorm divides the scale of the convolution before it away, and γ is what is
    left. Source: Vahdat and Kautz (2020), section 3.2; both sums as in their code.
    """
    layers = list(model.modules())
    norms = [
        PowerIteration(kernel_map(layer), generator)
        for layer in layers
        if isinstance(layer, nn.Conv2d)
    ]
    gains = [layer.weight for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    return lambda: sum(norm() for norm in norms) + sum(g.abs().max() for g in gains)


def penalised(objective: Callable, strength: float, penalty: Penalty) -> Callable:
    """The objective plus strength · penalty(); the parts keep both apart.

    Raises ValueError for a negative or non-finite strength.
    """
    check_number("strength", strength, 0)

    def with_penalty(model, batch):
        loss, parts = objective(model, batch)
        extra = penalty()
        return loss + strength * extra, parts | {"penalty": extra.detach()}

    return with_penalty


def _applied(layer: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return F.conv2d(images, layer.weight, None, *settings)

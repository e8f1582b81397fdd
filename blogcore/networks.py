"""Small machines: populations of multilayer perceptrons, and ResNet-18.

A population is S networks of one shape that train side by side. Every parameter
carries the member as its first axis, so one batched product does the work of S small
ones, and nothing that member i does can reach member j. One network is S = 1.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from blogcore.checks import check_integer

Generators = Sequence[torch.Generator]
Hidden = Callable[[int, int], nn.Module]
Start = Callable[[int], tuple[float, float]]


def as_in_torch(fan_in: int) -> tuple[float, float]:
    """Weights and biases start uniform in ±1/√fan_in, as in ``torch.nn.Linear``."""
    return fan_in**-0.5, fan_in**-0.5


def for_relu(fan_in: int) -> tuple[float, float]:
    """Weights start uniform in ±√(6/fan_in), of variance 2/fan_in, and biases at 0.

    ReLU loses half of the mean square; so it is the same in every layer.
    Source: He et al. (2015), eq. 10.
    """
    return (6 / fan_in) ** 0.5, 0.0


class Linear(nn.Module):
    """y_s = x_s W_s + b_s for every member s.

    Shapes: x (S, N, fan_in), or (N, fan_in) if the members share it; y (S, N, fan_out).
    ``start(fan_in)`` gives the bounds between which weights and biases start uniform.
    """

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        generators: Generators,
        start: Start = as_in_torch,
    ):
        super().__init__()
        weight_bound, bias_bound = start(fan_in)
        self.weight = _uniform((fan_in, fan_out), weight_bound, generators)
        self.bias = _uniform((1, fan_out), bias_bound, generators)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        members = len(self.weight)
        return torch.baddbmm(self.bias, x.expand(members, -1, -1), self.weight)


class BatchNorm(nn.Module):
    """``torch.nn.BatchNorm1d`` for every member: x (S, N, width) → (S, N, width).

    Source: Ioffe and Szegedy (2015), algorithm 1; momentum and ε as in torch.
    """

    def __init__(self, members: int, width: int, momentum: float = 0.1):
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(members, width))
        self.bias = nn.Parameter(torch.zeros(members, width))
        self.register_buffer("running_mean", torch.zeros(members, width))
        self.register_buffer("running_var", torch.ones(members, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        members, batch, width = x.shape
        # Member × channel as one channel axis: torch's fused kernel, twice as fast.
        joined = F.batch_norm(
            x.transpose(0, 1).reshape(batch, members * width),
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.weight.reshape(-1),
            self.bias.reshape(-1),
            training=self.training,
            momentum=self.momentum,
        )
        return joined.view(batch, members, width).transpose(0, 1)


def tanh(members: int, width: int) -> nn.Module:
    """A smooth hidden layer: every derivative exists, so Hessians mean something."""
    return nn.Tanh()


def relu(members: int, width: int) -> nn.Module:
    """max(x, 0), with nothing before it: start the linear layers ``for_relu``."""
    return nn.ReLU()


def normalised_relu(members: int, width: int) -> nn.Module:
    """BatchNorm, then ReLU: the hidden layer of the flooding paper's public code."""
    return nn.Sequential(BatchNorm(members, width), nn.ReLU())


def mlp(
    widths: Sequence[int],
    generators: Generators,
    hidden: Hidden,
    start: Start = as_in_torch,
) -> nn.Sequential:
    """A population of perceptrons: one member for each generator.

    ``widths`` = (inputs, hidden …, outputs); ``hidden(members, width)`` makes what
    stands between two linear layers, ``start`` says where those begin. Input (S, N,
    widths[0]) or (N, widths[0]), output (S, N, widths[-1]). Raises ValueError for fewer
    than two or non-positive widths, or no generator.
    """
    if len(widths) < 2 or not all(isinstance(w, int) and w >= 1 for w in widths):
        raise ValueError(f"widths: {widths!r} must be two or more positive integers")
    if not generators:
        raise ValueError("generators: one a member is needed, got none")
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        if layers:
            layers.append(hidden(len(generators), fan_in))
        layers.append(Linear(fan_in, fan_out, generators, start))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """Two 3×3 convolutions around a shortcut: relu(F(x) + x).

    Source: He et al. (2016), eq. 1 and 2. Where the shape changes, the shortcut is a
    1×1 convolution (their option B). x (N, fan_in, H, W) → (N, fan_out, H/stride, …).
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(fan_in, fan_out, 3, stride),
            nn.ReLU(),
            *_convolution(fan_out, fan_out, 3, 1),
        )
        same = stride == 1 and fan_in == fan_out
        self.shortcut = nn.Sequential(
            *([] if same else _convolution(fan_in, fan_out, 1, stride))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def resnet18(classes: int, width: int = 64) -> nn.Sequential:
    """ResNet-18 for 32×32 images: 3×3 stem without pooling, four stages of two blocks.

    x (N, 3, 32, 32) → logits (N, classes); 11,173,962 parameters at width 64 and ten
    classes. Initialised as torch does it, from torch's global stream, the only one that
    its layers know. Source: He et al. (2016), table 1.
    """
    check_integer("classes", classes, 1)
    check_integer("width", width, 1)
    stages = [(width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)]
    layers = [*_convolution(3, width, 3, 1), nn.ReLU()]
    channels = width
    for fan_out, stride in stages:
        layers += [Residual(channels, fan_out, stride), Residual(fan_out, fan_out, 1)]
        channels = fan_out
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *pool, nn.Linear(channels, classes))


def _uniform(shape, bound: float, generators: Generators) -> nn.Parameter:
    draws = [torch.rand(shape, generator=generator) for generator in generators]
    return nn.Parameter((2 * torch.stack(draws) - 1) * bound)


def _convolution(fan_in: int, fan_out: int, size: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(
        fan_in, fan_out, size, stride, padding=size // 2, bias=False
    )
    return [convolution, nn.BatchNorm2d(fan_out)]

"""Residual cells: what an encoder tower and a generative model are built from.

A cell keeps the shape (N, width, H, W) and adds to what comes in. Which cell a network
has is a function ``width → module``, so that another one is another argument.
"""

import torch
from torch import nn

RESIDUAL_SCALE = 0.1
BATCH_NORM_MOMENTUM = 0.05


class SqueezeExcitation(nn.Module):
    """x · σ(W₂ relu(W₁ mean(x))): a gain for every channel, from all of the image.

    The bottleneck has width / 16 units, at least 4. Source: Hu et al. (2018), eq. 2–4;
    sizes as in the public code of NVAE.
    """

    def __init__(self, width: int):
        super().__init__()
        hidden = max(width // 16, 4)
        self.gate = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]


class EncoderCell(nn.Module):
    """x + 0.1 · SE(two times BatchNorm–Swish–Conv 3×3).

    Source: Vahdat and Kautz (2020), figure 3b; the factor 0.1 is in their code only.
    """

    def __init__(self, width: int):
        super().__init__()
        self.branch = nn.Sequential(
            batch_norm(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            batch_norm(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            SqueezeExcitation(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + RESIDUAL_SCALE * self.branch(x)


class GenerativeCell(nn.Module):
    """x + 0.1 · SE(expand, look around, shrink): a depthwise separable convolution.

    BatchNorm–Conv 1×1 to ``expansion`` · width – BatchNorm–Swish – depthwise Conv of
    ``size`` 5 – BatchNorm–Swish – Conv 1×1 back – BatchNorm: far sight at little cost.
    Source: Vahdat and Kautz (2020), figure 3a; expansion 6 in their decoder.
    """

    def __init__(self, width: int, expansion: int = 6, size: int = 5):
        super().__init__()
        inner = expansion * width
        self.branch = nn.Sequential(
            batch_norm(width),
            nn.Conv2d(width, inner, 1, bias=False),
            batch_norm(inner),
            nn.SiLU(),
            nn.Conv2d(inner, inner, size, padding=size // 2, groups=inner, bias=False),
            batch_norm(inner),
            nn.SiLU(),
            nn.Conv2d(inner, width, 1, bias=False),
            batch_norm(width),
            SqueezeExcitation(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + RESIDUAL_SCALE * self.branch(x)


class Down(nn.Sequential):
    """Half the size: average of 2×2, then a 1×1 convolution to the new width."""

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__(nn.AvgPool2d(2), nn.Conv2d(fan_in, fan_out, 1))


class Up(nn.Sequential):
    """Twice the size: a 1×1 convolution to the new width, then nearest neighbours."""

    def __init__(self, fan_in: int, fan_out: int):
        super().__init__(nn.Conv2d(fan_in, fan_out, 1), nn.UpsamplingNearest2d(None, 2))


def batch_norm(width: int) -> nn.BatchNorm2d:
    """BatchNorm with the paper's momentum: running statistics move by 5 % a step."""
    return nn.BatchNorm2d(width, momentum=BATCH_NORM_MOMENTUM)


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of all linear maps anew, uniform in ±√(3/fan_in); biases 0.

    Variance 1/fan_in, so that no signal fades on its way through many scales.
    """
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                bound = (3 / layer.weight[0].numel()) ** 0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()

"""How much a convolution can stretch: its largest singular value, and its kernel's.

A convolution is a linear map of whole images. What NVAE penalises is the largest
singular value of its *kernel* written as a matrix, a different number: the map's is up
to √(kernel's places) larger.
"""

import torch
from torch import nn


def periodic_stretch(kernel: torch.Tensor, size: int) -> torch.Tensor:
    """Largest singular value of a convolution on size × size images that wrap around.

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
    """Largest singular value of the kernel as a matrix (outputs, inputs · k²).

    Source: Vahdat and Kautz (2020), section 3.2, whose code estimates it.
    """
    return torch.linalg.matrix_norm(layer.weight.flatten(1), 2)

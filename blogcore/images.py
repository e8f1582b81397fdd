"""The world of images: pixels as integer levels, uint8 (N, channels, height, width).

What ``pictures`` reads, as ``Examples``; whole, in patches, padded, or black and white.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from blogcore import pictures
from blogcore.checks import check_integer
from blogcore.data import Examples

FACE = (slice(130, 322), slice(165, 357))  # rows and columns of the portrait
TEST_SHARE = 4  # one column of a photograph in four, on its right


def digits() -> Examples:
    """scikit-learn's 1,797 digits as 8 × 8 images of the levels 0 … 16."""
    return Examples(*pictures.digits())


def mnist(folder: Path) -> tuple[Examples, Examples]:
    """MNIST as (train, test): 28 × 28 pixels of 256 levels; see ``pictures.mnist``."""
    train, test = (Examples(*part) for part in pictures.mnist(folder))
    return train, test


def photographs(size: int, stride: int) -> tuple[Examples, Examples]:
    """Patches of scikit-learn's two photographs as (train, test): RGB, 256 levels.

    The right quarter of each photograph is for testing, in patches that do not overlap;
    the rest for training, in patches ``stride`` apart. No pixel is in both. Labels: 0
    for china.jpg, 1 for flower.jpg (427 × 640 pixels each). Raises ValueError for a
    size that does not fit, RuntimeError for other photographs.
    """
    check_integer("size", size, 1)
    check_integer("stride", stride, 1)
    whole = pictures.photographs()
    height, width = whole.shape[2:]
    cut = width - width // TEST_SHARE
    if size > min(height, width - cut):
        raise ValueError(f"size: {size} exceeds {min(height, width - cut)} pixels")
    return (
        _patches(whole[..., :cut], size, stride),
        _patches(whole[..., cut:], size, size),
    )


def face() -> torch.Tensor:
    """Grace Hopper's, cut from matplotlib's portrait: uint8 (1, 3, 192, 192)."""
    return pictures.portrait()[..., *FACE]


def padded(images: Examples, size: int) -> Examples:
    """The images amid zeros on a size × size field; 28 becomes 32. Bottom right last.

    Zeros are nearly free in nats but not in D: count bits a pixel of the image.
    """
    height = images.inputs.shape[-1]
    check_integer("size", size, height)
    before, after = (size - height) // 2, (size - height + 1) // 2
    return images._replace(inputs=F.pad(images.inputs, (before, after) * 2))


def binary(
    images: torch.Tensor, levels: int, generator: torch.Generator
) -> torch.Tensor:
    """One draw of pixels 0 or 1 whose mean is v / (levels − 1): uint8.

    Drawn where the generator is. Raises TypeError for images that are no integers, and
    ValueError for values outside 0 … levels − 1, looked for on the CPU only.
    """
    check_integer("levels", levels, 2)
    if images.is_floating_point():
        raise TypeError(f"images: {images.dtype} is not an integer type")
    if images.is_cpu and images.numel():  # elsewhere a look would wait for the device
        # As Python's numbers: compared with a uint8 tensor, 256 would wrap round to 0.
        least, most = map(int, images.aminmax())
        if not 0 <= least <= most < levels:
            found = f"{least} … {most}"
            raise ValueError(f"images: {found} are not all in 0 … {levels - 1}")
    there = {"generator": generator, "device": generator.device}
    drawn = torch.rand(images.shape, **there).to(images.device)
    return (drawn * (levels - 1) < images).to(torch.uint8)


def _patches(whole: torch.Tensor, size: int, stride: int) -> Examples:
    tiles = whole.unfold(2, size, stride).unfold(3, size, stride)
    per_photograph = tiles.shape[2] * tiles.shape[3]
    inputs = tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, whole.shape[1], size, size)
    return Examples(inputs, torch.arange(len(whole)).repeat_interleave(per_photograph))

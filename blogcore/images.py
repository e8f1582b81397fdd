"""The world of images: pixels as integer levels, uint8 (N, channels, height, width).

Digits and patches of two photographs come with scikit-learn; MNIST, CIFAR-10 and the
Olivetti faces are read from the folder that BLOGCORE_DATA names.
"""

import hashlib
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F

from blogcore import data
from blogcore.checks import check_integer
from blogcore.data import Batches, Examples
from blogcore.runtime import stream

PHOTOGRAPHS_SHA256 = (
    "e701459344fd69797154c91add3bb5d70e5ed1a61d8bed889bab3a796104698d",
    "3202904ed246795bf616c66d7859cd7c6080eff736c6e38dc5cc62779742033f",
)
TEST_SHARE = 4  # one column of a photograph in four, on its right


def digits() -> Examples:
    """scikit-learn's 1,797 digits as 8 × 8 images of the levels 0 … 16.

    Raises RuntimeError if the installed copy is not that of scikit-learn 1.9.
    """
    inputs, labels = data.digits()
    return Examples((16 * inputs).to(torch.uint8).view(-1, 1, 8, 8), labels)


def photographs(size: int, stride: int) -> tuple[Examples, Examples]:
    """Patches of scikit-learn's two photographs as (train, test): RGB, 256 levels.

    The right quarter of each photograph is for testing, in patches that do not overlap;
    the rest for training, in patches ``stride`` apart. No pixel is in both. Labels: 0
    for china.jpg, 1 for flower.jpg (427 × 640 pixels each). Raises ValueError for a
    size that does not fit, RuntimeError for other photographs.
    """
    check_integer("size", size, 1)
    check_integer("stride", stride, 1)
    whole = _photographs()
    height, width = whole.shape[2:]
    cut = width - width // TEST_SHARE
    if size > min(height, width - cut):
        raise ValueError(f"size: {size} exceeds {min(height, width - cut)} pixels")
    return (
        _patches(whole[..., :cut], size, stride),
        _patches(whole[..., cut:], size, size),
    )


def mnist(folder: Path) -> tuple[Examples, Examples]:
    """MNIST as (train, test): 60,000 and 10,000 images of 28 × 28, 256 levels.

    Reads ``images/mnist.npz`` or ``mnist.npz``: x_train, y_train, x_test, y_test.
    Raises FileNotFoundError if there is neither, ValueError for a damaged file.
    """
    path = _found(folder, "mnist.npz")
    arrays = _read(path, ("x_train", "y_train", "x_test", "y_test"))
    return (_grey(path, *arrays[:2], 28, 10), _grey(path, *arrays[2:], 28, 10))


def olivetti(folder: Path) -> Examples:
    """The Olivetti faces: 400 images of 64 × 64, 256 levels, labels the 40 persons.

    Reads ``images/olivetti.npz`` or ``olivetti.npz``: x, y. Raises FileNotFoundError if
    there is neither, ValueError for a damaged file.
    """
    path = _found(folder, "olivetti.npz")
    return _grey(path, *_read(path, ("x", "y")), 64, 40)


def cifar10(folder: Path) -> tuple[Examples, Examples]:
    """CIFAR-10 as (train, test): 50,000 and 10,000 images of 32 × 32, 256 levels.

    ``data.cifar10``'s files and errors; its standardisation is undone exactly.
    """
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (data.CIFAR_MEAN, data.CIFAR_STD)
    )
    train, test = (
        Examples(((x * std + mean) * 255).round().to(torch.uint8), labels)
        for x, labels in data.cifar10(folder)
    )
    return train, test


def by_person(faces: Examples, test: int) -> tuple[Examples, Examples]:
    """Faces as (train, test): for testing the persons with the last ``test`` labels.

    Raises ValueError unless both parts have somebody.
    """
    check_integer("test", test, 1)
    persons = int(faces.labels.max()) + 1
    if test >= persons:
        raise ValueError(f"test: {test} leaves none of the {persons} persons to train")
    held = faces.labels >= persons - test
    return tuple(Examples(faces.inputs[k], faces.labels[k]) for k in (~held, held))


def padded(images: Examples, size: int) -> Examples:
    """The images amid zeros on a size × size field; 28 becomes 32. Bottom right last.

    Zeros are nearly free in nats but not in D: count bits a pixel of the image.
    """
    height = images.inputs.shape[-1]
    check_integer("size", size, height)
    before, after = (size - height) // 2, (size - height + 1) // 2
    return images._replace(inputs=F.pad(images.inputs, (before, after) * 2))


def shrunk(images: Examples, factor: int) -> Examples:
    """Averages of factor × factor pixels, rounded to levels: 64 pixels become 16.

    Raises ValueError for a size that is not divisible by the factor.
    """
    check_integer("factor", factor, 1)
    height, width = images.inputs.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"factor: {factor} does not divide {height} × {width} pixels")
    return images._replace(
        inputs=_to_levels(F.avg_pool2d(images.inputs.float(), factor))
    )


def enlarged(images: Examples, factor: int) -> Examples:
    """Each pixel factor times as high and wide, bilinear, rounded to levels.

    More pixels, not more information: compare bits an image, not a pixel.
    """
    check_integer("factor", factor, 1)
    larger = F.interpolate(images.inputs.float(), scale_factor=factor, mode="bilinear")
    return images._replace(inputs=_to_levels(larger))


def coarser(images: Examples, bits: int) -> Examples:
    """256 levels cut to 2^bits: ⌊v / 2^(8 − bits)⌋, as for 5-bit faces."""
    check_integer("bits", bits, 1)
    if bits > 8:
        raise ValueError(f"bits: {bits} is not in 1 … 8")
    return images._replace(inputs=images.inputs >> (8 - bits))


def binarised(batches: Batches, levels: int, seed: int) -> Batches:
    """Dynamic binarisation: a pixel is 1 with chance v / (levels − 1), anew each time.

    The draw of a step comes from ``stream(seed, "binarisation/step")``. Raises
    ValueError for fewer than two levels or a pixel beyond them.
    """
    check_integer("levels", levels, 2)

    def batch(step: int) -> Examples:
        images = batches(step)
        return images._replace(
            inputs=binary(images.inputs, levels, stream(seed, f"binarisation/{step}"))
        )

    return batch


def binary(
    images: torch.Tensor, levels: int, generator: torch.Generator
) -> torch.Tensor:
    """One draw of pixels 0 or 1 whose mean is v / (levels − 1): uint8."""
    check_integer("levels", levels, 2)
    if images.is_floating_point():
        raise TypeError(f"images: {images.dtype} is not an integer type")
    # As Python's numbers: compared with a uint8 tensor, 256 would wrap round to 0.
    least, most = map(int, images.aminmax()) if images.numel() else (0, 0)
    if not 0 <= least <= most < levels:
        raise ValueError(f"images: {least} … {most} are not all in 0 … {levels - 1}")
    drawn = torch.rand(images.shape, generator=generator).to(images.device)
    return (drawn * (levels - 1) < images).to(torch.uint8)


def _photographs() -> torch.Tensor:
    from sklearn.datasets import load_sample_images

    pictures = load_sample_images().images
    found = tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures)
    if found != PHOTOGRAPHS_SHA256:
        raise RuntimeError(
            f"photographs: sha256 {found} is not {PHOTOGRAPHS_SHA256} "
            "(scikit-learn 1.9.1's copy)"
        )
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _patches(whole: torch.Tensor, size: int, stride: int) -> Examples:
    tiles = whole.unfold(2, size, stride).unfold(3, size, stride)
    per_photograph = tiles.shape[2] * tiles.shape[3]
    inputs = tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, whole.shape[1], size, size)
    return Examples(inputs, torch.arange(len(whole)).repeat_interleave(per_photograph))


def _to_levels(images: torch.Tensor) -> torch.Tensor:
    return images.round().to(torch.uint8)


def _found(folder: Path, name: str) -> Path:
    for path in (Path(folder) / "images" / name, Path(folder) / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"folder: {folder} has neither images/{name} nor {name}")


def _read(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file) as archive:
            return [archive[name] for name in names]
    except (BadZipFile, EOFError, KeyError, OSError, ValueError, zlib.error) as error:
        raise ValueError(f"{path.name}: damaged ({error})") from error


def _grey(path: Path, images, labels, size: int, classes: int) -> Examples:
    if images.dtype != np.uint8 or images.shape != (len(labels), size, size):
        raise ValueError(
            f"{path.name}: {images.dtype} images of shape {images.shape}, not uint8 "
            f"({len(labels)}, {size}, {size})"
        )
    if not (len(labels) and 0 <= labels.min() <= labels.max() < classes):
        raise ValueError(f"{path.name}: labels are not all in 0 … {classes - 1}")
    inputs = torch.from_numpy(images)[:, None]
    return Examples(inputs, torch.from_numpy(labels.astype(np.int64)))

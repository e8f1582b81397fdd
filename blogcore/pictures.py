"""Picture files, each read once: integer levels, uint8 (N, channels, H, W), and labels.

What is made of them, standardised inputs or patches, is the business of ``data`` and
``images``. Digits and two photographs come with scikit-learn, a portrait with
matplotlib; MNIST and CIFAR-10 are read from the folder that BLOGCORE_DATA names.
"""

import hashlib
import io
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch

DIGITS_SHA256 = "f6d9e39f37dc45d327f6db33428ee58970ccceabb2535a5c179de35886b70443"
PHOTOGRAPHS_SHA256 = (
    "e701459344fd69797154c91add3bb5d70e5ed1a61d8bed889bab3a796104698d",
    "3202904ed246795bf616c66d7859cd7c6080eff736c6e38dc5cc62779742033f",
)
PORTRAIT_SHA256 = "f7f982de68dd296af67ee51b2a95a2e5658f7bf064c6536520b66bae8d01fc34"
CIFAR_FILES = {
    "train": [f"data_batch_{part}.bin" for part in range(1, 6)],
    "test": ["test_batch.bin"],
}
CLASSES = 10  # of digits, MNIST and CIFAR-10 alike
JPEG_ARRAYS = ("jpeg", "offsets", "y")
DAMAGE = (BadZipFile, EOFError, KeyError, OSError, ValueError, zlib.error)


class Pictures(NamedTuple):
    """Levels, uint8 (N, channels, H, W), and labels, int64 (N,)."""

    levels: torch.Tensor
    labels: torch.Tensor


def digits() -> Pictures:
    """scikit-learn's 1,797 digits by hand: 8 × 8 pixels, levels 0 … 16, ten classes.

    Raises RuntimeError if the installed copy is not that of scikit-learn 1.9.
    """
    # A second's import: only who needs it pays.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    found = hashlib.sha256(bunch.data.tobytes() + bunch.target.tobytes()).hexdigest()
    if found != DIGITS_SHA256:
        raise RuntimeError(
            f"digits: sha256 {found} is not {DIGITS_SHA256} (scikit-learn 1.9.1's copy)"
        )
    return _checked("digits", bunch.images[:, None].astype(np.uint8), bunch.target)


def photographs() -> torch.Tensor:
    """scikit-learn's china.jpg and flower.jpg: uint8 (2, 3, 427, 640), 256 levels.

    Raises RuntimeError if the installed copies are not those of scikit-learn 1.9.
    """
    from sklearn.datasets import load_sample_images

    pictures = load_sample_images().images
    found = tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures)
    if found != PHOTOGRAPHS_SHA256:
        raise RuntimeError(
            f"photographs: sha256 {found} is not {PHOTOGRAPHS_SHA256} "
            "(scikit-learn 1.9.1's copy)"
        )
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def portrait() -> torch.Tensor:
    """matplotlib's grace_hopper.jpg, a face: uint8 (1, 3, 600, 512), 256 levels.

    The portrait of the computer scientist by the U.S. Navy is in the public domain.
    Raises RuntimeError if the installed copy is not that of matplotlib 3.11.
    """
    import matplotlib
    from PIL import Image

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(path) as opened:
        levels = np.asarray(opened.convert("RGB"))
    found = hashlib.sha256(levels.tobytes()).hexdigest()
    if found != PORTRAIT_SHA256:
        raise RuntimeError(
            f"portrait: sha256 {found} is not {PORTRAIT_SHA256} "
            "(matplotlib 3.11's copy)"
        )
    return torch.from_numpy(levels.copy()).permute(2, 0, 1)[None]


def mnist(folder: Path) -> tuple[Pictures, Pictures]:
    """MNIST as (train, test): 60,000 and 10,000 pictures of 28 × 28, 256 levels.

    Reads ``images/mnist.npz`` or ``mnist.npz``: x_train, y_train, x_test, y_test.
    Raises FileNotFoundError if there is neither, ValueError for a damaged file.
    """
    path = _found(folder, "mnist.npz")
    arrays = _read(path, ("x_train", "y_train", "x_test", "y_test"))
    return _grey(path, *arrays[:2]), _grey(path, *arrays[2:])


def cifar10(folder: Path) -> tuple[Pictures, Pictures]:
    """CIFAR-10 as (train, test): 50,000 and 10,000 pictures of 32 × 32, 256 levels.

    Reads what ``folder`` holds: ``cifar-10-batches-bin`` (the binary version as its
    authors distribute it) or ``images/cifar10_jpeg.npz`` (every picture as JPEG bytes).
    Raises FileNotFoundError if there is neither, ValueError for a damaged file.
    """
    binary, jpeg = Path(folder) / "cifar-10-batches-bin", Path(folder) / "images"
    if binary.is_dir():
        read = [_read_binary(binary, CIFAR_FILES[part]) for part in ("train", "test")]
    elif (jpeg / "cifar10_jpeg.npz").is_file():
        read = _read_jpeg(jpeg / "cifar10_jpeg.npz")
    else:
        raise FileNotFoundError(
            f"folder: {folder} has neither cifar-10-batches-bin/ nor "
            "images/cifar10_jpeg.npz"
        )
    train, test = (_checked("CIFAR-10", *pictures) for pictures in read)
    return train, test


def _found(folder: Path, name: str) -> Path:
    for path in (Path(folder) / "images" / name, Path(folder) / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"folder: {folder} has neither images/{name} nor {name}")


def _read(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    try:
        # Through a file: np.load leaves its own open when an archive is damaged.
        with open(path, "rb") as file:
            archive = np.load(file)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("one array without a name, not an archive of arrays")
            return [archive[name] for name in names]
    except DAMAGE as error:
        raise ValueError(f"{path.name}: damaged ({error})") from error


def _grey(path: Path, pictures, labels) -> Pictures:
    if pictures.dtype != np.uint8 or pictures.shape != (len(labels), 28, 28):
        raise ValueError(
            f"{path.name}: {pictures.dtype} images of shape {pictures.shape}, not "
            f"uint8 ({len(labels)}, 28, 28)"
        )
    return _checked(path.name, pictures[:, None], labels)


def _checked(name: str, pictures, labels: np.ndarray) -> Pictures:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name}: {labels.dtype} labels of shape {labels.shape}")
    if not (len(labels) and 0 <= labels.min() <= labels.max() < CLASSES):
        raise ValueError(f"{name}: labels are not all in 0 … {CLASSES - 1}")
    return Pictures(
        torch.from_numpy(np.ascontiguousarray(pictures)),
        torch.from_numpy(labels.astype(np.int64)),
    )


def _read_binary(folder: Path, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    rows = []
    for name in names:
        raw = np.fromfile(folder / name, dtype=np.uint8)
        if raw.size != 10_000 * 3073:
            raise ValueError(f"{name}: {raw.size} bytes, expected 10000 × 3073")
        rows.append(raw.reshape(10_000, 3073))
    table = np.concatenate(rows)
    return table[:, 1:].reshape(-1, 3, 32, 32), table[:, 0]


def _read_jpeg(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    names = [f"{kind}_{part}" for part in ("train", "test") for kind in JPEG_ARRAYS]
    arrays = _read(path, names)
    try:
        return [_decoded(*arrays[:3]), _decoded(*arrays[3:])]
    except DAMAGE as error:
        raise ValueError(f"{path.name}: damaged ({error})") from error


def _decoded(coded, ends, labels) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    raw = coded.tobytes()
    pictures = [
        np.asarray(Image.open(io.BytesIO(raw[first:last])))
        for first, last in pairwise(ends)
    ]
    shapes = {picture.shape for picture in pictures}
    if len(labels) != len(pictures) or shapes != {(32, 32, 3)}:
        raise ValueError("needs one 32 × 32 colour picture a label")
    return np.stack(pictures).transpose(0, 3, 1, 2), labels

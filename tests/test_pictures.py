"""What lies in files is read as it is, or refused; nothing is rescaled here."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import datasets

from blogcore import pictures
from blogcore.data import CIFAR_MEAN, CIFAR_STD
from blogcore.pictures import (
    cifar10,
    digits,
    mnist,
    photographs,
    portrait,
)
from blogcore.runtime import stream


def greys(*shape: int) -> np.ndarray:
    drawn = torch.randint(0, 256, shape, generator=stream(0, "images"))
    return drawn.to(torch.uint8).numpy()


def test_digits_are_scikit_learns_levels():
    bunch, (levels, labels) = datasets.load_digits(), digits()
    assert levels.shape == (1797, 1, 8, 8)
    assert (levels.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert np.array_equal(levels[:, 0].numpy(), bunch.images)
    assert np.array_equal(labels.numpy(), bunch.target)


def test_altered_digits_are_refused(monkeypatch):
    bunch = datasets.load_digits()
    bunch.data[17, 3] += 1
    monkeypatch.setattr(datasets, "load_digits", lambda: bunch)
    with pytest.raises(RuntimeError, match=pictures.DIGITS_SHA256):
        digits()


def test_altered_photographs_are_refused(monkeypatch):
    bunch = datasets.load_sample_images()
    bunch.images[1] = bunch.images[1].copy()
    bunch.images[1][5, 7, 0] ^= 1
    monkeypatch.setattr(datasets, "load_sample_images", lambda: bunch)
    with pytest.raises(RuntimeError, match=pictures.PHOTOGRAPHS_SHA256[1]):
        photographs()


def test_an_altered_portrait_is_refused(monkeypatch, tmp_path):
    assert portrait().shape == (1, 3, 600, 512)
    folder = tmp_path / "sample_data"
    folder.mkdir()
    Image.new("RGB", (512, 600)).save(folder / "grace_hopper.jpg")
    monkeypatch.setattr("matplotlib.get_data_path", lambda: str(tmp_path))
    with pytest.raises(RuntimeError, match=pictures.PORTRAIT_SHA256):
        portrait()


@pytest.mark.parametrize("place", ["", "images"])
def test_mnist_is_read_where_it_lies(tmp_path, place):
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    drawn = greys(7, 28, 28)
    labels = np.arange(7, dtype=np.uint8)
    arrays = {"x_train": drawn[:5], "y_train": labels[:5]}
    arrays |= {"x_test": drawn[5:], "y_test": labels[5:]}
    np.savez(folder / "mnist.npz", **arrays)
    train, test = mnist(tmp_path)
    assert np.array_equal(train.levels[:, 0].numpy(), drawn[:5])
    assert np.array_equal(test.levels[:, 0].numpy(), drawn[5:])
    assert test.labels.tolist() == [5, 6]
    assert test.labels.dtype == torch.int64


def write(folder: Path, **arrays) -> Path:
    path = folder / "mnist.npz"
    np.savez(path, x_train=greys(2, 28, 28), y_train=np.array([0, 9]), **arrays)
    return path


def test_damaged_and_foreign_files_are_refused(tmp_path):
    good = greys(3, 28, 28)
    labels = np.array([0, 1, 2])
    for x, y, words in [
        (good.astype(float), labels, "mnist.npz: float64 images"),
        (good[:, :14], labels, "mnist.npz: uint8 images of shape (3, 14"),
        (good, labels[:2], "(3, 28, 28), not uint8 (2, 28, 28)"),
        (good, labels + 8, "labels are not all in 0 … 9"),
        (good, labels - 1, "labels are not all in 0 … 9"),
        (good[:0], labels[:0], "labels are not all in 0 … 9"),
        (good, labels + 0.5, "float64 labels of shape (3,)"),
        (good, labels[:, None], "labels of shape (3, 1)"),
    ]:
        write(tmp_path, x_test=x, y_test=y)
        with pytest.raises(ValueError) as caught:
            mnist(tmp_path)
        assert words in str(caught.value)
    write(tmp_path, x_test=good)
    with pytest.raises(ValueError, match=r"mnist.npz: damaged"):
        mnist(tmp_path)
    path = write(tmp_path, x_test=good, y_test=labels)
    whole = path.read_bytes()
    for length in range(0, len(whole), 601):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"mnist.npz: damaged"):
            mnist(tmp_path)


def test_one_array_under_an_archives_name_is_refused(tmp_path):
    """numpy writes it without a word, and gave an AttributeError here."""
    with open(tmp_path / "mnist.npz", "wb") as file:
        np.save(file, greys(3, 28, 28))
    with pytest.raises(ValueError, match=r"mnist.npz: damaged .one array without a"):
        mnist(tmp_path)
    (tmp_path / "images").mkdir()
    with open(tmp_path / "images" / "cifar10_jpeg.npz", "wb") as file:
        np.save(file, greys(3))
    with pytest.raises(ValueError, match=r"cifar10_jpeg.npz: damaged"):
        cifar10(tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name, read in (
        ("neither images/mnist.npz nor mnist.npz", mnist),
        ("cifar-10-batches-bin/ nor images/cifar10_jpeg.npz", cifar10),
    ):
        with pytest.raises(FileNotFoundError, match=name):
            read(tmp_path)


@pytest.fixture
def colours() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 256, (6, 3, 1, 1), dtype=np.uint8)
    return np.tile(plain, (1, 1, 32, 32)), np.array([0, 9, 3, 3, 1, 7], np.uint8)


def write_binary(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    rows = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
    content = np.resize(rows, (10_000, 3073)).tobytes()
    inside = folder / "cifar-10-batches-bin"
    inside.mkdir()
    for name in [*pictures.CIFAR_FILES["train"], *pictures.CIFAR_FILES["test"]]:
        (inside / name).write_bytes(content)
    return inside / "data_batch_3.bin"


def write_jpeg(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    coded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "jpeg", quality=100)
        coded.append(buffer.getvalue())
    parts = {}
    for part in ("train", "test"):
        parts[f"jpeg_{part}"] = np.frombuffer(b"".join(coded), np.uint8)
        parts[f"offsets_{part}"] = np.cumsum([0, *map(len, coded)])
        parts[f"y_{part}"] = labels
    path = folder / "images" / "cifar10_jpeg.npz"
    path.parent.mkdir()
    np.savez(path, **parts)
    return path


@pytest.mark.slow
def test_cifar10_reads_the_binary_version(tmp_path, colours, monkeypatch):
    write_binary(tmp_path, *colours)
    assert len(pictures.CIFAR_FILES["train"]) == 5
    two = ["data_batch_1.bin", "data_batch_4.bin"]  # five take seconds
    monkeypatch.setitem(pictures.CIFAR_FILES, "train", two)
    train, test = cifar10(tmp_path)
    assert train.levels.shape == (20_000, 3, 32, 32)
    assert len(test.labels) == 10_000
    assert test.labels[:6].tolist() == colours[1].tolist()
    assert np.array_equal(test.levels[:6].numpy(), colours[0])


def test_cifar10_reads_jpeg_bytes(tmp_path, colours):
    write_jpeg(tmp_path, *colours)
    train, test = cifar10(tmp_path)
    assert train.levels.shape == test.levels.shape == (6, 3, 32, 32)
    assert train.labels.tolist() == colours[1].tolist()
    wrong = train.levels.numpy().astype(int) - colours[0]
    assert abs(wrong).max() <= 2, "JPEG may be two off, no more"


@pytest.mark.slow
def test_cifar10_refuses_a_truncated_or_mislabelled_binary_file(tmp_path, colours):
    path = write_binary(tmp_path, *colours)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"data_batch_3.bin: 30729999 bytes"):
        cifar10(tmp_path)
    path.write_bytes(b"\x0a" + whole[1:])
    with pytest.raises(ValueError, match=r"CIFAR-10: labels are not all in 0 … 9"):
        cifar10(tmp_path)


def test_cifar10_refuses_a_damaged_archive_wherever_it_is_cut(tmp_path, colours):
    path = write_jpeg(tmp_path, *colours)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cifar10_jpeg.npz: damaged"):
            cifar10(tmp_path)


@pytest.mark.parametrize("key", ["jpeg_train", "offsets_test", "y_train"])
def test_cifar10_refuses_an_archive_that_does_not_fit_together(tmp_path, colours, key):
    path = write_jpeg(tmp_path, *colours)
    with np.load(path) as archive:
        parts = dict(archive)
    for changed in ({}, {key: parts[key][:-1]}):
        np.savez(path, **{k: v for k, v in parts.items() if k != key} | changed)
        with pytest.raises(ValueError, match=r"cifar10_jpeg.npz: damaged"):
            cifar10(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif("BLOGCORE_DATA" not in os.environ, reason="BLOGCORE_DATA not set")
def test_cifar10_reads_the_real_data():
    train, test = cifar10(Path(os.environ["BLOGCORE_DATA"]))
    assert train.labels.bincount().tolist() == [5000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    shares = train.levels.double() / 255
    mean, std = (torch.tensor(v) for v in (CIFAR_MEAN, CIFAR_STD))
    assert (shares.mean((0, 2, 3)) - mean).abs().max() < 0.005
    assert (shares.std((0, 2, 3)) - std).abs().max() < 0.005


@pytest.mark.slow
@pytest.mark.skipif("BLOGCORE_DATA" not in os.environ, reason="BLOGCORE_DATA not set")
def test_the_real_digits_are_what_they_are_known_to_be():
    folder = Path(os.environ["BLOGCORE_DATA"])
    train, test = mnist(folder)
    assert (len(train.labels), len(test.labels)) == (60_000, 10_000)
    assert abs(train.levels.double().mean() / 255 - 0.1307) < 1e-4

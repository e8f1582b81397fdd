"""The images are those of the books, cut so that nothing is trained and tested on."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets

from blogcore import data, images
from blogcore.data import Examples, full_batch
from blogcore.images import (
    binarised,
    binary,
    by_person,
    coarser,
    digits,
    enlarged,
    mnist,
    olivetti,
    padded,
    photographs,
    shrunk,
)
from blogcore.runtime import stream


def examples(*shape: int, top: int = 255) -> Examples:
    inputs = torch.randint(0, top + 1, shape, generator=stream(0, "images"))
    return Examples(inputs.to(torch.uint8), torch.arange(shape[0]))


def test_digits_are_scikit_learns_levels():
    bunch, found = datasets.load_digits(), digits()
    assert found.inputs.shape == (1797, 1, 8, 8)
    assert found.inputs.dtype == torch.uint8
    assert np.array_equal(found.inputs[:, 0].numpy(), bunch.images)
    assert np.array_equal(found.labels.numpy(), bunch.target)


def test_photographs_are_patches_of_the_two_in_their_places():
    pictures = datasets.load_sample_images().images
    train, test = photographs(16, 8)
    assert train.inputs.shape[1:] == test.inputs.shape[1:] == (3, 16, 16)
    assert train.inputs.dtype == torch.uint8
    columns, rows = (480 - 16) // 8 + 1, (427 - 16) // 8 + 1
    assert train.labels.bincount().tolist() == [rows * columns] * 2
    assert test.labels.bincount().tolist() == [(427 // 16) * (160 // 16)] * 2
    for index in (0, columns + 2, rows * columns + 5):
        photograph, place = divmod(index, rows * columns)
        y, x = 8 * (place // columns), 8 * (place % columns)
        expected = pictures[photograph][y : y + 16, x : x + 16].transpose(2, 0, 1)
        assert np.array_equal(train.inputs[index].numpy(), expected)
    expected = pictures[1][16:32, 480 + 32 : 480 + 48].transpose(2, 0, 1)
    assert np.array_equal(test.inputs[260 + 10 + 2].numpy(), expected)


@pytest.mark.slow
def test_no_pixel_is_both_trained_and_tested_on(monkeypatch):
    numbers = torch.arange(2 * 427 * 640).view(2, 1, 427, 640)
    monkeypatch.setattr(images, "_photographs", lambda: numbers)
    train, test = photographs(32, 5)
    seen, held = train.inputs.unique(), test.inputs.flatten()
    assert not torch.isin(held, seen).any()
    assert len(held.unique()) == len(held), "test patches overlap"


def test_altered_photographs_are_refused(monkeypatch):
    bunch = datasets.load_sample_images()
    bunch.images[1] = bunch.images[1].copy()
    bunch.images[1][5, 7, 0] ^= 1
    monkeypatch.setattr(datasets, "load_sample_images", lambda: bunch)
    with pytest.raises(RuntimeError, match=images.PHOTOGRAPHS_SHA256[1]):
        photographs(8, 8)


def test_padded_keeps_the_image_amid_zeros():
    small = examples(2, 1, 5, 5)
    found = padded(small, 8).inputs
    assert torch.equal(found[:, :, 1:6, 1:6], small.inputs)
    assert found.sum() == small.inputs.sum()
    assert torch.equal(padded(small, 5).inputs, small.inputs)


def test_shrunk_and_enlarged_are_averages_and_blends():
    small = examples(2, 3, 4, 6)
    blocks = small.inputs.double().view(2, 3, 2, 2, 3, 2).mean((3, 5))
    found = shrunk(small, 2).inputs
    assert found.dtype == torch.uint8
    assert (found - blocks).abs().max() <= 0.5
    larger = enlarged(small, 2).inputs
    assert larger.shape == (2, 3, 8, 12)
    assert torch.equal(larger[..., 0, 0], small.inputs[..., 0, 0])
    inside = 0.75 * small.inputs[..., 0, 0] + 0.25 * small.inputs[..., 0, 1].double()
    assert (larger[..., 0, 1] - inside).abs().max() <= 0.5
    flat = Examples(torch.full((1, 1, 4, 4), 16, dtype=torch.uint8), torch.zeros(1))
    assert enlarged(flat, 3).inputs.unique().tolist() == [16]


def test_coarser_keeps_the_highest_bits():
    every = Examples(
        torch.arange(256).view(1, 1, 16, 16).to(torch.uint8), torch.ones(1)
    )
    for bits in (1, 5, 8):
        found = coarser(every, bits).inputs.flatten().long()
        assert found.tolist() == [v // 2 ** (8 - bits) for v in range(256)]


def test_binary_pixels_have_the_grey_values_as_means():
    greys = torch.arange(17).to(torch.uint8).repeat(20_000, 1)
    found = binary(greys, 17, stream(0, "binary"))
    assert found.dtype == torch.uint8
    assert found.unique().tolist() == [0, 1]
    mean = found.double().mean(0)
    assert (mean - torch.arange(17) / 16).abs().max() < 0.015
    assert (mean[0], mean[16]) == (0, 1)


def test_a_byte_may_have_all_its_256_values():
    every = torch.arange(256).to(torch.uint8)
    assert binary(every, 256, stream(0, "binary"))[[0, 255]].tolist() == [0, 1]


def test_a_black_pixel_is_never_lit(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.zeros(shape))
    found = binary(torch.tensor([0, 1], dtype=torch.uint8), 17, stream(0, "binary"))
    assert found.tolist() == [0, 1]


def test_binarisation_is_drawn_anew_at_every_step_from_its_own_stream():
    digit = examples(50, 1, 8, 8, top=16)
    batches = binarised(full_batch(digit), 17, 3)
    first, second = batches(0), batches(1)
    assert not torch.equal(first.inputs, second.inputs)
    torch.rand(10)
    assert torch.equal(batches(0).inputs, first.inputs)
    expected = binary(digit.inputs, 17, stream(3, "binarisation/0"))
    assert torch.equal(first.inputs, expected)
    assert torch.equal(first.labels, digit.labels)
    other = binarised(full_batch(digit), 17, 4)(0)
    assert not torch.equal(other.inputs, first.inputs)


def test_by_person_leaves_whole_persons_out():
    faces = Examples(torch.arange(12).view(12, 1, 1, 1), torch.arange(4).repeat(3))
    train, test = by_person(faces, 1)
    assert test.labels.tolist() == [3] * 3
    assert sorted(train.labels.unique().tolist()) == [0, 1, 2]
    assert test.inputs.flatten().tolist() == [3, 7, 11]


@pytest.mark.parametrize("place", ["", "images"])
def test_mnist_and_faces_are_read_where_they_lie(tmp_path, place):
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    greys = examples(7, 28, 28).inputs.numpy()
    labels = np.arange(7, dtype=np.uint8)
    arrays = {"x_train": greys[:5], "y_train": labels[:5]}
    arrays |= {"x_test": greys[5:], "y_test": labels[5:]}
    np.savez(folder / "mnist.npz", **arrays)
    train, test = mnist(tmp_path)
    assert np.array_equal(train.inputs[:, 0].numpy(), greys[:5])
    assert np.array_equal(test.inputs[:, 0].numpy(), greys[5:])
    assert test.labels.tolist() == [5, 6]
    assert test.labels.dtype == torch.int64
    faces = examples(3, 64, 64).inputs.numpy()
    np.savez(folder / "olivetti.npz", x=faces, y=np.array([0, 39, 7]))
    found = olivetti(tmp_path)
    assert np.array_equal(found.inputs[:, 0].numpy(), faces)
    assert found.labels.tolist() == [0, 39, 7]


def test_cifar10_gets_its_levels_back(monkeypatch):
    every = torch.arange(256).repeat(12).view(1, 3, 32, 32)
    labels = torch.tensor([4])
    both = data._standardised(every.numpy(), labels.numpy())
    monkeypatch.setattr(data, "cifar10", lambda folder: (both, both))
    for part in images.cifar10("anywhere"):
        assert part.inputs.dtype == torch.uint8
        assert torch.equal(part.inputs.long(), every)
        assert torch.equal(part.labels, labels)


def write(folder: Path, name: str, **arrays) -> Path:
    np.savez(folder / name, **arrays)
    return folder


def test_damaged_and_foreign_files_are_refused(tmp_path):
    good = examples(3, 64, 64).inputs.numpy()
    labels = np.array([0, 1, 2])
    for arrays, words in [
        ({"x": good}, "olivetti.npz: damaged"),
        ({"x": good.astype(float), "y": labels}, "olivetti.npz: float64 images"),
        (
            {"x": good[:, :32], "y": labels},
            "olivetti.npz: uint8 images of shape (3, 32",
        ),
        ({"x": good, "y": labels[:2]}, "(3, 64, 64), not uint8 (2, 64, 64)"),
        ({"x": good, "y": labels + 38}, "labels are not all in 0 … 39"),
        ({"x": good, "y": labels - 1}, "labels are not all in 0 … 39"),
        ({"x": good[:0], "y": labels[:0]}, "labels are not all in 0 … 39"),
    ]:
        write(tmp_path, "olivetti.npz", **arrays)
        with pytest.raises(ValueError) as caught:
            olivetti(tmp_path)
        assert words in str(caught.value)
    path = write(tmp_path, "olivetti.npz", x=good, y=labels) / "olivetti.npz"
    whole = path.read_bytes()
    for length in range(0, len(whole), 1201):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"olivetti.npz: damaged"):
            olivetti(tmp_path)


def test_wrong_calls_are_refused_by_name(tmp_path):
    batch = examples(2, 1, 8, 8)
    calls = [
        (
            FileNotFoundError,
            "neither images/mnist.npz nor mnist.npz",
            lambda: mnist(tmp_path),
        ),
        (FileNotFoundError, "olivetti.npz", lambda: olivetti(tmp_path)),
        (FileNotFoundError, "cifar", lambda: images.cifar10(tmp_path)),
        (ValueError, "size: 0", lambda: photographs(0, 1)),
        (ValueError, "stride: 0", lambda: photographs(8, 0)),
        (ValueError, "size: 161 exceeds 160", lambda: photographs(161, 8)),
        (ValueError, "size: 7", lambda: padded(batch, 7)),
        (ValueError, "factor: 3 does not divide 8 × 8", lambda: shrunk(batch, 3)),
        (ValueError, "factor: 0", lambda: shrunk(batch, 0)),
        (ValueError, "factor: 0", lambda: enlarged(batch, 0)),
        (ValueError, "bits: 9", lambda: coarser(batch, 9)),
        (ValueError, "bits: 0", lambda: coarser(batch, 0)),
        (
            ValueError,
            "test: 2 leaves none of the 2 persons",
            lambda: by_person(batch, 2),
        ),
        (ValueError, "test: 0", lambda: by_person(batch, 0)),
        (ValueError, "levels: 1", lambda: binary(batch.inputs, 1, stream(0, "b"))),
        (ValueError, "levels: 1", lambda: binarised(full_batch(batch), 1, 0)),
        (
            ValueError,
            "are not all in 0 … 16",
            lambda: binary(batch.inputs, 17, stream(0, "b")),
        ),
        (
            TypeError,
            "images: torch.float32",
            lambda: binary(batch.inputs / 255, 256, stream(0, "b")),
        ),
    ]
    for kind, words, call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert words in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif("BLOGCORE_DATA" not in os.environ, reason="BLOGCORE_DATA not set")
def test_the_real_data_are_what_they_are_known_to_be():
    folder = Path(os.environ["BLOGCORE_DATA"])
    train, test = mnist(folder)
    assert (len(train.labels), len(test.labels)) == (60_000, 10_000)
    assert abs(train.inputs.double().mean() / 255 - 0.1307) < 1e-4
    faces = olivetti(folder)
    assert faces.labels.bincount().tolist() == [10] * 40
    assert faces.inputs.shape == (400, 1, 64, 64)

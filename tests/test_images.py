"""The images are those of the books, cut so that nothing is trained and tested on."""

import numpy as np
import pytest
import torch
from sklearn import datasets

from blogcore import images, pictures
from blogcore.data import Examples
from blogcore.images import binary, digits, padded, photographs
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


def test_the_face_is_cut_from_the_portrait():
    whole = pictures.portrait()
    assert images.face().shape == (1, 3, 192, 192)
    assert torch.equal(images.face()[0, :, 0, 0], whole[0, :, 130, 165])
    assert torch.equal(images.face()[0, :, -1, -1], whole[0, :, 321, 356])


@pytest.mark.slow
def test_no_pixel_is_both_trained_and_tested_on(monkeypatch):
    numbers = torch.arange(2 * 427 * 640).view(2, 1, 427, 640)
    monkeypatch.setattr(pictures, "photographs", lambda: numbers)
    train, test = photographs(32, 5)
    seen, held = train.inputs.unique(), test.inputs.flatten()
    assert not torch.isin(held, seen).any()
    assert len(held.unique()) == len(held), "test patches overlap"


def test_what_is_read_comes_as_examples(monkeypatch):
    part = pictures.Pictures(torch.ones(2, 1, 4, 4), torch.tensor([0, 1]))
    monkeypatch.setattr(pictures, "mnist", lambda folder: (part, part))
    assert images.mnist("anywhere") == (Examples(*part), Examples(*part))


def test_padded_keeps_the_image_amid_zeros():
    small = examples(2, 1, 5, 5)
    found = padded(small, 8).inputs
    assert torch.equal(found[:, :, 1:6, 1:6], small.inputs)
    assert found.sum() == small.inputs.sum()
    assert torch.equal(padded(small, 5).inputs, small.inputs)


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
    monkeypatch.setattr(torch, "rand", lambda shape, **how: torch.zeros(shape))
    found = binary(torch.tensor([0, 1], dtype=torch.uint8), 17, stream(0, "binary"))
    assert found.tolist() == [0, 1]


def test_wrong_calls_are_refused_by_name():
    batch = examples(2, 1, 8, 8)
    calls = [
        (ValueError, "size: 0", lambda: photographs(0, 1)),
        (ValueError, "stride: 0", lambda: photographs(8, 0)),
        (ValueError, "size: 161 exceeds 160", lambda: photographs(161, 8)),
        (ValueError, "size: 7", lambda: padded(batch, 7)),
        (ValueError, "levels: 1", lambda: binary(batch.inputs, 1, stream(0, "b"))),
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

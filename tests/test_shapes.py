"""What docstrings say of shapes is read, and holds in all tests' calls."""

import pytest
import shapes
import torch

from blogcore import blocks, embeddings, encoder, landscape, networks, vae

ROOMS = (blocks, embeddings, encoder, landscape, networks, vae)


def test_docstrings_are_read_as_they_are_meant():
    text = "Reads ids (B, T) and ``x`` (S, N, k), or (N, k) if shared → y (B, width)."
    assert shapes.promises(text, ["ids", "x", "other"]) == {
        "ids": ["B, T"],
        "x": ["S, N, k", "N, k"],
        "return": ["B, width"],
    }
    assert shapes.promises("Su (2020), and y (1, 2).", ["x"]) == {}


@pytest.mark.parametrize(
    ("shape", "stated", "good"),
    [
        ((2, 3), "A, B", True),
        ((2, 3), "A, A", False),
        ((2, 3), "A, 3", True),
        ((2, 3), "A, 4", False),
        ((2,), "A,", True),
        ((2, 3), "A,", False),
        ((2, 3), "…, B", True),
        ((3,), "…, B", True),
        ((), "…, B", False),
        ((2, 5, 2), "A, …, A", True),
    ],
)
def test_a_shape_fits_or_does_not(shape, stated, good):
    assert shapes.fits(shape, stated, {}) == good


def test_a_wrong_promise_is_found_and_bad_input_left_to_its_own_error():
    def halved(x):
        """Every second row: x (N, k) → (N, k)."""
        if x.ndim != 2:
            raise ValueError("x: not two axes")
        return x[::2]

    call = shapes.watched(halved, halved.__doc__, "halved")
    with pytest.raises(AssertionError, match=r"halved: return has shape \(2, 3\), its"):
        call(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="two axes"):
        call(torch.zeros(4))
    assert call(x=torch.zeros(1, 3)).shape == (1, 3)
    del shapes.promised["halved"]


def test_rooms_are_watched():
    watched = {name.split(".")[1] for name in shapes.promised}
    assert {room.__name__.split(".")[1] for room in ROOMS} <= watched
    assert len(shapes.promised) >= 20
    config = blocks.EncoderConfig(30, 8, 1, 2, 16, 5)
    embed = embeddings.Embedding(config)
    with pytest.raises(AssertionError, match=r"placed: vectors has shape \(5, 8\)"):
        embed.placed(torch.zeros(5, 8))

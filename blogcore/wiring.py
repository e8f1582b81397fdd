"""Who can see whom: the same parts wired in four ways, by bookkeeping and by slopes.

A *stream* is the vector that is carried along at a place; the *memory* is what it
reads.
"""

from functools import partial
from typing import NamedTuple

import torch

from blogcore import blocks
from blogcore.blocks import EncoderConfig
from blogcore.checks import check_integer
from blogcore.encoder import TextAutoencoder, tta


class Wiring(NamedTuple):
    """Do queries start from tokens, may nobody read itself, is the memory rewritten?"""

    tokens_first: bool
    diagonal: bool
    updated: bool


WIRINGS = {
    "T-TA": Wiring(False, True, False),
    "memory updated": Wiring(False, True, True),
    "token in the query": Wiring(True, True, False),
    "no diagonal mask": Wiring(False, False, False),
}


def reach(wiring: Wiring, layers: int, length: int) -> list[torch.Tensor]:
    """Which tokens (columns) each stream (rows) can know after 0 … L layers.

    R₍ₗ₊₁₎ = R₍ₗ₎ ∨ N M₍ₗ₎, Boolean (T, T): N is the mask, M₍ₗ₎ = 1 for a memory of
    tokens and R₍ₗ₎ where it is rewritten.
    """
    check_integer("layers", layers, 1)
    check_integer("length", length, 2)
    own = torch.eye(length, dtype=torch.bool)
    mask = blocks.not_self(length) if wiring.diagonal else torch.ones_like(own)
    known, memory = own & wiring.tokens_first, own
    found = [known]
    for _ in range(layers):
        known = known | (mask.double() @ memory.double() > 0)
        memory = known if wiring.updated else own
        found.append(known)
    return found


def streams(
    model: TextAutoencoder, wiring: Wiring, vectors: torch.Tensor
) -> torch.Tensor:
    """Outputs (T, width) of a wiring of the model's parts for token vectors."""
    ids = torch.zeros(vectors.shape[:2], dtype=torch.int64)
    memory = model.embedding.placed(vectors)
    x = memory if wiring.tokens_first else model.queries(ids)
    allowed = blocks.not_self(vectors.shape[1]) if wiring.diagonal else None
    for block in model.blocks:
        x = block(x, memory, allowed)
        memory = x if wiring.updated else memory
    return x[0]


def slopes(
    wiring: Wiring, layers: int, length: int, generator: torch.Generator
) -> torch.Tensor:
    """‖∂ output i / ∂ token j‖ (T, T) of a drawn network, in float64.

    Its matrices are large enough to be far from linear.
    """
    # vocabulary, width, heads, layers, inner width, longest text
    config = EncoderConfig(7, 8, 2, layers, 16, length, segments=0, dropout=0.0)
    model = tta(config, generator).double()
    for parameter in model.parameters():
        parameter.data *= 10 if parameter.ndim == 2 else 1
    drawn = torch.randn(1, length, 8, generator=generator).double()
    found = torch.autograd.functional.jacobian(partial(streams, model, wiring), drawn)
    return found[:, :, 0].norm(dim=(1, 3))


def largest_change(
    model: TextAutoencoder, words: int, length: int, generator: torch.Generator
) -> float:
    """How far output i moves at most when token i becomes any other: max |Δ|.

    Tries all ``words`` tokens at every place of one drawn text. 0: no leak.
    """
    ids = torch.randint(words, (1, length), generator=generator)
    changed = ids.repeat(words, length, 1)  # (words, place that changes, T)
    every = range(length)
    changed[:, every, every] = torch.arange(words)[:, None]
    with torch.no_grad():
        found = model(changed.flatten(0, 1)).unflatten(0, (words, length))
        moved = found - model(ids)
    return moved[:, every, every].abs().max().item()

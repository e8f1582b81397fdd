"""What a language model is asked: cloze questions, and the loss on its answers.

A model maps ids (B, T) and ``valid`` (B, T), True where there is a token and False
where there is padding, to hidden vectors (B, T, width), and ``model.head`` maps hidden
vectors (N, width) to logits (N, V). Nothing here knows which model it is: BERT is asked
about the tokens that were masked, T-TA about every token.
"""

from collections.abc import Collection
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from blogcore.asking import Parts
from blogcore.checks import check_integer, check_number


class Cloze(NamedTuple):
    """Questions about a batch of texts.

    ``inputs`` (B, T) is what the model sees, ``valid`` (B, T) is False for padding, or
    None if there is none; ``positions`` (N,) count through the B·T places row by row,
    and ``targets`` (N,) are the ids that the text has there.
    """

    inputs: torch.Tensor
    valid: torch.Tensor | None
    positions: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> "Cloze":
        """The same questions on another device."""
        moved = (None if tensor is None else tensor.to(device) for tensor in self)
        return Cloze(*moved)

    def part(self, index: int, parts: int) -> "Cloze":
        """Every ``parts``-th text from the ``index``-th on, with its questions."""
        length = self.inputs.shape[1]
        rows, columns = self.positions // length, self.positions % length
        mine = rows % parts == index
        positions = (rows // parts * length + columns)[mine]
        valid = None if self.valid is None else self.valid[index::parts]
        return Cloze(self.inputs[index::parts], valid, positions, self.targets[mine])


def mask_tokens(
    ids: torch.Tensor,
    rate: float,
    mask: int,
    vocabulary: int,
    generator: torch.Generator,
    special: Collection[int] = (),
    valid: torch.Tensor | None = None,
) -> Cloze:
    """Ask about a share of the tokens, most of them hidden: BERT's masking.

    In every row max(1, round(rate · n)) of its n ordinary tokens are chosen, uniformly
    and without replacement. Each chosen one then becomes ``mask`` with probability .8,
    a random ordinary token (maybe the same) with .1, or stays, with .1. Ordinary is
    what is neither padding, nor ``mask``, nor ``special``. ``ids`` (B, T) is left as it
    is. Draws are made on the CPU. Raises ValueError for a rate outside 0 … 1, ids
    outside the vocabulary, or no ordinary token. Source: Devlin et al. (2019), 3.1.
    """
    check_number("rate", rate, 0, 1)
    check_integer("vocabulary", vocabulary, 1)
    check_integer("mask", mask, 0)
    _check_ids(ids, vocabulary)
    banned = {*special, mask}
    words = torch.tensor([v for v in range(vocabulary) if v not in banned])
    if mask >= vocabulary or not len(words):
        raise ValueError(f"mask: {mask} is not one of {vocabulary} ids, some ordinary")
    _check_valid(ids, valid)
    positions = _choose(_ordinary(ids, valid, banned).cpu(), rate, generator)
    chance = torch.rand(len(positions), generator=generator)
    drawn = torch.randint(len(words), (len(positions),), generator=generator)
    moved = (tensor.to(ids.device) for tensor in (positions, chance, words[drawn]))
    return _hidden(ids, valid, *moved, mask)


def hide_tokens(
    ids: torch.Tensor,
    count: int,
    mask: int,
    words: torch.Tensor,
    special: torch.Tensor,
    generator: torch.Generator | None,
) -> Cloze:
    """The same for rows without padding, ``count`` tokens a row, where the ids lie.

    Nothing in it waits for the device: ``words``, the ordinary ids, and ``special``,
    all others, lie there as well, and all is drawn there. Each row must have ``count``
    ordinary tokens or more, which is not looked at. On the CPU, for rows of n ordinary
    tokens, it is ``mask_tokens`` at the rate count / n, bit for bit.
    """
    length, drawn_there = ids.shape[1], {"generator": generator, "device": ids.device}
    ordinary = (ids[..., None] != special).all(-1)
    dice = torch.rand(ids.shape, **drawn_there).where(ordinary, 2.0)
    chosen = dice.argsort(1)[:, :count].sort(1).values
    first = length * torch.arange(len(ids), device=ids.device)
    positions = (chosen + first[:, None]).flatten()
    chance = torch.rand(positions.shape, **drawn_there)
    drawn = torch.randint(len(words), positions.shape, **drawn_there)
    return _hidden(ids, None, positions, chance, words[drawn], mask)


def every_token(
    ids: torch.Tensor,
    special: Collection[int] = (),
    valid: torch.Tensor | None = None,
) -> Cloze:
    """Ask about every ordinary token and hide none: the questions of T-TA.

    Only for models whose output at a place cannot see the token there; any other would
    learn to copy. Source: Shin et al. (2020), the language autoencoding objective.
    """
    _check_ids(ids)
    _check_valid(ids, valid)
    positions = _ordinary(ids, valid, special).flatten().nonzero()[:, 0]
    if not len(positions):
        raise ValueError(f"ids: no ordinary token among {tuple(ids.shape)}")
    return Cloze(ids, valid, positions, ids.flatten()[positions])


def token_prediction(model: nn.Module, batch: Cloze) -> tuple[torch.Tensor, Parts]:
    """Mean of −log softmax(logits)_target over the questions, in nats: an objective.

    Parts: loss and accuracy (0 … 1).
    """
    logits = asked_logits(model, batch)
    loss = F.cross_entropy(logits, batch.targets)
    hits = (logits.argmax(-1) == batch.targets).float().mean()
    return loss, {"loss": loss.detach(), "accuracy": hits}


def asked_logits(model: nn.Module, batch: Cloze) -> torch.Tensor:
    """Logits for each question of the batch: (N, V), the head computed there alone."""
    hidden = model(batch.inputs, batch.valid)
    return model.head(hidden.flatten(0, 1)[batch.positions])


def _hidden(ids, valid, positions, chance, others, mask: int) -> Cloze:
    """The questions: ``mask`` where chance < .8, another token below .9, else as is."""
    targets = ids.flatten()[positions]
    replaced = torch.where(chance < 0.9, others, targets)
    replaced = torch.where(chance < 0.8, mask, replaced)
    inputs = ids.flatten().scatter(0, positions, replaced).view_as(ids)
    return Cloze(inputs, valid, positions, targets)


def _choose(ordinary: torch.Tensor, rate: float, generator) -> torch.Tensor:
    """Flat positions of max(1, round(rate · n)) places a row, in ascending order."""
    counts = ordinary.sum(1)
    if not counts.any():
        raise ValueError(f"ids: no ordinary token among {tuple(ordinary.shape)}")
    wanted = (rate * counts).round().clamp(min=1).minimum(counts)
    # Ranks of one random number a place; places that may not be chosen come last.
    dice = torch.rand(ordinary.shape, generator=generator).where(ordinary, 2.0)
    ranks = dice.argsort(1).argsort(1)
    return (ranks < wanted[:, None]).flatten().nonzero()[:, 0]


def _ordinary(ids, valid, banned: Collection[int]) -> torch.Tensor:
    forbidden = torch.tensor(sorted(banned), dtype=ids.dtype, device=ids.device)
    ordinary = ~torch.isin(ids, forbidden)
    return ordinary if valid is None else ordinary & valid


def _check_ids(ids: torch.Tensor, vocabulary: int | None = None) -> None:
    if ids.dtype != torch.int64 or ids.ndim != 2 or not ids.numel():
        raise ValueError(
            f"ids: {ids.dtype} of shape {tuple(ids.shape)}, not torch.int64 (B, T)"
        )
    if vocabulary and not 0 <= ids.min() <= ids.max() < vocabulary:
        raise ValueError(
            f"ids: {ids.min()} … {ids.max()} are not all in 0 … {vocabulary - 1}"
        )


def _check_valid(ids: torch.Tensor, valid: torch.Tensor | None) -> None:
    if valid is None:
        return
    if valid.dtype != torch.bool or valid.shape != ids.shape:
        raise ValueError(
            f"valid: {valid.dtype} of shape {tuple(valid.shape)}, not torch.bool "
            f"{tuple(ids.shape)}"
        )

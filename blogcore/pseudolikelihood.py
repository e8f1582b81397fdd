"""How probable a language model finds a text: by hiding a token at a time, or at once.

Models and questions are those of ``cloze``.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import torch
from torch import nn

from blogcore.asking import in_eval_mode
from blogcore.checks import check_integer
from blogcore.cloze import Cloze, asked_logits, every_token


def pseudo_log_likelihood(
    model: nn.Module,
    ids: torch.Tensor,
    mask: int,
    special: Collection[int] = (),
    valid: torch.Tensor | None = None,
    rows: int = 256,
) -> torch.Tensor:
    """log p(x_i | x_∖i) by hiding one token at a time: (B, T), 0 where none is asked.

    The sum over a row is the pseudo-log-likelihood of the text. As many forward passes
    as there are tokens, ``rows`` of them at once. Source: Salazar et al. (2020).
    """
    whole = every_token(ids, special, valid)
    scores = torch.zeros(ids.numel(), device=ids.device)
    for part in one_mask_each(whole, mask, rows):
        scores[part.positions] = _log_likelihood(model, part.asked)
    return scores.view(ids.shape)


def one_pass_log_likelihood(
    model: nn.Module,
    ids: torch.Tensor,
    special: Collection[int] = (),
    valid: torch.Tensor | None = None,
) -> torch.Tensor:
    """log p(x_i | x_∖i) of all tokens in one pass: (B, T), 0 where none is asked.

    Right only for models that cannot see the token they are asked about, as T-TA.
    """
    whole = every_token(ids, special, valid)
    scores = torch.zeros(ids.numel(), device=ids.device)
    scores[whole.positions] = _log_likelihood(model, whole)
    return scores.view(ids.shape)


class MaskedCopies(NamedTuple):
    """Some of a batch's questions, each with a copy of its text of its own."""

    positions: torch.Tensor
    asked: Cloze


def one_mask_each(whole: Cloze, mask: int, rows: int) -> Iterator[MaskedCopies]:
    """Turn every question into a copy of its text with that one token hidden.

    ``positions`` (n,) are those of the question in ``whole``; ``asked`` holds the n ≤
    ``rows`` copies.
    """
    check_integer("mask", mask, 0)
    check_integer("rows", rows, 1)
    length = whole.inputs.shape[1]
    for some in torch.arange(len(whole.positions)).split(rows):
        positions, targets = whole.positions[some], whole.targets[some]
        copies = whole.inputs[positions // length]
        places = torch.arange(len(some), device=copies.device) * length
        places += positions % length
        inputs = copies.flatten().scatter(0, places, mask).view_as(copies)
        valid = None if whole.valid is None else whole.valid[positions // length]
        yield MaskedCopies(positions, Cloze(inputs, valid, places, targets))


def cloze_distribution(model: nn.Module, batch: Cloze) -> torch.Tensor:
    """log p(v) for each question of the batch, without gradients: (N, V)."""
    with in_eval_mode(model), torch.no_grad():
        return asked_logits(model, batch).log_softmax(-1)


def _log_likelihood(model: nn.Module, batch: Cloze) -> torch.Tensor:
    log_p = cloze_distribution(model, batch)
    return log_p.gather(1, batch.targets[:, None])[:, 0].float()

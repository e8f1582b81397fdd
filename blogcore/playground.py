"""A playground for ALBERT and ELECTRA: facts, kinds of words, an exact generator."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from blogcore import electra
from blogcore.blocks import EncoderConfig, shared
from blogcore.checks import check_integer
from blogcore.cloze import Cloze, mask_tokens
from blogcore.corpus import HiddenMarkov, peaked, ring_language
from blogcore.embeddings import Embedding
from blogcore.encoder import Bert, initialise
from blogcore.runtime import stream

KINDS, WORDS, PLACES = 6, 24, 16  # of the language of kinds
MASK = WORDS  # the id behind the words
STUDENT = EncoderConfig(WORDS + 1, 32, 2, 1, 128, PLACES, segments=0, dropout=0.0)
POOL, BATCH = 4000, 64  # texts that are seen again and again, texts a step


class Lesson(NamedTuple):
    """What a network reads, what stood there, and what changed, each (B, T).

    ``holes`` (N,) are the places that were asked about, counted through the B·T.
    """

    inputs: torch.Tensor
    truth: torch.Tensor
    holes: torch.Tensor
    changed: torch.Tensor


def spread(
    model: nn.Module, config: EncoderConfig, generator: torch.Generator
) -> nn.Module:
    """The model, from the meta device, with weights of BERT's spread for its width.

    Matrices are N(0, s²) with s = 0.02 √(768 / width): small networks start as far from
    zero as BERT-base does, and learn sooner.
    """
    model = initialise(model.to_empty(device="cpu"), generator)
    for parameter in model.parameters():
        parameter.data *= math.sqrt(768 / config.width) if parameter.ndim > 1 else 1
    return model


def fact_machine(config: EncoderConfig, share: str, seed: int) -> Bert:
    """An encoder that reads (a, b) and names c: logits (B, symbols) from its head.

    ``share`` as in ``blocks.shared``; the vocabulary holds the symbols.
    """
    with torch.device("meta"):
        output = nn.Linear(2 * config.width, config.vocabulary)
        head = nn.Sequential(nn.Flatten(), output)
        model = Bert(Embedding(config), shared(config, share), head)
    return spread(model, config, stream(seed, "init"))


def kinds(seed: int, stay: float) -> HiddenMarkov:
    """Six kinds in a ring, four words each, with shares 0.4, 0.3, 0.2 and 0.1.

    A kind stays with probability ``stay`` or gives way to the next.
    """
    table = peaked(KINDS, (0.4, 0.3, 0.2, 0.1))
    return ring_language(stay, table, stream(seed, "kinds"))


def filled(
    source: HiddenMarkov,
    asked: Cloze,
    truth: torch.Tensor,
    sharpness: float,
    generator: torch.Generator,
) -> electra.Corrupted:
    """What an exact generator writes into holes: q ∝ p^sharpness, p the true cloze.

    ``truth`` (B, T) are the texts without holes. 0 is a flat generator, 1 a perfect
    one; like ELECTRA's it fills each hole without seeing what it writes into others.
    """
    seen = torch.ones_like(truth, dtype=torch.bool).flatten()
    seen[asked.positions] = False
    log_p = source.cloze(truth, seen.view_as(truth)).flatten(0, 1)[asked.positions]
    return electra.corrupt(asked, sharpness * log_p, generator)


def questions(
    source: HiddenMarkov, holes: int, seed: int
) -> Callable[[int], tuple[torch.Tensor, Cloze, torch.Generator]]:
    """For each step texts of a pool, BERT's questions about them, and dice.

    Raises ValueError for holes outside 1 … 16.
    """
    check_integer("holes", holes, 1)
    if holes > PLACES:
        raise ValueError(f"holes: {holes} exceed {PLACES} places")
    pool = source.sample(POOL, PLACES, stream(seed, "pool")).ids

    def ask(step: int) -> tuple[torch.Tensor, Cloze, torch.Generator]:
        dice = stream(seed, f"questions/{step}")
        ids = pool[torch.randint(POOL, (BATCH,), generator=dice)]
        return ids, mask_tokens(ids, holes / PLACES, MASK, WORDS + 1, dice), dice

    return ask


def lessons(
    source: HiddenMarkov, sharpness: float | None, holes: int, seed: int
) -> Callable[[int], Lesson]:
    """Batches of texts with so many holes, filled by ``filled``, or BERT's for None."""
    ask = questions(source, holes, seed)

    def lesson(step: int) -> Lesson:
        ids, asked, dice = ask(step)
        if sharpness is None:  # [MASK] in 80 % of the holes
            nothing = torch.zeros_like(ids, dtype=torch.bool)
            return Lesson(asked.inputs, ids, asked.positions, nothing)
        made = filled(source, asked, ids, sharpness, dice)
        return Lesson(made.inputs, ids, asked.positions, made.changed)

    return lesson

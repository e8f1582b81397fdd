"""A playground for ALBERT and ELECTRA: facts, kinds of words, an exact generator."""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.optim import Adam

from blogcore import electra
from blogcore.blocks import EncoderConfig, shared
from blogcore.checks import check_integer
from blogcore.cloze import Cloze, mask_tokens
from blogcore.corpus import HiddenMarkov, peaked, random_markov, ring_language
from blogcore.data import Examples, full_batch
from blogcore.embeddings import Embedding
from blogcore.encoder import Bert, MaskedLanguageHead, initialise, token_classifier
from blogcore.finetuning import token_classification
from blogcore.optim import linear_decay
from blogcore.runtime import stream
from blogcore.training import evaluate, train

KINDS, WORDS, PLACES = 6, 24, 16  # of the language of kinds
MASK = WORDS  # the id behind the words
STUDENT = EncoderConfig(WORDS + 1, 32, 2, 1, 128, PLACES, segments=0, dropout=0.0)
GENERATOR = EncoderConfig(WORDS + 1, 16, 2, 1, 64, PLACES, segments=0, dropout=0.0)
TUNING = 60  # steps of fine-tuning
POOL, BATCH = 4000, 64  # texts that are seen again and again, texts a step
TOGETHER = 16384  # texts with a choice of holes that the best detector reads at once


class Lesson(NamedTuple):
    """What a network reads, what stood there, and what changed, each (B, T).

    ``holes`` (N,) are the places that were asked about, counted through the B·T.
    """

    inputs: torch.Tensor
    truth: torch.Tensor
    holes: torch.Tensor
    changed: torch.Tensor

    @property
    def rest(self) -> torch.Tensor:
        """The places outside the holes, counted likewise."""
        outside = torch.ones(self.truth.numel(), dtype=torch.bool)
        outside[self.holes] = False
        return outside.nonzero()[:, 0]


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


def reader(config: EncoderConfig, question: str, seed: int) -> Bert:
    """An encoder that learns to "restore" tokens, or to "detect" changed ones.

    The question decides its head. Raises ValueError for another question.
    """
    if question not in ("restore", "detect"):
        raise ValueError(f"question: {question!r} is not 'restore' or 'detect'")
    with torch.device("meta"):
        words = Embedding(config)
        restores = question == "restore"
        if restores:
            head = MaskedLanguageHead(config, words.tokens)
        else:
            head = electra.DetectionHead(config)
        model = Bert(words, shared(config, "none"), head)
    return spread(model, config, stream(seed, "init"))


def kinds(seed: int, stay: float) -> HiddenMarkov:
    """Six kinds in a ring, four words each, with shares 0.4, 0.3, 0.2 and 0.1.

    A kind stays with probability ``stay`` or gives way to the next.
    """
    table = peaked(KINDS, (0.4, 0.3, 0.2, 0.1))
    return ring_language(stay, table, stream(seed, "kinds"))


def language(kind: str, seed: int) -> HiddenMarkov:
    """Six states in a ring, 18 tokens: "predictable" text, or "hard" to predict.

    Predictable: a state lasts 50 tokens and writes 92 % of them alike. Hard: it lasts
    five, and what it writes is drawn. Raises ValueError for another kind.
    """
    if kind == "predictable":
        table, stay = peaked(KINDS, (0.92, 0.03, 0.02)), 0.98
    elif kind == "hard":
        drawn = random_markov(KINDS, 18, stream(seed, "emission"), emission=0.15)
        table, stay = drawn.emission, 0.8
    else:
        raise ValueError(f"kind: {kind!r} is not 'predictable' or 'hard'")
    return ring_language(stay, table, stream(seed, f"{kind} language"))


def rewritten(
    source: HiddenMarkov, sharpness: float, count: int, seed: int, name: str
) -> electra.Corrupted:
    """So many texts of 16 tokens; ``filled`` has re-sampled one place of each."""
    ids = source.sample(count, PLACES, stream(seed, name)).ids
    holes = torch.randint(PLACES, (count,), generator=stream(seed, f"{name}/holes"))
    asked = torch.arange(count) * PLACES + holes
    questions = Cloze(ids, None, asked, ids.flatten()[asked])
    return filled(source, questions, ids, sharpness, stream(seed, f"{name}/draws"))


def drawn(
    texts: electra.Corrupted, size: int, seed: int
) -> Callable[[int], electra.Corrupted]:
    """Batches of so many of the texts, drawn anew at each step."""

    def batch(step: int) -> electra.Corrupted:
        dice = stream(seed, f"rows/{step}")
        rows = torch.randint(len(texts.inputs), (size,), generator=dice)
        return electra.Corrupted(*(t if t is None else t[rows] for t in texts))

    return batch


def best(
    source: HiddenMarkov, texts: electra.Corrupted, sharpness: float
) -> electra.Detection:
    """What the best possible discriminator says of ``rewritten`` texts, exactly."""
    log_p = source.cloze(texts.inputs)
    log_q = (sharpness * log_p).log_softmax(-1)
    own = texts.inputs[..., None]
    return electra.optimal(*(table.gather(2, own)[..., 0] for table in (log_p, log_q)))


def best_of_holes(
    source: HiddenMarkov, inputs: torch.Tensor, sharpness: float, holes: int = 2
) -> torch.Tensor:
    """P(another token) at each place of texts with so many holes ``filled``: (N, T).

    Exact, for one who knows the language and the generator, but not the holes. With u
    the tokens outside of a set of holes, and all sets equally likely,
    P(these were the holes | x) ∝ p(u) Π q(x_s | u) over s in the set; then s holds
    another token with probability 1 − p(x_s | u). Raises ValueError for holes outside
    1 … T. There are T! / (k! (T − k)!) sets of k, so few holes are quick and half of
    the places are slow.
    """
    check_integer("holes", holes, 1)
    if holes > inputs.shape[1]:
        raise ValueError(f"holes: {holes} exceed {inputs.shape[1]} places")
    sets = torch.combinations(torch.arange(inputs.shape[1]), holes)
    parts = inputs.split(max(1, TOGETHER // len(sets)))
    return torch.cat([_best_of_sets(source, x, sharpness, sets) for x in parts])


def _best_of_sets(source, inputs, sharpness, sets) -> torch.Tensor:
    where = sets.expand(len(inputs), *sets.shape)  # (N, sets, holes)
    texts = inputs[:, None].expand(-1, len(sets), -1)  # (N, sets, T)
    seen = torch.ones_like(texts, dtype=torch.bool).scatter(2, where, False)
    flat = texts.flatten(0, 1), seen.flatten(0, 1)
    log_p = source.cloze(*flat).view(*texts.shape, -1)
    there = where[..., None].expand(-1, -1, -1, log_p.shape[-1])
    log_p, own = log_p.gather(2, there), texts.gather(2, where)[..., None]
    log_q = (sharpness * log_p).log_softmax(-1).gather(3, own).sum((2, 3))
    odds = (source.log_likelihood(*flat).view(log_q.shape) + log_q).softmax(1)
    another = odds[..., None] * -log_p.gather(3, own)[..., 0].expm1()
    nothing = torch.zeros_like(inputs, dtype=torch.float64)
    return nothing.scatter_add(1, where.flatten(1), another.flatten(1))


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
    if sharpness == 0:  # whatever the truth is
        flat = torch.zeros(len(asked.positions), source.emission.shape[1])
        return electra.corrupt(asked, flat.double(), generator)
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


def area(
    model: Bert, texts: electra.Corrupted | Lesson, question: str = "changed"
) -> float:
    """Area under the curve: how often a token with the label outranks one without.

    The scores are the logits of a discriminator; 0.5 is guessing.
    """
    with torch.no_grad():
        scores = model.head(model(texts.inputs))
    return roc_auc_score(getattr(texts, question).flatten(), scores.flatten())


def findable(
    source: HiddenMarkov,
    texts: electra.Corrupted | Lesson,
    sharpness: float,
    holes: int = 2,
) -> float:
    """The largest ``area`` that anyone can expect on ``filled`` texts: the best's."""
    best = best_of_holes(source, texts.inputs, sharpness, holes)
    return roc_auc_score(texts.changed.flatten(), best.flatten())


def repeats(model: Bert, lesson: Lesson) -> float:
    """The share of tokens outside the holes that a restoring model names: 0 … 1."""
    with torch.no_grad():
        said = model.head(model(lesson.inputs).flatten(0, 1)[lesson.rest]).argmax(-1)
    return (said == lesson.truth.flatten()[lesson.rest]).double().mean().item()


def named(model: Bert, source: HiddenMarkov, draws: int, seed: int) -> float:
    """Per cent of fresh tokens whose kind is named after two labelled texts.

    A copy of the ``STUDENT`` is fine-tuned on two texts of ``kinds`` and tested on 300;
    the mean over so many draws of the two.
    """
    check_integer("draws", draws, 1)
    fresh, found = Examples(*source.sample(300, PLACES, stream(seed, "fresh"))), []
    for draw in range(draws):
        few = Examples(*source.sample(2, PLACES, stream(seed, f"labelled/{draw}")))
        tags = stream(seed, "tags")
        tagger = token_classifier(copy.deepcopy(model), STUDENT, KINDS, tags)
        adam = Adam(tagger.parameters(), lr=3e-3, fused=True)
        falling = linear_decay(adam, TUNING, TUNING // 6)
        train(tagger, full_batch(few), token_classification, adam, TUNING, [falling])
        found.append(evaluate(tagger, token_classification, fresh)["accuracy"])
    return 100 * torch.stack(found).mean().item()

"""A testbed for compression: Chinese words and their class, networks of six blocks.

The task is real and fits a minute: 2 to 4 characters in, one of twelve parts of speech
out. A *predecessor* of six blocks learns it from many words; who is to compress it has
only a few of them.
"""

import copy
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import nn

from blogcore import lexicon, texts
from blogcore.blocks import EncoderConfig, FeedForward
from blogcore.checks import check_integer
from blogcore.data import Batches, Examples, shuffled, split
from blogcore.objectives import Objective, classification
from blogcore.runtime import stream
from blogcore.theseus import Frozen, Replaceable, compress
from blogcore.training import evaluate, train

LONGEST, WIDTH, CLASSES = 4, 48, 12
MANY, FEW, HELD_OUT = 60_000, 3_000, 4_000
BATCH, WARM = 128, 20
RATE, STEPS = 3e-3, 600  # of the predecessor


class Words(NamedTuple):
    """Words, the rows of their characters (N, 4) with 0 for none, and their labels."""

    words: tuple[str, ...]
    rows: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]


@lru_cache(maxsize=1)
def known_words() -> Words:
    """jieba's words of 2 to 4 characters, all of which have a trained vector.

    They come by falling count, labels are places in ``classes``, jieba's tags. Raises
    RuntimeError for another jieba.
    """
    row = {character: at for at, character in enumerate(lexicon.embedding().words, 1)}
    tagged = texts.tagged_words(CLASSES)
    kept = [at for at, word in enumerate(tagged.words) if all(c in row for c in word)]
    words = tuple(tagged.words[at] for at in kept)
    rows = [[row[c] for c in word] + [0] * (LONGEST - len(word)) for word in words]
    return Words(words, torch.tensor(rows), tagged.labels[kept], tagged.classes)


@lru_cache(maxsize=1)
def table() -> torch.Tensor:
    """The frozen vectors of the characters, (16,034, 128); row 0 is zero: no one."""
    vectors = lexicon.embedding().vectors
    return torch.cat([torch.zeros(1, vectors.shape[1]), vectors])


def vectors(rows: torch.Tensor) -> torch.Tensor:
    """What the network reads of words: rows (…, 4) → (…, 512)."""
    return table()[rows].flatten(-2)


def network(blocks: int, generator: torch.Generator) -> nn.Sequential:
    """Input layer, blocks LN(x + W₂ GELU(W₁ x)), head: (N, 512) → logits (N, 12).

    BERT's layer without attention, which words of four characters do without. Weights
    and biases start uniform in ±1/√fan_in.
    """
    check_integer("blocks", blocks, 1)
    config = EncoderConfig(1, WIDTH, 1, inner=2 * WIDTH, dropout=0.0)
    fan_in = LONGEST * table().shape[1]
    first = nn.Sequential(nn.Linear(fan_in, WIDTH), nn.LayerNorm(WIDTH))
    body = nn.Sequential(*(FeedForward(config) for _ in range(blocks)))
    model = nn.Sequential(first, body, nn.Linear(WIDTH, CLASSES))
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return model


def ship(
    predecessor: nn.Sequential,
    new: nn.Sequential | None = None,
    modules: int = 3,
    form: type[Replaceable] = Replaceable,
) -> nn.Sequential:
    """The predecessor with its blocks replaceable, input layer and head frozen.

    ``new`` are the modules that shall replace its blocks; None: its own first ones.
    """
    first, body, last = copy.deepcopy(predecessor)
    new = body[:modules] if new is None else new
    like = torch.zeros(1, first[0].out_features)
    return nn.Sequential(
        Frozen(first), nn.Sequential(*compress(body, new, like, form)), Frozen(last)
    )


def first_blocks(predecessor: nn.Sequential, blocks: int = 3) -> nn.Sequential:
    """What the baseline trains: the first blocks between input layer and head."""
    first, body, last = copy.deepcopy(predecessor)
    return nn.Sequential(first, body[:blocks], last)


def fit(
    model: nn.Module,
    batches: Batches,
    objective: Objective,
    rate: float,
    steps: int,
    warm: int = WARM,
) -> nn.Module:
    """The model itself, trained: AdamW, a short warm-up, then linearly to zero.

    Only what wants a gradient is given to the optimizer.
    """
    chosen = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(chosen, rate, fused=True)

    def schedule(step: int, parts) -> None:
        share = min((step + 1) / warm, 1) * (1 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * share

    train(model, batches, objective, optimizer, steps, [schedule])
    return model


def accuracy(model: nn.Module, examples: Examples) -> float:
    """Per cent of the examples that the model classifies right."""
    return 100 * evaluate(model, classification, examples)["accuracy"].item()


class Task:
    """One run's words: many to teach the predecessor, few to compress it, a test.

    All are drawn from ``stream(seed, "words")``; the few are the first of the many.
    """

    def __init__(self, seed: int, many: int = MANY, few: int = FEW):
        self.seed, self.few, words = seed, few, known_words()
        rows = Examples(words.rows, words.labels)
        self.many, test = split(rows, (many, HELD_OUT), stream(seed, "words"))
        self.test = Examples(vectors(test.inputs), test.labels)

    def batches(self, count: int | None = None) -> Batches:
        """Batches of 128 from the first ``count`` of the many words; None: the few."""
        count = self.few if count is None else count
        drawn = shuffled(
            Examples(*(tensor[:count] for tensor in self.many)), BATCH, [self.seed]
        )

        def batch(step: int) -> Examples:
            rows, labels = (tensor[0] for tensor in drawn(step))
            return Examples(vectors(rows), labels)

        return batch

    @cached_property
    def predecessor(self) -> nn.Sequential:
        """Six blocks that learnt the task from the many words."""
        model = network(6, stream(self.seed, "init"))
        batches = self.batches(len(self.many.labels))
        return fit(model, batches, classification, RATE, STEPS)

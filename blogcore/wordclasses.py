"""A testbed for compression: Chinese words and their class, networks of six blocks.

The task is real and fits a minute: 2 to 4 characters in, one of twelve parts of speech
out. A *predecessor* of six blocks learns it from many words; who is to compress it has
only a few of them.
"""

import copy
from collections.abc import Sequence
from functools import cached_property, lru_cache

import torch
from torch import nn

from blogcore.blocks import EncoderConfig, FeedForward
from blogcore.checks import check_integer
from blogcore.data import Batches, Examples, shuffled, split
from blogcore.objectives import Objective, classification
from blogcore.runtime import stream
from blogcore.tasks import SpelledWords, parts_of_speech
from blogcore.theseus import (
    Frozen,
    Replaceable,
    Schedule,
    Shares,
    compress,
    constant,
    sailing,
)
from blogcore.training import evaluate, train

LONGEST, WIDTH, CLASSES = 4, 48, 12
UNKNOWN = 1  # the id of a character without a vector
MANY, FEW, HELD_OUT = 60_000, 3_000, 4_000
BATCH, WARM = 128, 20
RATE, STEPS = 3e-3, 600  # of the predecessor
UNDAMPED = constant(1)


@lru_cache(maxsize=1)
def known_words() -> SpelledWords:
    """``tasks.parts_of_speech`` without words of which a character has no vector."""
    spelled = parts_of_speech(CLASSES, 2, LONGEST)
    ids = spelled.examples.inputs.ids
    kept = (ids != UNKNOWN).all(1)
    words = [spelled.words[at] for at in kept.nonzero().flatten().tolist()]
    examples = Examples(ids[kept], spelled.examples.labels[kept])
    return spelled._replace(words=words, examples=examples)


def vectors(ids: torch.Tensor) -> torch.Tensor:
    """What the network reads of words: ids (…, 4) → frozen vectors (…, 512)."""
    return known_words().vectors[ids].flatten(-2)


def network(blocks: int, generator: torch.Generator) -> nn.Sequential:
    """Input layer, blocks LN(x + W₂ GELU(W₁ x)), head: (N, 512) → logits (N, 12).

    BERT's layer without attention, which words of four characters do without. Weights
    and biases start uniform in ±1/√fan_in.
    """
    check_integer("blocks", blocks, 1)
    config = EncoderConfig(1, WIDTH, 1, inner=2 * WIDTH, dropout=0.0)
    fan_in = LONGEST * known_words().vectors.shape[1]
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
    damping: Schedule = UNDAMPED,
) -> nn.Module:
    """The model itself, trained: AdamW, the rate linearly to zero, warmed up at first.

    Step t has rate · min((t + 1) / warm, 1) · (1 − t / steps) · damping(t). The decline
    begins with step 0, so that the whole rate is never reached: 20 of 100 steps of
    warm-up end at 0.81 of it. ``damping`` is a schedule in 0 … 1. Only what wants a
    gradient is given to the optimizer.
    """
    chosen = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(chosen, rate, fused=True)

    def schedule(step: int, parts) -> None:
        share = min((step + 1) / warm, 1) * (1 - step / steps) * damping(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * share

    train(model, batches, objective, optimizer, steps, [schedule])
    return model


def accuracy(model: nn.Module, examples: Examples) -> float:
    """Per cent of the examples that the model classifies right."""
    return 100 * evaluate(model, classification, examples)["accuracy"].item()


def hybrid_accuracies(
    task: "Task", new: nn.Sequential, plans: Sequence[Shares]
) -> list[float]:
    """Per cent of the test words right, of each plan's hybrid, with the old ends.

    ``new`` are the modules that stand beside the predecessor's blocks.
    """
    machine, found = ship(task.predecessor, new), []
    with torch.no_grad():  # the input layer is the same in all of them
        read = task.test._replace(inputs=machine[0](task.test.inputs))
    for plan in plans:
        with sailing(machine[1:], plan) as rest:
            found.append(accuracy(rest, read))
    return found


class Task:
    """One run's words: many to teach the predecessor, few to compress it, a test.

    All are drawn from ``stream(seed, "words")``; the few are the first of the many.
    """

    def __init__(self, seed: int, many: int = MANY, few: int = FEW):
        self.seed, self.few = seed, few
        sizes, source = (many, HELD_OUT), stream(seed, "words")
        self.many, test = split(known_words().examples, sizes, source)
        self.test = Examples(vectors(test.inputs), test.labels)

    def batches(
        self, count: int | None = None, through: nn.Module | None = None
    ) -> Batches:
        """Batches of 128 from the first ``count`` of the many words; None: the few.

        With ``through`` they hold what that module makes of the words, computed once.
        """
        count = self.few if count is None else count
        part = Examples(*(tensor[:count] for tensor in self.many))
        if through is not None:
            with torch.no_grad():
                part = part._replace(inputs=through(vectors(part.inputs)))
            return shuffled(part, BATCH, self.seed)
        drawn = shuffled(part, BATCH, self.seed)

        def batch(step: int) -> Examples:
            ids, labels = drawn(step)
            return Examples(vectors(ids), labels)

        return batch

    @cached_property
    def predecessor(self) -> nn.Sequential:
        """Six blocks that learnt the task from the many words."""
        model = network(6, stream(self.seed, "init"))
        batches = self.batches(len(self.many.labels))
        return fit(model, batches, classification, RATE, STEPS)


def reading(
    ship: nn.Sequential, task: Task, count: int | None = None
) -> tuple[nn.Sequential, Batches]:
    """What of a ship has to run at each step, and its batches; None: of the few words.

    Those a frozen input layer reads once for all steps. One that trains, or has more
    words to read, stays in the ship.
    """
    first = ship[0]
    if count is not None or any(weight.requires_grad for weight in first.parameters()):
        return ship, task.batches(count)
    return ship[1:], task.batches(through=first)

"""A contest of cloze models in drawn languages whose every answer is known."""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from blogcore import pseudolikelihood as pseudo
from blogcore.blocks import Deepened, EncoderConfig, FeedForward, Stack
from blogcore.checks import check_integer
from blogcore.cloze import Cloze, every_token, hide_tokens, token_prediction
from blogcore.corpus import HiddenMarkov, random_markov
from blogcore.encoder import Bert, TextAutoencoder, bert, initialise, tta
from blogcore.evidence import Estimate, interval
from blogcore.optim import warm_up
from blogcore.runtime import stream
from blogcore.training import OnStep, Probe, train

WORDS, LENGTH = 12, 20  # words of a language, tokens of a text
MASK = WORDS  # the id behind the words
CONFIG = EncoderConfig(WORDS + 1, 32, 2, 2, 64, LENGTH, segments=0, dropout=0.0)
BATCH, RATE, WARM = 20, 0.005, 49  # texts a step; the rate is whole from step 50 on


class Arm(NamedTuple):
    """A competitor: what makes its model, how many tokens it is asked about, hidden?

    It reads each text in so many ``copies`` a step, each with questions of its own.
    """

    make: Callable[[torch.Generator], nn.Module]
    share: float
    hidden: bool
    copies: int = 1


class World(NamedTuple):
    """Texts to learn from (steps, batch, T), to be tested on (N, T), the exact answers.

    ``truth`` (N · T, WORDS) is p(x_i | x without i) of the test texts.
    """

    learn: torch.Tensor
    test: torch.Tensor
    truth: torch.Tensor


def autoencoder(share: float = 1.0) -> Arm:
    """T-TA, asked about this share of the tokens and reading them all."""
    return Arm(partial(tta, CONFIG, start=MASK), share, False)


def masked(share: float, copies: int = 1) -> Arm:
    """BERT, asked about a share of the tokens that ``hide_tokens`` hides."""
    check_integer("copies", copies, 1)
    return Arm(partial(bert, CONFIG), share, True, copies)


@lru_cache
def language(seed: int, least: float = 0.3) -> HiddenMarkov:
    """Four states, drawn until the context tells ``least`` nat about a token.

    That is the mean divergence of the exact cloze distributions from the frequencies.
    """
    for attempt in range(1000):
        drawn = random_markov(4, WORDS, stream(seed, f"language/{attempt}"))
        ids = drawn.sample(100, LENGTH, stream(seed, f"attempt/{attempt}")).ids
        if blind(drawn.cloze(ids).exp().flatten(0, 1)) >= least:
            return drawn
    raise ValueError(f"least: no language of 1000 tells {least} nat about a token")


@lru_cache
def world(seed: int, steps: int) -> World:
    """The texts of one seed, for so many steps of training."""
    check_integer("steps", steps, 1)
    source = language(seed)
    test = source.sample(40, LENGTH, stream(seed, "test")).ids
    learn = source.sample(steps * BATCH, LENGTH, stream(seed, "train")).ids
    truth = source.cloze(test).exp().flatten(0, 1)
    return World(learn.view(steps, BATCH, LENGTH), test, truth)


def blind(truth: torch.Tensor) -> float:
    """Excess of a model that ignores the context: it gives the plain frequencies."""
    frequency = truth.mean(0).expand_as(truth).log()
    return F.kl_div(frequency, truth, reduction="batchmean").item()


def guesses(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """log p(v | x without i) at every place, one [MASK] at a time: (N · T, WORDS + 1).

    T-TA needs one pass. As in training, the softmax is over all ids, [MASK] too.
    """
    asked = [every_token(ids)]
    if not isinstance(model, TextAutoencoder):
        asked = (part.asked for part in pseudo.one_mask_each(asked[0], MASK, 500))
    found = [pseudo.cloze_distribution(model, some) for some in asked]
    return torch.cat(found).double()


def excess(model: nn.Module, here: World) -> float:
    """Mean divergence of the model's guesses from the exact distributions, in nats."""
    found = guesses(model, here.test)[:, :WORDS]
    return F.kl_div(found, here.truth, reduction="batchmean").item()


def questions(ids: torch.Tensor, arm: Arm, dice: torch.Generator) -> Cloze:
    """What an arm is asked about a batch of texts (B, T), or their copies."""
    ids = ids.repeat(arm.copies, 1)
    if arm.share == 1.0 and not arm.hidden:
        return every_token(ids)
    count = max(1, round(arm.share * ids.shape[1]))
    words, special = torch.arange(WORDS), torch.tensor([MASK])
    asked = hide_tokens(ids, count, MASK, words, special, dice)
    return asked if arm.hidden else asked._replace(inputs=ids)


def learn(
    seed: int, arm: Arm, steps: int, every: int, rate: float = RATE
) -> tuple[nn.Module, np.ndarray]:
    """The trained model, and its excess before every ``every``-th step and at the end.

    Equal seeds start equal and read equal texts.
    """
    model, here = at_width(arm.make(stream(seed, "init")), CONFIG), world(seed, steps)
    dice = stream(seed, "masking")
    probe = Probe(every, lambda: {"excess": torch.tensor(excess(model, here))})
    fit(model, lambda k: questions(here.learn[k], arm, dice), steps, rate, [probe])
    return model, np.array([*probe.history()["excess"].tolist(), excess(model, here)])


def fit(
    model: nn.Module,
    ask: Callable[[int], Cloze],
    steps: int,
    rate: float = RATE,
    hooks: Iterable[OnStep] = (),
) -> torch.Tensor:
    """Train on the questions ``ask(step)`` by AdamW; the loss of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, fused=True)
    calls = [warm_up(optimizer, WARM), *hooks]
    return train(model, ask, token_prediction, optimizer, steps, calls)["loss"]


def at_width(model: nn.Module, config: EncoderConfig) -> nn.Module:
    """The model with BERT's initial spread, made for width 768, at this width."""
    for parameter in model.parameters():
        parameter.data *= math.sqrt(768 / config.width) if parameter.ndim == 2 else 1
    return model


def deepened(
    config: EncoderConfig, generator: torch.Generator, start: int | None = None
) -> TextAutoencoder:
    """T-TA whose memory passes through a net of its own in every layer."""
    return _with_nets(tta(config, generator, start), config, generator)


def deepened_bert(config: EncoderConfig, generator: torch.Generator) -> Bert:
    """BERT with such a net on what its layers read, to compare with."""
    return _with_nets(bert(config, generator), config, generator)


def _with_nets(model, config, generator):
    nets = [Deepened(block, FeedForward(config)) for block in model.blocks]
    model.blocks = initialise(Stack(nets), generator)
    return model


def relative(logs: Iterable[float], seeds: Iterable[int], label: str) -> Estimate:
    """A relative change in percent, 100 (r − 1), from the logarithms of its ratios.

    Logarithms are averaged over the seeds, so that half and double cancel.
    """
    logs, seeds = [*map(float, logs)], [*seeds]
    found = interval(logs)
    low, mean, high = (100 * math.expm1(x) for x in (found.low, found.mean, found.high))
    each = zip(seeds, logs, strict=True)
    rows = [(label, seed, 100 * math.expm1(log)) for seed, log in each]
    return Estimate(mean, low, high, found.n, tuple(rows))

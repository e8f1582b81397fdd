"""ELECTRA: a small model fills the holes, another looks for what was changed.

The generator answers cloze questions; its answers, drawn, stand in the text instead of
the holes; the discriminator says of every token whether it is the original. A drawn
token that happens to be the original counts as original. Source: Clark et al. (2020).
"""

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from blogcore.asking import Objective
from blogcore.blocks import EncoderConfig, shared
from blogcore.checks import check_integer, check_number
from blogcore.cloze import Cloze, asked_logits
from blogcore.embeddings import Embedding, from_table
from blogcore.encoder import Bert, MaskedLanguageHead, initialise
from blogcore.runtime import stream

QUESTIONS = ("changed", "resampled")  # ELECTRA's, and that of a GAN


class Corrupted(NamedTuple):
    """Texts in which a generator has written: inputs, valid and two questions (B, T).

    ``changed``: is this another token than the text had? ``resampled``: did the
    generator write it? ``valid`` is False at padding, or None.
    """

    inputs: torch.Tensor
    valid: torch.Tensor | None
    changed: torch.Tensor
    resampled: torch.Tensor


class Round(NamedTuple):
    """What a step of the game needs: questions, and the name of its draws.

    ``noise`` is (seed, name) of the ``runtime.stream`` that the generator's answers are
    drawn from, or (seed, name, device), whose draws are the device's own; it is opened
    anew each time, so one round gives one answer.
    """

    cloze: Cloze
    noise: tuple[int, str] | tuple[int, str, torch.device | str]

    def to(self, device: torch.device) -> "Round":
        """The same round on another device; drawn from where it was."""
        return Round(self.cloze.to(device), self.noise)


class Detection(NamedTuple):
    """Probabilities for each token: that it is another one, that it was re-sampled."""

    changed: torch.Tensor
    resampled: torch.Tensor


class DetectionHead(nn.Module):
    """The logit of «this is not the original»: hidden (…, width) → (…).

    w · GELU(W h + b) + c, as in the public code of ELECTRA.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.activation = nn.GELU()
        self.output = nn.Linear(config.width, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.output(self.activation(self.dense(hidden)))[..., 0]


class Electra(nn.Module):
    """Both players; what they share is shared because it is one object.

    ``generator`` and ``discriminator`` are encoders with a ``MaskedLanguageHead`` and a
    ``DetectionHead``. Called like an encoder, it is the discriminator. Raises
    ValueError if the generator may write tokens that the discriminator does not know.
    """

    def __init__(self, generator: Bert, discriminator: Bert):
        super().__init__()
        known = discriminator.embedding.tokens.num_embeddings
        written = generator.embedding.tokens.num_embeddings
        if written > known:
            raise ValueError(
                f"generator: its vocabulary of {written} exceeds the discriminator's, "
                f"{known}"
            )
        self.generator, self.discriminator = generator, discriminator

    def forward(
        self,
        ids: torch.Tensor,
        valid: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return self.discriminator(ids, valid, segments)

    @property
    def head(self) -> nn.Module:
        """The discriminator's head."""
        return self.discriminator.head


def electra(
    config: EncoderConfig, small: EncoderConfig, narrow: int, generator: torch.Generator
) -> Electra:
    """A discriminator of shape ``config``, a generator of shape ``small``, one table.

    They share the embeddings of tokens, places and segments, of width ``narrow``, and
    their norm; each has a product of its own to the width of its blocks. Raises
    ValueError if the two configs do not agree on what they share.
    """
    for name in ("vocabulary", "positions", "segments", "epsilon"):
        ours, theirs = getattr(config, name), getattr(small, name)
        if ours != theirs:
            raise ValueError(f"small: {name} {theirs} is not config's, {ours}")
    check_integer("narrow", narrow, 1)
    with torch.device("meta"):
        table = Embedding(replace(config, width=narrow, heads=1))
        head = MaskedLanguageHead(small, table.tokens)
        model = Electra(
            Bert(from_table(table, small.width), shared(small, "none"), head),
            Bert(
                from_table(table, config.width),
                shared(config, "none"),
                DetectionHead(config),
            ),
        )
    return initialise(model.to_empty(device="cpu"), generator)


def corrupt(
    cloze: Cloze,
    log_q: torch.Tensor,
    generator: torch.Generator,
    temperature: float = 1.0,
) -> Corrupted:
    """Write a drawn token into every place that is asked about.

    ``log_q`` (N, V) has the generator's log-probabilities, or logits, for each of the N
    questions; the tokens are drawn from softmax(log_q / temperature), on the device of
    ``generator``, without gradients. Raises ValueError if nothing is asked, for a
    temperature that is not above 0, or another shape.
    """
    check_number("temperature", temperature, 0)
    asked = len(cloze.positions)
    if not asked:
        raise ValueError("cloze: no position is asked about, nothing can be re-sampled")
    if temperature == 0:
        raise ValueError("temperature: 0 is not above 0")
    if log_q.ndim != 2 or len(log_q) != asked:
        raise ValueError(
            f"log_q: shape {tuple(log_q.shape)} is not ({asked}, V), a row a question"
        )
    odds = (log_q.detach().to(generator.device) / temperature).softmax(-1)
    return write(cloze, odds.multinomial(1, generator=generator)[:, 0])


def write(cloze: Cloze, drawn: torch.Tensor) -> Corrupted:
    """The texts with a token (N,) in each place that is asked about, and both labels.

    ``changed`` is 1[drawn ≠ original]: a lucky guess counts as original.
    """
    drawn = drawn.to(cloze.targets)
    places, flat = cloze.positions, cloze.inputs.flatten()
    resampled = torch.zeros_like(flat, dtype=torch.bool)
    resampled[places] = True
    changed = resampled.clone()
    changed[places] = drawn != cloze.targets
    shape = cloze.inputs.shape
    return Corrupted(
        flat.scatter(0, places, drawn).view(shape),
        cloze.valid,
        changed.view(shape),
        resampled.view(shape),
    )


def replaced_token_detection(question: str = "changed") -> Objective:
    """Mean binary cross-entropy over all tokens but padding, in nats.

    The model is an encoder with a ``DetectionHead``, the batch is ``Corrupted``, and
    ``question`` says which of its labels is asked for. Parts: loss, and the accuracy of
    the more probable answer, which says little: «original» is nearly always right.
    """
    _check_question(question)

    def objective(model, batch):
        logits = model.head(model(batch.inputs, batch.valid))
        labels = getattr(batch, question)
        if batch.valid is not None:
            logits, labels = logits[batch.valid], labels[batch.valid]
        loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits))
        hits = ((logits > 0) == labels).float().mean()
        return loss, {"loss": loss.detach(), "accuracy": hits}

    return objective


def game(weight: float = 50.0, temperature: float = 1.0) -> Objective:
    """L_generator + λ L_discriminator of an ``Electra`` and a ``Round``.

    Both are means, the first over the questions, the second over the tokens: λ = 50
    with means is 50 k/n ≈ 7.5 with sums, where k of n tokens are asked about. The
    drawing has no gradient: the generator learns by maximum likelihood alone. Parts:
    loss, generator, discriminator, and changed, the share of changed tokens.
    """
    check_number("weight", weight, 0)
    detection = replaced_token_detection()

    def objective(model, batch):
        logits = asked_logits(model.generator, batch.cloze)
        first = F.cross_entropy(logits, batch.cloze.targets)
        corrupted = corrupt(batch.cloze, logits, stream(*batch.noise), temperature)
        second, _ = detection(model.discriminator, corrupted)
        loss = first + weight * second
        parts = {"loss": loss, "generator": first, "discriminator": second}
        parts["changed"] = corrupted.changed.float().mean()
        return loss, {name: part.detach() for name, part in parts.items()}

    return objective


def optimal(log_p: torch.Tensor, log_q: torch.Tensor) -> Detection:
    """What the best possible discriminator says if one place of a text was re-sampled.

    ``log_p`` and ``log_q`` (N, T) are log p(x_t | rest) and log q(x_t | rest) of the
    tokens that stand in the text, true and the generator's; each of the T places is
    re-sampled equally often. With r_t = q_t / p_t
    P(t was re-sampled | x) = r_t / Σ_s r_s, P(t is another | x) = (1 − p_t) times that.
    """
    if log_p.shape != log_q.shape:
        raise ValueError(
            f"log_q: shape {tuple(log_q.shape)} is not log_p's, {tuple(log_p.shape)}"
        )
    resampled = (log_q - log_p).softmax(-1)
    return Detection(resampled * -log_p.expm1(), resampled)


def optimal_alone(p: torch.Tensor, q: torch.Tensor, rate: float) -> Detection:
    """The same if the context is known to be clean and the place re-sampled at a rate.

    P(re-sampled | x_t) = m q / ((1 − m) p + m q), P(another | x_t) = (1 − p) times
    that; with p = q they are m and m (1 − p).
    """
    check_number("rate", rate, 0, 1)
    resampled = rate * q / ((1 - rate) * p + rate * q)
    return Detection(resampled * (1 - p), resampled)


def knowable(probabilities: torch.Tensor) -> float:
    """Which share of the labels' entropy the best discriminator knows: 0 … 1.

    1 − mean H(P) / H(mean P), for its probabilities P of «yes» on texts as the game
    makes them. 0 if the labels never vary.
    """
    if not (probabilities.isfinite().all() and probabilities.numel()):
        raise ValueError("probabilities: none, or not finite")
    whole = _entropy(probabilities.mean())
    return (1 - _entropy(probabilities).mean() / whole).item() if whole > 0 else 0.0


def _entropy(p: torch.Tensor) -> torch.Tensor:
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


def _check_question(question: str) -> None:
    if question not in QUESTIONS:
        raise ValueError(f"question: {question!r} is not one of {QUESTIONS}")

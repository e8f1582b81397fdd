"""Languages whose truth is known: every probability, meaning or boundary is exact.

A hidden Markov model knows the best possible guess for every token, so a model's loss
can be stated in nats above it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from blogcore.checks import check_integer, check_number


class Sequences(NamedTuple):
    """Tokens (N, T), and the hidden states (N, T) that emitted them."""

    ids: torch.Tensor
    states: torch.Tensor


@dataclass(frozen=True, eq=False)
class HiddenMarkov:
    """A language of hidden states: z₁ ~ start, z_{t+1} ~ transition[z_t], x ~ emission.

    Shapes: start (S,), transition (S, S), emission (S, V), kept in float64. Raises
    ValueError if a shape does not fit or a row is no probability distribution.
    Source: Rabiner (1989), whose α and β are scaled here to sum to one.
    """

    start: torch.Tensor
    transition: torch.Tensor
    emission: torch.Tensor

    def __post_init__(self):
        for name in ("start", "transition", "emission"):
            table = torch.as_tensor(getattr(self, name), dtype=torch.float64)
            _check_rows(name, table, 1 if name == "start" else 2)
            object.__setattr__(self, name, table)
        states = len(self.start)
        if self.transition.shape != (states, states):
            raise ValueError(
                f"transition: shape {tuple(self.transition.shape)} does not fit start "
                f"({states},)"
            )
        if len(self.emission) != states:
            raise ValueError(
                f"emission: {len(self.emission)} rows do not fit {states} states"
            )

    def sample(self, count: int, length: int, generator: torch.Generator) -> Sequences:
        """``count`` independent sequences of ``length`` tokens, with their states."""
        check_integer("count", count, 1)
        check_integer("length", length, 1)
        states = torch.empty(count, length, dtype=torch.int64)
        states[:, 0] = _draw(self.start, count, generator)
        for now in range(1, length):
            odds = self.transition[states[:, now - 1]]
            states[:, now] = odds.multinomial(1, generator=generator)[:, 0]
        ids = torch.empty_like(states)
        for state in states.unique().tolist():
            there = states == state
            ids[there] = _draw(self.emission[state], int(there.sum()), generator)
        return Sequences(ids, states)

    def cloze(
        self, ids: torch.Tensor, seen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """log p(x_i = v | x_∖i), exactly, for every position and token: (N, T, V).

        p(x_i = v | x_∖i) ∝ Σ_z α⁻_i(z) β_i(z) B_zv, where α⁻ is the forward probability
        before x_i and β the backward one after it. Where ``seen`` (N, T) is False a
        token is masked or padding, and is no evidence for the others.
        """
        return (_given_the_rest(self, ids, seen) @ self.emission).log()

    def log_likelihood(
        self, ids: torch.Tensor, seen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """log p(x), in nats, one a sequence: (N,); −∞ for what cannot occur."""
        return _forward(self, _evidence(self, ids, seen))[1].log().sum(1)


def random_markov(
    states: int,
    vocabulary: int,
    generator: torch.Generator,
    transition: float = 0.15,
    emission: float = 0.1,
) -> HiddenMarkov:
    """A drawn language: rows of A ~ Dirichlet(transition), of B ~ Dirichlet(emission).

    Small concentrations make each row live on few entries. Every state is equally
    likely to start a sequence.
    """
    check_integer("states", states, 1)
    check_integer("vocabulary", vocabulary, 1)
    check_number("transition", transition, 1e-3)
    check_number("emission", emission, 1e-3)
    return HiddenMarkov(
        torch.full((states,), 1 / states, dtype=torch.float64),
        _dirichlet(transition, states, states, generator),
        _dirichlet(emission, states, vocabulary, generator),
    )


def ring_language(
    stay: float, emission: torch.Tensor, generator: torch.Generator
) -> HiddenMarkov:
    """States in a ring: each stays with probability ``stay`` or goes to the next.

    ``emission`` (S, V) is the table of a language like ``peaked``. In a ring what
    surrounds a token tells its state well, so that much can be guessed.
    """
    check_number("stay", stay, 0, 1)
    states = len(emission)
    turn = torch.eye(states, dtype=torch.float64)
    order = torch.randperm(states, generator=generator)
    following = torch.empty(states, dtype=torch.int64)
    following[order] = order.roll(-1)
    start = torch.full((states,), 1 / states, dtype=torch.float64)
    return HiddenMarkov(start, stay * turn + (1 - stay) * turn[following], emission)


def peaked(states: int, shares: Sequence[float]) -> torch.Tensor:
    """An emission table whose states have tokens of their own, with these shares.

    Of S states and k shares: V = S k tokens, state s has the tokens s k … s k + k − 1.
    A thousandth is added to every token's share, so that nothing is impossible.
    """
    check_integer("states", states, 1)
    table = torch.tensor(list(shares), dtype=torch.float64)
    if not (len(table) and (table >= 0).all() and table.sum() > 0):
        raise ValueError(
            f"shares: {list(shares)} are not numbers ≥ 0 with a sum above 0"
        )
    own = torch.block_diag(*[(table / table.sum())[None]] * states)
    return _scaled(own + 1e-3)


def _evidence(language, ids, seen) -> torch.Tensor:
    """p(x_t | z) of what is seen, 1 of what is not: (N, T, S)."""
    _check_ids(ids, language.emission.shape[1])
    evidence = language.emission.T[ids]
    if seen is None:
        return evidence
    if seen.dtype != torch.bool or seen.shape != ids.shape:
        raise ValueError(
            f"seen: {seen.dtype} of shape {tuple(seen.shape)}, not torch.bool "
            f"{tuple(ids.shape)}"
        )
    return evidence.where(seen[:, :, None], 1.0)


def _forward(language, evidence) -> tuple[torch.Tensor, torch.Tensor]:
    """p(z_t | x_<t): (N, T, S), and p(x_t | x_<t): (N, T); 0 if x_<t cannot be."""
    before, odds = torch.empty_like(evidence), torch.empty_like(evidence[:, :, 0])
    alpha = language.start.expand(len(evidence), -1)
    for now in range(evidence.shape[1]):
        before[:, now] = alpha
        joint = alpha * evidence[:, now]
        odds[:, now] = joint.sum(1)
        alpha = _scaled(joint) @ language.transition
    return before, odds


def _given_the_rest(language, ids, seen) -> torch.Tensor:
    """p(z_i | x_∖i): (N, T, S)."""
    evidence = _evidence(language, ids, seen)
    weights, _ = _forward(language, evidence)
    beta = torch.ones_like(weights[:, 0])
    for now in reversed(range(evidence.shape[1])):
        weights[:, now] *= beta
        beta = _scaled((beta * evidence[:, now]) @ language.transition.T)
    return _distribution(weights)


def _check_ids(ids: torch.Tensor, vocabulary: int) -> None:
    """Raise ValueError unless ids are int64 (N, T), not empty, below vocabulary."""
    if ids.dtype != torch.int64 or ids.ndim != 2 or not ids.numel():
        raise ValueError(
            f"ids: {ids.dtype} of shape {tuple(ids.shape)}, not torch.int64 (N, T)"
        )
    if not 0 <= ids.min() <= ids.max() < vocabulary:
        raise ValueError(
            f"ids: {ids.min()} … {ids.max()} are not all in 0 … {vocabulary - 1}"
        )


def _check_rows(name: str, table: torch.Tensor, ndim: int) -> None:
    if table.ndim != ndim or not table.numel():
        raise ValueError(f"{name}: shape {tuple(table.shape)} has not {ndim} axes")
    if not (table.isfinite().all() and 0 <= table.min() <= table.max() <= 1 + 1e-9):
        raise ValueError(f"{name}: {table.min()} … {table.max()} are not in 0 … 1")
    sums = table.sum(-1)
    worst = sums.flatten()[(sums - 1).abs().argmax()].item()
    if abs(worst - 1) > 1e-9:
        raise ValueError(f"{name}: a row sums to {worst}, not to 1")


def _dirichlet(concentration: float, rows: int, size: int, generator) -> torch.Tensor:
    """Rows ~ Dirichlet(concentration, …), by NumPy: torch's takes no generator."""
    seed = torch.randint(2**62, (), generator=generator).item()
    drawn = np.random.default_rng(seed).dirichlet([concentration] * size, rows)
    return torch.from_numpy(drawn)


def _draw(odds: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return odds.multinomial(count, replacement=True, generator=generator)


def _scaled(weights: torch.Tensor) -> torch.Tensor:
    """Rows divided by their sums; rows of zeros stay zeros."""
    total = weights.sum(-1, keepdim=True)
    return weights / total.where(total > 0, 1.0)


def _distribution(weights: torch.Tensor) -> torch.Tensor:
    impossible = (weights.sum(-1) == 0).nonzero()
    if len(impossible):
        sequence, position = impossible[0].tolist()
        raise ValueError(
            f"ids: what surrounds position {position} of sequence {sequence} has "
            "probability 0, so nothing is conditional on it"
        )
    return _scaled(weights)

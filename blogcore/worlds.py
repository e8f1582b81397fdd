"""Worlds of word pairs whose truth is known, and skip-grams fitted to texts from them.

A world is a joint distribution of N words with N words: planted, so that its logits
have a known rank, or real, the pairs of characters inside Chinese words (rank 0). A
text is the frequencies of T pairs drawn from it. Each seed has its own planted world,
its own texts and its own start; all seeds are fitted side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import pandas as pd
import torch

from blogcore import cooccurrence, objectives, optim, training
from blogcore.checks import check_integer
from blogcore.runtime import stream
from blogcore.wordvec import SkipGram

SPREAD = 1.5  # standard deviation of the planted logits, nats


class Fit(NamedTuple):
    """A fitted skip-gram and its excess KL(truth ‖ model), nats, (times, S)."""

    model: SkipGram
    excess: torch.Tensor

    def entropy(self) -> torch.Tensor:
        """H of the model over all pairs, nats, (S,)."""
        logs = self.model.log_joint().detach().double()
        return -(logs.exp() * logs).sum((-2, -1)).cpu()

    def lengths(self, truth: torch.Tensor) -> torch.Tensor:
        """Mean |u| times mean |v|, words weighted by their frequency, (S,)."""
        u, v = (
            vectors.detach().cpu().norm(dim=-1)
            for vectors in (self.model.centre, self.model.context)
        )
        return (truth.sum(-1) * u).sum(-1) * (truth.sum(-2) * v).sum(-1)


@dataclass(frozen=True)
class Worlds:
    """The worlds, texts and fits of some seeds.

    ``updates`` is the length of a training, ``device`` where it runs. Raises ValueError
    for fewer than two members or a length below 1.
    """

    members: tuple[int, ...]
    updates: int = 300
    device: torch.device | str = "cpu"

    def __post_init__(self):
        if len(self.members) < 2:
            raise ValueError(f"members: {self.members!r}, two seeds or more are needed")
        check_integer("updates", self.updates, 1)

    def truth(self, size: int, rank: int) -> torch.Tensor:
        """The distributions (S, N, N) of a planted rank, or for rank 0 the real one."""
        return _truth(self.members, size, rank)

    def text(self, size: int, rank: int, pairs: int) -> torch.Tensor:
        """The frequencies (S, N, N) of so many pairs drawn from each seed's world."""
        return _text(self.members, size, rank, pairs)

    def fit(self, size: int, rank: int, pairs: int, n: int) -> Fit:
        """Fit n dimensions to the text, and compare with the truth every ten steps."""
        return self._train(self.text(size, rank, pairs), self.truth(size, rank), n)

    def sweep(self, rows: pd.DataFrame) -> dict[str, list[float]]:
        """An experiment for ``evidence.sweep`` over size, rank, pairs, n and seed.

        Metrics: the excess at the ``end`` of training and at its ``best`` moment, the
        ``entropy`` of the model less that of its world, and the ``length``. Raises
        ValueError unless the seeds are the members.
        """
        found = {"end": [], "best": [], "entropy": [], "length": []}
        for setting, group in rows.groupby(["size", "rank", "pairs", "n"], sort=False):
            if tuple(group["seed"]) != self.members:
                raise ValueError(f"seed: {list(group['seed'])}, not {self.members}")
            size, rank, pairs, n = (int(value) for value in setting)
            fit, truth = self.fit(size, rank, pairs, n), self.truth(size, rank)
            found["end"] += fit.excess[-1].tolist()
            found["best"] += fit.excess.min(0).values.tolist()
            found["entropy"] += (fit.entropy() - cooccurrence.entropy(truth)).tolist()
            found["length"] += fit.lengths(truth).tolist()
        return found

    def _train(self, text: torch.Tensor, truth: torch.Tensor, n: int) -> Fit:
        batch, exact = (joint.float().to(self.device) for joint in (text, truth))
        floor = -torch.special.entr(exact).sum((-2, -1))
        rare = 0.01 / text.shape[-1] ** 2  # words that the text happens to lack
        marginals = (batch.sum(2) + rare, batch.sum(1) + rare)
        starts = [stream(seed, f"init{n}") for seed in self.members]
        model = SkipGram(*marginals, n, starts).to(self.device)
        adam = torch.optim.Adam(model.parameters(), lr=0.08, betas=(0.9, 0.99))

        def excess() -> dict[str, torch.Tensor]:
            with torch.no_grad():
                return {"excess": floor - (exact * model.log_joint()).sum((-2, -1))}

        probe = training.Probe(10, excess)
        hooks = [probe, optim.linear_decay(adam, self.updates)]
        step = objectives.joint_softmax
        training.train(model, lambda _: batch, step, adam, self.updates, on_step=hooks)
        return Fit(
            model, torch.cat([probe.history()["excess"], excess()["excess"][None]])
        )


def information(joint: torch.Tensor) -> float:
    """Mutual information of the two members of a pair (N, N), nats."""
    parts = [cooccurrence.entropy(part, 1) for part in cooccurrence.marginals(joint)]
    return (sum(parts) - cooccurrence.entropy(joint)).item()


def parameters(size: int, n: int) -> int:
    """Free parameters of a skip-gram with biases: 2(N − 1)(n + 1) − n².

    2N(n + 1) numbers, less what leaves the distribution as it is: a mixing of the n
    coordinates (n²), a common shift of all u or all v (2n), or of all a or all b (2).
    Raises ValueError for a size below 2 or an n outside 0 … N − 1.
    """
    check_integer("size", size, 2)
    check_integer("n", n, 0)
    if n >= size:
        raise ValueError(f"n: {n!r} is not one of 0 … {size - 1}")
    return 2 * (size - 1) * (n + 1) - n**2


@lru_cache(maxsize=32)
def _truth(members: Sequence[int], size: int, rank: int) -> torch.Tensor:
    if rank == 0:
        return cooccurrence.dictionary_pairs(size).joint[None]
    draws = [stream(seed, "truth") for seed in members]
    planted = [cooccurrence.planted(size, rank, SPREAD, draw) for draw in draws]
    return torch.stack(planted)


@lru_cache(maxsize=32)
def _text(members: Sequence[int], size: int, rank: int, pairs: int) -> torch.Tensor:
    worlds = _truth(members, size, rank).expand(len(members), -1, -1)
    draws = [stream(seed, f"text{pairs}") for seed in members]
    counts = map(cooccurrence.sample_counts, worlds, [pairs] * len(members), draws)
    return torch.stack(list(counts)) / pairs

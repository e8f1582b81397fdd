"""The bench of the pages on Flooding: noisy points in a disc, and small perceptrons.

It keeps to the demo of the paper's authors, with layers of 64 units instead of 500.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from blogcore.data import Examples, noisy_sinusoid, stack
from blogcore.networks import mlp, normalised_relu
from blogcore.objectives import Objective, Parts, classification, example_losses, flood
from blogcore.runtime import stream
from blogcore.training import evaluate, settled

WIDTHS = (2, 64, 64, 64, 64, 2)
TRAIN, TEST = 100, 1000


class Bench(NamedTuple):
    """Examples by part, a population of networks, and what each is asked to minimise.

    The parts are "train" and "validation", equally noisy, and "test", whose labels are
    right; ``truth`` (S, 100) holds the right labels of "train".
    """

    sets: dict[str, Examples]
    truth: torch.Tensor
    model: nn.Module
    objective: Objective

    def settled(self) -> nn.Module:
        """A copy whose running statistics are those of the training set as it is now.

        Without that the averages lag behind, and what is scored early looks bad.
        """
        return settled(self.model, self.sets["train"].inputs)

    def score(self, part: str) -> Parts:
        """Loss (nats) and accuracy (0 … 1) of each member, with settled statistics."""
        return evaluate(self.settled(), classification, self.sets[part])

    def losses(self, part: str) -> torch.Tensor:
        """Loss in nats of each example of a set, (S, N), with settled statistics."""
        with torch.no_grad():
            return example_losses(self.settled().eval(), self.sets[part])


def bench(
    seeds: Sequence[int], noise: Sequence[float], level: Sequence[float]
) -> Bench:
    """One member a seed, each with its own share of wrong labels and its flood level.

    Equal seeds have equal points, flips and initial weights, whatever the level. Level
    0 is training without flooding. Raises ValueError if the lengths differ.
    Source: the public code of Ishida et al. (2020).
    """
    members = list(zip(seeds, noise, strict=True))
    sets = {
        "train": [noisy_sinusoid(TRAIN, p, s, "train") for s, p in members],
        "validation": [noisy_sinusoid(TRAIN, p, s, "validation") for s, p in members],
        "test": [noisy_sinusoid(TEST, 0.0, s, "test") for s in seeds],
    }
    clean = stack([noisy_sinusoid(TRAIN, 0.0, s, "train") for s in seeds])
    model = mlp(WIDTHS, [stream(s, "init") for s in seeds], normalised_relu)
    levels = torch.tensor(list(level), dtype=torch.float64)
    if len(levels) != len(members):
        raise ValueError(f"level: {len(levels)} of them for {len(members)} seeds")
    objective = flood(classification, levels)
    parts = {part: stack(examples) for part, examples in sets.items()}
    return Bench(parts, clean.labels, model, objective)

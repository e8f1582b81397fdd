"""Texts as bags of vectors: the smallest classifier that reads, and its training.

What a text is to it: the mean of its tokens' vectors. Order, context and depth are
gone, so that what the tokens themselves are worth can be seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from blogcore.checks import check_integer, check_number
from blogcore.data import Examples
from blogcore.objectives import classification
from blogcore.runtime import stream
from blogcore.training import evaluate, train


@dataclass(frozen=True)
class Recipe:
    """How a bag is trained: Adam's steps and rate, texts a step, drawn with return."""

    steps: int
    rate: float = 0.01
    batch: int = 256

    def __post_init__(self):
        check_integer("steps", self.steps, 0)
        check_integer("batch", self.batch, 1)
        check_number("rate", self.rate, 0)


class Bag(nn.Module):
    """Logits W m + c of the mean m of a text's vectors: ids (N, L) → (N, classes).

    Ids −1 are padding. With ``sizes`` (V,) the mean is weighted: a token of two
    characters counts twice. The table is trained too; W and c start at zero.
    """

    def __init__(
        self, table: torch.Tensor, classes: int, sizes: torch.Tensor | None = None
    ):
        super().__init__()
        self.table = nn.Parameter(table.clone())
        self.linear = nn.Linear(table.shape[1], classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        sizes = _ones(table) if sizes is None else sizes
        self.register_buffer("sizes", sizes, persistent=False)  # moves with the rest

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.linear(self.means(ids))

    def means(self, ids: torch.Tensor) -> torch.Tensor:
        """The (weighted) means of the texts' vectors, (N, dimensions)."""
        weights = (ids >= 0) * self.sizes[ids]
        shares = weights / weights.sum(1, keepdim=True)
        ids = ids.clamp(min=0)
        return F.embedding_bag(ids, self.table, mode="sum", per_sample_weights=shares)


def fitted(
    table: torch.Tensor,
    examples: Examples,
    classes: int,
    recipe: Recipe,
    seed: int,
    sizes: torch.Tensor | None = None,
) -> Bag:
    """A bag that starts from ``table`` (V, dimensions) and learns from the examples.

    The texts of step t are those of ``stream(seed, "batches/t")``. Only the rows that
    occur are trained: Adam leaves the others where they are, so nothing changes but
    the time.
    """
    given = table, examples, classes, recipe, seed
    return stages(*given, [recipe.steps], sizes)[recipe.steps]


def stages(
    table: torch.Tensor,
    examples: Examples,
    classes: int,
    recipe: Recipe,
    seed: int,
    looks: Sequence[int],
    sizes: torch.Tensor | None = None,
) -> dict[int, Bag]:
    """The bags that one training passes through: by their steps, those of ``looks``.

    Each is what ``fitted`` gives with so many steps. Raises ValueError for a look
    beyond the recipe's steps.
    """
    late = [look for look in looks if not 0 <= look <= recipe.steps]
    if late:
        raise ValueError(f"looks: {late} are not in 0 … {recipe.steps}")
    ids, labels = examples
    used = ids[ids >= 0].unique()
    local = torch.where(ids >= 0, torch.searchsorted(used, ids), -1)
    bag = Bag(table[used], classes, None if sizes is None else sizes[used])
    kept: dict[int, Bag] = {}

    def batches(step: int) -> Examples:
        source = stream(seed, f"batches/{step}")
        rows = torch.randint(len(ids), (recipe.batch,), generator=source)
        return Examples(local[rows], labels[rows])

    def keep(step: int, _=None) -> None:
        if step in looks:
            whole = table.clone()
            whole[used] = bag.table.detach()
            kept[step] = Bag(whole, classes, sizes)
            kept[step].linear.load_state_dict(bag.linear.state_dict())

    optimizer = torch.optim.Adam(bag.parameters(), lr=recipe.rate, fused=True)
    train(bag, batches, classification, optimizer, recipe.steps, [keep])
    keep(recipe.steps)
    return kept


def accuracy(bag: Bag, examples: Examples) -> float:
    """The share of texts whose largest logit is their label's, in per cent."""
    return 100 * float(evaluate(bag, classification, examples)["accuracy"])


def accuracies(bag: Bag, examples: Examples, groups: torch.Tensor) -> torch.Tensor:
    """The same in each group of the texts, bool (G, N) → (G,) in per cent."""
    with torch.no_grad():
        right = bag(examples.inputs).argmax(1) == examples.labels
    return 100 * (groups.double() @ right.double()) / groups.sum(1)


def _ones(table: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(table), device=table.device)

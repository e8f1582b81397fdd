"""The world of examples: small real and synthetic sets, label noise, batches.

Examples are tensors in memory. A batch is a function of the step, so a resumed run sees
the same data without any state to restore.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import floor, log
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import torch

from blogcore import pictures
from blogcore.checks import check_integer
from blogcore.prepared import prepared
from blogcore.runtime import stream
from blogcore.tokens import Texts

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Examples(NamedTuple):
    """Inputs (…, N, features) and integer labels (…, N); … may be a member axis.

    Inputs are a tensor, or ``Texts``; a row of labels may be one a token: (N, T).
    """

    inputs: torch.Tensor | Texts
    labels: torch.Tensor

    def to(self, device: torch.device) -> "Examples":
        """The same examples on another device."""
        return Examples(self.inputs.to(device), self.labels.to(device))

    def double(self) -> "Examples":
        """The same examples with inputs in float64."""
        return Examples(self.inputs.double(), self.labels)


Batches = Callable[[int], Examples]


def sinusoid(count: int, generator: torch.Generator) -> Examples:
    """Points uniform in the disc of radius 2, split by a sine wave.

    x = 2 (u₁, u₂) with u uniform on the unit sphere in four dimensions, whose first two
    coordinates are uniform in the unit disc; label 1 where 1.5 x₁ + sin(1.5 x₂) > 0.
    Source: the public code of Ishida et al. (2020), class ``Sinusoid2dimDataNumpy``.
    """
    check_integer("count", count, 1)
    directions = torch.randn(count, 4, generator=generator)
    inputs = 2 * (directions / directions.norm(dim=1, keepdim=True))[:, :2]
    above = 1.5 * inputs[:, 0] + torch.sin(1.5 * inputs[:, 1]) > 0
    return Examples(inputs, above.long())


def noisy_sinusoid(count: int, rate: float, seed: int, part: str) -> Examples:
    """``count`` points of ``sinusoid``, exactly ⌊count · rate⌋ of them mislabelled.

    ``part`` names the random streams, so that "train" and "test" share nothing; the
    points do not depend on the rate, and rate 0 gives their true labels.
    """
    points = sinusoid(count, stream(seed, part))
    flips = stream(seed, f"{part}/flips")
    return Examples(points.inputs, flip_labels(points.labels, rate, 2, flips))


def digits() -> Examples:
    """scikit-learn's 1,797 handwritten digits: 64 grey values in 0 … 1, ten classes.

    Errors as for ``pictures.digits``.
    """
    levels, labels = pictures.digits()
    return Examples(levels.flatten(1).float() / 16, labels)


def noisy_digits(
    sizes: Sequence[int], rate: float, seeds: Sequence[int]
) -> list[Examples]:
    """Disjoint random parts of the digits, one draw a seed, stacked along the seeds.

    In the first part ⌊n · rate⌋ labels are wrong; which, and the parts themselves, do
    not depend on the rate. Raises ValueError as ``split`` and ``flip_labels``.
    """
    everything, drawn = digits(), []
    for seed in seeds:
        first, *others = split(everything, sizes, stream(seed, "digits"))
        flipped = flip_labels(first.labels, rate, 10, stream(seed, "digits/flips"))
        drawn.append([Examples(first.inputs, flipped), *others])
    return [stack(part) for part in zip(*drawn, strict=True)]


def standardised(levels: torch.Tensor) -> torch.Tensor:
    """Levels 0 … 255 (N, 3, H, W) by the mean and deviation of CIFAR-10's channels."""
    mean, std = (
        torch.tensor(v, device=levels.device).view(3, 1, 1)
        for v in (CIFAR_MEAN, CIFAR_STD)
    )
    return (levels.float() / 255 - mean) / std


def _few_pictures() -> dict[str, torch.Tensor]:
    levels = torch.randint(256, (420, 3, 32, 32), generator=stream(0, "pictures"))
    return {"levels": levels.to(torch.uint8), "classes": torch.arange(420) % 10}


@prepared("cifar-10-batches-bin/*.bin or images/cifar10_jpeg.npz", drawn=_few_pictures)
def cifar_levels(folder: Path) -> dict[str, torch.Tensor]:
    """CIFAR-10 as levels (N, 3, 32, 32), uint8, and classes, the test's 10,000 last."""
    levels, classes = zip(*pictures.cifar10(folder), strict=True)
    return {"levels": torch.cat(levels), "classes": torch.cat(classes)}


def noisy_parts(
    found: Mapping[str, torch.Tensor], noise: float, seed: int, device: torch.device
) -> list[Examples]:
    """Pictures to train on, a tenth of them held out, and the test, standardised.

    ``found`` is what ``cifar_levels`` gives. A part ``noise`` of the labels is wrong,
    also of those that are held out, but not in the test; both are drawn below the seed.
    """
    inputs, classes = standardised(found["levels"].to(device)), found["classes"]
    tenth = len(classes) // 12  # of the first five parts in six; the last is the test
    wrong = flip_labels(classes[: 10 * tenth], noise, 10, stream(seed, "flips"))
    labels = torch.cat([wrong, classes[10 * tenth :]]).to(device)
    order = torch.randperm(10 * tenth, generator=stream(seed, "held out")).to(device)
    last = torch.arange(10 * tenth, len(classes), device=device)
    return [
        Examples(inputs[place], labels[place])
        for place in (order[tenth:], order[:tenth], last)
    ]


def split(
    examples: Examples, sizes: Sequence[int], generator: torch.Generator
) -> list[Examples]:
    """Disjoint random parts of the examples, of these sizes, in a drawn order.

    Raises ValueError if a size is not positive or the sizes exceed what there is.
    """
    total = len(examples.labels)
    for size in sizes:
        check_integer("sizes", size, 1)
    if not 1 <= sum(sizes) <= total:
        raise ValueError(f"sizes: {list(sizes)} must sum to 1 … {total}, all there is")
    order = torch.randperm(total, generator=generator)
    return [
        Examples(examples.inputs[part], examples.labels[part])
        for part in order[: sum(sizes)].split(list(sizes))
    ]


def flip_labels(
    labels: torch.Tensor, rate: float, classes: int, generator: torch.Generator
) -> torch.Tensor:
    """Symmetric label noise: exactly ⌊n · rate⌋ labels move to another class.

    Which labels move, and to which of the other ``classes − 1``, is uniform. The input
    is left as it is. Raises ValueError for a rate outside 0 … 1, or labels outside the
    classes.
    """
    _check_rate(rate)
    check_integer("classes", classes, 2)
    if labels.ndim != 1 or not len(labels) or labels.is_floating_point():
        raise ValueError(
            f"labels: {labels.dtype} of shape {tuple(labels.shape)}, not integers (n,)"
        )
    if not 0 <= labels.min() <= labels.max() < classes:
        found = f"{labels.min()} … {labels.max()}"
        raise ValueError(f"labels: {found} are not all in 0 … {classes - 1}")
    # 100 × 0.29 is 28.999999999999996 in floating point; it means 29.
    count = floor(len(labels) * rate + 1e-9)
    chosen = torch.randperm(len(labels), generator=generator)[:count]
    shift = torch.randint(1, classes, (count,), generator=generator)
    noisy = labels.clone()
    noisy[chosen] = (noisy[chosen] + shift) % classes
    return noisy


def noise_entropy(rate: float, classes: int = 2) -> float:
    """H(p) = −(1 − p) ln(1 − p) − p ln(p / (K − 1)), in nats.

    The smallest expected cross-entropy on labels that ``flip_labels`` moved, for a
    predictor that knows every true class and p but not which labels moved. Raises
    ValueError for a rate outside 0 … 1, or fewer than two classes.
    """
    _check_rate(rate)
    check_integer("classes", classes, 2)
    shares = [(1 - rate, 1 - rate), (rate, rate / (classes - 1))]
    return sum(-share * log(likely) for share, likely in shares if share > 0)


def stack(members: Sequence[Examples]) -> Examples:
    """One set of examples a member, joined along a new first axis."""
    shapes = {(m.inputs.shape, m.labels.shape) for m in members}
    if len(shapes) != 1:
        raise ValueError(f"members: need one common shape, got {sorted(shapes)}")
    return Examples(*(torch.stack(tensors) for tensors in zip(*members, strict=True)))


def full_batch(examples: Examples) -> Batches:
    """Every step sees all examples."""
    return lambda step: examples


def shuffled(examples: Examples, size: int, seeds: int | Sequence[int]) -> Batches:
    """Minibatches of ``size`` without replacement, in an order of each member's own.

    The order of epoch e comes from ``stream(seed, "batches/e")``; what does not fill a
    batch is left out of that epoch. Examples (S, N, …), or (N, …) if the members share
    them; batches (S, size, …). A single number as seed is for one model without
    member axis: batches (size, …). Raises ValueError unless 1 ≤ size ≤ N.
    """
    alone = isinstance(seeds, int)
    seeds = [seeds] if alone else seeds
    count = len(examples.labels) if alone else examples.labels.shape[-1]
    check_integer("size", size, 1)
    if size > count:
        raise ValueError(f"size: {size} exceeds {count}, the number of examples")
    shared = alone or examples.labels.ndim == 1
    if not seeds or not (shared or len(seeds) == len(examples.labels)):
        raise ValueError(
            f"seeds: {list(seeds)} must be one a member of labels "
            f"{tuple(examples.labels.shape)}"
        )
    members = torch.arange(len(seeds), device=examples.labels.device)[:, None]
    per_epoch = count // size

    @lru_cache(maxsize=1)
    def order(epoch: int) -> torch.Tensor:
        streams = [stream(seed, f"batches/{epoch}") for seed in seeds]
        drawn = torch.stack([torch.randperm(count, generator=s) for s in streams])
        return drawn.to(examples.labels.device)

    def batch(step: int) -> Examples:
        first = step % per_epoch * size
        rows = order(step // per_epoch)[:, first : first + size]
        where = rows[0] if alone else rows if shared else (members, rows)
        return Examples(examples.inputs[where], examples.labels[where])

    return batch


def _check_rate(rate: float) -> None:
    if not (isinstance(rate, Real) and 0 <= rate <= 1):
        raise ValueError(f"rate: {rate!r} is not in 0 … 1")

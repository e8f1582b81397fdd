"""The ship of Theseus: old modules make place for new ones while the network trains.

A network holds *places*, each with an old module and a new one. The *shares* of a step
say how much of the new one each place uses: 0 or 1, or a mixture. They are drawn before
the forward pass, as a function of the step, and travel with the batch; outside of a
training step every place uses the new module alone. A plan is shares of 0 and 1.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from blogcore.checks import check_integer, check_number
from blogcore.objectives import Objective, cross_entropy, predicted
from blogcore.runtime import stream

Shares = tuple[float, ...]
Schedule = Callable[[int], float]
Draw = Callable[[int], Shares]


class Frozen(nn.Module):
    """A module in evaluation mode for good, whose parameters do not train.

    ``train()`` leaves it as it is: no dropout, no running statistics. Gradients flow
    through it to whatever lies before.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module.requires_grad_(False)
        self.eval()

    def forward(self, *inputs):
        return self.module(*inputs)

    def train(self, mode: bool = True) -> "Frozen":
        """Stay in evaluation mode, whatever is asked."""
        return super().train(False)


class Replaceable(nn.Module):
    """new(x) where ``share`` is 1, old(x) where it is 0, the old one frozen.

    The other module is *skipped*: not run, and without a gradient (None), so that an
    optimizer leaves it alone. Source: Xu et al. (2020), whose r is ``share``.
    """

    def __init__(self, old: nn.Module, new: nn.Module):
        super().__init__()
        self.old, self.new, self.share = Frozen(old), new, 1.0

    def forward(self, *inputs):
        if self.share in (0, 1):
            return (self.new if self.share else self.old)(*inputs)
        return self.mixture(*inputs)

    def mixture(self, *inputs) -> torch.Tensor:
        """(1 − share) · old(x) + share · new(x)."""
        return (1 - self.share) * self.old(*inputs) + self.share * self.new(*inputs)


class Masked(Replaceable):
    """The same values, but both modules always run, one of them times zero.

    A new module of share 0 then has a gradient of zero, which momentum and weight decay
    do not take for none. Source: Su (2020), who writes ε old + (1 − ε) new.
    """

    def forward(self, *inputs):
        return self.mixture(*inputs)


class Chain(nn.ModuleList):
    """Blocks one after the other, each with the same further inputs (say, a mask)."""

    def forward(self, x, *further):
        for block in self:
            x = block(x, *further)
        return x


def compress(
    blocks: Sequence[nn.Module],
    new: Sequence[nn.Module],
    like: torch.Tensor,
    form: type[Replaceable] = Replaceable,
) -> list[Replaceable]:
    """Places in which each new module stands for an equal run of old blocks.

    Of six blocks and three new modules, the first stands for blocks 1 and 2. All are
    copies. ``like`` is an input of the first block. Raises ValueError where the numbers
    do not divide, or a new module gives another shape than the run it stands for.
    """
    if not len(new) or not len(blocks) or len(blocks) % len(new):
        raise ValueError(
            f"blocks: {len(blocks)} of them do not divide into {len(new)} equal runs"
        )
    size, found = len(blocks) // len(new), []
    for place, module in enumerate(copy.deepcopy(list(new))):
        run = blocks[place * size : (place + 1) * size]
        found.append(form(Chain(copy.deepcopy(list(run))), module))
        like = _same_shape(place, found[-1], like)
    return found


def places(model: nn.Module) -> list[Replaceable]:
    """The places of a network in order; ValueError if there is none."""
    found = [part for part in model.modules() if isinstance(part, Replaceable)]
    if not found:
        raise ValueError(f"model: {type(model).__name__} has no Replaceable part")
    return found


@contextmanager
def sailing(model: nn.Module, shares: Sequence[float]) -> Iterator[nn.Module]:
    """Within it the places use these shares; behind it the new modules alone.

    Raises ValueError for another number of shares, or one outside 0 … 1.
    """
    found = places(model)
    if len(shares) != len(found):
        raise ValueError(f"shares: {len(shares)} of them for {len(found)} places")
    for share in shares:
        check_number("shares", share, 0, 1)
    try:
        for place, share in zip(found, shares, strict=True):
            place.share = share
        yield model
    finally:
        for place in found:
            place.share = 1.0


def plans(count: int) -> list[Shares]:
    """All 2ⁿ plans, from all old to all new."""
    check_integer("count", count, 1)
    return list(product((0.0, 1.0), repeat=count))


def chance(plan: Sequence[float], rate: float) -> float:
    """Probability of a plan under coins of this rate p: Π_l p^r_l (1 − p)^(1 − r_l).

    Raises ValueError for shares other than 0 and 1, or a rate outside 0 … 1.
    """
    check_number("rate", rate, 0, 1)
    _check_plan(plan)
    new = int(sum(plan))
    return rate**new * (1 - rate) ** (len(plan) - new)


def hybrid(model: nn.Module, plan: Sequence[float]) -> nn.Module:
    """The network of one plan: a copy in plain modules, all of which train.

    What was ``Frozen`` takes the mode, training or evaluation, of what it was part of.
    Raises ValueError for shares other than 0 and 1, or of another number.
    """
    with sailing(model, plan):
        _check_plan(plan)
        return _plain(copy.deepcopy(model), model.training).requires_grad_(True)


def successor(model: nn.Module) -> nn.Module:
    """The small network alone, without a trace of the old one."""
    return hybrid(model, (1.0,) * len(places(model)))


def hybrids(model: nn.Module) -> Iterator[tuple[Shares, nn.Module]]:
    """Every plan with its network: the predecessor first, the successor last."""
    return ((plan, hybrid(model, plan)) for plan in plans(len(places(model))))


def constant(rate: float) -> Schedule:
    """Replace with the same probability at every step."""
    check_number("rate", rate, 0, 1)
    return lambda step: rate


def linear(start: float, steps: int) -> Schedule:
    """The paper's min(1, k t + b): from b = ``start`` to 1 at ``steps``."""
    check_number("start", start, 0, 1)
    check_integer("steps", steps, 1)
    return lambda step: min(1.0, start + (1 - start) * step / steps)


def in_two_stages(schedule: Schedule, steps: int) -> Schedule:
    """The schedule for so many steps; then 1, the successor trains alone."""
    check_integer("steps", steps, 0)
    return lambda step: schedule(step) if step < steps else 1.0


def coins(schedule: Schedule, count: int, seed: int) -> Draw:
    """A coin a place and step: new with the scheduled probability, else old.

    They come from ``stream(seed, "theseus/step")``: a resumed run throws the same.
    Raises ValueError for a schedule that leaves 0 … 1.
    """
    check_integer("count", count, 1)

    def draw(step: int) -> Shares:
        rate = _rate(schedule, step)
        thrown = torch.rand(count, generator=stream(seed, f"theseus/{step}"))
        return tuple(float(coin < rate) for coin in thrown.tolist())

    return draw


def gliding(schedule: Schedule, count: int) -> Draw:
    """No chance: every place mixes old and new by the scheduled share."""
    check_integer("count", count, 1)
    return lambda step: (_rate(schedule, step),) * count


class Planned(NamedTuple):
    """A batch, and the shares with which the network is to meet it."""

    batch: object
    shares: Shares


def planned(batches: Callable[[int], object], draw: Draw) -> Callable[[int], Planned]:
    """Batches that carry the shares of their step."""
    return lambda step: Planned(batches(step), draw(step))


def swapping(objective: Objective) -> Objective:
    """The objective for ``Planned`` batches, met with the shares that they carry.

    Where a plan holds nothing that trains the loss needs no gradient, and ``train``
    moves nothing in that step.
    """

    def swapped(model, planned):
        with sailing(model, planned.shares):
            return objective(model, planned.batch)

    return swapped


def imitating(model: nn.Module, batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Σ_l mean (new_l(x) − old_l(x))², x what place l gets if all modules are old.

    An objective that asks for no labels; every new module learns at every step.
    """
    found, met = places(model), []
    watched = [
        place.register_forward_hook(lambda *seen: met.append(seen)) for place in found
    ]
    try:
        with torch.no_grad(), sailing(model, (0.0,) * len(found)):
            predicted(model, batch.inputs)
    finally:
        for hook in watched:
            hook.remove()
    loss = sum(F.mse_loss(place.new(*inputs), old) for place, inputs, old in met)
    return loss, {"loss": loss.detach()}


def distil(teacher: nn.Module, temperature: float, share: float) -> Objective:
    """share · cross-entropy + (1 − share) · T² KL(teacher ∥ student) at temperature T.

    Batches are examples or labelled texts, logits (N, classes); the teacher is copied.
    Parts, in nats: ``loss``, the cross-entropy, and ``distance``, the KL without T².
    Raises ValueError for T ≤ 0, a share outside 0 … 1, labels that are no class, and
    for a teacher whose head has another size: is it fine-tuned on this task?
    Source: Hinton et al. (2015).
    """
    check_number("share", share, 0, 1)
    check_number("temperature", temperature, 0)
    if temperature == 0:
        raise ValueError("temperature: 0 leaves no soft targets")
    frozen = copy.deepcopy(teacher).requires_grad_(False).eval()

    def objective(model, batch):
        own, target = (predicted(net, batch.inputs) for net in (model, frozen))
        if own.shape != target.shape:
            shapes = f"{tuple(target.shape)}, not {tuple(own.shape)}"
            raise ValueError(f"teacher: gives logits {shapes}")
        hard = cross_entropy(own, batch.labels, "mean")
        logs = ((logits / temperature).log_softmax(-1) for logits in (own, target))
        soft = F.kl_div(*logs, reduction="batchmean", log_target=True)
        parts = {"loss": hard.detach(), "distance": soft.detach()}
        return share * hard + (1 - share) * temperature**2 * soft, parts

    return objective


def _plain(module: nn.Module, mode: bool) -> nn.Module:
    """The module with every place and every ``Frozen`` replaced by its content.

    ``mode`` is the training mode of what holds the module.
    """
    if isinstance(module, Replaceable):
        chosen = module.new if module.share else module.old
        return _plain(chosen, module.training)
    if isinstance(module, Frozen):
        return _plain(module.module.train(mode), mode)
    for name, child in module._modules.items():
        plain = None if child is None else _plain(child, module.training)
        module._modules[name] = plain
    return module


def _same_shape(place: int, pair: Replaceable, x: torch.Tensor) -> torch.Tensor:
    """old(x), after a look that new(x) has its shape; on a copy that may be soiled."""
    twin = copy.deepcopy(pair).eval()
    with torch.no_grad():
        expected = twin.old(x)
        try:
            found = str(tuple(twin.new(x).shape))
        except RuntimeError as error:
            found = f"no result ({error})"
    if found != str(tuple(expected.shape)):
        raise ValueError(
            f"new: module {place} gives {found} where the old blocks give "
            f"{tuple(expected.shape)}"
        )
    return expected


def _check_plan(plan: Sequence[float]) -> None:
    if not set(plan) <= {0, 1}:
        raise ValueError(f"plan: {tuple(plan)} has shares other than 0 and 1")


def _rate(schedule: Schedule, step: int) -> float:
    rate = schedule(step)
    check_number(f"schedule({step})", rate, 0, 1)
    return float(rate)

"""The loop: one model or many seeds at once, one objective, functions of the step.

A new method never changes ``train``: what is minimised is the objective, which examples
a step sees is ``batches(step)``, and everything else that happens is ``on_step``. The
order of a step:

1. ``batches(step)``: examples, and whatever must be set or drawn for this step before
   the forward pass (``prepared``, ``seeded``).
2. Loss and parts.
3. Each ``on_step(step, parts)``, before the update: the parts belong to the parameters
   that the model holds at that moment.
4. Gradient and update. A loss that needs no gradient, because nothing that it reaches
   is trained, moves nothing, not even by momentum or decay.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from blogcore.asking import Objective, Parts, in_eval_mode
from blogcore.checkpoint import Checkpoint, History, Progress
from blogcore.checks import check_integer
from blogcore.runtime import stream

OnStep = Callable[[int, Parts], None]
LOOK = 100  # steps after which losses on a device are looked at: a look waits for it


def train(
    model: nn.Module,
    batches: Callable[[int], object],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    steps: int,
    on_step: Sequence[OnStep] = (),
    checkpoint: Checkpoint | None = None,
) -> History:
    """Minimise: for each step, loss of ``batches(step)``, gradient, optimizer step.

    The losses of all members are summed before the backward pass; as no parameter is
    shared, each member gets exactly its own gradient. Returns the objective's parts,
    each (steps, S) or (steps,). The model is put into training mode, unless it is in it
    already: its parts in eval mode stay there. Raises FloatingPointError for the first
    loss that is not finite; ValueError for a forward pass that draws from torch's
    global stream unnamed (see ``seeded``), for parts whose names change, and if no loss
    at all needed a gradient.
    """
    check_integer("steps", steps, 0)
    start = checkpoint.resume(model, optimizer) if checkpoint else Progress(0, {}, {})
    if start.done > steps:
        raise ValueError(f"steps: {steps} are fewer than the checkpoint's {start.done}")
    rows = _rows(start.history, start.done)
    _start(model)
    moved, watch = bool(start.done), _Watch(rows)
    for step in range(start.done, steps):
        batch = batches(step)
        with _named_draws(model, step, first=step == start.done):
            loss, parts = objective(model, batch)
        watch.see(step, loss.detach(), parts)
        for call in on_step:
            call(step, parts)
        if loss.requires_grad:
            moved = True
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
        rows.append(parts)
        if checkpoint and checkpoint.due(step + 1):
            watch.look()
            done = Progress(step + 1, _columns(rows), start.identity)
            checkpoint.save(done, model, optimizer)
    watch.look()
    return _moved(rows, moved)


def prepared(
    batches: Callable[[int], object], *calls: Callable[[int], None]
) -> Callable[[int], object]:
    """Batches whose step first does what must come before its forward pass.

    Each ``call(step)`` may draw, freeze or schedule; as a function of the step, so that
    a resumed training does the same.
    """

    def batch(step: int) -> object:
        for call in calls:
            call(step)
        return batches(step)

    return batch


def seeded(
    batches: Callable[[int], object], seed: int, name: str = "dropout"
) -> Callable[[int], object]:
    """Batches whose step first sets torch's global stream, which dropout draws from.

    It becomes ``stream(seed, "name/step")`` at every step, whatever was drawn before.
    """

    def set_global(step: int) -> None:
        torch.manual_seed(stream(seed, f"{name}/{step}").initial_seed())

    return prepared(batches, set_global)


def evaluate(model: nn.Module, objective: Objective, batch: object) -> Parts:
    """The objective's parts in eval mode without gradients; the modes are put back."""
    with in_eval_mode(model), torch.no_grad():
        return objective(model, batch)[1]


def evaluated(model: nn.Module, objective: Objective, batch, size: int = 1000) -> Parts:
    """``evaluate`` on parts of ``size`` examples, and the mean over all of them.

    ``batch`` holds inputs and labels, (N, …) each; all at once may need the memory.
    """
    parts = zip(batch.inputs.split(size), batch.labels.split(size), strict=True)
    shares, rows = [], []
    for inputs, labels in parts:
        rows.append(evaluate(model, objective, type(batch)(inputs, labels)))
        shares.append(len(labels) / len(batch.labels))
    return {
        n: sum(s * r[n] for s, r in zip(shares, rows, strict=True)) for n in rows[0]
    }


class Probe:
    """An ``on_step`` that calls ``measure()`` every so many steps and keeps the parts.

    ``steps`` lists how many updates had been made, ``history()`` has (times, S) parts.
    """

    def __init__(self, every: int, measure: Callable[[], Parts]):
        check_integer("every", every, 1)
        self.every, self.measure = every, measure
        self.steps: list[int] = []
        self._rows: list[Parts] = []

    def __call__(self, step: int, parts: Parts) -> None:
        if step % self.every == 0:
            self.steps.append(step)
            self._rows.append(self.measure())

    def history(self) -> History:
        """The measured parts, one row a time."""
        return _columns(self._rows)


class StopBelow:
    """An ``on_step`` that remembers each member as it was when L first fell below b.

    ``step``, (S,) or (), says when; it is ∞ where that never happened, so that
    ``t >= stop.step`` is true of no t, and nobody takes it for an index. ``restore()``
    puts those parameters and running statistics back; members that never got
    there stay as they are.
    """

    def __init__(self, model: nn.Module, level: float | torch.Tensor):
        self.level = torch.as_tensor(level, dtype=torch.float64)
        if not self.level.isfinite().all():
            raise ValueError(f"level: {self.level.tolist()} is not finite")
        self.step = torch.tensor(torch.inf)
        self._state = [*model.parameters(), *model.buffers()]
        self._kept = [tensor.detach().clone() for tensor in self._state]

    def __call__(self, step: int, parts: Parts) -> None:
        loss = parts["loss"]
        if self.step.shape != loss.shape:
            self.step = torch.full_like(loss, torch.inf)
        new = (loss < self.level.to(loss)) & self.step.isinf()
        self.step[new] = step
        if new.any():
            for kept, now in zip(self._kept, self._state, strict=True):
                kept[new] = now.detach()[new]

    def restore(self) -> None:
        """Put what is remembered back into the model, member by member."""
        reached = self.step.isfinite()
        with torch.no_grad():
            for kept, now in zip(self._kept, self._state, strict=True):
                now[reached] = kept[reached]


def settled(model: nn.Module, *inputs: object) -> nn.Module:
    """A copy whose running statistics are those of ``inputs`` at its parameters.

    Running averages lag behind parameters that move; here one forward pass with
    momentum 1 replaces them. The model itself is left as it is.
    """
    twin = copy.deepcopy(model)
    layers = [layer for layer in twin.modules() if hasattr(layer, "running_mean")]
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0
    _start(twin)
    with torch.no_grad():
        twin(*inputs)
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum
    return twin


def _start(model: nn.Module) -> None:
    # Not where it is training already: its parts in eval mode are frozen ones.
    if not model.training:
        model.train()


@contextmanager
def _named_draws(model: nn.Module, step: int, *, first: bool) -> Iterator[None]:
    """ValueError if what is inside draws from a global stream that nobody seeded."""
    # To look costs 60 µs: in the first step, and then more and more rarely.
    if not (first or (step + 1).bit_count() == 1):
        yield
        return
    devices = {torch.device("cpu"), next(model.parameters()).device}
    before = list(map(_global_state, devices))
    yield
    if all(map(torch.equal, before, map(_global_state, devices))):
        return
    fresh = torch.Generator().manual_seed(torch.initial_seed()).get_state()
    if not any(torch.equal(state, fresh) for state in before):  # unseeded
        raise ValueError(
            f"objective: in step {step} the forward pass draws from torch's global "
            "stream (dropout does); name it: seeded(batches, seed)"
        )


def _global_state(device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


class _Watch:
    """Looks that losses are finite: at once on the CPU, now and then on a device."""

    def __init__(self, rows: Sequence[Parts]):
        self.rows = rows
        self.unseen: list[tuple[int, torch.Tensor, Parts]] = []

    def see(self, step: int, loss: torch.Tensor, parts: Parts) -> None:
        """Take note; ValueError for parts of other names than before."""
        if self.rows and self.rows[-1].keys() != parts.keys():
            raise ValueError(
                f"objective: its parts are {sorted(parts)} in step {step} and were "
                f"{sorted(self.rows[-1])} before"
            )
        self.unseen.append((step, loss, parts))
        if loss.is_cpu or len(self.unseen) == LOOK:
            self.look()

    def look(self) -> None:
        """FloatingPointError, with step, members and parts, at the first bad loss."""
        seen, self.unseen = self.unseen, []
        if not seen:
            return
        losses = [loss for _, loss, _ in seen]
        all_of_them = torch.stack(losses) if len(losses) > 1 else losses[0]
        if all_of_them.is_meta or torch.isfinite(all_of_them).all():
            return  # on the meta device there are no values
        step, loss, parts = next(s for s in seen if not torch.isfinite(s[1]).all())
        where = (~torch.isfinite(loss)).nonzero().flatten().tolist()
        values = {name: value.tolist() for name, value in parts.items()}
        raise FloatingPointError(
            f"step {step}: loss is not finite (members {where}); parts: {values}"
        )


def _moved(rows: list[Parts], moved: bool) -> History:
    """The history; ValueError if there were steps, and none moved anything."""
    if rows and not moved:
        raise ValueError(f"objective: in {len(rows)} steps, no loss needed a gradient")
    return _columns(rows)


def _columns(rows: list[Parts]) -> History:
    return (
        {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        if rows
        else {}
    )


def _rows(history: History, count: int) -> list[Parts]:
    return [{name: c[row] for name, c in history.items()} for row in range(count)]

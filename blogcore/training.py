"""The loop: one model or many seeds at once, one objective, functions of the step.

A new method never changes ``train``: what is minimised is the objective, which examples
a step sees is ``batches(step)``, and everything else that happens is ``on_step``.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from blogcore.checks import check_integer
from blogcore.objectives import Objective, Parts
from blogcore.optim import linear_decay as linear_decay  # where it was
from blogcore.runtime import write_safely

History = dict[str, torch.Tensor]
OnStep = Callable[[int, Parts], None]


@dataclass(frozen=True)
class Checkpoint:
    """Saves a training every ``every`` steps to ``path``, and resumes it from there.

    What ``on_step`` functions remember is theirs, and is not saved.
    """

    path: Path
    every: int

    def __post_init__(self):
        check_integer("every", self.every, 1)

    def save(self, step: int, model, optimizer, rows: list[Parts]) -> None:
        """Write all that a resumed run needs, at once: see ``save_tree``."""
        if step % self.every == 0:
            state = {
                "step": step,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": _columns(rows),
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state_all(),
            }
            save_tree(self.path, state)

    def resume(self, model, optimizer) -> tuple[int, list[Parts]]:
        """Restore in place; (steps done, history rows), or (0, []) without a file."""
        if not Path(self.path).exists():
            return 0, []
        state = load_tree(self.path)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        torch.cuda.set_rng_state_all(state["random_cuda"])
        device = next(model.parameters()).device
        history = {name: c.to(device) for name, c in state["history"].items()}
        done = state["step"]
        return done, [
            {name: c[row] for name, c in history.items()} for row in range(done)
        ]


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
    each (steps, S) or (steps,). ``on_step(step, parts)`` is called before the update:
    the parts belong to the parameters that the model holds at that moment. Raises
    FloatingPointError at the first loss that is not finite, with step, members, parts.
    """
    check_integer("steps", steps, 0)
    done, rows = checkpoint.resume(model, optimizer) if checkpoint else (0, [])
    if done > steps:
        raise ValueError(f"steps: {steps} are fewer than the checkpoint's {done}")
    model.train()
    for step in range(done, steps):
        loss, parts = objective(model, batches(step))
        _check_finite(step, loss, parts)
        for call in on_step:
            call(step, parts)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        rows.append(parts)
        if checkpoint:
            checkpoint.save(step + 1, model, optimizer, rows)
    return _columns(rows)


def evaluate(model: nn.Module, objective: Objective, batch) -> Parts:
    """The objective's parts in eval mode without gradients; the mode is put back."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return objective(model, batch)[1]
    finally:
        model.train(was_training)


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

    ``step`` (S,) says when (−1: never yet); ``restore()`` puts those parameters and
    running statistics back; members that never got there stay as they are.
    """

    def __init__(self, model: nn.Module, level: float | torch.Tensor):
        self.level = torch.as_tensor(level, dtype=torch.float64)
        if not self.level.isfinite().all():
            raise ValueError(f"level: {self.level.tolist()} is not finite")
        self.step: torch.Tensor | None = None
        self._state = [*model.parameters(), *model.buffers()]
        self._kept = [tensor.detach().clone() for tensor in self._state]

    def __call__(self, step: int, parts: Parts) -> None:
        loss = parts["loss"]
        if self.step is None:
            self.step = torch.full_like(loss, -1, dtype=torch.int64)
        new = (loss < self.level.to(loss)) & (self.step < 0)
        self.step[new] = step
        if new.any():
            for kept, now in zip(self._kept, self._state, strict=True):
                kept[new] = now.detach()[new]

    def restore(self) -> None:
        """Put what is remembered back into the model, member by member."""
        reached = self.step >= 0
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
    with torch.no_grad():
        twin.train()(*inputs)
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum
    return twin


def save_tree(path: Path, tree: object) -> None:
    """Write nested dicts, lists, numbers and tensors as one safetensors file.

    The file is replaced whole or not at all, and carries a checksum of its content.
    """
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(_pack(tree, tensors))
    # One entry: safetensors writes several in random order, and the bytes would differ.
    write_safely(path, save(tensors, {_digest(skeleton, tensors): skeleton}))


def load_tree(path: Path) -> object:
    """What ``save_tree`` wrote; ValueError if the file is cut, altered or another's."""
    try:
        with safe_open(path, framework="pt") as file:
            ((digest, skeleton),) = (file.metadata() or {}).items()
            # Clones: what safetensors hands out are views of the file.
            names = list(file.keys())
            tensors = {name: file.get_tensor(name).clone() for name in names}
        if digest != _digest(skeleton, tensors):
            raise ValueError("its content does not match its checksum")
        return _unpack(json.loads(skeleton), tensors)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"path: {path} is no intact checkpoint ({error})") from error


def _check_finite(step: int, loss: torch.Tensor, parts: Parts) -> None:
    if not torch.isfinite(loss).all():
        where = (~torch.isfinite(loss)).nonzero().flatten().tolist()
        values = {name: value.tolist() for name, value in parts.items()}
        raise FloatingPointError(
            f"step {step}: loss is not finite (members {where}); parts: {values}"
        )


def _columns(rows: list[Parts]) -> History:
    return (
        {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        if rows
        else {}
    )


def _pack(tree: object, tensors: dict[str, torch.Tensor]) -> object:
    # Dicts become lists of pairs: JSON would turn the optimizer's integer keys to text.
    if isinstance(tree, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = tree.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(tree, dict):
        return {"dict": [[key, _pack(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return [_pack(value, tensors) for value in tree]
    return tree


def _unpack(tree: object, tensors: dict[str, torch.Tensor]) -> object:
    if isinstance(tree, dict) and "tensor" in tree:
        return tensors[tree["tensor"]]
    if isinstance(tree, dict):
        return {key: _unpack(value, tensors) for key, value in tree["dict"]}
    if isinstance(tree, list):
        return [_unpack(value, tensors) for value in tree]
    return tree


def _digest(skeleton: str, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(skeleton.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()

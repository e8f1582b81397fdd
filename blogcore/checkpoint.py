"""What a training must remember to go on as if it had never stopped, in one file."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from blogcore.checks import check_integer
from blogcore.runtime import write_safely

History = dict[str, torch.Tensor]
CONTENT = {"identity", "step", "model", "optimizer", "history"}


class Progress(NamedTuple):
    """How far a training is: the steps ``done``, their history, and which one it is."""

    done: int
    history: History
    identity: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """Saves a training every ``every`` steps to ``path``, and resumes it from there.

    ``run`` says which training it is: its seed, its condition. No random state is kept:
    what a step draws is a function of the step. What ``on_step`` functions remember is
    theirs, and is not saved.
    """

    path: Path
    every: int
    run: str

    def __post_init__(self):
        check_integer("every", self.every, 1)
        if not isinstance(self.run, str) or not self.run:
            raise ValueError(f"run: {self.run!r} is not a text that names the run")

    def due(self, step: int) -> bool:
        """Whether to save when so many steps are done."""
        return step % self.every == 0

    def save(self, progress: Progress, model: nn.Module, optimizer) -> None:
        """Write all that a resumed run needs, at once: see ``save_tree``."""
        state = {
            "identity": progress.identity,
            "step": progress.done,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": progress.history,
        }
        save_tree(self.path, state)

    def resume(self, model: nn.Module, optimizer) -> Progress:
        """Restore both in place, and say how far they had come: no step without a file.

        A run is known by its name, and by the numbers and the optimizer it starts with.
        Raises ValueError, and changes nothing, for a file that is no checkpoint or of
        another run.
        """
        identity = {
            "run": self.run,
            "optimizer": _settings(optimizer),
            "model": _Packed(model.state_dict()).digest(),
        }
        if not Path(self.path).exists():
            return Progress(0, {}, identity)
        state = load_tree(self.path)
        if not isinstance(state, dict) or set(state) != CONTENT:
            raise ValueError(f"path: {self.path} holds something else than a training")
        for name, own in identity.items():
            if state["identity"][name] != own:
                raise ValueError(
                    f"{name}: {own}, but {self.path} is a checkpoint of another run, "
                    f"which started with {state['identity'][name]}"
                )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        device = next(model.parameters()).device
        history = {name: c.to(device) for name, c in state["history"].items()}
        return Progress(state["step"], history, identity)


def save_tree(path: Path, tree: object) -> None:
    """Write nested dicts, lists, numbers and tensors as one safetensors file.

    The file is replaced whole or not at all, and carries a checksum of its content. A
    tensor that stands in several places is written once.
    """
    packed = _Packed(tree)
    # One entry: safetensors writes several in random order, and the bytes would differ.
    write_safely(path, save(packed.tensors, {packed.digest(): packed.skeleton}))


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
        return _unpacked(json.loads(skeleton), tensors)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"path: {path} is no intact checkpoint ({error})") from error


class _Packed:
    """A tree as text, with the tensors aside: each that is stored once, once."""

    def __init__(self, tree: object):
        self.tensors: dict[str, torch.Tensor] = {}
        self._names: dict[tuple, str] = {}
        self.skeleton = json.dumps(self._pack(tree))

    def digest(self) -> str:
        """A checksum of text and tensors."""
        return _digest(self.skeleton, self.tensors)

    def _pack(self, tree: object) -> object:
        # Dicts become pairs: JSON would turn the optimizer's integer keys to text.
        if isinstance(tree, torch.Tensor):
            return {"tensor": self._name(tree.detach())}
        if isinstance(tree, dict):
            return {"dict": [[key, self._pack(value)] for key, value in tree.items()]}
        if isinstance(tree, list | tuple):
            return [self._pack(value) for value in tree]
        return tree

    def _name(self, tensor: torch.Tensor) -> str:
        place = (tensor.device, tensor.data_ptr(), tensor.dtype)
        key = (*place, tensor.shape, tensor.stride())
        if key not in self._names:
            self._names[key] = str(len(self._names))
            self.tensors[self._names[key]] = tensor.cpu().contiguous().clone()
        return self._names[key]


def _unpacked(tree: object, tensors: dict[str, torch.Tensor]) -> object:
    if isinstance(tree, dict) and "tensor" in tree:
        return tensors[tree["tensor"]]
    if isinstance(tree, dict):
        return {key: _unpacked(value, tensors) for key, value in tree["dict"]}
    if isinstance(tree, list):
        return [_unpacked(value, tensors) for value in tree]
    return tree


def _digest(skeleton: str, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(skeleton.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _settings(optimizer) -> str:
    """The optimizer's kind and the settings of its groups, but not how it computes."""
    groups = [
        {
            name: value
            for name, value in group.items()
            if isinstance(value, int | float | tuple) and not isinstance(value, bool)
        }
        | {"parameters": len(group["params"])}
        for group in optimizer.param_groups
    ]
    return f"{type(optimizer).__name__} {groups}"

"""Shapes as docstrings promise them, checked at every call that a test makes.

«x (B, T, width) → (B, width)» in a docstring speaks of the argument x and of what comes
back. A letter or word is one number within a call, a digit itself, «…» any axes; «, or
(…)» gives another possibility. A room is watched when it is first imported; a call that
raises is left alone, so that bad input meets the room's own checks.
"""

import importlib.machinery
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from functools import wraps

from torch import nn

SHAPE = r"\(((?:[\w…]+, ?)*[\w…]+,?)\)"
ARGUMENT = re.compile(rf"\b(\w+)`* {SHAPE}(?:,? or {SHAPE})?")
RESULT = re.compile(rf"→ (?:[a-z]+ )?{SHAPE}")
promised: dict[str, dict[str, list[str]]] = {}


def promises(text: str, names: list[str]) -> dict[str, list[str]]:
    """The shapes that a docstring states of some arguments, and of the result."""
    text = " ".join(text.split())
    found = {}
    for name, *shapes in ARGUMENT.findall(text):
        if name in names and "," in shapes[0]:
            found.setdefault(name, [shape for shape in shapes if shape])
    results = [shape for shape in RESULT.findall(text) if "," in shape]
    return found | ({"return": results} if len(results) == 1 else {})


def fits(shape: tuple[int, ...], stated: str, known: dict[str, int]) -> bool:
    """Whether a shape is what was stated, given the letters that are known so far."""
    axes = [axis.strip() for axis in stated.split(",") if axis.strip()]
    if "…" in axes:
        first, last = axes[: axes.index("…")], axes[axes.index("…") + 1 :]
        if len(shape) < len(first) + len(last):
            return False
        shape = (*shape[: len(first)], *shape[len(shape) - len(last) :])
        axes = first + last
    if len(shape) != len(axes):
        return False
    return all(
        size == (int(axis) if axis.isdigit() else known.setdefault(axis, size))
        for axis, size in zip(axes, shape, strict=True)
    )


def check(where: str, stated: dict[str, list[str]], values: dict[str, object]) -> None:
    """Raise AssertionError for a value of another shape than was stated."""
    known: dict[str, int] = {}
    for name, possible in stated.items():
        shape = getattr(values.get(name), "shape", None)
        if shape is None:
            continue
        for one in possible:
            trial = dict(known)
            if fits(tuple(shape), one, trial):
                known = trial
                break
        else:
            said = " or ".join(f"({one})" for one in possible)
            raise AssertionError(
                f"{where}: {name} has shape {tuple(shape)}, its docstring says {said}"
            )


def watched(function: Callable, text: str, where: str) -> Callable:
    """The function; each call that returns is compared with the docstring."""
    signature = inspect.signature(function)
    stated = promises(text, list(signature.parameters))
    if not stated:
        return function
    promised[where] = stated

    @wraps(function)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        check(where, stated, given | {"return": result})
        return result

    return call


def watch(module) -> None:
    """Watch a room's public functions, its modules' ``forward`` and their methods."""
    for name, thing in list(vars(module).items()):
        if getattr(thing, "__module__", "") != module.__name__ or name[0] == "_":
            continue
        where = f"{module.__name__}.{name}"
        if inspect.isfunction(thing):
            setattr(module, name, watched(thing, thing.__doc__ or "", where))
        elif inspect.isclass(thing) and issubclass(thing, nn.Module):
            for method, text in methods(thing):
                spot = f"{where}.{method}"
                setattr(thing, method, watched(vars(thing)[method], text, spot))


def methods(kind: type) -> Iterator[tuple[str, str]]:
    """A class's public methods with their docstrings; the class's is ``forward``'s."""
    for name, thing in list(vars(kind).items()):
        if inspect.isfunction(thing) and name[0] != "_":
            own = kind.__doc__ if name == "forward" else thing.__doc__
            yield name, own or ""


class Watching(importlib.machinery.PathFinder):
    """Finds the rooms, and watches each once it is executed."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """A room's spec with a loader that watches; None for anything else."""
        if not name.startswith("blogcore."):
            return None
        spec = super().find_spec(name, path, target)
        if spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                watch(module)

            spec.loader.exec_module = exec_module
        return spec


def begin() -> None:
    """Watch every room that is imported from now on."""
    sys.meta_path.insert(0, Watching)

"""A made-up device beside the CPU: its tensors hold values and refuse the CPU's.

It goes by the name of the meta device, whose tensors torch can differentiate without a
card. What a card forbids raises here: operations between both devices, but for single
numbers and indices, and a generator of the other one. The numbers are the CPU's.
"""

import importlib
import sys
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from blogcore import checkpoint, finetuning, training

aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
INDEXES = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}
MAKERS = {torch.tensor, torch.as_tensor}
PRODUCTS = {functional.linear, functional.scaled_dot_product_attention, torch.conv2d}
PRODUCTS |= {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__}
LOOKS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
MEASURES = {training.Probe.__call__, training._Watch.look, finetuning.Best.look}
MEASURES = {look.__code__ for look in MEASURES | {checkpoint.Checkpoint.save}}
OPTIMIZERS = ["torch.optim.adam", "torch.optim.adamw", "torch.optim.optimizer"]


class OnCard(torch.Tensor):
    """A tensor on the device, its values kept aside."""

    @staticmethod
    def __new__(cls, values):
        form = values.size(), values.stride(), values.storage_offset()
        how = {"dtype": values.dtype, "device": "meta"}
        return torch.Tensor._make_wrapper_subclass(cls, *form, **how)

    def __init__(self, values):
        self.values = values

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), more=None):
        return computed(operation, arguments, more or {})

    def __deepcopy__(self, memo):
        copied = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        return memo.setdefault(id(self), copied)

    def tolist(self):
        """As of a tensor on a card, which is looked at for it."""
        return self.detach().cpu().tolist()


def computed(operation, arguments, more):
    """What the operation gives, on the device that it was given or told."""
    given = [t for t in tree_leaves((arguments, more)) if torch.is_tensor(t)]
    _check(operation, arguments, given)
    there = any(isinstance(tensor, OnCard) for tensor in given)
    if more.get("device") is not None:
        there = torch.device(more["device"]).type == "meta"
        more = more | {"device": torch.device("cpu")}
    found = operation(*tree_map(_values, arguments), **tree_map(_values, more))
    if operation is aten.copy_.default:
        return arguments[0]
    if not there:
        return found
    found = tree_map(lambda t: OnCard(t) if torch.is_tensor(t) else t, found)
    return return_and_correct_aliasing(operation, arguments, more, found)


def _check(operation, arguments, given) -> None:
    onto_card = operation in INDEXES and isinstance(arguments[0], OnCard)
    if operation in MOVES or onto_card:
        return
    there = any(isinstance(tensor, OnCard) for tensor in given)
    if there and any(not isinstance(t, OnCard) and t.ndim for t in given):
        raise RuntimeError(f"{operation}: tensors on the CPU and on the card")


def _values(tensor):
    return tensor.values if isinstance(tensor, OnCard) else tensor


class Operations(TorchDispatchMode):
    """All operations, also those that are given no tensor."""

    def __torch_dispatch__(self, operation, types, arguments=(), more=None):
        return computed(operation, arguments, more or {})


class Hurried(TorchDispatchMode):
    """Raises where a training step waits for the card, but for measures on the way."""

    def __torch_dispatch__(self, operation, types, arguments=(), more=None):
        given = [t for t in tree_leaves((arguments, more)) if torch.is_tensor(t)]
        there = any(isinstance(tensor, OnCard) for tensor in given)
        if there and _waits(operation, arguments, more or {}) and _inside_a_step():
            raise RuntimeError(f"{operation} waits for the card inside a training step")
        return operation(*arguments, **(more or {}))


def _waits(operation, arguments, more) -> bool:
    if operation in INDEXES:
        return any(t.dtype == torch.bool for t in arguments[1] if t is not None)
    if operation is aten.copy_.default:
        return not isinstance(arguments[0], OnCard)
    if operation is aten._to_copy.default:
        return torch.device(more.get("device") or "meta").type == "cpu"
    return bool(LOOKS & set(operation.tags))


def _inside_a_step() -> bool:
    frame = sys._getframe()
    while frame and frame.f_code not in MEASURES:
        if frame.f_code is training.train.__code__:
            return True
        frame = frame.f_back
    return False


class Dice(torch._C.Generator):
    """Dice on the card; they fall as the CPU's do."""

    device = torch.device("meta")


class Calls(TorchFunctionMode):
    """What torch decides before an operation: where, how precisely, with which dice."""

    def __init__(self):
        super().__init__()
        self.precision = None

    def generator(self, device="cpu"):
        """``torch.Generator``, which knows no such device."""
        there = torch.device(device).type == "meta"
        return Dice() if there else torch._C.Generator()

    @contextmanager
    def autocast(self, device, dtype):
        """``torch.autocast``, which knows no such device either."""
        self.precision = dtype
        yield
        self.precision = None

    def __torch_function__(self, function, types, arguments=(), more=None):
        more = dict(more or {})
        if self.precision and function in PRODUCTS:
            arguments = tree_map(partial(_as, dtype=self.precision), arguments)
        if self.precision and function is functional.cross_entropy:
            arguments = tree_map(partial(_as, dtype=torch.float32), arguments)
        where = more.get("device")
        if function in MAKERS and where and not torch.is_tensor(arguments[0]):
            return function(*arguments, **more | {"device": None}).to(where)
        self._check_dice(function, arguments, more)
        return function(*arguments, **more)

    def _check_dice(self, function, arguments, more) -> None:
        dice, first = more.get("generator"), arguments[0] if arguments else None
        at_hand = first.device if torch.is_tensor(first) else "cpu"
        where = torch.device(more.get("device") or at_hand)
        if dice is not None and where.type == "meta" and dice.device != where:
            raise RuntimeError(f"{function}: the CPU's dice thrown on the card")


def _as(tensor, dtype):
    floats = torch.is_tensor(tensor) and tensor.is_floating_point()
    return tensor.to(dtype) if floats else tensor


@contextmanager
def card(monkeypatch):
    """Inside, there is such a device; its name is “meta”."""
    importlib.import_module("torch._dynamo")  # names torch.Generator in annotations
    for name in OPTIMIZERS:
        module = importlib.import_module(name)
        known = "_get_fused_kernels_supported_devices"
        monkeypatch.setattr(module, known, lambda: ["cpu", "meta"], raising=False)
    calls = Calls()
    monkeypatch.setattr(torch, "Generator", calls.generator)
    monkeypatch.setattr(torch, "autocast", calls.autocast)
    with ExitStack() as stack:
        stack.enter_context(Operations())
        stack.enter_context(Hurried())
        stack.enter_context(calls)
        yield

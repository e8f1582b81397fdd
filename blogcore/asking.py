"""What an objective is, for every room, and how a model is asked one.

An objective takes (model, batch) and returns (loss, parts). The loss has one entry a
member, shape (S,), or none, shape (), for a single model; parts are detached numbers
under their names. What a batch is, only the objective knows: examples, questions about
texts, images with their noise.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call

Parts = dict[str, torch.Tensor]
Objective = Callable[[nn.Module, object], tuple[torch.Tensor, Parts]]


class Asked(nn.Module):
    """A model and its objective as one module: forward(batch) is (loss, parts).

    What sees of a module its parameters and its forward only (a wrapper for several
    processes, ``functional_call``) reaches in this way all that the objective uses.
    """

    def __init__(self, model: nn.Module, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: object) -> tuple[torch.Tensor, Parts]:
        return self.objective(self.model, batch)


def at(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    objective: Objective,
    batch: object,
) -> tuple[torch.Tensor, Parts]:
    """(loss, parts) of the model with other parameters and buffers, by their names.

    The model itself is left as it is, and what shares a parameter goes on sharing.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    replaced = {id(old): tensors[name] for name, old in named if name in tensors}
    # Every place once. (``functional_call`` itself would visit a module that stands in
    # two places twice, and put the other parameters back in the end.)
    placed = {
        f"model.{path}.{name}".replace("..", "."): replaced[id(old)]
        for path, part in model.named_modules()
        for name, old in [*part._parameters.items(), *part._buffers.items()]
        if id(old) in replaced
    }
    asked = Asked(model, objective)
    return functional_call(asked, placed, (batch,), tie_weights=False)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Within it the model is in eval mode; behind it, each part in the mode it had."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for part, mode in modes:
            part.training = mode

"""A training step as CUDA graphs: where launching thousands of small operations binds.

An objective becomes an objective whose forward and backward pass are one launch each;
``training.train`` does not notice. Elsewhere than on a GPU it stays what it is.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from blogcore.asking import Asked, Objective, Parts

# How far a replayed step may be from a plain one: GPUs add in no fixed order.
LOSS, GRADIENT = 1e-4, 1e-2


def captured(
    model: nn.Module, objective: Objective, examples: Sequence[object]
) -> Objective:
    """The objective, on a GPU recorded once as graphs and replayed at every step.

    Batches must be tensors alone, always of the shapes of ``examples``: two of them at
    least, the first to record with, all to compare replayed losses and gradients with
    plain ones. The model must be in training mode; what recording does to its running
    statistics is undone. Where it cannot be recorded, or a replayed step is not the
    plain one, |ΔL| > 10⁻⁴ max(|L|, 1) or ‖Δg‖ > 10⁻² ‖g‖, a warning says so, and the
    objective stays what it is, which takes longer. Raises ValueError for fewer examples
    or a batch of another shape. Source: torch.cuda.make_graphed_callables.
    """
    if len(examples) < 2:
        raise ValueError(f"examples: {len(examples)} given, two are needed")
    if not _on_gpu(examples[0]):
        return objective
    kept = [buffer.clone() for buffer in model.buffers()]
    plain = [_step(model, objective, batch) for batch in examples]
    try:
        replayed = _replayed(model, objective, examples[0])
        for number, batch in enumerate(examples):
            _compare(number, plain[number], _step(model, replayed, batch))
    except RuntimeError as error:
        warnings.warn(f"captured: {error}; it trains without graphs", stacklevel=2)
        replayed = objective
    with torch.no_grad():
        for buffer, old in zip(model.buffers(), kept, strict=True):
            buffer.copy_(old)
    return replayed


def _replayed(model: nn.Module, objective: Objective, example: object) -> Objective:
    graphed = _graphed(Asked(model, objective), example)
    shapes = [tensor.shape for tensor in tree_leaves(example)]

    def asked(model: nn.Module, batch: object) -> tuple[torch.Tensor, Parts]:
        if not model.training:
            return objective(model, batch)
        found = [tensor.shape for tensor in tree_leaves(batch)]
        if found != shapes:
            raise ValueError(f"batch: {found} are not the shapes recorded, {shapes}")
        loss, parts = graphed(batch)
        # Copies: the next replay writes over what this one gave.
        return loss.clone(), {n: part.detach().clone() for n, part in parts.items()}

    return asked


def _on_gpu(batch: object) -> bool:
    return tree_leaves(batch)[0].is_cuda


def _graphed(asked: Asked, example: object) -> nn.Module:
    return torch.cuda.make_graphed_callables(asked, (example,), allow_unused_input=True)


def _step(model: nn.Module, objective: Objective, batch: object):
    """Loss and gradient, as one vector, of a batch."""
    loss, _ = objective(model, batch)
    weights = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss.sum(), weights, materialize_grads=True)
    return loss.detach().clone(), torch.cat([g.flatten() for g in found])


def _compare(number: int, plain, again) -> None:
    (loss, gradient), (loss_again, gradient_again) = plain, again
    off = ((loss_again - loss).abs() / loss.abs().clamp(min=1)).max().item()
    turned = ((gradient_again - gradient).norm() / gradient.norm()).item()
    if not (off <= LOSS and turned <= GRADIENT):
        raise RuntimeError(
            f"replaying batch {number} gives a loss off by {off:.1e} and a gradient "
            f"off by {turned:.1e} of its norm, allowed are {LOSS:.0e} and "
            f"{GRADIENT:.0e}"
        )

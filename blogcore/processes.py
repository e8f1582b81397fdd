"""Training that several processes share: each step's questions are dealt out."""

from collections.abc import Callable

import torch
from torch import nn

from blogcore.asking import Asked, Objective
from blogcore.cloze import Cloze


def in_processes(
    accelerator, model: nn.Module, objective: Objective, optimizer, batches
) -> tuple[nn.Module, Objective, torch.optim.Optimizer, Callable[[int], Cloze]]:
    """What ``train`` needs, in this order, to share each batch among processes.

    ``accelerator`` is an ``accelerate.Accelerator``; one process is the ordinary case.
    Every process draws the whole batch and keeps its part. A process's loss counts by
    its number of questions, so the gradient is that of the whole batch. The model is
    trained in place.
    """
    module, optimizer = accelerator.prepare(Asked(model, objective), optimizer)
    index, count = accelerator.process_index, accelerator.num_processes

    def mine(step: int) -> Cloze:
        return batches(step).part(index, count).to(accelerator.device)

    def together(module, batch):
        asked = torch.tensor(float(len(batch.targets)), device=accelerator.device)
        share = asked / accelerator.reduce(asked, "mean")
        loss, parts = module(batch)
        parts = {n: accelerator.reduce(share * v, "mean") for n, v in parts.items()}
        return share * loss, parts

    return module, together, optimizer, mine

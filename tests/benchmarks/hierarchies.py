"""Hierarchical VAEs of the digits: memory layouts, and what a bound costs."""

import time
from dataclasses import replace
from functools import partial

import torch

from blogcore import images
from blogcore.cells import EncoderCell, GenerativeCell
from blogcore.data import Examples, shuffled, split
from blogcore.elbo import Batch, negative_elbo, noisy, warm_up
from blogcore.latents import fresh
from blogcore.likelihoods import LogisticMixture, exact_bins
from blogcore.optim import linear_decay
from blogcore.runtime import stream
from blogcore.training import evaluate, train
from blogcore.vae import HierarchicalVAE, Hierarchy
from tests.benchmarks.timing import Work, ratios, report


class Contiguous(HierarchicalVAE):
    """The same machine in torch's default memory layout, channels first."""

    def __init__(self, hierarchy: Hierarchy):
        super().__init__(hierarchy, stream(0, "init"))
        self.to(memory_format=torch.contiguous_format)

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The tower's, without a change of layout."""
        return self.tower(x.contiguous())


def learn(model: HierarchicalVAE, likelihood, train_set: Examples, steps: int) -> Work:
    """Steps of −ELBO on minibatches of 64, β warmed up over the first 30 %."""
    moves = torch.optim.AdamW(
        model.parameters(), lr=3e-3, betas=(0.9, 0.99), fused=True
    )
    decay = [linear_decay(moves, steps)]
    warm = warm_up(max(3 * steps // 10, 1))
    batches = noisy(shuffled(train_set, 64, [0]), 0, warm)
    return partial(
        train, model, batches, negative_elbo(likelihood), moves, steps, decay
    )


def hierarchies(steps: int) -> None:
    """A step and a sample of the digits' VAE: channels first over channels last."""
    report("\nhierarchical VAE: channels first / last", "step", "sample", "target")
    likelihood = LogisticMixture(exact_bins(17), 3)
    regular = Hierarchy(
        outputs=likelihood.outputs, width=32, growth=1, decoder_cell=EncoderCell
    )
    lean = partial(GenerativeCell, expansion=3, size=3)
    for name, hierarchy in {
        "digits, regular cells": regular,
        "digits, depthwise 3×3, expansion 3": replace(regular, decoder_cell=lean),
        "digits, the paper's cells": replace(
            regular, width=16, decoder_cell=GenerativeCell
        ),
        "digits at 16×16, regular cells": replace(regular, size=16, width=16),
    }.items():
        digits = images.digits()
        data = images.padded(digits, hierarchy.size)
        models = Contiguous(hierarchy), HierarchicalVAE(hierarchy, stream(0, "init"))
        learning = [learn(model, likelihood, data, steps) for model in models]
        draws = [
            partial(model.decoder, 64, fresh(stream(0, "noise"))) for model in models
        ]
        report(name, *ratios(*learning), *ratios(*draws), "step ≥ 1.3")


def digits_bound(_: int) -> None:
    """−ELBO of held-out digits, 17 levels, always after 2,000 steps; CPU seconds."""
    likelihood = LogisticMixture(exact_bins(17), 3)
    train_set, test = split(images.digits(), [1397, 400], stream(0, "split"))
    hierarchy = Hierarchy(
        outputs=likelihood.outputs, width=32, growth=1, decoder_cell=EncoderCell
    )
    model = HierarchicalVAE(hierarchy, stream(0, "init"))
    start = time.process_time()
    learn(model, likelihood, train_set, 2000)()
    seconds = time.process_time() - start
    batch = Batch(test.inputs, (0, "test"))
    nats = evaluate(model, negative_elbo(likelihood), batch)["nats"]
    cells = f"{nats:.1f} nats", f"{seconds:.0f} s", "≤ 85.5 nats in 90 s"
    report("\ndigits, groups (1, 1, 1), −ELBO", *cells)

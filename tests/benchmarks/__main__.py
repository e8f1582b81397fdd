"""Many seeds at once against a loop, what a gradient penalty costs, and small VAEs.

Run as ``python -m tests.benchmarks`` with an idle machine. Every figure is a ratio of
medians of alternating runs (A B A B …), with the range of the pairwise ratios.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn

from blogcore import images
from blogcore.cells import Bottleneck, EncoderCell, GenerativeCell
from blogcore.data import Batches, Examples, full_batch, shuffled, split
from blogcore.elbo import Batch, negative_elbo, noisy, warm_up
from blogcore.latents import fresh
from blogcore.likelihoods import LogisticMixture, exact_bins
from blogcore.networks import mlp, normalised_relu, tanh
from blogcore.objectives import (
    classification,
    finite_difference_penalty,
    flood,
    gradient_penalty,
)
from blogcore.runtime import stream
from blogcore.training import evaluate, linear_decay, train
from blogcore.vae import HierarchicalVAE, Hierarchy

Work = Callable[[], object]
OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "AdamW": partial(torch.optim.AdamW, lr=1e-3),
}


def ratios(*works: Work, rounds: int = 7) -> list[str]:
    """CPU time of each piece of work over that of the last: of medians [range]."""
    times = []
    for _ in range(rounds + 1):
        row = []
        for work in works:
            start = time.process_time()
            work()
            row.append(time.process_time() - start)
        times.append(row)
    columns = list(zip(*times[1:], strict=True))  # the first round is for the caches
    found = []
    for column in columns[:-1]:
        pairs = [one / last for one, last in zip(column, columns[-1], strict=True)]
        middle = median(column) / median(columns[-1])
        found.append(f"{middle:5.2f} [{min(pairs):.2f}, {max(pairs):.2f}]")
    return found


def examples(features: int, classes: int, count: int) -> Examples:
    generator = stream(0, "data")
    labels = torch.randint(0, classes, (count,), generator=generator)
    return Examples(torch.randn(count, features, generator=generator), labels)


def together(widths, hidden, optimizer, batches: Batches, seeds, steps) -> Work:
    """All seeds in one run, as the chapters do it."""
    model = mlp(widths, [stream(seed, "init") for seed in seeds], hidden)
    moves = OPTIMIZERS[optimizer](model.parameters(), fused=True)
    objective = flood(classification, 0.1)
    return lambda: train(model, batches, objective, moves, steps)


def looped(widths, hidden, optimizer, batches: list[Batches], steps, fused) -> Work:
    """One plain ``torch.nn`` network after the other."""
    machines = []
    for own in batches:
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out)]
            normal = [nn.BatchNorm1d(fan_out), nn.ReLU()]
            layers += normal if hidden is normalised_relu else [nn.Tanh()]
        drop = 2 if hidden is normalised_relu else 1
        network = nn.Sequential(*layers[:-drop])
        moves = OPTIMIZERS[optimizer](network.parameters(), fused=fused)
        machines.append((network, moves, own))

    def work():
        for network, moves, own in machines:
            history = []
            for step in range(steps):
                inputs, labels = own(step)
                logits = network(inputs.flatten(0, -2))
                loss = F.cross_entropy(logits, labels.flatten())
                history.append((loss.detach(), (logits.argmax(1) == labels).float()))
                moves.zero_grad()
                ((loss - 0.1).abs() + 0.1).backward()
                moves.step()

    return work


def compare(widths, hidden, optimizer, data: Examples, size, count: int, steps: int):
    """The loop's time, its optimizer as it comes and fused, over that of one run."""
    seeds = range(count)
    if size is None:
        one, own = full_batch(data), [full_batch(data)] * count
    else:
        one = shuffled(data, size, seeds)
        own = [shuffled(data, size, [seed]) for seed in seeds]
    return ratios(
        looped(widths, hidden, optimizer, own, steps, fused=False),
        looped(widths, hidden, optimizer, own, steps, fused=True),
        together(widths, hidden, optimizer, one, seeds, steps),
    )


def report(name: str, *cells: str) -> None:
    print(f"{name:<44}" + "".join(f"{cell:<22}" for cell in cells), flush=True)


def populations(steps: int) -> None:
    """Small networks on minibatches, and the flooding chapter's on the full batch."""
    report("\nmany seeds at once: loop / one run", "plain loop", "fused loop", "target")
    for optimizer in OPTIMIZERS:
        for width, target in ((64, 3.5), (256, 2.0)):
            for count in (5, 8, 20):
                goal = [f"plain ≥ {target}"] if count == 8 else []
                widths, data = (64, width, width, 10), examples(64, 10, 1000)
                found = compare(widths, tanh, optimizer, data, 32, count, steps)
                report(f"{optimizer}, {width} wide, batch 32, S={count}", *found, *goal)
    for width in (64, 100):
        for count in (5, 20, 80):
            goal = ["plain ≥ 3.0"] if count == 20 else []
            widths, data = (2, *[width] * 4, 2), examples(2, 2, 100)
            found = compare(widths, normalised_relu, "SGD", data, None, count, steps)
            report(f"2-{width}×4-2 BatchNorm, n=100, S={count}", *found, *goal)


def penalties(steps: int) -> None:
    """A gradient penalty's step over a plain one."""
    report("\nstep of a penalty / plain step, S=10")
    data, seeds = examples(64, 10, 300), range(10)
    for name, wrap in (
        ("gradient_penalty", lambda f: gradient_penalty(f, 1.0)),
        ("finite_difference_penalty", lambda f: finite_difference_penalty(f, 1.0, 0.1)),
    ):
        works = []
        for objective in (wrap(classification), classification):
            model = mlp((64, 100, 10), [stream(s, "init") for s in seeds], tanh)
            moves = OPTIMIZERS["SGD"](model.parameters(), fused=True)
            batches = shuffled(data, 30, seeds)
            works.append(partial(train, model, batches, objective, moves, steps))
        report(name, *ratios(*works))


def growth(steps: int) -> None:
    """Twice the seeds, or twice the steps, over once: 2 is linear."""
    report("\ngrowth: twice as many / once")
    data = examples(2, 2, 100)
    widths = (2, 64, 64, 64, 64, 2)
    work = partial(together, widths, normalised_relu, "SGD", full_batch(data))
    for count in (5, 10, 20, 40):
        found = ratios(work(range(2 * count), steps), work(range(count), steps))
        report(f"seeds {count} → {2 * count}", *found)
    found = ratios(work(range(10), 2 * steps), work(range(10), steps))
    report(f"steps {steps} → {2 * steps}", *found)


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
        likelihood.outputs, width=32, growth=1, decoder_cell=EncoderCell
    )
    lean = partial(GenerativeCell, expansion=3, size=3)
    for name, hierarchy in {
        "digits, regular cells": regular,
        "digits, depthwise 3×3, expansion 3": replace(regular, decoder_cell=lean),
        "digits, the paper's cells": replace(
            regular, width=16, decoder_cell=GenerativeCell
        ),
        "digits, bottlenecks": replace(
            regular, encoder_cell=Bottleneck, decoder_cell=Bottleneck
        ),
        "digits at 16×16, regular cells": replace(regular, size=16, width=16),
    }.items():
        digits = images.digits()
        data = images.enlarged(digits, hierarchy.size // 8)
        models = Contiguous(hierarchy), HierarchicalVAE(hierarchy, stream(0, "init"))
        learning = [learn(model, likelihood, data, steps) for model in models]
        draws = [
            partial(model.decoder, 64, fresh(stream(0, "noise"))) for model in models
        ]
        report(name, *ratios(*learning), *ratios(*draws), "step ≥ 1.3")


def digits_bound() -> None:
    """−ELBO of held-out digits, 17 levels, after 2,000 steps; and the CPU seconds."""
    likelihood = LogisticMixture(exact_bins(17), 3)
    train_set, test = split(images.digits(), [1397, 400], stream(0, "split"))
    hierarchy = Hierarchy(
        likelihood.outputs, width=32, growth=1, decoder_cell=EncoderCell
    )
    model = HierarchicalVAE(hierarchy, stream(0, "init"))
    start = time.process_time()
    learn(model, likelihood, train_set, 2000)()
    seconds = time.process_time() - start
    batch = Batch(test.inputs, stream(0, "test"))
    nats = evaluate(model, negative_elbo(likelihood), batch)["nats"]
    cells = f"{nats:.1f} nats", f"{seconds:.0f} s", "≤ 85.5 nats in 90 s"
    report("\ndigits, groups (1, 1, 1), −ELBO", *cells)


if __name__ == "__main__":
    length = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    print(f"torch {torch.__version__}, one thread, {length} steps a run")
    populations(length)
    penalties(length)
    growth(length)
    hierarchies(length)
    digits_bound()

"""Many seeds at once against a loop over them, and what a gradient penalty costs."""

from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from blogcore.data import Batches, Examples, full_batch, shuffled
from blogcore.networks import mlp, normalised_relu, tanh
from blogcore.objectives import (
    classification,
    finite_difference_penalty,
    flood,
    gradient_penalty,
)
from blogcore.runtime import stream
from blogcore.training import train
from tests.benchmarks.timing import Work, ratios, report

OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "AdamW": partial(torch.optim.AdamW, lr=1e-3),
}


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

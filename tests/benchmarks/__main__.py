"""Many seeds at once against a loop, what a gradient penalty and a softmax cost.

Run as ``python -m tests.benchmarks`` with an idle machine. Every figure is a ratio of
medians of alternating runs (A B A B …), with the range of the pairwise ratios.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from blogcore.data import Batches, Examples, full_batch, shuffled
from blogcore.networks import mlp, normalised_relu, tanh
from blogcore.objectives import (
    classification,
    finite_difference_penalty,
    flood,
    gradient_penalty,
    joint_softmax,
)
from blogcore.runtime import stream
from blogcore.training import train
from blogcore.wordvec import SkipGram, Softmax, on_sphere, row_softmax

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


def naive_softmax(centre: torch.Tensor, context: torch.Tensor) -> Softmax:
    """All N × M energies at once, each of the three sums from its own softmax."""
    energies = centre @ context.T
    shares = energies.softmax(-1)
    mean = (shares * energies).sum(-1)
    return Softmax(energies.logsumexp(-1), mean, (2 * energies).logsumexp(-1))


def peak_memory(work: Work) -> int:
    """Bytes that torch holds at most while it works, beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    changes = [
        e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"
    ]
    return max(accumulate(e.nbytes() for e in sorted(changes, key=start_of)))


def start_of(event) -> int:
    return event.start_ns()


def words() -> None:
    """Softmaxes over drawn vectors by blocks, and skip-grams of many seeds at once."""
    report("\nall energies at once / by blocks, n=64", "time", "memory", "target")
    for count in (512, 1024, 2048, 4096):
        pair = [on_sphere(count, 64, stream(0, name)) for name in "uv"]
        works = partial(naive_softmax, *pair), partial(row_softmax, *pair)
        held = peak_memory(works[0]) / peak_memory(works[1])
        goal = ["memory ≥ 4"] if count == 4096 else []
        report(f"N={count}", *ratios(*works), f"{held:5.2f}", *goal)


def skip_grams(steps: int) -> None:
    """The time of one seed after the other over that of one run."""
    report("\nskip-grams: loop / one run, n=16")
    for words, count in ((64, 5), (64, 20), (256, 5)):
        joint = torch.full((words, words), 1 / words**2)
        even = joint.sum(1)

        def fit(seeds, joint=joint, even=even):
            model = SkipGram(even, even, 16, [stream(s, "init") for s in seeds])
            moves = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
            return train(model, lambda _: joint, joint_softmax, moves, steps)

        def loop(count=count, fit=fit):
            return [fit([seed]) for seed in range(count)]

        found = ratios(loop, partial(fit, range(count)))
        report(f"N={words}, S={count}", *found)


if __name__ == "__main__":
    length = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    print(f"torch {torch.__version__}, one thread, {length} steps a run")
    populations(length)
    penalties(length)
    growth(length)
    words()
    skip_grams(length)

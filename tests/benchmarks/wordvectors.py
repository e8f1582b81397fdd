"""A softmax by blocks against all energies at once, and skip-grams of many seeds."""

from functools import partial
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

from blogcore.objectives import joint_softmax
from blogcore.runtime import stream
from blogcore.training import train
from blogcore.wordvec import SkipGram, Softmax, on_sphere, row_softmax
from tests.benchmarks.timing import Work, ratios, report


def naive_softmax(centre: torch.Tensor, context: torch.Tensor) -> Softmax:
    """All N × M energies at once, each of the three sums from its own softmax."""
    energies = centre @ context.T
    shares = energies.softmax(-1)
    mean = (shares * energies).sum(-1)
    return Softmax(energies.logsumexp(-1), mean)


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


def softmaxes(steps: int) -> None:
    """Softmaxes over drawn vectors by blocks; one pass each, whatever ``steps``."""
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

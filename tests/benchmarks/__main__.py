"""What is fast, and how fast: ``python -m tests.benchmarks [steps] [encoders …]``.

Run with an idle machine. Every figure is a ratio of medians of alternating runs
(A B A B …), with the range of the pairwise ratios. Without a name, all are run.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

import sys

import torch

from tests.benchmarks.batches import batches, captures
from tests.benchmarks.encoders import encoders
from tests.benchmarks.hierarchies import digits_bound, hierarchies
from tests.benchmarks.populations import growth, penalties, populations
from tests.benchmarks.wordvectors import skip_grams, softmaxes

WORKS = (
    populations,
    penalties,
    growth,
    softmaxes,
    skip_grams,
    encoders,
    hierarchies,
    digits_bound,
    batches,
    captures,
)
ALL = {work.__name__: work for work in WORKS}

if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    names = [word for word in sys.argv[1:] if not word.isdigit()]
    if not set(names) <= set(ALL):
        sys.exit(f"{names} are not all among {list(ALL)}")
    length = numbers[0] if numbers else 30
    print(f"torch {torch.__version__}, one thread, {length} steps a run")
    for name in names or ALL:
        ALL[name](length)

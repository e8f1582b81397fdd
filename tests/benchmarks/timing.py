"""How pieces of work are compared: alternating runs, and ratios with their range."""

import time
from collections.abc import Callable
from statistics import median

Work = Callable[[], object]


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


def report(name: str, *cells: str) -> None:
    print(f"{name:<44}" + "".join(f"{cell:<22}" for cell in cells), flush=True)

"""The command ``blogcore full``: large experiments on real data, unit by unit."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from math import inf
from pathlib import Path

from blogcore import worker
from blogcore.checks import check_integer, check_number
from blogcore.contents import chapters, find_root
from blogcore.crew import follow, say, start
from blogcore.keeping import begun
from blogcore.runtime import LARGEST_ROOT
from blogcore.unitcode import digest
from blogcore.unitfiles import Folder, clear, in_hand
from blogcore.unitpictures import merge_all
from blogcore.units import PLANNED, Page, Unit, paged
from blogcore.worker import LOST, MARGIN, Work


def main(argv: Sequence[str] | None = None, start: float | None = None) -> int:
    """The command line, ``blogcore full PAGE … --units DIR``; returns the status.

    The budget counts from ``start``, epoch seconds, or from now.
    """
    options = _parser().parse_intermixed_args(argv)
    try:
        work = _work(options, time.time() if start is None else start)
        return _mode(options)(work, options)
    except (ValueError, OSError) as error:
        print(f"blogcore: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("blogcore: interrupted; the same command goes on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blogcore full",
        description="Run the units of pages that are not done yet, longest first.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("pages", nargs="*", metavar="PAGE")
    add("--all", action="store_true", help="every page that has units")
    add("--units", type=Path, required=True, help="the folder that workers share")
    add("--budget", type=float, help="seconds; what does not fit is not begun")
    add("--workers", type=int, help="processes side by side; default: the page's own")
    add("--seed", type=int, default=0, help="root of all streams")
    add("--device", default="auto", help="auto, cpu, cuda, ...")
    add("--retry", action="store_true", help="try again what failed")
    add("--root", type=Path, help="the book's folder")
    modes = parser.add_mutually_exclusive_group()
    mode = modes.add_argument
    mode("--prepare", action="store_true", help="make the data ready, no GPU needed")
    mode("--list", action="store_true", help="what is done, what is missing, how long")
    mode("--merge", action="store_true", help="add the rows to data/units")
    mode("--until", type=float, help=argparse.SUPPRESS)  # makes it a worker
    return parser


def _work(options: argparse.Namespace, start: float) -> Work:
    """What the options ask for; ValueError for what is not allowed."""
    if options.budget is not None:
        check_number("budget", options.budget, 0)
    if options.workers is not None:
        check_integer("workers", options.workers, 1)
    if not 0 <= options.seed <= LARGEST_ROOT:
        raise ValueError(f"seed: {options.seed} is not in 0 … {LARGEST_ROOT}")
    root = find_root(options.root)
    if bool(options.pages) == options.all:
        raise ValueError("page: name one or several, or give --all")
    slugs = list(dict.fromkeys(options.pages)) or list(paged(root, chapters(root)))
    pages = [Page(root, slug, options.seed, options.device) for slug in slugs]
    without = [page.slug for page in pages if not page.experiments]
    if without:
        having = ", ".join(paged(root, chapters(root)))
        raise ValueError(f"page: {', '.join(without)} has no units; {having} have")
    deadline = start + (inf if options.budget is None else options.budget)
    deadline = options.until or deadline
    folder = Folder(options.units.resolve())
    return Work(pages, folder, root / "data", options.device, deadline)


def _mode(options: argparse.Namespace):
    if options.until is not None:
        return _as_worker
    for name, mode in (("prepare", _prepare), ("list", _list), ("merge", _merge)):
        if getattr(options, name):
            return mode
    return _as_process if "TORCHELASTIC_RUN_ID" in os.environ else _run


def _as_worker(work: Work, options: argparse.Namespace) -> int:
    worker.die_with(sys.stdin.fileno())
    try:
        return int(worker.work_through(work, lambda line: print(line, flush=True)) > 0)
    except worker.DeviceLostError:
        return LOST


def _as_process(work: Work, options: argparse.Namespace) -> int:
    if options.retry and os.environ["RANK"] == "0":
        clear(work.folder, work.units)  # before the processes meet
    if left := work.folder.open(work.units):
        _check_budget(work, left)
    try:
        failures = worker.work_together(work, say)
    except worker.DeviceLostError as error:
        say(f"process {os.environ['RANK']} lost its device, so all end: {error}")
        return LOST
    if os.environ["RANK"] == "0":
        _tell(work)
    return int(failures > 0)


def _prepare(work: Work, options: argparse.Namespace) -> int:
    for page in work.pages:
        for loader in page.loaders():
            loader.settle(work.folder.path, digest(page.code(loader.name)))
            say(f"{page.slug}: {loader.name} {loader.prepare()} in {loader.home}")
    return 0


def _merge(work: Work, options: argparse.Namespace) -> int:
    rows = work.folder.rows()
    for page in work.pages:
        if not any(row["page"] == page.slug for row in rows):
            say(f"{page.slug}: no rows in {work.folder.path}")
            continue
        gone = sum(
            r["page"] == page.slug and r["experiment"] not in page.experiments
            for r in rows
        )
        if gone:
            say(f"{page.slug}: left out, {gone} rows of what it no longer runs")
        new = merge_all(work.folder.path, work.data, page.slug, page.units(), rows)
        say(f"{page.slug}: {new} new rows in data/units/{page.slug}.json")
    return 0


def _list(work: Work, options: argparse.Namespace) -> int:
    seconds, names = work.estimates(), {unit.name for unit in work.units}
    older = [r for r in work.folder.path.glob("*.json") if r.stem not in names]
    for page in work.pages:
        for experiment in page.experiments.values():
            units = [u for u in work.units if u.experiment is experiment]
            left = work.folder.open(units)
            taken = in_hand(work.folder, left)
            free = [u for u in left if u not in taken]
            stem = f"{page.slug}-{experiment.name}-"
            counts = {
                "done": len(work.folder.done(units)),
                "failed": len(work.folder.failed(units)),
                "in hand": len(taken),
                "open": len(free),
                "of them part of their way": sum(
                    begun(work.folder.path, u.name) for u in free
                ),
                "by earlier code or settings": sum(
                    r.name.startswith(stem) for r in older
                ),
            }
            told = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
            needed = sum(seconds[u.name] for u in left)
            last = f", about {needed:.0f} s {work.where(left)}" if left else ""
            print(f"{page.slug} {experiment.name}: {len(units)} units: {told}{last}")
    return 0


def _run(work: Work, options: argparse.Namespace) -> int:
    """Start workers and follow them; whether anything failed."""
    if options.retry:
        clear(work.folder, work.units)
    single = [u for u in work.folder.open(work.units) if u.experiment.processes == 1]
    if not single:
        _tell(work)
        return int(bool(work.folder.failed(work.units)))
    _check_budget(work, single)
    if work.new(single):
        say(
            f"new on {work.device_name}: the first units may take far longer or less "
            f"than planned for {PLANNED}"
        )
    work.settle()
    count = options.workers or max(unit.experiment.workers for unit in single)
    _tell_plan(work, single, count)
    died = follow(work, partial(start, options, work, count), count)
    _tell(work)
    return int(died or bool(work.folder.failed(work.units)))


def _check_budget(work: Work, units: Sequence[Unit]) -> None:
    """Raise ValueError if none of the units fits into what is left."""
    seconds = work.estimates()
    shortest = MARGIN * min(seconds[unit.name] for unit in units)
    if shortest > work.left:
        raise ValueError(
            f"budget: {max(work.left, 0):.0f} s are left, but the shortest open unit "
            f"needs {shortest:.0f} s"
        )


def _tell_plan(work: Work, units: Sequence[Unit], count: int) -> None:
    """Say what is open, how long it takes, and how much of it will not fit."""
    seconds = work.estimates()
    needed = [seconds[unit.name] for unit in work.fitting(processes=1)]
    fitting = sum(until <= count * work.left for until in accumulate(needed))
    last = (
        f"; about {len(units) - fitting} will not fit" if fitting < len(units) else ""
    )
    total = sum(seconds[unit.name] for unit in units)
    say(f"{len(units)} units, {total:.0f} s {work.where(units)}{last}")


def _tell(work: Work) -> None:
    """The sum of it: done, failed, what is left and what it needs."""
    left, seconds = work.folder.open(work.units), work.estimates()
    done, whole = len(work.folder.done(work.units)), len(work.units)
    say(f"{done} of {whole} units done, in {work.folder.path}")
    for unit in work.folder.failed(work.units):
        say(f"failed, see {work.folder.error(unit)}; --retry tries again")
    for place, count in _by_processes(left).items():
        units = [u for u in left if u.experiment.processes == place]
        needed = [seconds[unit.name] for unit in units]
        how = "the same command" if place == 1 else f"torchrun --nproc-per-node {place}"
        say(
            f"{count} are left, {sum(needed):.0f} s in all {work.where(units)}, "
            f"the longest {MARGIN * max(needed):.0f} s: {how} goes on with them"
        )


def _by_processes(units: Sequence[Unit]) -> dict[int, int]:
    found: dict[int, int] = {}
    for unit in units:
        number = unit.experiment.processes
        found[number] = found.get(number, 0) + 1
    return found

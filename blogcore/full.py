"""The command ``blogcore full``: large experiments on real data, unit by unit."""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path

import torch
from joblib import cpu_count
from tqdm import tqdm

from blogcore import worker
from blogcore.checks import check_integer, check_number
from blogcore.contents import chapters, find_root
from blogcore.keeping import begun
from blogcore.runtime import LARGEST_ROOT
from blogcore.unitcode import digest
from blogcore.unitfiles import LOCK, Folder, clear, held_by, in_hand
from blogcore.unitpictures import merge_all
from blogcore.units import PACKAGE, PLANNED, Page, Unit, paged
from blogcore.worker import GRACE, LOST, MARGIN, Work

BAR = "{desc}: {bar:24} {n_fmt} of {total_fmt} units, {elapsed}{postfix}"
GIVEN_UP = -14  # the status of a process that its own alarm ended
TRIES = 2  # workers in a row that may lose their device before any unit is done


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


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def _as_worker(work: Work, options: argparse.Namespace) -> int:
    worker.die_with(sys.stdin.fileno())
    try:
        return int(worker.work_through(work, lambda line: print(line, flush=True)) > 0)
    except worker.DeviceLostError:
        return LOST


def _as_process(work: Work, options: argparse.Namespace) -> int:
    if options.retry and os.environ["RANK"] == "0":
        clear(work.folder, work.units)  # before the processes meet
    try:
        failures = worker.work_together(work, _say)
    except worker.DeviceLostError as error:
        _say(f"process {os.environ['RANK']} lost its device, so all end: {error}")
        return LOST
    if os.environ["RANK"] == "0":
        _tell(work)
    return int(failures > 0)


def _prepare(work: Work, options: argparse.Namespace) -> int:
    for page in work.pages:
        for loader in page.loaders():
            loader.settle(work.folder.path, digest(page.code(loader.name)))
            _say(f"{page.slug}: {loader.name} {loader.prepare()} in {loader.home}")
    return 0


def _merge(work: Work, options: argparse.Namespace) -> int:
    rows = work.folder.rows()
    for page in work.pages:
        if not any(row["page"] == page.slug for row in rows):
            _say(f"{page.slug}: no rows in {work.folder.path}")
            continue
        new = merge_all(work.folder.path, work.data, page.slug, page.units(), rows)
        _say(f"{page.slug}: {new} new rows in data/units/{page.slug}.json")
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
                "done": sum(work.folder.row(u).exists() for u in units),
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
    seconds = work.estimates()
    shortest = MARGIN * min(seconds[unit.name] for unit in single)
    if shortest > work.left:
        raise ValueError(
            f"budget: {max(work.left, 0):.0f} s are left, but the shortest open unit "
            f"needs {shortest:.0f} s"
        )
    if work.new(single):
        _say(
            f"new on {work.device_name}: the first units may take far longer or less "
            f"than planned for {PLANNED}"
        )
    work.settle()
    count = options.workers or max(unit.experiment.workers for unit in single)
    died = _follow(work, partial(_start, options, work, count), count)
    _tell(work)
    return int(died or bool(work.folder.failed(work.units)))


def _start(options: argparse.Namespace, work: Work, count: int, place: int):
    """A worker: the same command, with the end of its time."""
    command = [sys.executable, "-P", "-m", "blogcore", "full", *options.pages]
    command += ["--all"] if options.all else []
    command += ["--units", str(work.folder.path), "--seed", str(options.seed)]
    command += ["--device", options.device, "--root", str(work.data.parent)]
    command += ["--until", str(work.deadline)]
    threads = str(max(1, cpu_count() // count))
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.getenv("PYTHONPATH")]))
    own = {"OMP_NUM_THREADS": threads} | os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        command,
        env=own | _card(options.device, place),
        stdin=subprocess.PIPE,  # it ends when we do
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is ours to handle
    )


def _card(device: str, place: int) -> dict[str, str]:
    """Where there are several cards, workers take them in turn."""
    if device not in ("auto", "cuda") or not torch.cuda.device_count():
        return {}
    all_cards = ",".join(map(str, range(torch.cuda.device_count())))
    cards = os.environ.get("CUDA_VISIBLE_DEVICES", all_cards).split(",")
    return {"CUDA_VISIBLE_DEVICES": cards[place % len(cards)]}


def _follow(work: Work, start: Callable[[int], subprocess.Popen], count: int) -> bool:
    """Show what workers say and how far they are, to their end; whether one failed."""
    ended: list[int] = []
    ears = [
        threading.Thread(target=_employ, args=[work, start, i, ended], daemon=True)
        for i in range(count)
    ]
    for ear in ears:
        ear.start()
    description = " ".join(page.slug for page in work.pages)
    options = {"total": len(work.units), "bar_format": BAR, "desc": description}
    with tqdm(**options, disable=not sys.stderr.isatty()) as bar:
        while any(ear.is_alive() for ear in ears):
            bar.n = _done(work)
            if work.left < inf:
                bar.set_postfix_str(f"{max(work.left, 0):.0f} s left", refresh=False)
            bar.refresh()
            time.sleep(0.2)
    return len(ended) < count or any(ended)


def _employ(work: Work, start, place: int, ended: list[int]) -> None:
    """Pass on what a worker says, to its end; another follows if it lost its device.

    A device that is gone for good would fail every unit, one worker after the other.
    """
    status, fruitless = LOST, 0
    while status == LOST and fruitless < TRIES:
        before = _done(work)
        with start(place) as process:  # closes its pipes at the end
            for line in process.stdout:
                _say(line.rstrip())
        status = process.returncode
        fruitless = 0 if _done(work) > before else fruitless + 1
        if status == LOST:
            then = "another one goes on" if fruitless < TRIES else "it is gone"
            _say(f"a worker lost its device: {then}")
        else:
            _tell_death(work, process)
    ended.append(status)


def _done(work: Work) -> int:
    return sum(work.folder.row(unit).exists() for unit in work.units)


def _tell_death(work: Work, process: subprocess.Popen) -> None:
    """Say how a worker died, if it did, and with which unit in hand."""
    if process.returncode in (0, 1):
        return
    held = _last_in_hand(work, process.pid)
    if process.returncode == GIVEN_UP:
        _say(f"given up {GRACE:.0f} s after the end of the budget{held}")
    else:
        _say(f"a worker died, status {process.returncode}{held}: run it again")


def _last_in_hand(work: Work, pid: int) -> str:
    """Which unit a dead process left, and for how long it had it."""
    with suppress(OSError):  # another worker may have it by now, and finish it
        for unit in held_by(work.folder, pid, work.units):
            lock = work.folder.path / f".{unit.name}{LOCK}"
            since = float(lock.read_text(encoding="ascii").split()[-1])
            held = max(time.time() - since, 0)
            return f" with {unit} in hand, for {held:.0f} s"
    return ""


def _tell(work: Work) -> None:
    """The sum of it: done, failed, what is left and what it needs."""
    _say(f"{_done(work)} of {len(work.units)} units done, in {work.folder.path}")
    for unit in work.folder.failed(work.units):
        _say(f"failed, see {work.folder.error(unit)}; --retry tries again")
    left, seconds = work.folder.open(work.units), work.estimates()
    for place, count in _by_processes(left).items():
        units = [u for u in left if u.experiment.processes == place]
        needed = [seconds[unit.name] for unit in units]
        how = "the same command" if place == 1 else f"torchrun --nproc-per-node {place}"
        _say(
            f"{count} are left, {sum(needed):.0f} s in all {work.where(units)}, "
            f"the longest {MARGIN * max(needed):.0f} s: {how} goes on with them"
        )


def _by_processes(units: Sequence[Unit]) -> dict[int, int]:
    found: dict[int, int] = {}
    for unit in units:
        number = unit.experiment.processes
        found[number] = found.get(number, 0) + 1
    return found

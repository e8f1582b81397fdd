"""The workers of ``blogcore full`` as processes: started, followed, replaced."""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf

import torch
from joblib import cpu_count
from tqdm import tqdm

from blogcore.unitfiles import LOCK, held_by
from blogcore.units import PACKAGE
from blogcore.worker import GRACE, LOST, Work

BAR = "{desc}: {bar:24} {n_fmt} of {total_fmt} units, {elapsed}{postfix}"
GIVEN_UP = -14  # the status of a process that its own alarm ended
TRIES = 2  # workers in a row that may lose their device before any unit is done


def say(line: str) -> None:
    """A line above the bar."""
    tqdm.write(line, file=sys.stderr)


def start(options: argparse.Namespace, work: Work, count: int, place: int):
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


def follow(work: Work, start: Callable[[int], subprocess.Popen], count: int) -> bool:
    """Show what workers say and how far they are, to their end; whether one failed."""
    seconds, ended = work.estimates(), []
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
            bar.set_postfix_str(_clock(work, seconds, count), refresh=False)
            bar.refresh()
            time.sleep(0.2)
    return len(ended) < count or any(ended)


def _clock(work: Work, seconds: Mapping[str, float], count: int) -> str:
    """How much there is to do, and how much time for it."""
    needed = sum(seconds[u.name] for u in work.folder.open(work.units)) / count
    left = f", {max(work.left, 0):.0f} s left" if work.left < inf else ""
    return f"about {needed:.0f} s of work{left}"


def _employ(work: Work, start, place: int, ended: list[int]) -> None:
    """Pass on what a worker says, to its end; another follows if it lost its device.

    A device that is gone for good would fail every unit, one worker after the other.
    """
    status, fruitless = LOST, 0
    while status == LOST and fruitless < TRIES:
        before = _done(work)
        with start(place) as process:  # closes its pipes at the end
            for line in process.stdout:
                say(line.rstrip())
        status = process.returncode
        fruitless = 0 if _done(work) > before else fruitless + 1
        if status == LOST:
            then = "another one goes on" if fruitless < TRIES else "it is gone"
            say(f"a worker lost its device: {then}")
        else:
            tell_death(work, process)
    ended.append(status)


def _done(work: Work) -> int:
    return len(work.folder.done(work.units))


def tell_death(work: Work, process: subprocess.Popen) -> None:
    """Say how a worker died, if it did, and with which unit in hand."""
    if process.returncode in (0, 1):
        return
    held = _last_in_hand(work, process.pid)
    if process.returncode == GIVEN_UP:
        held = held or " with no unit in hand"
        say(f"given up {GRACE:.0f} s after the end of the budget{held}")
    else:
        say(f"a worker died, status {process.returncode}{held}: run it again")


def _last_in_hand(work: Work, pid: int) -> str:
    """Which unit a dead process left, and for how long it had it."""
    with suppress(OSError):  # another worker may have it by now, and finish it
        for unit in held_by(work.folder, pid, work.units):
            lock = work.folder.path / f".{unit.name}{LOCK}"
            since = float(lock.read_text(encoding="ascii").split()[-1])
            held = max(time.time() - since, 0)
            return f" with {unit} in hand, for {held:.0f} s"
    return ""

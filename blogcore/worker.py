"""The loop of a worker: of the units that still fit into the time left, the longest.

Workers share nothing but a folder. Under torchrun, units for several processes come
first: all run them together; then each process goes on by itself.
"""

import errno
import gc
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from math import inf, isfinite
from pathlib import Path

import torch
import torch.distributed as together

from blogcore.keeping import Hand, in_hand, sweep
from blogcore.runtime import device as torch_device
from blogcore.unitcode import digest
from blogcore.unitfiles import Folder, Row, checked, recorded
from blogcore.units import PLANNED, Page, Unit

MARGIN = 1.15  # a unit starts if so many times its estimate are left
GRACE = 5.0  # seconds past the end after which a unit is given up
LONG = timedelta(weeks=4)  # processes that are done wait for the others
LOST = 3  # the status of a worker whose device answers no more
VERSIONS = ("torch", "numpy", "scipy")  # what units compute with
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # no unit's fault
Say = Callable[[str], None]


class DeviceLostError(RuntimeError):
    """After some errors a card refuses all that this process asks of it."""


@dataclass
class Work:
    """What is to be done: pages, a folder, a device, and until when (epoch seconds)."""

    pages: Sequence[Page]
    folder: Folder
    data: Path
    device: str = "auto"
    deadline: float = inf

    def __post_init__(self):
        self.units = [unit for page in self.pages for unit in page.units()]
        self._codes = {digest(dict(unit.code)) for unit in self.units}
        self.chosen = torch_device(self.device)
        self.device_name = name_of_device(self.chosen)
        self._earlier = [r for p in self.pages for r in recorded(self.data, p.slug)]

    @property
    def left(self) -> float:
        """The seconds left."""
        return self.deadline - time.time()

    def estimates(self) -> dict[str, float]:
        """Seconds by unit: the longest run of its arm here, else of its experiment.

        Runs by earlier code count until there is one by today's. What has never run
        on such a device takes what was planned.
        """
        longest = self._longest()
        return {unit.name: _estimate(unit, longest) for unit in self.units}

    def where(self, units: Sequence[Unit]) -> str:
        """Whose seconds the estimates are: this device's, or those of the plan."""
        return (
            f"on {PLANNED} (planned)" if self.new(units) else f"on {self.device_name}"
        )

    def new(self, units: Sequence[Unit]) -> bool:
        """Whether an experiment of theirs has never run on this device."""
        run = self._longest()
        return any((unit.page, unit.experiment.name) not in run for unit in units)

    def _longest(self) -> dict[tuple, float]:
        rows = [*self._earlier, *self.folder.rows()]
        here = [row for row in rows if row["device"] == self.device_name]
        today = [row for row in here if self.of_today(row)]
        known = {_whole(row) for row in today}
        return _longest([*today, *(row for row in here if _whole(row) not in known)])

    def of_today(self, row: Row) -> bool:
        """Whether a row is by the code as it now is."""
        return digest(row["code"]) in self._codes

    def fitting(self, processes: int) -> list[Unit]:
        """The open units that fit into what is left, seed by seed.

        The experiment with the longest comes first. By their own estimates the arms of
        one would come one after the other, and the last would have no seeds at the end.
        """
        seconds = self.estimates()
        mine = [u for u in self.units if u.experiment.processes == processes]
        found = [
            u for u in self.folder.open(mine) if MARGIN * seconds[u.name] <= self.left
        ]
        longest: dict[tuple, float] = {}
        for unit in self.units:
            key = unit.page, unit.experiment.name
            longest[key] = max(longest.get(key, 0), seconds[unit.name])
        return sorted(found, key=lambda u: -longest[u.page, u.experiment.name])

    def settle(self) -> dict[tuple[str, str], str]:
        """Prepare the data of all units that are open; their hashes by experiment.

        Raises ValueError for data that are missing, cut, or not those of rows that are
        here already.
        """
        found = {}
        for page in self.pages:
            for loader in page.loaders():
                code = digest(page.code(loader.name))
                loader.settle(self.folder.path, code)
            names = {u.experiment.name for u in page_units(self, page)}
            for name in sorted(names):
                loaders = page.loaders(name)
                for loader in loaders:
                    loader()  # cut arrays are told now, and not in the first unit
                hashes = {loader.prepare() for loader in loaders}
                found[page.slug, name] = "-".join(sorted(hashes))
        _check_rows(self, found)
        return found


def _check_rows(work: Work, data: dict[tuple[str, str], str]) -> None:
    for row in work.folder.rows():
        expected = data.get(_whole(row), row["data"])
        if work.of_today(row) and row["data"] != expected:
            raise ValueError(
                f"{row['page']} {row['experiment']}: rows are here from other data "
                f"({row['data']}, now {expected}); use another folder of units"
            )


def _longest(rows: Sequence[Row]) -> dict[tuple, float]:
    """The longest run by experiment, and by its arms."""
    longest: dict[tuple, float] = {}
    for row in rows:
        for key in (_whole(row), (*_whole(row), _arm(row["settings"]))):
            longest[key] = max(longest.get(key, 0), row["seconds"])
    return longest


def _whole(row: Row) -> tuple[str, str]:
    return row["page"], row["experiment"]


def _arm(settings: Mapping[str, object]) -> str:
    return digest({name: v for name, v in settings.items() if name != "seed"})


def _estimate(unit: Unit, longest: Mapping[tuple, float]) -> float:
    whole = unit.page, unit.experiment.name
    planned = longest.get(whole, unit.experiment.seconds)
    return longest.get((*whole, _arm(unit.settings)), planned)


def page_units(work: Work, page: Page) -> list[Unit]:
    """The page's units that are still open."""
    return work.folder.open([u for u in work.units if u.page == page.slug])


def name_of_device(device: torch.device) -> str:
    """What a row says of the device: the card's name, or “cpu”."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def work_through(work: Work, say: Say) -> int:
    """Do units until none fits any more; how many of them failed.

    Raises DeviceLostError after a unit that took the device along.
    """
    _give_up_after(work.deadline)
    if work.chosen.type == "cuda" and work.chosen.index is not None:
        torch.cuda.set_device(work.chosen)  # graphs are recorded on the current one
    data = work.settle()
    sweep(work.folder.path)
    return _one_by_one(work, data, say)


def _one_by_one(work: Work, data, say: Say) -> int:
    failures = 0
    for unit in _claimed(work):
        failures += not attempt(work, unit, data, say)
        _tidy(work.chosen)
    return failures


def _tidy(device: torch.device) -> None:
    """Give back what a unit held; DeviceLostError if the device no longer answers.

    Recorded graphs hang together in circles, and hold some GB each.
    """
    if device.type != "cuda":
        return
    gc.collect()
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError as error:
        raise DeviceLostError(str(error)) from error


def _claimed(work: Work) -> Iterator[Unit]:
    """One unit after the other, each held while it is worked on."""
    taken = True
    while taken:
        taken = False
        for unit in work.fitting(processes=1):
            with work.folder.claim(unit) as mine:
                if mine:
                    taken = True
                    yield unit
                    break


def work_together(work: Work, say: Say) -> int:
    """Under torchrun: do what wants all processes, then go on alone; the failures.

    The first process chooses and tells the others, and writes what came of it. None
    returns before all have ended. Raises ValueError for fewer cards than processes.
    """
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    cuda = work.chosen.type == "cuda"
    if cuda:
        _take_own_card()
    together.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    everybody = together.new_group(backend="gloo", timeout=LONG)
    _give_up_after(work.deadline)
    data = work.settle()
    names = {unit.name: unit for unit in work.units}
    if count > 1:
        _all_together(work, names, data, rank, count, say)
    together.barrier()
    failures = _one_by_one(work, data, say)
    together.barrier(everybody)  # who ends with a failure would end all others
    together.destroy_process_group()
    return failures


def _take_own_card() -> None:
    """Make the card of this process the current one; ValueError if there are fewer."""
    needed, found = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if needed > found:  # all processes see it, and none waits for the others
        raise ValueError(
            f"--nproc-per-node: {needed} processes, but this machine has {found} "
            "card(s)"
        )
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def _all_together(work: Work, names, data, rank: int, count: int, say: Say) -> None:
    while True:
        fitting = work.fitting(count) if rank == 0 else []
        choice = [fitting[0].name if fitting else None]
        together.broadcast_object_list(choice, 0)
        if choice[0] is None:
            return
        unit = names[choice[0]]
        if rank == 0:
            with work.folder.claim(unit) as mine:
                if not mine:
                    raise ValueError(f"{unit}: another group of processes has it")
                _run_or_raise(work, unit, data, say, True)
        else:
            _run_or_raise(work, unit, data, say, False)


def _run_or_raise(work: Work, unit: Unit, data, say: Say, write: bool) -> None:
    """A failure ends all processes: the others could only wait for this one."""
    if not attempt(work, unit, data, say, write):
        raise SystemExit(1)


def attempt(work: Work, unit: Unit, data, say: Say, write: bool = True) -> bool:
    """Run a unit and keep its row, or its traceback; whether it went well.

    Raises OSError if the folder takes no more: that is no failure of the unit.
    """
    about = _environment(work.device_name) | {
        "data": data[unit.page, unit.experiment.name],
        "processes": unit.experiment.processes,
    }
    hand = Hand(work.folder.row(unit), digest(about))
    alone = unit.experiment.processes == 1  # several would keep the same part
    try:
        with in_hand(hand) if alone else nullcontext():
            values = checked(unit, unit.experiment(**unit.settings))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        work.folder.fail(unit, error)
        say(f"{unit}: {type(error).__name__}: {error}")
        return False
    if write:
        about |= {"seconds": round(hand.seconds, 2), "date": _now()}
        about |= {"pictures": hand.pictures} if hand.pictures else {}
        work.folder.write(unit, values, about)
        sweep(work.folder.path)
        resumed = f", {hand.earlier:.1f} s of them earlier" if hand.earlier else ""
        say(f"{unit}: {about['seconds']:.1f} s{resumed}")
    return True


def _environment(device: str) -> dict[str, object]:
    """What a row says about where it was obtained."""
    versions = {name: version(name) for name in VERSIONS}
    return {"device": device, "python": platform.python_version(), "versions": versions}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _give_up_after(deadline: float) -> None:
    """Let the system end this process, whatever it does, when its time is over."""
    if isfinite(deadline) and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        left = max(deadline + GRACE - time.time(), 0.01)
        signal.setitimer(signal.ITIMER_REAL, left)


def die_with(pipe: int) -> None:
    """End this process when the other end of a pipe is closed, however that comes."""

    def wait() -> None:
        while os.read(pipe, 1024):  # by its number: nothing is locked at our own end
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

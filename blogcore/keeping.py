"""What a unit keeps beside its row: its way so far, for after a kill, and pictures.

Both lie in the folder of units under the unit's name, hence under its settings and its
code, and what lies on the way also under data, device and versions: nothing of another
run is ever taken up. The way goes when the row is written. Outside of a unit nothing is
kept: on a page and in a test the same functions just work.
"""

import io
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from blogcore.checkpoint import Checkpoint, Progress, load_tree, save_tree
from blogcore.runtime import write_safely

WAY, CLOCK = "on_the_way", "seconds"
PARTS = 4  # how often a training is saved
LARGEST = 60_000  # bytes of a picture
Tree = TypeVar("Tree")


@dataclass
class Hand:
    """A unit in hand: where its row will lie, and what else makes it the same run.

    ``earlier`` are the seconds of attempts before, as far as they were kept.
    """

    row: Path
    origin: str
    pictures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self._begun, self.earlier = time.monotonic(), 0.0
        with suppress(OSError, ValueError):
            self.earlier = float((self.way / CLOCK).read_text(encoding="ascii"))

    @property
    def way(self) -> Path:
        """The folder of what has been reached so far."""
        return self.row.parent / WAY / f"{self.row.stem}-{self.origin}"

    @property
    def seconds(self) -> float:
        """What the unit has taken, without what a kill lost."""
        return self.earlier + time.monotonic() - self._begun

    def file(self, name: str) -> Path:
        """Where the part called ``name`` lies."""
        return self.way / f"{sha256(name.encode()).hexdigest()[:16]}.safetensors"

    def mark(self) -> None:
        """Remember how long it took to come here."""
        write_safely(self.way / CLOCK, f"{self.seconds:.3f}".encode())


_HAND: ContextVar[Hand | None] = ContextVar("the unit in hand", default=None)


@contextmanager
def in_hand(hand: Hand) -> Iterator[None]:
    """Within it ``checkpoint``, ``kept`` and ``picture`` keep things for this unit."""
    token = _HAND.set(hand)
    try:
        yield
    finally:
        _HAND.reset(token)


def begun(folder: Path, name: str) -> bool:
    """Whether a unit of this name has come part of its way."""
    return any((folder / WAY).glob(f"{name}-*"))


def sweep(folder: Path) -> None:
    """Delete the way to every row that is there."""
    for way in (folder / WAY).glob("*"):
        if (folder / f"{way.name.rpartition('-')[0]}.json").exists():
            shutil.rmtree(way, ignore_errors=True)


@dataclass(frozen=True)
class _Part(Checkpoint):
    """A checkpoint of a training of ``steps`` inside a unit; its end is saved too."""

    hand: Hand
    steps: int

    def due(self, step: int) -> bool:
        """Whether to save when so many steps are done."""
        return super().due(step) or step == self.steps

    def save(self, progress: Progress, model, optimizer) -> None:
        """Write all that a resumed run needs, and how long it took."""
        super().save(progress, model, optimizer)
        self.hand.mark()

    def resume(self, model, optimizer) -> Progress:
        """Restore both in place; from the beginning if the file is not this run's."""
        try:
            return super().resume(model, optimizer)
        except ValueError as error:  # cut, or of a training with another start
            warnings.warn(f"begun anew: {error}", stacklevel=2)
            self.path.unlink()
            return super().resume(model, optimizer)


def checkpoint(name: str, steps: int) -> Checkpoint | None:
    """For ``training.train``: saves the training called ``name`` four times on its way.

    One that is cut, or of a training that started otherwise, is begun anew with a
    warning. None outside of a unit.
    """
    hand = _HAND.get()
    if hand is None:
        return None
    return _Part(
        hand.file(f"training {name}"), max(steps // PARTS, 1), name, hand, steps
    )


def kept(name: str, make: Callable[[], Tree]) -> Tree:
    """What ``make()`` gives, made once by a unit: numbers and tensors in dicts, lists.

    A unit that was killed later finds it, tensors on the CPU. Outside of a unit it is
    made every time.
    """
    hand = _HAND.get()
    if hand is None:
        return make()
    path = hand.file(name)
    if path.exists():
        try:
            return load_tree(path)[name]
        except ValueError as error:
            warnings.warn(f"made anew: {error}", stacklevel=2)
    made = make()
    save_tree(path, {name: made})
    hand.mark()
    return made


def picture(name: str, levels: torch.Tensor) -> None:
    """Keep images (N, 1 or 3, H, W), uint8, as one PNG beside the row: a square grid.

    Raises ValueError for other tensors, and for a picture of more than 60 kB.
    """
    content = png(levels)
    if len(content) > LARGEST:
        raise ValueError(f"{name}: {len(content)} bytes are more than {LARGEST}")
    hand = _HAND.get()
    if hand is not None:
        write_safely(hand.row.with_name(picture_file(hand.row.stem, name)), content)
        hand.pictures[name] = sha256(content).hexdigest()


def picture_file(row: str, name: str) -> str:
    """The file's name of a row's picture."""
    return f"{row}-{sha256(name.encode()).hexdigest()[:10]}.png"


def png(levels: torch.Tensor) -> bytes:
    """Images (N, 1 or 3, H, W), uint8, in as many columns as rows or one more."""
    fits = levels.ndim == 4 and len(levels) and levels.shape[1] in (1, 3)
    if not fits or levels.dtype != torch.uint8:
        raise ValueError(
            f"levels: {levels.dtype} of shape {tuple(levels.shape)} is not uint8 of "
            "shape (N ≥ 1, 1 or 3, H, W)"
        )
    columns = next(c for c in range(1, len(levels) + 1) if c * c >= len(levels))
    rows = -(-len(levels) // columns)
    _, channels, height, width = levels.shape
    grid = levels.new_zeros(rows * columns, channels, height, width)
    grid[: len(levels)] = levels
    table = grid.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    array = table.reshape(rows * height, columns * width, channels).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(array.squeeze(2) if channels == 1 else array).save(
        file, "PNG", optimize=True
    )
    return file.getvalue()

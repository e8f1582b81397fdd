"""Where a run happens and which random numbers it uses."""

import hashlib
import os
import secrets
from pathlib import Path

import torch

from blogcore.checks import check_integer

DATA = Path(__file__).resolve().parents[1] / "data"
PROFILES = ("smoke", "book", "full")
PURPOSES = ("judged", "tuning")
SEEDS_PER_PURPOSE = 500
LARGEST_ROOT = 10**15  # its seeds are integers of 64 bits


def device(name: str = "auto") -> torch.device:
    """The device to compute on: CUDA where there is one, for ``"auto"``.

    Raises ValueError for a name that torch does not know or a device that is absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device: {name!r} is neither 'auto' nor a device that torch finds here"
        ) from error
    return chosen


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """The random stream called ``name`` of run ``seed``.

    Streams are independent: one more draw from ``"init"`` never shifts ``"batches"``,
    so two conditions with the same seed start equal and see equal data. Draws are
    made on the CPU, hence equal on every device, unless another ``device`` is named,
    whose draws are its own.
    """
    check_integer("seed", seed, 0)
    if not isinstance(name, str):
        raise TypeError(f"name: {name!r} is not a text")
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8]) >> 1)


def seeds(root: int, count: int, purpose: str = "judged") -> list[int]:
    """The ``count`` seeds below ``root`` that serve one purpose.

    Seeds for ``"tuning"`` (choosing a setting) and for ``"judged"`` (testing a claim)
    never meet, nor do those of two roots.
    """
    check_integer("root", root, 0)
    if root > LARGEST_ROOT:
        raise ValueError(f"root: {root!r} is not an integer in 0 … {LARGEST_ROOT}")
    check_integer("count", count, 1)
    if purpose not in PURPOSES:
        raise ValueError(f"purpose: {purpose!r} is not one of {PURPOSES}")
    if count > SEEDS_PER_PURPOSE:
        raise ValueError(f"count: {count!r} is not in 1 … {SEEDS_PER_PURPOSE}")
    first = (root * len(PURPOSES) + PURPOSES.index(purpose)) * SEEDS_PER_PURPOSE
    return list(range(first, first + count))


def by_profile(profile: str, **choices):
    """The value for this profile: ``by_profile(PROFILE, smoke=2, book=10, full=10)``.

    Raises ValueError unless ``choices`` names exactly the three profiles.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile: {profile!r} is not one of {PROFILES}")
    if set(choices) != set(PROFILES):
        raise ValueError(f"choices: {sorted(choices)} must name exactly {PROFILES}")
    return choices[profile]


def real_data(*names: str) -> Path:
    """The folder with real data that BLOGCORE_DATA names, as an absolute path.

    To be called in a chapter's first cell, with the names that the chapter will read,
    or patterns: what is missing (of ``"a or b"``, both) is told before the work. A
    relative folder is the one seen from where the command was given. Raises ValueError
    if the variable is not set, names no folder, or the folder lacks one of the names;
    data/README.md says what lies there.
    """
    given = os.environ.get("BLOGCORE_DATA", "")
    if not given:
        raise ValueError("BLOGCORE_DATA: not set; see data/README.md")
    places = [Path(base, given) for base in (os.environ.get("PWD", ""), Path.cwd())]
    folder = next((place.resolve() for place in places if place.is_dir()), None)
    if folder is None:
        raise ValueError(f"BLOGCORE_DATA: {given!r} is no folder")
    missing = [
        name
        for name in names
        if not any(any(folder.glob(path)) for path in name.split(" or "))
    ]
    if missing:
        lacking = ", ".join(missing)
        raise ValueError(f"BLOGCORE_DATA: {folder} lacks {lacking}; see data/README.md")
    return folder


def of_the_book(path: Path) -> Path:
    """``path``, a file of claims or records, as it is; they do not lie in the package.

    Raises ValueError if the package was installed without the book's folder of data.
    """
    folder = Path(path).parents[1]
    if not folder.is_dir():
        raise ValueError(
            f"path: {folder} is missing; claims and records come with a checkout of "
            "the book, and pip install -e . in it"
        )
    return Path(path)


def write_safely(path: Path, content: bytes) -> None:
    """Write a file that is, at every moment, either the old one or the new one whole.

    A temporary file in the same folder is synced to disk and renamed; a process
    killed in between leaves the old file untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

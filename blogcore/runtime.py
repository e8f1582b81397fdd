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


def stream(seed: int, name: str) -> torch.Generator:
    """The random stream called ``name`` of run ``seed``.

    Streams are independent: one more draw from ``"init"`` never shifts ``"batches"``,
    so two conditions with the same seed start equal and see equal data. Draws are
    made on the CPU, hence equal on every device.
    """
    check_integer("seed", seed, 0)
    if not isinstance(name, str):
        raise TypeError(f"name: {name!r} is not a text")
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def seeds(root: int, count: int, purpose: str = "judged") -> list[int]:
    """The ``count`` seeds below ``root`` that serve one purpose.

    Seeds for ``"tuning"`` (choosing a setting) and for ``"judged"`` (testing a claim)
    never meet, nor do those of two roots.
    """
    check_integer("root", root, 0)
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

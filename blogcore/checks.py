"""Bad input, said plainly: the argument, its value, and what is allowed."""

from math import inf, isfinite
from numbers import Integral, Real


def check_integer(name: str, value: object, least: int) -> None:
    """Raise ValueError, naming the argument, unless it is an integer ≥ ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}: {value!r} is not an integer ≥ {least}")


def check_number(
    name: str, value: object, least: float = -inf, most: float = inf
) -> None:
    """Raise ValueError, naming it, unless it is finite and in ``least`` … ``most``."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not (number and isfinite(value) and least <= value <= most):
        if most < inf:
            bound = f" in {least:g} … {most:g}"
        else:
            bound = "" if least == -inf else f" ≥ {least:g}"
        raise ValueError(f"{name}: {value!r} is not a finite number{bound}")

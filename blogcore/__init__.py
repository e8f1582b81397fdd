"""What the chapters share, one room an idea: ``dir(blogcore)`` names the rooms.

Nothing is re-exported: ``from blogcore.objectives import flood`` names the room. README
has the map, from the command down to what refuses bad input; above imports from below,
never back.
"""

import importlib
import pkgutil
import warnings
from types import ModuleType

__all__ = [room.name for room in pkgutil.iter_modules(__path__) if room.name[0] != "_"]

if not __debug__:
    warnings.warn(
        "Python runs with -O or PYTHONOPTIMIZE: no check of this book is made",
        stacklevel=2,
    )


def __getattr__(name: str) -> ModuleType | str:
    """Import a room, or ask for ``__version__``, when it is first named."""
    if name == "__version__":
        from importlib.metadata import version

        return version("blogcore")
    if name not in __all__:
        raise AttributeError(f"blogcore has no room {name!r}, but {', '.join(__all__)}")
    return importlib.import_module(f"blogcore.{name}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

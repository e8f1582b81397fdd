"""The command ``blogcore``: ``blogcore run`` for pages, ``blogcore full`` for units."""

import sys
import time
from collections.abc import Sequence
from importlib import import_module

START = time.time()  # a budget pays for the import of torch as well


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the command line on; only pages need Jupyter, so only then it is loaded."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["full"]:
        return import_module("blogcore.full").main(arguments[1:], START)
    return import_module("blogcore.runner").main(arguments)


if __name__ == "__main__":
    sys.exit(main())

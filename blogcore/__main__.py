"""``python -m blogcore`` is the command ``blogcore``."""

import sys

from blogcore.runner import main

if __name__ == "__main__":
    sys.exit(main())

"""Sphinx extension: a changed file in _static/ reaches the pages in the next build.

Sphinx copies style sheets and scripts only when a page has changed, too.
"""

from collections.abc import Iterable
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def outdated(app: Sphinx, env: BuildEnvironment, *_: set[str]) -> Iterable[str]:
    """Every page if a file differs from its copy in the output, else none."""
    copies = Path(app.outdir) / "_static"
    for file in (Path(app.srcdir) / "_static").iterdir():
        copy = copies / file.name
        if not copy.is_file() or copy.read_bytes() != file.read_bytes():
            return env.found_docs
    return ()


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in where Sphinx asks which pages are outdated."""
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Sphinx extension: chapters are shown with the outputs of their papermill runs.

The sources hold text and code, the runs hold outputs; neither repeats the other.
BLOGCORE_PROFILE=smoke shows the runs of another profile: the tests do, which are quick.
"""

import json
import os
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from blogcore import runner

FOLDER = "chapters/"


def bring_up_to_date(app: Sphinx) -> None:
    """Execute the chapters whose run is stale; a failing cell fails the build."""
    try:
        runner.run(profile=app.config.executed_profile, root=Path(app.srcdir))
    except runner.ChapterError as error:
        raise ExtensionError(str(error)) from None


def graft_outputs(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put a run's outputs onto the chapter's cells, and depend on that run's file."""
    if not docname.startswith(FOLDER):
        return
    slug = docname.removeprefix(FOLDER)
    profile = app.config.executed_profile
    path = runner.executed_path(slug, profile, root=Path(app.srcdir))
    root = Path(app.srcdir)
    for needed in (path, root / "data" / "records" / f"{slug}.json"):
        app.env.note_dependency(str(needed))
    executed = json.loads(path.read_text(encoding="utf-8"))
    source[0] = json.dumps(runner.graft(json.loads(source[0]), executed))


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook into the start of the build and the reading of each page."""
    profile = os.environ.get("BLOGCORE_PROFILE", "book")
    app.add_config_value("executed_profile", profile, "env")
    app.connect("builder-inited", bring_up_to_date)
    app.connect("source-read", graft_outputs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Sphinx extension: chapters are shown with the outputs of their papermill runs.

The sources hold text and code, the runs hold outputs; neither repeats the other.
BLOGCORE_PROFILE=smoke shows the runs of another profile: the tests do, which are quick.
"""

import json
import os
from pathlib import Path

from pictured import pictured
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from blogcore import runner
from blogcore.report import RECORDS

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
    for path in needed(app, docname):
        app.env.note_dependency(str(path))
    run, *_ = needed(app, docname)
    executed = json.loads(run.read_text(encoding="utf-8"))
    page = runner.graft(json.loads(source[0]), executed)
    for output in (o for cell in page["cells"] for o in cell.get("outputs", [])):
        if call := output.get("metadata", {}).get(RECORDS):
            data = output["data"]
            data["text/html"] = pictured(call, data["text/html"])
    source[0] = json.dumps(page)


def needed(app: Sphinx, docname: str) -> list[Path]:
    """A chapter's run, and what is recorded of it as far as there is something."""
    root, slug = Path(app.srcdir), docname.removeprefix(FOLDER)
    kept = [root / "data" / kind / f"{slug}.json" for kind in ("records", "units")]
    run = runner.executed_path(slug, app.config.executed_profile, root=root)
    return [run, *filter(Path.exists, kept)]


def newly_recorded(app: Sphinx, env: BuildEnvironment, *_: set) -> list[str]:
    """The chapters of which something is recorded for the first time."""
    return [
        name
        for name in env.found_docs
        if name.startswith(FOLDER)
        and not {*map(str, needed(app, name))} <= {*map(str, env.dependencies[name])}
    ]


def setup(app: Sphinx) -> dict[str, bool | int]:
    """Hook into the start of the build and the reading of each page."""
    profile = os.environ.get("BLOGCORE_PROFILE", "book")
    app.add_config_value("executed_profile", profile, "env")
    app.connect("builder-inited", bring_up_to_date)
    app.connect("source-read", graft_outputs)
    app.connect("env-get-outdated", newly_recorded)
    # Another number, when pages show something else of a run, reads all pages again.
    return {"env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}

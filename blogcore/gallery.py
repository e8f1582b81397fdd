"""What units drew, on a page: the pictures of an experiment, by their settings."""

import base64
from html import escape

from IPython.display import HTML, display

from blogcore.recorded import Standing
from blogcore.runtime import DATA
from blogcore.unitfiles import Row
from blogcore.unitpictures import contents
from blogcore.units import Experiment

LOOK = 'width="192" style="image-rendering: pixelated; margin: 0 8px 8px 0"'


def show(experiment: Experiment, page: str) -> None:
    """Show the pictures of the rows that are recorded; nothing if there are none.

    Raises ValueError for a picture that is missing or cut.
    """
    standing = Standing(DATA, page, experiment.summary())
    rows = filter(None, map(standing.row, standing.table))
    shown = "".join(_figure(row, contents(DATA / "units" / page, row)) for row in rows)
    if shown:
        display(HTML(shown))


def _figure(row: Row, found: dict[str, bytes]) -> str:
    """A row's pictures side by side, and what they are."""
    if not found:
        return ""
    settings = ", ".join(f"{name} {value}" for name, value in row["settings"].items())
    images = "".join(
        f'<img alt="{escape(f"Drawn: {settings}; {name}")}" {LOOK} '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        for name, content in found.items()
    )
    told = escape(f"{settings}. In this order: {', '.join(found)}.")
    return f"<figure>{images}<figcaption>{told}</figcaption></figure>"

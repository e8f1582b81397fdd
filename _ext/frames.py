"""Sphinx extension: a slider's frames are files, loaded once somebody reaches for it.

A run writes them into the page, where they would be three quarters of its weight.
"""

import base64
import hashlib
import re
from pathlib import Path
from posixpath import dirname, relpath

from docutils import nodes
from sphinx.application import Sphinx

FRAME = re.compile(r'<img([^>]*) src="data:image/svg\+xml;base64,([^"]*)"([^>]*)>')
SIZE = re.compile(rb'<svg[^>]*? width="([\d.]+)pt" height="([\d.]+)pt"')
WAKE = "this.querySelectorAll('img').forEach(i=>i.loading='eager')"


def move(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Write the frames of a page's sliders beside the other images."""
    if app.builder.format != "html":
        return
    folder = Path(app.outdir) / app.builder.imagedir
    address = relpath(app.builder.imagedir, dirname(docname) or ".")
    for raw in tree.findall(nodes.raw):
        if raw["format"] == "html" and FRAME.search(raw.astext()):
            folder.mkdir(parents=True, exist_ok=True)
            raw.children = [nodes.Text(moved(raw.astext(), folder, address))]


def moved(html: str, folder: Path, address: str) -> str:
    """HTML whose frames lie in ``folder``, which the page calls ``address``.

    Their size is written down, so that nothing jumps while one is loaded.
    """

    def frame(found: re.Match) -> str:
        before, content, after = found[1], base64.b64decode(found[2]), found[3]
        path = folder / f"frame-{hashlib.sha256(content).hexdigest()[:20]}.svg"
        path.write_bytes(content)
        size = SIZE.search(content)
        if size:
            wide, high = (round(float(points) * 4 / 3) for points in size.groups())
            after += f' width="{wide}" height="{high}"'
        return f'<img{before} src="{address}/{path.name}"{after} loading="lazy">'

    wake = f'<div class="slider" onpointerover="{WAKE}" onfocusin="{WAKE}">'
    return FRAME.sub(frame, html).replace('<div class="slider">', wake)


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in after those who read the frames in the page."""
    app.connect("doctree-resolved", move, priority=850)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

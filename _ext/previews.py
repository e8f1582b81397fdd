"""Sphinx extension: what a link leads to is shown where the mouse rests on it.

A page from a folder may not read another page. So the finished glossary and references
are written into one script as well, from which ``previews.js`` beside this file takes
terms and works. Without scripts links are what they always were.
"""

import json
import shutil
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx

PAGES = {"glossary": "dl.glossary dt[id]", "references": "div.citation[id]"}


def copy_script(app: Sphinx) -> None:
    """Put the script beside the pages, before they take its checksum."""
    if app.builder.format == "html":
        target = Path(app.outdir) / "_static"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(__file__).with_suffix(".js"), target / "previews.js")


def write(app: Sphinx, error: Exception | None) -> None:
    """Write terms and works, by page and anchor, into one script."""
    if error or app.builder.format != "html":
        return
    found = {}
    for name, wanted in PAGES.items():
        page = Path(app.outdir) / f"{name}.html"
        if page.is_file():
            soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
            tips = {f"{name}.html#{t['id']}": tip(t) for t in soup.select(wanted)}
            found |= tips
    text = json.dumps(found, ensure_ascii=False, indent=0)
    target = Path(app.outdir) / "_static" / "tips.js"
    target.write_text(f"const TIPS = {text};\nglobalThis.TIPS = TIPS;\n", "utf-8")


def tip(element: Tag) -> str:
    """The HTML of a term with its meaning, or of a work, without anchors and links."""
    parts = [element]
    if element.name == "dt":
        parts.append(element.find_next_sibling("dd"))
    for part in parts:
        for unwanted in part.select(".headerlink, .katex-mathml"):
            unwanted.decompose()
        for link in part("a"):
            link.unwrap()
        for named in [part, *part.select("[id]")]:
            named.attrs.pop("id", None)
    return "".join(map(str, parts))


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in where the build begins and ends."""
    app.add_js_file("previews.js", loading_method="defer")
    app.connect("builder-inited", copy_script)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

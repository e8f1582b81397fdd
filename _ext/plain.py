"""Sphinx extension: every page as a plain notebook, which its download button gives.

It reads like the page in JupyterLab, VS Code and Colab without any extension: numbers,
references and outputs are in it. What the page's tree says becomes Markdown
(``prose``), what cells displayed becomes what every viewer shows (``displays``).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from displays import shown
from docutils import nodes
from executed import FOLDER
from prose import Page, escaped, linked, pieces
from sphinx.application import Sphinx
from sphinx.config import Config

from blogcore import runner
from blogcore.freshness import text

HEADING = re.compile(r'(<a id="[^"]*"></a>\n\n)*#')
FOLDED = {"hide-input", "solution"}
MISSING = """\
# The code that the pages share is the package blogcore, with its data beside it.
import importlib.util

if importlib.util.find_spec("blogcore") is None:
"""
NO_ADDRESS = """\
    raise ModuleNotFoundError(
        "blogcore is missing: run `make setup` in a checkout of the book, "
        "and open this notebook with its .venv/bin/jupyter lab"
    )
"""
FETCH = """\
    import sys

    %pip install --quiet --src checkout --editable "git+{address}#egg=blogcore"
    sys.path.insert(0, "checkout/blogcore")  # without a restart of the kernel
"""


def collect(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Keep a page's plain notebook beside its pickled tree, as long as it is kept."""
    if app.builder.format == "html" and docname.startswith(FOLDER):
        made = json.dumps(notebook(app, tree, docname), ensure_ascii=False, indent=1)
        path = stored(app, docname)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made + "\n", encoding="utf-8")


def notebook(app: Sphinx, tree: nodes.document, docname: str) -> dict:
    """The plain notebook of a page."""
    base = app.config.html_baseurl
    address = f"{base.rstrip('/')}/{docname}.html" if base else ""
    page = Page(tree, app.env.toc_fignumbers.get(docname, {}), address)
    source = grafted(app, docname)
    cells: list[dict] = []
    for piece in pieces(page, tree):
        if isinstance(piece, int):
            cells.append(code(source["cells"][piece]))
        elif not cells or cells[-1]["cell_type"] == "code" or HEADING.match(piece):
            cells.append(markdown(piece))
        else:
            cells[-1]["source"] += f"\n\n{piece}"
    cells += [markdown(references(page.cited))] if page.cited else []
    first = next(i for i, cell in enumerate(cells) if cell["cell_type"] == "code")
    cells.insert(first, installation(app.config.html_theme_options))
    for place, cell in enumerate(cells):
        cell.setdefault("id", f"prose-{place}")
    metadata = {"kernelspec": source["metadata"]["kernelspec"]}
    metadata["language_info"] = {"name": "python"}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def grafted(app: Sphinx, docname: str) -> dict:
    """The page's source with the outputs of its run."""
    root, slug = Path(app.srcdir), docname.removeprefix(FOLDER)
    path = runner.executed_path(slug, app.config.executed_profile, root=root)
    source = (root / f"{docname}.ipynb").read_text(encoding="utf-8")
    executed = json.loads(path.read_text(encoding="utf-8"))
    return runner.graft(json.loads(source), executed)


def markdown(source: str) -> dict:
    """A Markdown cell."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(cell: Mapping) -> dict:
    """A code cell with its outputs, folded where the page folds it."""
    tags = cell["metadata"].get("tags", [])
    alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
    metadata = {"tags": tags}
    if FOLDED & {*tags}:
        metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
    kept = [found for o in cell["outputs"] if (found := shown(o, alt))]
    return {
        "cell_type": "code",
        "id": cell["id"],
        "metadata": metadata,
        "source": text(cell),
        "execution_count": cell["execution_count"],
        "outputs": kept,
    }


def installation(options: Mapping[str, str]) -> dict:
    """The first code cell: what to do where the package is missing."""
    address = options.get("repository_url", "")
    source = MISSING + (FETCH.format(address=address) if address else NO_ADDRESS)
    return {
        "cell_type": "code",
        "id": "package",
        "metadata": {"tags": ["package"]},
        "source": source.rstrip(),
        "execution_count": None,
        "outputs": [],
    }


def references(cited: Mapping[str, str]) -> str:
    """The works that the page cites, in the order of their labels."""
    rows = [
        f'<a id="cite-{label}"></a>\n\n**[{escaped(label)}]** {linked(words)}'
        for label, words in sorted(cited.items())
    ]
    return "\n\n".join(["## References", *rows])


def stored(app: Sphinx, docname: str) -> Path:
    """Where a page's plain notebook is kept between builds."""
    return Path(app.doctreedir) / "plain" / f"{docname}.ipynb"


def publish(app: Sphinx, error: Exception | None) -> None:
    """Put the plain notebooks where the download buttons of the pages point."""
    if error or app.builder.format != "html":
        return
    for docname in sorted(app.env.found_docs):
        if docname.startswith(FOLDER):
            target = Path(app.outdir) / "_sources" / f"{docname}.ipynb"
            target.write_bytes(stored(app, docname).read_bytes())


def buttons(app: Sphinx, config: Config) -> None:
    """Buttons to repository and issues where the repository has an address."""
    options = config.html_theme_options
    published = bool(options.get("repository_url"))
    options |= {"use_repository_button": published, "use_issues_button": published}


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in where numbers and references are text, and where the build ends."""
    app.connect("config-inited", buttons)
    app.connect("doctree-resolved", collect, priority=700)
    app.connect("build-finished", publish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

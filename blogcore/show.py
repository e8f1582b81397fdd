"""What a reader sees that no figure is: the package's own text, and plain tables."""

import html
import inspect
import re
import textwrap
from collections.abc import Sequence

from IPython.display import HTML, Markdown, display

FORMULA = re.compile(r"\$[^$]+\$")


def source(*objects: object) -> None:
    """Show the package's own text of functions or classes: the code that runs."""
    texts = [textwrap.dedent(inspect.getsource(thing)).strip() for thing in objects]
    display(Markdown("```python\n" + "\n\n\n".join(texts) + "\n```"))


def table(heads: Sequence[str], rows: Sequence[Sequence], otherwise: str) -> None:
    """Rows under their heads, or the sentence ``otherwise`` if there are none yet."""
    display(HTML(plain_table(heads, rows, otherwise)))


def plain_table(heads: Sequence[str], rows: Sequence[Sequence], otherwise: str) -> str:
    """The same as HTML, which is not displayed."""
    heads, *cells = [[escaped(str(cell)) for cell in row] for row in [heads, *rows]]
    return table_html(heads, cells) if cells else f"<p>{html.escape(otherwise)}</p>"


def escaped(text: str) -> str:
    """Words as HTML, with formulas between dollars marked for the build to typeset.

    In plain Jupyter they stay what they are, and are typeset there.
    """
    return FORMULA.sub(r'<span class="tex">\g<0></span>', html.escape(text))


def table_html(
    heads: Sequence[str], rows: Sequence[Sequence[str]], kinds: str = "claims"
) -> str:
    """A table of cells that are HTML already; on a phone each row becomes a card."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{name}">{cell}</td>'
            for name, cell in zip(heads, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    head, body = f"<thead><tr>{head}</tr></thead>", f"<tbody>{body}</tbody>"
    return f'<table class="{kinds}">{head}{body}</table>'

"""Sentences cut into tokens, drawn as boxes of text, and a chooser among them.

The text stays text: the reader's own fonts draw it, in the page and in plain Jupyter.
"""

import html
from collections.abc import Mapping, Sequence
from itertools import product

from IPython.display import HTML, display

KINDS = {"": "a character", "word": "a word", "fallback": "a piece of an unknown word"}
Token = tuple[str, str]
STYLE = (
    "<style>"
    ".strip{margin:.35em 0;line-height:2.1}"
    ".strip b{font-weight:400;font-size:1.15em;padding:.18em .42em;margin-right:.22em;"
    "border:1.5px solid currentColor;border-radius:.3em;white-space:nowrap}"
    ".strip b.word{background:rgba(0,114,178,.22);font-weight:600}"
    ".strip b.fallback{border-style:dashed;background:repeating-linear-gradient("
    "45deg,transparent 0 5px,rgba(128,128,128,.4) 5px 7px)}"
    ".strip i{font-style:normal;font-size:.9em;opacity:.85;margin-right:.6em}"
    ".chooser{border:1px solid rgba(128,128,128,.5);border-radius:.4rem;"
    "padding:.7rem 1rem;margin:1.2rem 0}"
    ".chooser label{display:block;margin:.3em 0}"
    ".chooser select{max-width:100%;font-size:1.05em}"
    ".chooser input{width:min(22rem,100%);vertical-align:middle}"
    "</style>"
)


def show(rows: Sequence[tuple[str, Sequence[Token]]]) -> None:
    """One strip a row: what it is called, and its tokens with their kinds.

    Kinds are "" (a character), "word" and "fallback" (a piece of a word that the
    vocabulary does not hold). Raises ValueError for another.
    """
    display(HTML(STYLE + "".join(_strip(name, tokens) for name, tokens in rows)))


def chooser(
    texts: Sequence[str],
    sizes: Sequence[int],
    frames: Mapping[tuple[str, int], tuple[Sequence[Token], str]],
    start: int,
) -> None:
    """A sentence to choose and a size to drag; the page shows that frame, kernel-free.

    ``frames`` maps every (text, size) to its tokens and a sentence about them;
    ``start`` is the size shown first. Raises ValueError where a frame is missing.
    """
    missing = [pair for pair in product(texts, sizes) if pair not in frames]
    if missing or start not in sizes:
        raise ValueError(f"frames, start: {missing[:3]} are missing; start {start!r}")
    first = list(sizes).index(start)
    blocks = "".join(
        _frame(f"{i}-{j}", *frames[text, size], hidden=(i, j) != (0, first))
        for (i, text), (j, size) in product(enumerate(texts), enumerate(sizes))
    )
    controls = _select(texts) + _range(sizes, first)
    script = html.escape(_script(sizes))
    display(
        HTML(f'{STYLE}<div class="chooser" oninput="{script}">{controls}{blocks}</div>')
    )


def _strip(name: str, tokens: Sequence[Token]) -> str:
    for token, kind in tokens:
        if kind not in KINDS:
            raise ValueError(f"tokens: {token!r} is of kind {kind!r}, not {[*KINDS]}")
    boxes = " ".join(
        f'<b class="{kind}" title="{KINDS[kind]}">{html.escape(token)}</b>'
        for token, kind in tokens
    )
    label = f"<i>{html.escape(name)}</i>" if name else ""
    return f'<div class="strip">{label}<span lang="zh">{boxes}</span></div>'


def _frame(key: str, tokens: Sequence[Token], said: str, hidden: bool) -> str:
    off = " hidden" if hidden else ""
    return (
        f'<div data-frame="{key}"{off}>{_strip("", tokens)}'
        f"<p>{html.escape(said)}</p></div>"
    )


def _select(texts: Sequence[str]) -> str:
    options = "".join(
        f'<option value="{i}">{html.escape(text)}</option>'
        for i, text in enumerate(texts)
    )
    select = f'<select lang="zh" autocomplete="off">{options}</select>'
    return f"<label>sentence {select}</label>"


def _range(sizes: Sequence[int], first: int) -> str:
    return (
        "<label>words added (drag) "
        f'<input type="range" min="0" max="{len(sizes) - 1}" value="{first}" '
        f'autocomplete="off" aria-valuetext="{sizes[first]:,}"> '
        f"<output>{sizes[first]:,}</output></label>"
    )


def _script(sizes: Sequence[int]) -> str:
    names = [f"{size:,}" for size in sizes]
    return (
        "const s=this.querySelector('select'),r=this.querySelector('input'),"
        f"n={names}[r.value];this.querySelector('output').value=n;"
        "r.setAttribute('aria-valuetext',n);"
        "this.querySelectorAll('[data-frame]').forEach(f=>"
        "{f.hidden=f.dataset.frame!=s.value+'-'+r.value})"
    )

"""Figures and formulas that a reader moves, without a kernel and without a network."""

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

import matplotlib.pyplot as plt
from IPython.display import HTML, display
from matplotlib.figure import Figure

from blogcore.style import SVG_METADATA

Range = tuple[float, float, float, float]
# A name in a formula: neither a property (Math.log) nor part of a number (1e5).
NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")


def slider(
    label: str, frames: Sequence[tuple[str, str, Figure]], start: int | None = None
) -> None:
    """Figures behind a slider that works without kernel and network.

    ``frames`` are (value shown, alt text, figure); each becomes an SVG inside the page,
    and dragging shows another. It starts in the middle, or at frame ``start``. Caption
    and number are the cell's, as for any figure. Raises ValueError for fewer than two
    frames, an empty alt text, or a start that is no frame.
    """
    alts = [alt for _, alt, _ in frames]
    if len(alts) < 2 or not all(alt.strip() for alt in alts):
        raise ValueError(f"frames: need two or more, each with an alt text; got {alts}")
    start = len(alts) // 2 if start is None else start
    if start not in range(len(alts)):
        raise ValueError(f"start: {start!r} is not one of 0 … {len(alts) - 1}")
    images = "".join(
        f'<img src="{_data_uri(figure)}" alt="{html.escape(alt)}" '
        f'data-value="{html.escape(value)}"{"" if place == start else " hidden"}>'
        for place, (value, alt, figure) in enumerate(frames)
    )
    move = (
        "const box=this.closest('.slider');"
        "box.querySelectorAll('img').forEach((f,i)=>{f.hidden=i!=this.value;"
        "if(!f.hidden){box.querySelector('output').value=f.dataset.value;"
        "this.setAttribute('aria-valuetext',f.dataset.value)}})"
    )
    shown = html.escape(frames[start][0])
    control = (
        f'<label><span><b>Drag</b> {html.escape(label)}</span> <input type="range" '
        f'min="0" max="{len(frames) - 1}" value="{start}" aria-valuetext="{shown}" '
        f'autocomplete="off" oninput="{move}"> '
        f"<output>{shown}</output></label>"
    )
    display(HTML(f'<div class="slider">{control}{images}</div>'))


def calculator(
    inputs: Sequence[tuple[str, str, Range, float]],
    steps: Mapping[str, str],
    results: Sequence[tuple[str, str, float]],
) -> None:
    """Sliders, and numbers that the page computes from them, to three digits.

    ``inputs`` are (name, label, (least, most, step, start), value shown at the start);
    ``steps`` maps further names to JavaScript expressions of Math and earlier names;
    ``results`` are (label, name, value at the start). Where a step is called as an
    input with ``_shown`` behind it, the input shows that: a slider for N may move log
    N. Raises ValueError for no input, a name that is none, taken or unknown, or a start
    outside its range.
    """
    names = [name for name, *_ in inputs]
    _check_names(names, steps)
    unknown = [name for _, name, _ in results if name not in {*names, *steps}]
    if unknown:
        raise ValueError(f"results: {unknown} are not among {[*names, *steps]}")
    rows = [_control(*control) for control in inputs]
    rows += [
        f"<p><span>{html.escape(label)}</span> {_output(name, value)}</p>"
        for label, name, value in results
    ]
    rows.insert(0, "<p><b>Drag</b> to recompute.</p>")
    script = html.escape(_recompute(names, steps))
    display(HTML(f'<div class="calculator" oninput="{script}">{"".join(rows)}</div>'))


def _check_names(names: Sequence[str], steps: Mapping[str, str]) -> None:
    known = {"Math"}
    for name in [*names, *steps]:
        if not name.isidentifier() or name in known:
            raise ValueError(f"inputs, steps: {name!r} is no name, or taken")
        unknown = set(NAME.findall(steps.get(name, ""))) - known
        if unknown:
            raise ValueError(f"steps: {name!r} needs {sorted(unknown)} before it")
        known.add(name)
    if not names:
        raise ValueError("inputs: there are none")


def _control(name: str, label: str, bounds: Range, shown: float) -> str:
    least, most, step, start = bounds
    if not least <= start <= most or step <= 0:
        raise ValueError(f"inputs: {name!r} has the range and start {bounds}")
    return (
        f'<label><span>{html.escape(label)}</span> <input type="range" name="{name}" '
        f'min="{least:g}" max="{most:g}" step="{step:g}" value="{start:g}" '
        f'autocomplete="off" aria-valuetext="{_three_digits(shown)}"> '
        f"{_output(name, shown)}</label>"
    )


def _output(name: str, value: float) -> str:
    return f'<output data-of="{name}">{_three_digits(value)}</output>'


def _three_digits(value: float) -> str:
    """As the browser writes it: 1e6 is 1,000,000, and no digit is a filling nought."""
    number = Decimal(f"{value:.3g}").normalize()
    return f"{number:,f}".replace("-", "−")


def _recompute(names: Sequence[str], steps: Mapping[str, str]) -> str:
    """JavaScript for the box: read the sliders, take the steps, write every output."""
    taken = "".join(f"const {name}={text};" for name, text in steps.items())
    return (
        "const box=this,all="
        f"(({','.join(names)})=>{{{taken}return {{{','.join([*names, *steps])}}}}})"
        f"(...{json.dumps(list(names))}.map(n=>+box.querySelector(`[name=${{n}}]`).value));"
        "box.querySelectorAll('output').forEach(o=>{"
        "const name=o.dataset.of,v=all[name+'_shown']??all[name];"
        "o.value=v.toLocaleString('en',{maximumSignificantDigits:3}).replace('-','−');"
        "box.querySelector(`[name=${name}]`)?.setAttribute('aria-valuetext',o.value)})"
    )


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=SVG_METADATA, bbox_inches="tight")
    plt.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()

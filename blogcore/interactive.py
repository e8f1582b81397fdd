"""Figures and formulas that a reader moves, without a kernel and without a network."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from IPython.display import HTML, display
from matplotlib.figure import Figure

from blogcore.show import SVG_METADATA

Range = tuple[float, float, float, float]


def slider(label: str, frames: Sequence[tuple[str, str, Figure]]) -> None:
    """Figures behind a slider that works without kernel and network.

    ``frames`` are (value shown, alt text, figure); each becomes an SVG inside the page,
    and moving the slider shows another. Raises ValueError for fewer than two frames or
    an empty alt text.
    """
    alts = [alt for _, alt, _ in frames]
    if len(alts) < 2 or not all(alt.strip() for alt in alts):
        raise ValueError(f"frames: need two or more, each with an alt text; got {alts}")
    images = "".join(
        f'<img src="{_data_uri(figure)}" alt="{html.escape(alt)}" '
        f'data-value="{html.escape(value)}"{" hidden" if place else ""}>'
        for place, (value, alt, figure) in enumerate(frames)
    )
    move = (
        "const box=this.closest('.slider');"
        "box.querySelectorAll('img').forEach((f,i)=>{f.hidden=i!=this.value;"
        "if(!f.hidden){box.querySelector('output').value=f.dataset.value;"
        "this.setAttribute('aria-valuetext',f.dataset.value)}})"
    )
    first = html.escape(frames[0][0])
    control = (
        f'<label>{html.escape(label)} <input type="range" min="0" '
        f'max="{len(frames) - 1}" value="0" aria-valuetext="{first}" '
        f'oninput="{move}"> '
        f"<output>{first}</output></label>"
    )
    display(HTML(f'<div class="slider">{control}{images}</div>'))


def calculator(
    inputs: Sequence[tuple[str, str, Range, float]],
    steps: Mapping[str, str],
    results: Sequence[tuple[str, str, float]],
) -> None:
    """Sliders, and numbers that the page computes from them, to three digits.

    ``inputs`` are (name, label, (least, most, step, start), value shown at the start);
    ``steps`` maps further names to JavaScript expressions of earlier ones, in order;
    ``results`` are (label, name, value at the start). Where a step is called as an
    input with ``_shown`` behind it, the input shows that: a slider for N may move log
    N. Raises ValueError for no input, or a result that is neither input nor step.
    """
    names = [name for name, *_ in inputs]
    unknown = [name for _, name, _ in results if name not in {*names, *steps}]
    if unknown or not names:
        raise ValueError(f"results: {unknown} are none of {[*names, *steps]}")
    rows = [_control(*control) for control in inputs]
    rows += [
        f"<p>{html.escape(label)} {_output(name, value)}</p>"
        for label, name, value in results
    ]
    script = html.escape(_recompute(names, steps))
    display(HTML(f'<div class="calculator" oninput="{script}">{"".join(rows)}</div>'))


def _control(name: str, label: str, bounds: Range, shown: float) -> str:
    least, most, step, start = bounds
    return (
        f'<label>{html.escape(label)} <input type="range" name="{name}" '
        f'min="{least:g}" max="{most:g}" step="{step:g}" value="{start:g}"> '
        f"{_output(name, shown)}</label>"
    )


def _output(name: str, value: float) -> str:
    return f'<output data-of="{name}">{float(f"{value:.3g}"):,g}</output>'


def _recompute(names: Sequence[str], steps: Mapping[str, str]) -> str:
    declared = "".join(f"const {name}={text};" for name, text in steps.items())
    return (
        f"const box=this,[{','.join(names)}]={json.dumps(list(names))}"
        ".map(n=>+box.querySelector(`[name=${n}]`).value);"
        f"{declared}const all={{{','.join([*names, *steps])}}};"
        "box.querySelectorAll('output').forEach(o=>{"
        "const v=all[o.dataset.of+'_shown']??all[o.dataset.of];"
        "o.value=v.toLocaleString('en',{maximumSignificantDigits:3})})"
    )


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=SVG_METADATA, bbox_inches="tight")
    plt.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()

"""A claim and what came of it, in a reader's words: badge, sentence, bar, box."""

import html
from math import ceil, floor, inf, log10

from blogcore.claims import Above, Below, Claim
from blogcore.evidence import Estimate
from blogcore.show import escaped

SYMBOLS = {
    "holds": "✓",
    "contradicted": "✗",
    "undecided": "?",
    "not judged": "–",
    "not run": "–",
    "exploring": "✎",
}
# The bar's width and the rows of its axis and interval, in pixels.
WIDTH, AXIS, ROW = 260, 24, 12


def badge(verdict: str) -> str:
    """A verdict as HTML: by symbol, word and (in the book's style) colour."""
    kind = verdict.replace(" ", "-")
    return f'<span class="badge badge-{kind}">{SYMBOLS[verdict]} {verdict}</span>'


def statement(claim: Claim, link: bool = False) -> str:
    """Number and sentence of a claim as HTML; ``link`` leads to where it is judged."""
    name = f'<a href="#{claim.id.lower()}">{claim.id}</a>' if link else claim.id
    return f"<b>{name}</b> {escaped(claim.statement)}"


def predicted(claim: Claim) -> str:
    """A prediction in symbols, for tables."""
    number = str(claim.prediction).replace(" ", "\u00a0")
    return html.escape(f"{number} {claim.unit}".strip())


def effect(estimate: Estimate, unit: str, of: str = "") -> str:
    """An effect as HTML; its interval's half width gets two digits.

    Without ``of`` it ends in “n = 40”, else in “over 40 pairs of runs”.
    """
    half = (estimate.high - estimate.low) / 2
    bounds = (estimate.mean, estimate.low, estimate.high)
    mean, low, high = (_minus(f"{v:{digits(half)}}") for v in bounds)
    number = f"{mean} {unit}".strip()
    count = f" over {estimate.n} {of}" if of else f", n\u00a0=\u00a0{estimate.n}"
    return html.escape(f"{number} [{low}, {high}]{count}")


def box(claim: Claim, verdict: str, estimate: Estimate, changed: str = "") -> str:
    """What was claimed, the verdict, what was measured, and a bar of the interval.

    ``changed`` names the settings that a reader changed, where that is the reason why
    nothing is judged.
    """
    kind = verdict.replace(" ", "-")
    measured = effect(estimate, claim.unit, claim.of)
    if claim.quantity:
        measured = f"{html.escape(_capital(claim.quantity))}: {measured}"
    last = f"predicted: {html.escape(_in_words(claim))}"
    if changed:
        last = f"you changed {html.escape(changed)}, so nothing is judged"
    return (
        f'<div class="verdict verdict-{kind}" id="{claim.id.lower()}">'
        f"<p>{statement(claim)} {badge(verdict)}</p>"
        f"<p>{measured}; {last}.</p>{bar(claim, estimate)}</div>"
    )


def not_run(claim: Claim, why: str) -> str:
    """What was claimed of a large run that is not recorded yet, and what it awaits."""
    return (
        f'<div class="verdict verdict-not-run" id="{claim.id.lower()}">'
        f"<p>{statement(claim)} {badge('not run')}</p>"
        f"<p>{html.escape(_capital(why))}; predicted: "
        f"{html.escape(_in_words(claim))}.</p></div>"
    )


def bar(claim: Claim, estimate: Estimate) -> str:
    """The interval against what was predicted, as a small SVG; the words say the same.

    The predicted values are shaded; the axis has marks at zero and at the thresholds.
    """
    low, high = _bounds(claim)
    marked = [b for b in (low, high) if b is not None]
    if len(marked) == 1:
        marked.append(0.0)  # below it, “more than” would be contradicted
    shown = [*marked, estimate.low, estimate.high]
    least, most = min(shown), max(shown)
    room = 0.12 * (most - least or 1.0)
    least, most = least - room, most + room

    def x(value: float) -> float:
        return 4 + (WIDTH - 8) * (value - least) / (most - least)

    left, right = x(least if low is None else low), x(most if high is None else high)
    marks = "".join(_mark(x(b), f"{b:g}") for b in _apart(marked, most - least))
    return (
        f'<svg class="bar" width="{WIDTH}" height="40" viewBox="0 0 {WIDTH} 40" '
        'aria-hidden="true" fill="currentColor" stroke="none" font-size="10">'
        f'<rect x="{left:.1f}" y="2" width="{max(right - left, 1):.1f}" '
        f'height="{AXIS - 2}" opacity=".16"/>'
        f'<path d="M4 {AXIS}H{WIDTH - 4}" stroke="currentColor" opacity=".45"/>{marks}'
        f'<path d="M{x(estimate.low):.1f} {ROW}H{x(estimate.high):.1f}" '
        'stroke="currentColor" stroke-width="3"/>'
        f'<circle cx="{x(estimate.mean):.1f}" cy="{ROW}" r="4.5"/></svg>'
    )


def exploring(changed: str) -> str:
    """What a reader is told who changed a setting."""
    return (
        f'<p class="exploring">{badge("exploring")} You changed {html.escape(changed)}'
        ": the boxes below show what comes of it, and judge nothing.</p>"
    )


def check_line(claim: Claim, found: str, passed: bool) -> str:
    """A check as one line of HTML: its sentence, and how exactly it holds."""
    mark = "=" if passed else SYMBOLS["exploring"]
    return (
        f'<p class="check" id="{claim.id.lower()}"><span aria-hidden="true">{mark}'
        f"</span> {statement(claim)} <i>{html.escape(found)}</i></p>"
    )


def exactness(claim: Claim, low: float, high: float) -> str:
    """“Equal to the last bit”, “equal to 10⁻¹²”, or from where to where values lie."""
    target = getattr(claim.prediction, "target", None)
    worst = inf if target is None else max(abs(low - target), abs(high - target))
    if worst == 0:
        return "Equal to the last bit."
    if worst <= 1e-4:
        return f"Equal to {power_of_ten(ceil(log10(worst)))}."
    low, high = (_minus(f"{v:.3g}") for v in (low, high))
    found = low if low == high else f"{low} to {high}"
    named = f"{_capital(claim.quantity)}:" if claim.quantity else "Found"
    return f"{named} {found}; expected {_in_words(claim)}."


def digits(half: float) -> str:
    """The format that gives an interval's half width two digits; zero has no sign."""
    return f"z.{max(1 - floor(log10(half)), 0)}f" if half >= 1e-6 else ".3g"


def power_of_ten(exponent: int) -> str:
    """10⁻¹², in characters that need no formula."""
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _in_words(claim: Claim) -> str:
    low, high = (None if b is None else _minus(f"{b:g}") for b in _bounds(claim))
    if high is None:
        text = f"more than {low}"
    elif low is None:
        text = f"less than {high}"
    else:
        text = f"exactly {low}" if low == high else f"between {low} and {high}"
    return f"{text} {claim.unit}".strip()


def _bounds(claim: Claim) -> tuple[float | None, float | None]:
    """The lower and upper end of what was predicted; None where there is none."""
    prediction = claim.prediction
    if isinstance(prediction, Above):
        return prediction.threshold, None
    if isinstance(prediction, Below):
        return None, prediction.threshold
    return (
        prediction.target - prediction.tolerance,
        prediction.target + prediction.tolerance,
    )


def _apart(values: list[float], span: float) -> list[float]:
    """The values whose labels would not lie on those before them."""
    kept: list[float] = []
    for value in values:
        if all(abs(value - other) > 0.12 * span for other in kept):
            kept.append(value)
    return kept


def _mark(x: float, text: str) -> str:
    anchor = "start" if x < 20 else "end" if x > WIDTH - 20 else "middle"
    return (
        f'<path d="M{x:.1f} {AXIS - 3}v6" stroke="currentColor"/>'
        f'<text x="{x:.1f}" y="37" text-anchor="{anchor}">{_minus(text)}</text>'
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _minus(text: str) -> str:
    return text.replace("-", "−")

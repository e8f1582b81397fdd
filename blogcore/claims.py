"""Claims, what they predict, and the verdict that an estimate gives them."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from blogcore.checks import check_number
from blogcore.evidence import Estimate
from blogcore.runtime import DATA, of_the_book


@dataclass(frozen=True)
class Above:
    """Predicts an effect above a threshold τ.

    Contradicted is not what is merely smaller than predicted: an effect below zero is,
    or below τ < 0, where the prediction is “no worse than”.
    """

    threshold: float

    def __post_init__(self):
        check_number("threshold", self.threshold)

    def verdict(self, estimate: Estimate) -> str:
        """Compare the whole interval with the threshold and with zero."""
        if estimate.low > self.threshold:
            return "holds"
        wrong = estimate.high < min(0.0, self.threshold)
        return "contradicted" if wrong else "undecided"

    def __str__(self):
        return f"> {self.threshold:g}".replace("-", "−")


@dataclass(frozen=True)
class Below:
    """Predicts an effect below a threshold: the mirror image of ``Above``."""

    threshold: float

    def __post_init__(self):
        check_number("threshold", self.threshold)

    def verdict(self, estimate: Estimate) -> str:
        """Compare the whole interval with the threshold and with zero."""
        if estimate.high < self.threshold:
            return "holds"
        wrong = estimate.low > max(0.0, self.threshold)
        return "contradicted" if wrong else "undecided"

    def __str__(self):
        return f"< {self.threshold:g}".replace("-", "−")


@dataclass(frozen=True)
class Within:
    """Predicts an effect equal to ``target`` up to ``tolerance``."""

    target: float
    tolerance: float

    def __post_init__(self):
        check_number("target", self.target)
        check_number("tolerance", self.tolerance, 0)

    def verdict(self, estimate: Estimate) -> str:
        """Holds if the interval lies inside the band, contradicted if outside of it."""
        low, high = self.target - self.tolerance, self.target + self.tolerance
        if low <= estimate.low and estimate.high <= high:
            return "holds"
        outside = estimate.high < low or estimate.low > high
        return "contradicted" if outside else "undecided"

    def __str__(self):
        target = f"{self.target:g}".replace("-", "−")
        return f"{target} ± {self.tolerance:g}" if self.tolerance else f"= {target}"


PREDICTIONS = {"above": Above, "below": Below, "within": Within}


PAGES = ("tutorial", "audit")
KINDS = ("claim", "check")
AUTHORS = ("post", "paper", "ours")


@dataclass(frozen=True)
class Claim:
    """A numbered statement with its test and prediction, written before the run.

    ``author`` is whose statement it is; ``page`` where it is judged; a ``check`` cannot
    fail unless our code is wrong (an identity, a definition), a ``claim`` can. The
    prediction speaks of ``quantity`` in ``unit``, as a reader would say it, and ``of``
    says what the n of an estimate are (“pairs of runs”). A ``timed`` claim is about
    seconds, which are a machine's own: it is judged, and not compared with the records.
    """

    id: str
    statement: str
    author: str
    test: str
    prediction: Above | Below | Within
    unit: str = ""
    page: str = "tutorial"
    kind: str = "claim"
    quantity: str = ""
    of: str = ""
    timed: bool = False

    def __post_init__(self):
        for name in ("id", "statement", "test", "unit", "quantity", "of"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name}: {getattr(self, name)!r} is no text")
        if not self.id.isidentifier():
            raise ValueError(f"id: {self.id!r} cannot serve as an anchor, say C1")
        if not isinstance(self.prediction, tuple(PREDICTIONS.values())):
            raise TypeError(f"prediction: {self.prediction!r} is none of {PREDICTIONS}")
        choices = {"author": AUTHORS, "page": PAGES, "kind": KINDS}
        for name, allowed in (choices | {"timed": (True, False)}).items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: {getattr(self, name)!r} is not in {allowed}")


def load_claims(post: str) -> list[Claim]:
    """The claims that ``data/claims/<post>.toml`` states, in its order.

    They live in a file of their own so that its history shows that no threshold moved
    after a run. Raises ValueError naming the file, and the claim, if it cannot be read,
    states no claim, repeats an id, or has fields that do not fit.
    """
    stated = _read(post).get("claim")
    if not isinstance(stated, list) or not stated:
        raise ValueError(f"{post}.toml: no [[claim]] in it")
    claims = [_claim(post, fields) for fields in stated]
    ids = [claim.id for claim in claims]
    if len({name.lower() for name in ids}) != len(ids):
        raise ValueError(f"{post}.toml: two claims have the same id among {ids}")
    return claims


def load_settings(post: str, page: str) -> dict[str, object]:
    """What ``[settings.<page>]`` of the claims file says: the settings that are judged.

    Raises ValueError naming the file if there is no such table.
    """
    settings = _read(post).get("settings", {})
    if not isinstance(settings, Mapping) or not isinstance(settings.get(page), Mapping):
        raise ValueError(f"{post}.toml: no table [settings.{page}] in it")
    return settings[page]


def _read(post: str) -> dict:
    path = of_the_book(DATA / "claims" / f"{post}.toml")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: not UTF-8 ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name}: not TOML ({error})") from error


def _claim(post: str, fields: object) -> Claim:
    name = fields.get("id") if isinstance(fields, Mapping) else fields
    try:
        (kind, numbers), *others = fields["prediction"].items()
        if others:
            raise ValueError("prediction: more than one")
        prediction = PREDICTIONS[kind](*numbers)
        return Claim(**fields | {"prediction": prediction})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{post}.toml: claim {name}: {error!r}") from error

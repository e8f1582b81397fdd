"""Claims, what they predict, and the verdict that an estimate gives them."""

import tomllib
from dataclasses import dataclass

from blogcore.checks import check_number
from blogcore.evidence import Estimate
from blogcore.runtime import DATA


@dataclass(frozen=True)
class Above:
    """Predicts an effect above a threshold ≥ 0: holds, or contradicted below zero."""

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
    """Predicts an effect below a threshold ≤ 0: the mirror image of ``Above``."""

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
        if self.tolerance == 0:
            return f"= {self.target:g}"
        return f"{self.target:g} ± {self.tolerance:g}"


PREDICTIONS = {"above": Above, "below": Below, "within": Within}


@dataclass(frozen=True)
class Claim:
    """A numbered statement with its test and prediction, written before the run.

    ``author`` is whose statement it is (post, paper or ours); ``unit`` belongs to the
    effect that the prediction speaks of.
    """

    id: str
    statement: str
    author: str
    test: str
    prediction: Above | Below | Within
    unit: str = ""

    def __post_init__(self):
        if not self.id.isidentifier():
            raise ValueError(f"id: {self.id!r} cannot serve as an anchor, say C1")
        if not isinstance(self.prediction, tuple(PREDICTIONS.values())):
            raise TypeError(f"prediction: {self.prediction!r} is none of {PREDICTIONS}")
        if self.author not in ("post", "paper", "ours"):
            raise ValueError(
                f"author: {self.author!r} is not 'post', 'paper' or 'ours'"
            )


def load_claims(chapter: str) -> list[Claim]:
    """The claims that ``data/claims/<chapter>.toml`` states, in its order.

    They live in a file of their own so that its history shows that no threshold moved
    after a run. Raises ValueError naming the claim whose fields do not fit.
    """
    text = (DATA / "claims" / f"{chapter}.toml").read_text(encoding="utf-8")
    claims = []
    for fields in tomllib.loads(text)["claim"]:
        try:
            ((kind, numbers),) = fields.pop("prediction").items()
            claims.append(Claim(prediction=PREDICTIONS[kind](*numbers), **fields))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"claim {fields.get('id')}: {error!r}") from error
    return claims

"""A page's report: what is claimed before the run, what is judged, what is recorded."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

import numpy as np
from IPython.display import HTML, display

from blogcore import recorded, wording
from blogcore.claims import Claim, load_claims, load_settings
from blogcore.evidence import Estimate
from blogcore.runtime import DATA, PROFILES
from blogcore.show import escaped, table_html
from blogcore.units import Experiment

GLUE = "application/papermill.record/"
RECORDS = "blogcore-records"  # marks an output that from_records makes
AUDIT = "_audit"
TOGETHER = (
    "<p>All together: one interval over the seeds of all these runs, this page's too. "
    "It was computed after the verdicts were known, and changes none. It is blank "
    "where the runs are not independent.</p>"
)
# The fields of a claim that a record repeats, so that the ledger needs no other file.
STATED = ("id", "statement", "author", "test", "unit", "quantity", "of")


class Numbers:
    """The numbers that a page records, under ``page/name``, for its prose to quote."""

    def __init__(self, page: str):
        self.page = page

    def value(
        self, name: str, number: float, sentence: str = "", tolerance: str = "none"
    ) -> None:
        """Record a number; the page's prose quotes it.

        ``sentence`` is what plain Jupyter shows, “early stopping gains {:.1f} points”.
        ``tolerance`` "exact" guards the number to 1e-9. Raises ValueError for a number
        that is not finite or a sentence without a place for it.
        """
        if tolerance not in ("exact", "none"):
            raise ValueError(f"tolerance: {tolerance!r} is not 'exact' or 'none'")
        if not isfinite(number):
            raise ValueError(f"number: {name} is {number!r}, not a finite number")
        said = _sentence(sentence, float(number))
        self._record(name, number, {"kind": "value", "tolerance": tolerance}, said)

    def recorded(
        self,
        what: str | Experiment,
        heads: Sequence[str] = (),
        across: str = "metric",
    ) -> None:
        """What a large run gave: means over all recorded seeds ± half intervals.

        ``what`` is an experiment whose units are recorded, or the prefix of what
        ``value`` recorded in the full profile as ``prefix/…/seed``, one part a head. A
        column for each part found under the head ``across``. Raises ValueError if that
        is no head, or for a name with more or fewer parts.
        """
        if isinstance(what, Experiment):
            _show_records("units", self.page, what.summary(), across)
        else:
            _show_records("recorded", self.page, what, [*heads], across)

    def _record(self, name: str, number: float, details: dict, said: str = "") -> None:
        metadata = {
            "scrapbook": {"name": f"{self.page}/{name}", "mime_prefix": GLUE},
            "blogcore": details,
        }
        data = {f"{GLUE}text/plain": repr(float(number))}
        data |= {"text/plain": said} if said else {}
        display(data, raw=True, metadata=metadata)


class Judging(Numbers):
    """A page's claims and checks, as they are judged.

    ``page`` is a notebook's name, ``flooding`` or ``flooding_audit``; its claims are
    those of its post's file in ``data/claims`` that live on it. In the smoke profile
    nothing is judged, and nothing where a reader changed a setting.
    """

    def __init__(self, page: str, profile: str):
        if profile not in PROFILES:
            raise ValueError(f"profile: {profile!r} is not one of {PROFILES}")
        super().__init__(page)
        self.profile, self.post = profile, page.removesuffix(AUDIT)
        self.part = "audit" if page.endswith(AUDIT) else "tutorial"
        stated = load_claims(self.post)
        self.claims = {c.id: c for c in stated if c.page == self.part}
        self.judged: dict[str, tuple[str, Estimate | None]] = {}
        self.changed: dict[str, str] = {}

    def judge(self, name: str, estimate: Estimate) -> None:
        """Compare an estimate with a claim's prediction; show and record it."""
        claim = self._claim(name)
        verdict = claim.prediction.verdict(estimate)
        if self.changed or self.profile == "smoke":
            verdict = "exploring" if self.changed else "not judged"
        self._judged(claim, verdict, estimate)

    def _judged(self, claim: Claim, verdict: str, estimate: Estimate, **more) -> None:
        """Show and record a verdict; ``more`` goes into each of its records."""
        self.judged[claim.id] = (verdict, estimate)
        changed = "" if more else ", ".join(self.changed.values())
        display(HTML(wording.box(claim, verdict, estimate, changed)))
        slug = claim.id.lower()
        details = _details(claim, verdict, estimate) | more
        self._record(slug, estimate.mean, details)
        end = {"kind": "value", "tolerance": "none"} | more
        self._record(f"{slug}-low", estimate.low, end)
        self._record(f"{slug}-high", estimate.high, end)

    def judge_units(
        self,
        name: str,
        experiment: Experiment,
        metric: str,
        *arms: Mapping[str, object],
        times: float = 1.0,
    ) -> None:
        """Judge a claim by the units that are recorded: “not run” until all are.

        The effect is the metric of the first arm, minus that of the second if there is
        one, ``times`` what turns it into the claim's unit; paired by seed. An arm may
        have a “metric” of its own. Raises ValueError for an arm that there is not.
        """
        claim, summary = self._claim(name), experiment.summary()
        given = (self.page, summary, metric, arms, times)
        estimate, why = recorded.contrast(DATA, *given)
        if estimate is None:
            self.judged[name] = ("not run", None)
            display(HTML(wording.not_run(claim, why)))
            return
        self._judged(claim, claim.prediction.verdict(estimate), estimate, units=True)

    def check(self, name: str, values: object) -> None:
        """Assert what cannot fail unless our code is wrong; a line says how exactly.

        All ``values`` (a number, an array, a tensor) must lie where the prediction
        says. Raises AssertionError if one does not, unless a setting was changed.
        """
        claim, (low, high) = self._claim(name), _range(name, values)
        spanning = Estimate((low + high) / 2, low, high, 2)
        passed = claim.prediction.verdict(spanning) == "holds"
        found = wording.exactness(claim, low, high)
        if not (passed or self.changed):
            raise AssertionError(f"{name}: {claim.statement} {found}")
        self.judged[name] = ("check", spanning)
        display(HTML(wording.check_line(claim, found, passed)))
        details = _stated(claim) | {"kind": "check", "exactly": found}
        self._record(name.lower(), max(abs(low), abs(high)), details)

    def _claim(self, name: str) -> Claim:
        if name not in self.claims:
            raise ValueError(f"name: {name!r} is not one of {list(self.claims)}")
        return self.claims[name]


class Report(Judging):
    """A page's report: what is claimed before the run, what is judged, the tables."""

    def settings(self, **given: object) -> None:
        """Compare settings with those that are judged, in ``[settings.<page>]``.

        Other profiles have other settings: there nothing is compared. Raises ValueError
        for a name that the table does not have.
        """
        found = _changes(load_settings(self.post, self.part), given)
        if self.profile == "book":
            kept = {n: s for n, s in self.changed.items() if n not in given}
            self.changed = kept | found
        if self.changed:
            display(HTML(wording.exploring(", ".join(self.changed.values()))))

    def claimed(self) -> None:
        """What post and paper claim, a line each; tests and thresholds in a fold."""
        display(HTML(_claimed(self.claims.values())))

    def predictions(self) -> None:
        """The table of claims as written down before the run."""
        display(HTML(_predictions(self.claims.values())))

    def verdicts(self) -> None:
        """The table after the run; ValueError if a claim was never judged."""
        missing = self.claims.keys() - self.judged.keys()
        if missing:
            raise ValueError(f"claims: never judged: {sorted(missing)}")
        display(HTML(_verdicts(self.claims, self.judged)))

    def other_seeds(self, seed: int) -> None:
        """The recorded verdicts of the book profile under root seeds but ``seed``."""
        claims = [c.id for c in self.claims.values() if c.kind == "claim"]
        _show_records("other seeds", self.page, seed, claims)


def _claimed(claims: Iterable[Claim]) -> str:
    """What others claim, a line each, and the fold with everything."""
    told = [claim for claim in claims if claim.author != "ours"]
    lines = [
        f"<li>{wording.statement(claim, link=True)} ({claim.author})</li>"
        for claim in told
    ]
    summary = "Every claim of this page, its test and its threshold"
    fold = f"<details><summary>{summary}</summary>{_predictions(claims)}</details>"
    return (f'<ul class="claimed">{"".join(lines)}</ul>' if lines else "") + fold


def _predictions(claims: Iterable[Claim]) -> str:
    heads = ["Claim", "Whose", "Test", "Prediction"]
    rows = [
        [wording.statement(c), c.author, escaped(c.test), wording.predicted(c)]
        for c in claims
    ]
    return table_html(heads, rows)


def _verdicts(
    claims: Mapping[str, Claim], judged: Mapping[str, tuple[str, Estimate | None]]
) -> str:
    """A row a claim that was judged, and a sentence on the checks."""
    checks = [name for name, (verdict, _) in judged.items() if verdict == "check"]
    rows = []
    for name, claim in claims.items():
        verdict, estimate = judged[name]
        if name in checks:
            continue
        measured = wording.effect(estimate, claim.unit, claim.of) if estimate else ""
        cells = [wording.statement(claim, link=True), claim.author]
        cells += [wording.predicted(claim), wording.badge(verdict), measured]
        rows.append(cells)
    heads = ["Claim", "Whose", "Prediction", "Verdict", "Effect"]
    links = [f'<a href="#{name.lower()}">{name}</a>' for name in checks]
    passed = f"<p>Checks that passed: {', '.join(links)}.</p>" if links else ""
    return table_html(heads, rows) + passed


def _changes(judged: Mapping[str, object], given: Mapping[str, object]) -> dict:
    """What to say of every setting that is not the judged one."""
    unknown = sorted(given.keys() - judged.keys())
    if unknown:
        raise ValueError(f"settings: {unknown} are not among {sorted(judged)}")
    return {
        name: f"{name} from {judged[name]} to {_plain(value)}"
        for name, value in given.items()
        if _plain(value) != judged[name]
    }


def _stated(claim: Claim) -> dict[str, str]:
    return {key: getattr(claim, key) for key in STATED} | {"slug": claim.id.lower()}


def _details(claim: Claim, verdict: str, estimate: Estimate) -> dict:
    return _stated(claim) | {
        "kind": "verdict",
        "prediction": str(claim.prediction),
        "verdict": verdict,
        "mean": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "rows": [list(row) for row in estimate.rows],
        "timed": claim.timed,
    }


def _sentence(sentence: str, number: float) -> str:
    """The sentence with the number in it, with a true minus sign."""
    if not sentence:
        return ""
    said = sentence.format(number)
    if said == sentence:
        raise ValueError(f"sentence: {sentence!r} has no {{}} for the number")
    return re.sub(r"(?<!\w)-(?=[\d.])", "−", said)


def _range(name: str, values: object) -> tuple[float, float]:
    """The least and the largest of one number or many; ValueError unless finite."""
    values = values.detach().cpu() if hasattr(values, "detach") else values
    found = np.asarray(values, dtype=float)
    if not found.size or not np.isfinite(found).all():
        raise ValueError(f"values: of {name} are {found.tolist()}, not finite numbers")
    return float(found.min()), float(found.max())


def _plain(value: object) -> object:
    """A setting as TOML would hold it: lists for tuples and ranges."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(item) for item in value]
    return value


def from_records(what: str, *arguments: object) -> str:
    """HTML of what is recorded; a page asks for it again when it is rendered.

    A record that changes after a run therefore shows without another run.
    """
    tables = {"recorded": recorded.of_profile, "units": recorded.of_units}
    if what in tables:
        return tables[what](DATA, *arguments)
    return _other_seeds(*arguments)


def _show_records(*call: object) -> None:
    data = {"text/html": from_records(*call)}
    display(data, raw=True, metadata={RECORDS: [*call]})


def _other_seeds(page: str, seed: int, claims: Sequence[str]) -> str:
    found = recorded.runs(DATA, page, "book")
    runs = [run for run in found if run["seed"] != seed]
    if not runs:
        return "<p>No other root seed is recorded.</p>"
    stated = {claim.id: claim for claim in load_claims(page.removesuffix(AUDIT))}
    rows = [
        [name, *_verdicts_by_seed(runs, name), _together(found, stated.get(name))]
        for name in claims
    ]
    heads = ("Claim", *(f"root seed {run['seed']}" for run in runs), "all together")
    return table_html(heads, rows, "claims seeds") + TOGETHER


def _verdicts_by_seed(runs: Sequence[dict], name: str) -> list[str]:
    """A claim's verdict in each run, empty where it had none."""
    found = [{r.get("id"): r.get("verdict") for r in run["records"]} for run in runs]
    return [wording.badge(v[name]) if v.get(name) else "" for v in found]


def _together(found: Sequence[dict], claim: Claim | None) -> str:
    """What the seeds of all recorded runs say of a claim, if that can be said."""
    pooled = recorded.together(found, claim.id) if claim else None
    if pooled is None:
        return ""
    effect = wording.effect(pooled, claim.unit, " ").partition(" over ")[0]
    return f"{wording.badge(claim.prediction.verdict(pooled))} {effect}"

"""Runs the chapters: what is stale is executed, and every result meets its record."""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from math import inf, isfinite
from pathlib import Path

from joblib import cpu_count
from tqdm import tqdm

from blogcore.contents import chapters, find_root
from blogcore.evidence import drift, environment, load_records, save_records
from blogcore.execution import ChapterError, execute
from blogcore.freshness import Job, code_cells, is_fresh, seal, stamp, text
from blogcore.report import RECORDS, from_records
from blogcore.runtime import LARGEST_ROOT, write_safely
from blogcore.runtime import device as torch_device

# Seconds for a cell and for a chapter, by profile: several times what a healthy run
# needs, so that only a hang meets them. BLOGCORE_PATIENCE multiplies them.
LIMITS = {"smoke": (90, 180), "book": (600, 1800), "full": (3600, 7200)}
RECORD = "application/papermill.record/text/plain"
ENDING = ("SIGTERM", "SIGHUP", "SIGQUIT")


def executed_path(
    slug: str, profile: str = "book", seed: int = 0, root: Path | None = None
) -> Path:
    """Where the executed chapter lies, whether or not it has been executed yet."""
    return Job(find_root(root), slug, profile, seed).target


def run(
    slugs: Sequence[str] = (),
    profile: str = "book",
    seed: int = 0,
    device: str = "auto",
    jobs: int | None = None,
    record: bool = False,
    root: Path | None = None,
) -> dict[str, Path]:
    """Bring chapters up to date (all of them by default) and compare their records.

    Executes what is stale, ``jobs`` chapters at a time (one a core by default). With
    ``record`` the results become the recorded ones. Returns the executed notebooks.
    Raises ValueError for an argument that is not allowed, and ChapterError, after all
    chapters have been tried, if a cell failed or hung or a record drifted.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs: {jobs!r} is not an integer >= 1")
    patience, root = _patience(), find_root(root)
    wanted = _jobs(root, slugs or chapters(root), profile, seed, device)
    stamps, failures = _stamps(wanted)
    stale = {job: new for job, new in stamps.items() if not is_fresh(job, new)}
    for job in stamps.keys() - stale.keys():
        _say(f"{job.slug}: unchanged, not executed")
    if stale:
        failures |= asyncio.run(_execute_all(stale, jobs or cpu_count(), patience))
    problems = []
    for job in wanted:
        problems += [failures[job]] if job in failures else _meet_record(job, record)
    if problems:
        raise ChapterError("\n".join(problems))
    return {job.slug: job.target for job in wanted}


def ledger(notebook: Mapping) -> list[dict]:
    """The recorded values of an executed notebook, in order: name, value and details.

    Raises ValueError for a name that occurs twice or a value that is no plain float.
    """
    records = {}
    for output in (o for cell in code_cells(notebook) for o in cell["outputs"]):
        details = output.get("metadata", {}).get("blogcore")
        if details is None:
            continue
        name = output["metadata"]["scrapbook"]["name"]
        value = "".join(output["data"][RECORD])
        if name in records:
            raise ValueError(f"record {name}: recorded twice")
        try:
            records[name] = {"name": name, "value": float(value), **details}
        except ValueError as error:
            raise ValueError(f"record {name}: {value} is no plain float") from error
    return list(records.values())


def graft(source: Mapping, executed: Mapping) -> dict:
    """The source notebook with the executed outputs under its cells, matched by id.

    Tables of what is recorded are made again: records may have changed since.
    Raises ValueError for a code cell that was not executed as it now reads.
    """
    done = {cell["id"]: cell for cell in code_cells(executed)}
    grafted = deepcopy(dict(source))
    for cell in code_cells(grafted):
        twin = done.get(cell["id"])
        if twin is None or text(twin) != text(cell):
            raise ValueError(f"cell {cell['id']}: not executed as it now reads")
        cell["outputs"] = deepcopy(twin["outputs"])
        cell["execution_count"] = twin["execution_count"]
        for output in cell["outputs"]:
            call = output.get("metadata", {}).get(RECORDS)
            if call:
                output["data"]["text/html"] = from_records(*call)
    return grafted


def main(argv: Sequence[str] | None = None) -> int:
    """The command line, ``blogcore run [CHAPTER …]``; returns the exit status."""
    options = vars(_parser().parse_intermixed_args(argv))
    del options["command"]  # there is only one
    try:
        run(**options)
    except (ChapterError, ValueError) as error:
        print(f"blogcore: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("blogcore: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    # no abbreviations: a misspelt option must not pass for another one
    parser = argparse.ArgumentParser(
        prog="blogcore",
        description="Execute the chapters that are stale, compare their records.",
        epilog="Large experiments on real data: blogcore full --help.",
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=["run"])
    parser.add_argument("slugs", nargs="*", metavar="CHAPTER", help="default: all")
    parser.add_argument("--profile", default="book", help=", ".join(LIMITS))
    parser.add_argument("--seed", type=int, default=0, help="root of all streams")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--jobs", type=int, help="chapters at a time")
    parser.add_argument("--record", action="store_true", help="accept the results")
    parser.add_argument("--root", type=Path, help="the book's folder")
    return parser


def _jobs(root: Path, slugs, profile: str, seed: int, device: str) -> list[Job]:
    known = sorted(path.stem for path in (root / "chapters").glob("*.ipynb"))
    for slug in slugs:
        if slug not in known:
            raise ValueError(f"chapter: {slug!r} is not one of {', '.join(known)}")
    if profile not in LIMITS:
        raise ValueError(f"profile: {profile!r} is not one of {', '.join(LIMITS)}")
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    if not whole or not 0 <= seed <= LARGEST_ROOT:
        raise ValueError(f"seed: {seed!r} is not an integer in 0 … {LARGEST_ROOT}")
    torch_device(device)
    return [Job(root, slug, profile, seed, device) for slug in dict.fromkeys(slugs)]


def _patience() -> float:
    given = os.environ.get("BLOGCORE_PATIENCE", "1")
    try:
        patience = float(given)
    except ValueError:
        patience = 0.0
    if not (isfinite(patience) and patience > 0):
        raise ValueError(f"BLOGCORE_PATIENCE: {given!r} is not a finite number > 0")
    return patience


def _stamps(jobs: Sequence[Job]) -> tuple[dict[Job, str], dict[Job, str]]:
    """The stamps of the jobs that can be executed, and what ails the others."""
    stamps, failures = {}, {}
    for job in jobs:
        try:
            stamps[job] = stamp(job)
        except (OSError, ValueError) as error:
            failures[job] = _named(job, error)
    return stamps, failures


def _named(job: Job, error: Exception) -> str:
    message = str(error)
    return message if message.startswith(job.slug) else f"{job.slug}: {message}"


def _recorded_seconds(job: Job) -> float:
    """The longest that the recorded runs of this profile took; unknown is longest."""
    try:
        runs = load_records(job.records)
    except ValueError:  # to be told later, when the record is met
        return inf
    found = [run.get("seconds", 0) for run in runs if run["profile"] == job.profile]
    return max(found, default=inf)


async def _execute_all(
    stale: Mapping[Job, str], workers: int, patience: float
) -> dict[Job, str]:
    """Execute the jobs and write what they gave; the messages of those that failed.

    The longest begin first: none is left running alone at the end.
    """
    cancel = asyncio.current_task().cancel
    for number in (getattr(signal, name, None) for name in ENDING):
        # Windows has fewer; only the main thread has handlers; nohup ignores SIGHUP.
        with suppress(NotImplementedError, RuntimeError, ValueError, TypeError):
            if signal.getsignal(number) != signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, cancel)
    gate, failures = asyncio.Semaphore(workers), {}

    async def attempt(job: Job) -> None:
        limits = (patience * seconds for seconds in LIMITS[job.profile])
        async with gate:
            begin = time.monotonic()
            try:
                notebook = await execute(job.source, job.parameters, *limits, job.root)
                faults = _faults(notebook)
                new = None if faults else stale[job]
                _write(job, notebook, new, time.monotonic() - begin)
            except (ChapterError, OSError) as error:
                faults = [str(error)]
            if faults:
                failures[job] = "\n".join(_named(job, fault) for fault in faults)

    longest_first = sorted(stale, key=_recorded_seconds, reverse=True)
    await asyncio.gather(*map(attempt, longest_first))
    return failures


def _faults(notebook: Mapping) -> list[str]:
    """What no page may show: words on stderr, a figure's cell without its figure."""
    faults = []
    for number, cell in enumerate(code_cells(notebook)):
        name = f"code cell {number}, `{text(cell).strip().partition(chr(10))[0]}`"
        outputs = cell["outputs"]
        complaints = ["".join(o["text"]) for o in outputs if o.get("name") == "stderr"]
        if complaints:
            faults.append(f"{name}: writes to stderr: {complaints[0].strip()}")
        if "image" in cell["metadata"].get("mystnb", {}) and not any(
            map(_is_figure, outputs)
        ):
            faults.append(f"{name}: its figure is missing")
    return faults


def _is_figure(output: Mapping) -> bool:
    """An image, or a slider, which carries its images in HTML."""
    data = output.get("data", {})
    moved = 'class="slider"' in "".join(data.get("text/html", ""))
    return moved or any(kind.startswith("image/") for kind in data)


def _write(job: Job, notebook: dict, new_stamp: str | None, seconds: float) -> None:
    """Keep an executed notebook, without papermill's times and paths in it.

    Without a stamp it will be executed again.
    """
    for cell in notebook["cells"]:
        del cell["metadata"]["papermill"]
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["id"] = "injected-parameters"
    device = str(torch_device(job.device))
    notebook["metadata"] = {
        "kernelspec": notebook["metadata"]["kernelspec"],
        "blogcore": {
            "stamp": new_stamp,
            "seal": seal(notebook),
            "parameters": job.parameters,
            "run": {"seconds": round(seconds, 1), **environment(device)},
        },
    }
    content = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True)
    write_safely(job.target, content.encode())
    _say(f"{job.slug}: executed in {seconds:.0f} s")


def _meet_record(job: Job, accept: bool) -> list[str]:
    """Record what an executed chapter gave, or say where it left the record."""
    try:
        return _keep(job) if accept else _compare(job)
    except (OSError, ValueError) as error:
        return [_named(job, error)]


def _compare(job: Job) -> list[str]:
    found = ledger(json.loads(job.target.read_text(encoding="utf-8")))
    recorded = job.runs(others=False)
    return [
        f"{job.slug}: {m}" for run in recorded for m in drift(run["records"], found)
    ]


def _keep(job: Job) -> list[str]:
    executed = json.loads(job.target.read_text(encoding="utf-8"))
    run = {"profile": job.profile, "seed": job.seed, "records": ledger(executed)}
    runs = [*job.runs(others=True), run | executed["metadata"]["blogcore"]["run"]]
    runs.sort(key=lambda run: (list(LIMITS).index(run["profile"]), run["seed"]))
    save_records(job.records, job.slug, runs)
    return []


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

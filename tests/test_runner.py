"""Sabotage: whatever is broken, the command says what and where, and fails."""

import json
import os
import signal
import time

import pytest

from blogcore import freshness, report, runner
from blogcore.evidence import save_records
from blogcore.freshness import Job, is_fresh, stamp
from blogcore.runtime import PROFILES

pytestmark = pytest.mark.slow


def stamps(book):
    return [stamp(Job(book.root, slug)) for slug in ("falling", "painting")]


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def test_second_run_executes_nothing_and_changes_no_byte(book):
    status, said = book.run()
    assert status == 0, said
    assert "falling: executed" in said
    assert "painting: executed" in said
    first = book.executed("falling").read_bytes()
    status, said = book.run()
    assert (status, said.count("unchanged, not executed")) == (0, 2)
    assert book.executed("falling").read_bytes() == first


def test_executed_notebook_tells_neither_time_nor_place(book):
    assert book.run("falling", "--seed", "7")[0] == 0
    path = book.executed("falling", "book-7")
    executed = json.loads(path.read_text(encoding="utf-8"))
    facts = executed["metadata"].pop("blogcore")
    assert facts["parameters"] == {"PROFILE": "book", "SEED": 7, "DEVICE": "auto"}
    assert "book 7 19.62" in executed["cells"][-1]["outputs"][0]["text"]
    assert [r["value"] for r in runner.ledger(executed)] == [26.62]
    text = json.dumps(executed)
    assert str(book.root) not in text
    assert "papermill" not in text.replace("application/papermill.record", "")
    assert os.listdir(path.parent) == ["falling.ipynb"]


def test_failing_cell_is_named_and_does_not_hide_the_other_chapter(book):
    book.chapter(
        "falling", ["x = 1\n", "\ny = x\nassert y == 2, 'y is 1'\n", "z = 3\n"]
    )
    with book.start() as command:
        said, _ = command.communicate(timeout=120)
    assert command.returncode == 1
    assert "falling: code cell 3 of 4, `y = x`: AssertionError: y is 1" in said
    assert "painting: executed" in said
    assert not book.executed("falling").exists()
    assert book.run("painting")[0] == 0


def test_changed_constant_runs_its_dependents_again_and_breaks_their_identity(book):
    assert book.run()[0] == 0
    book.write("blogcore/gravity.py", "G = 9.82\n")
    status, said = book.run()
    assert status == 1
    assert "painting: unchanged" in said
    assert "AssertionError: the law of falling is off" in said
    status, _ = book.run()
    assert status == 1, "a failure must not be forgotten"


def test_hung_cell_is_stopped(book, monkeypatch):
    monkeypatch.setitem(runner.LIMITS, "smoke", (20, 1200))
    monkeypatch.setenv("BLOGCORE_PATIENCE", "0.1")
    book.chapter("falling", ["import time\nwhile True:\n    time.sleep(1)\n"])
    status, said = book.run("falling", "--profile", "smoke")
    assert status == 1
    assert "falling: code cell 2 of 2, `import time`: CellTimeoutError" in said
    assert "after 2 seconds" in said
    wait_for(lambda: not book.processes())


def test_kernel_deaf_to_everything_is_stopped_by_the_outer_limit(book, monkeypatch):
    monkeypatch.setitem(runner.LIMITS, "smoke", (600, 8))
    # Its worker is stopped, and the kernel never lets another thread of its own run.
    deaf = "import os, re, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n"
    deaf += 're.match("(a+)+$", "a" * 60 + "b")\n'
    book.chapter("falling", [deaf])
    status, said = book.run("falling", "--profile", "smoke")
    assert status == 1
    assert "falling: not done after 8 s" in said
    wait_for(lambda: not book.processes())


def test_killed_kernel_and_killed_worker_end_the_run(book):
    kill = "import os, signal\nos.kill(os.{}(), signal.SIGKILL)\n"
    book.chapter("falling", [kill.format("getpid")])
    book.chapter("painting", [kill.format("getppid")])
    status, said = book.run()
    assert status == 1
    assert "falling: code cell 2 of 2, `import os, signal`: DeadKernelError" in said
    assert "painting: its worker process died with status -9" in said
    assert not book.executed("falling").parent.exists()


ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL]


@pytest.mark.parametrize("sent", ENDS)
def test_ended_run_leaves_no_process_and_no_folder_behind(book, sent, monkeypatch):
    sleep = 'import pathlib, time\npathlib.Path("started").touch()\ntime.sleep(60)\n'
    book.chapter("falling", [sleep])
    (book.root / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(book.root / "temporary"))
    with book.start("falling") as process:
        wait_for((book.root / "chapters" / "started").exists)
        assert book.processes()
        process.send_signal(sent)
        said, _ = process.communicate(timeout=60)
    if sent != signal.SIGKILL:
        assert process.returncode == 130
        assert "blogcore: interrupted" in said
    wait_for(lambda: not book.processes())
    wait_for(lambda: not os.listdir(book.root / "temporary"))
    assert not book.executed("falling").exists()


def test_two_runs_at_once_do_not_disturb_each_other(book):
    with book.start() as first, book.start() as second:
        said = first.communicate(timeout=120)[0] + second.communicate(timeout=120)[0]
    assert (first.returncode, second.returncode) == (0, 0), said
    jobs = [Job(book.root, slug) for slug in ("falling", "painting")]
    assert all(is_fresh(job, stamp(job)) for job in jobs)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"metadata": {}}', b"\xff\xfe"])
def test_damaged_executed_file_is_not_fresh(book, damage):
    job = Job(book.root, "falling")
    job.target.parent.mkdir(parents=True)
    job.target.write_bytes(damage)
    assert not is_fresh(job, stamp(job))


def test_stamped_file_without_cells_is_not_fresh(book):
    job = Job(book.root, "falling")
    facts = {"stamp": stamp(job), "seal": "0"}
    book.write(
        str(job.target.relative_to(book.root)),
        json.dumps({"metadata": {"blogcore": facts}, "cells": None}),
    )
    assert not is_fresh(job, stamp(job))
    assert book.run("falling")[0] == 0


def test_damaged_executed_file_is_executed_again(book):
    assert book.run("painting")[0] == 0
    path = book.executed("painting")
    path.write_bytes(path.read_bytes()[:-40])
    status, said = book.run("painting")
    assert (status, "painting: executed" in said) == (0, True)


def test_record_is_accepted_and_drift_is_an_error_until_it_is(book):
    assert book.run("falling", "--record")[0] == 0
    path = book.root / "data" / "records" / "falling.json"
    run = json.loads(path.read_text(encoding="utf-8"))["runs"][0]["run"]
    assert (run["profile"], run["seed"], run["device"]) == ("book", 0, "cpu")
    status, said = book.run()
    assert (status, "falling: unchanged" in said) == (0, True), (
        "recording made it stale"
    )

    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("19.62", "19.63"), encoding="utf-8")
    for _ in range(2):
        status, said = book.run("falling")
        assert status == 1
        assert "falling: falling/height: 19.62, recorded 19.63" in said
    assert book.run("falling", "--record")[0] == 0
    assert book.run("falling")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "bok"], "profile: 'bok' is not one of smoke, book, full"),
        (["flodding"], "chapter: 'flodding' is not one of falling, painting"),
        (["--seed", "-1"], "seed: -1 is not an integer in 0 … 1000000000000000"),
        (["--seed", f"1{400 * '0'}"], "0 is not an integer in 0 … 1000000000000000"),
        (["--jobs", "0"], "jobs: 0 is not an integer >= 1"),
        (["--device", "abacus"], "device: 'abacus' is"),
        (["--sed", "1"], "unrecognized arguments: --sed"),
        (["--see", "1"], "unrecognized arguments: --see"),
        (["--seed", "one"], "argument --seed: invalid int value: 'one'"),
    ],
)
def test_bad_argument_is_named_with_what_is_allowed(book, arguments, message):
    status, said = book.run(*arguments)
    assert status in (1, 2)
    assert message in said
    assert not (book.root / "_build").exists()


def test_misspelt_parameter_in_the_command_and_in_the_chapter(book):
    status, said = book.run("--PROFIL", "smoke")
    assert status == 2
    assert "--profile" in said
    book.chapter("falling", ["x = 1\n"], parameters='PROFIL = "book"\nSEED = 0\n')
    status, said = book.run()
    assert status == 1
    assert "falling: 1 cells tagged 'parameters' define ['PROFIL', 'SEED']" in said
    assert "exactly ['PROFILE', 'SEED', 'DEVICE']" in said


def test_chapter_that_is_missing_or_no_notebook(book):
    (book.root / "chapters" / "painting.ipynb").unlink()
    status, said = book.run()
    assert (status, "'painting' is not one of falling" in said) == (1, True)
    book.write("chapters/painting.ipynb", "{")
    status, said = book.run()
    assert (status, "painting: no notebook with cell ids" in said) == (1, True)
    assert "falling: executed" in said, "every chapter is tried"


def test_unwritable_result_and_damaged_record_do_not_stop_the_others(book):
    book.executed("falling").mkdir(parents=True)
    book.write("data/records/painting.json", '{"runs": [{"run": {}, "records": null}]}')
    book.chapter("talking", ["print(1)\n"])
    status, said = book.run("falling", "painting", "talking")
    assert status == 1
    assert "talking: executed" in said
    assert "falling: [Errno" in said
    assert "painting.json holds no records (KeyError('profile'))" in said
    assert book.executed("talking").is_file()


def test_the_longest_chapter_begins_first(book):
    assert book.run("--record", "--seed", "3")[0] == 0
    path = book.root / "data" / "records" / "painting.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["runs"][0]["run"]["seconds"] = 999
    path.write_text(json.dumps(record), encoding="utf-8")
    _, said = book.run("--jobs", "1")
    assert said.index("painting: executed") < said.index("falling: executed")


@pytest.mark.parametrize("patience", ["abc", "-1", "0", "nan", "inf", ""])
def test_patience_is_a_positive_number(book, monkeypatch, patience):
    monkeypatch.setenv("BLOGCORE_PATIENCE", patience)
    status, said = book.run("painting")
    assert status == 1
    assert f"BLOGCORE_PATIENCE: {patience!r} is not a finite number > 0" in said
    assert not (book.root / "_build").exists()


@pytest.mark.parametrize(
    ("toc", "message"),
    [
        ("", "None has no root"),
        ("- a\n", "['a'] has no root"),
        ("root: [", "while parsing"),
        ("root: index\nchapters: 3\n", "chapters: 3 is no list"),
        ("root: index\nparts: [null]\n", "parts: [None] is no list of entries"),
        ("root: index\nchapters: [{title: x}]\n", "names no file"),
        ("root: index\nchapters: [{file: null}]\n", "file: None is no text"),
        ("root: index\nchapters: [{file: 7}]\n", "file: 7 is no text"),
    ],
)
def test_malformed_toc_is_named(book, toc, message):
    book.write("_toc.yml", toc)
    status, said = book.run()
    assert (status, said.count("\n")) == (1, 1)
    assert "_toc.yml: no table of contents: " in said
    assert message in said
    with pytest.raises(ValueError, match="no table of contents"):
        runner.chapters(book.root)


def test_only_what_depends_on_a_change_is_stale(book):
    falling, painting = stamps(book)

    def check(falls, paints):
        nonlocal falling, painting
        before, now = (falling, painting), stamps(book)
        assert [a != b for a, b in zip(before, now, strict=True)] == [falls, paints]
        falling, painting = now

    book.write("blogcore/gravity.py", "G = 9.8\n")  # through motion
    check(True, False)
    book.write("blogcore/colour.py", "RED = 'rouge'\n")
    check(False, True)
    book.write("blogcore/magic.py", "X = 1\n")  # imported by nobody
    check(False, False)
    book.write("blogcore/__init__.py", "")
    check(True, True)
    book.write("data/heights.csv", "1.0\n")
    check(True, False)
    book.write("data/other.csv", "1.0\n")
    check(False, False)
    book.write("constraints.txt", "torch==1\n")
    check(True, True)
    book.write("data/claims/falling.toml", "[[claim]]\n")
    check(True, False)


def test_an_audit_depends_on_the_claims_of_its_post(book):
    book.chapter("falling_audit", ["print(1)\n"])
    job = Job(book.root, "falling_audit")
    before = stamp(job)
    book.write("data/claims/falling.toml", "[[claim]]\n")
    assert stamp(job) != before


def test_prose_does_not_make_a_chapter_stale_but_code_and_parameters_do(book):
    falling, painting = stamps(book)
    assert falling != painting
    code = ["from blogcore import colour\n", "print(colour.RED)\n"]
    book.chapter("painting", code, prose="Other words.")
    assert stamps(book) == [falling, painting]
    book.chapter("painting", [*code, "1 + 1\n"])
    assert stamps(book)[1] != painting
    # Outputs find their cells by id.
    path = book.root / "chapters" / "falling.ipynb"
    renamed = path.read_text(encoding="utf-8").replace('"c1"', '"c9"')
    path.write_text(renamed, encoding="utf-8")
    assert stamps(book)[0] != falling
    jobs = [Job(book.root, "falling", p, s) for p in PROFILES for s in (0, 1)]
    assert len({stamp(job) for job in jobs}) == len(jobs)


def test_what_else_a_run_depends_on_makes_it_stale(book, monkeypatch, tmp_path):
    before = stamps(book)

    def check(falls, paints):
        nonlocal before
        old, before = before, stamps(book)
        assert [a != b for a, b in zip(old, before, strict=True)] == [falls, paints]

    book.write("chapters/beside.py", "from blogcore import magic\n")
    check(True, True)
    book.write("blogcore/magic.py", "X = 1\n")  # imported by what lies beside
    check(True, True)
    book.write("blogcore/motion.py", "from .gravity import G\nfrom . import air\n")
    check(True, False)
    (book.root / "chapters" / "beside.py").unlink()
    check(True, True)
    book.write("blogcore/gravity.py", "G = 1.62\n")  # by a relative import
    check(True, False)
    book.write("blogcore/air.py", "DENSITY = 1.2\n")
    check(True, False)
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "falling.csv").write_text("1\n", encoding="utf-8")
    (book.root / "data" / "linked").symlink_to(other)
    check(True, False)
    (other / "falling.csv").write_text("2\n", encoding="utf-8")  # behind the link
    check(True, False)
    (other / "back").symlink_to(book.root / "data")  # round and round
    check(False, False)
    monkeypatch.setitem(freshness.ENVIRONMENT, "OMP_NUM_THREADS", "2")
    check(True, True)
    assert {
        "python",
        "torch",
        "matplotlib",
        "ipykernel",
    } <= freshness.installed().keys()
    monkeypatch.setattr(freshness, "installed", lambda: {"python": "3.99"})
    check(True, True)


def test_altered_output_does_not_survive(book):
    assert book.run("painting")[0] == 0
    path = book.executed("painting")
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace("red", "read"), encoding="utf-8")
    assert "painting: executed" in book.run("painting")[1]
    assert '"red\\n"' in path.read_text(encoding="utf-8")


def test_line_magic_counts_as_importing_every_room(book):
    book.chapter("painting", ["%matplotlib inline\n"])
    before = stamps(book)[1]
    book.write("blogcore/gravity.py", "G = 9.8\n")
    assert stamps(book)[1] != before


def test_graft_puts_outputs_under_todays_prose(book):
    assert book.run("painting")[0] == 0
    executed = json.loads(book.executed("painting").read_text(encoding="utf-8"))
    path = book.root / "chapters" / "painting.ipynb"
    source = json.loads(path.read_text(encoding="utf-8").replace("Words", "New words"))
    grafted = runner.graft(source, executed)
    assert [c["id"] for c in grafted["cells"]] == ["p", "c0", "c1", "c2"]
    assert grafted["cells"][0]["source"] == "New words."
    assert grafted["cells"][3]["outputs"][0]["text"] == "red\n"
    assert source["cells"][3]["outputs"] == []
    source["cells"][3]["source"] = "print(1)\n"
    with pytest.raises(ValueError, match="cell c2: not executed as it now reads"):
        runner.graft(source, executed)


def test_a_record_of_another_seed_shows_without_another_run(book, monkeypatch):
    """Recording makes no run stale; the table of what is recorded is made again."""
    before = stamps(book)
    assert book.run("falling", "--record", "--seed", "1")[0] == 0
    assert stamps(book) == before
    monkeypatch.setattr(report, "DATA", book.root / "data")
    monkeypatch.setattr(report, "load_claims", lambda post: [])
    table = report.from_records("other seeds", "painting", 0, ["C1"])
    assert table == "<p>No other root seed is recorded.</p>"
    shown = {"output_type": "display_data", "data": {"text/html": table}}
    shown["metadata"] = {report.RECORDS: ["other seeds", "painting", 0, ["C1"]]}
    cell = {"cell_type": "code", "id": "a", "source": "1", "outputs": [shown]}
    executed = {"cells": [cell | {"execution_count": 1}]}
    recorded = [{"name": "painting/c1", "value": 1, "id": "C1", "verdict": "holds"}]
    run = {"profile": "book", "seed": 4, "records": recorded}
    save_records(book.root / "data" / "records" / "painting.json", "painting", [run])
    (grafted,) = runner.graft({"cells": [cell]}, executed)["cells"]
    assert "root seed 4" in grafted["outputs"][0]["data"]["text/html"]
    assert "holds" in grafted["outputs"][0]["data"]["text/html"]


def output(name, text):
    return {
        "output_type": "display_data",
        "data": {runner.RECORD: text},
        "metadata": {"scrapbook": {"name": name}, "blogcore": {"kind": "value"}},
    }


def notebook(*outputs):
    return {"cells": [{"cell_type": "code", "outputs": list(outputs)}]}


def test_ledger_refuses_what_prose_could_not_show():
    good = output("a/b", "0.5")
    plain = {"output_type": "stream", "text": "0.5"}
    assert runner.ledger(notebook(plain, good)) == [
        {"name": "a/b", "value": 0.5, "kind": "value"}
    ]
    with pytest.raises(ValueError, match="record a/b: recorded twice"):
        runner.ledger(notebook(good, good))
    with pytest.raises(ValueError, match=r"record c: np.float64\(0.5\) is no plain"):
        runner.ledger(notebook(output("c", "np.float64(0.5)")))


def test_toc_alone_orders_the_chapters(book):
    assert runner.chapters(book.root) == ["falling", "painting"]
    with pytest.raises(ValueError, match="root: no _toc"):
        runner.chapters(book.root / "chapters")


def test_every_profile_has_its_limits():
    assert tuple(runner.LIMITS) == PROFILES

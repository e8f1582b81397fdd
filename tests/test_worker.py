"""What befalls a worker and is no unit's fault: a full disk, a lost device, time."""

import errno
import os
import time
from types import SimpleNamespace

import pytest
import torch
from test_units import ALL, Small, finish, start
from test_units import small as small  # a fixture

from blogcore import __main__ as command
from blogcore import full, unitfiles, worker
from blogcore.unitfiles import Folder

LOSES = """\
from blogcore import worker

def lost(device):
    if list(LOG.with_name("units").glob("*.error")) and not GONE.exists():
        GONE.touch()
        raise worker.DeviceLostError("an illegal memory access")

GONE = LOG.with_name("gone")
worker._tidy = lost
"""


def fixed(small: Small) -> list[str]:
    given = ["--units", str(small.units), "--root", str(small.root)]
    return ["tide", *given, "--device", "cpu"]


def raises(small: Small, number: int) -> None:
    """Let all units but those of seed 0 fail with an error of files."""
    raising = f"    if seed: raise OSError({number}, 'x')\n"
    small.change("    time.sleep", f"{raising}    time.sleep")


class TestFullDisk:
    def test_it_is_no_failure_of_the_unit(self, small):
        """All units that are left would fail one after the other."""
        raises(small, errno.ENOSPC)
        with pytest.raises(OSError, match="x"):
            small.go()
        assert small.begun() == ALL[:3]
        assert not list(small.units.glob("*.error"))
        assert len(small.work().fitting(1)) == 4

    def test_another_error_of_files_is(self, small):
        raises(small, errno.ENOENT)
        assert small.go() == 4

    def test_it_is_told_in_one_line(self, small, monkeypatch, capsys):
        def write(*given):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "row.json")

        monkeypatch.setattr(unitfiles, "write_safely", write)
        monkeypatch.setattr(full.worker, "die_with", lambda pipe: None)
        monkeypatch.setattr(full.sys, "stdin", SimpleNamespace(fileno=lambda: 0))
        assert full.main([*fixed(small), "--until", str(time.time() + 900)]) == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert said == "blogcore: [Errno 28] No space left on device: 'row.json'"
        assert not list(small.units.glob(".*.lock"))


class TestLostDevice:
    @pytest.mark.slow
    def test_another_worker_goes_on(self, small):
        """A card refuses all that a process asks after some errors: else all fail."""
        fails = "    if (level, seed) == (1, 1): raise RuntimeError('CUDA error')\n"
        small.change("    time.sleep", f"{fails}    time.sleep")
        small.write(small.cells[0], LOSES, *small.cells[1:])
        process = start(small, "tide", "--workers", "1")
        said = finish(process)
        assert process.returncode == 1, said
        assert "a worker lost its device: another one goes on" in said
        assert small.begun() == ALL
        assert len(small.heights()) == 5

    @pytest.mark.slow
    def test_a_device_that_is_gone_for_good_does_not_fail_all(self, small):
        """The first worker had done two units; the next two did none."""
        fails = "    if seed: raise RuntimeError('CUDA error')\n"
        small.change("    time.sleep", f"{fails}    time.sleep")
        gone = LOSES.replace(" and not GONE.exists()", "")
        small.write(small.cells[0], gone, *small.cells[1:])
        process = start(small, "tide", "--workers", "1")
        said = finish(process)
        assert process.returncode == 1, said
        assert "a worker lost its device: it is gone" in said
        assert len(small.folder.rows()) == 2
        assert len(list(small.units.glob("*.error"))) == 3
        assert len(small.begun()) == 5 < len(ALL)

    def test_a_card_is_asked_after_every_unit_whether_it_answers(self, monkeypatch):
        def refuse():
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        monkeypatch.setattr(torch.cuda, "synchronize", refuse)
        worker._tidy(torch.device("cpu"))
        with pytest.raises(worker.DeviceLostError, match="illegal memory access"):
            worker._tidy(torch.device("cuda"))

    def test_a_card_that_is_named_is_the_current_one(self, small, monkeypatch):
        """Graphs are recorded on the current card, whatever a tensor says."""
        taken = []
        monkeypatch.setattr(torch.cuda, "set_device", taken.append)
        monkeypatch.setattr(worker, "_tidy", lambda device: None)
        work = small.work()
        work.chosen = torch.device("cuda:1")
        assert worker.work_through(work, print) == 0
        assert taken == [torch.device("cuda:1")]

    def test_under_torchrun_it_is_told_in_one_line(self, small, monkeypatch, capsys):
        def lose(work, say):
            raise worker.DeviceLostError("CUDA error: illegal access")

        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setattr(full.worker, "work_together", lose)
        assert full.main(fixed(small)) == worker.LOST
        (said,) = capsys.readouterr().err.splitlines()
        assert said == (
            "process 1 lost its device, so all end: CUDA error: illegal access"
        )

    def test_torchrun_with_too_few_cards_is_told_in_one_line(
        self, small, monkeypatch, capsys
    ):
        names = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "2"}
        names |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
        for name, value in names.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(worker, "torch_device", lambda name: torch.device("cuda"))
        monkeypatch.setattr(worker, "name_of_device", lambda device: "a card")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        assert full.main(fixed(small)) == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert said == (
            "blogcore: --nproc-per-node: 2 processes, but this machine has 1 card(s)"
        )

    def test_torchrun_with_too_small_a_budget_is_told_before_the_processes_meet(
        self, small, monkeypatch, capsys
    ):
        for name, value in {"TORCHELASTIC_RUN_ID": "1", "RANK": "0"}.items():
            monkeypatch.setenv(name, value)
        small.change("seconds=0.3", "seconds=30")
        assert full.main([*fixed(small), "--budget", "20"]) == 1
        assert "the shortest open unit needs 34 s" in capsys.readouterr().err


class TestEstimates:
    def test_runs_by_earlier_code_count_until_there_is_one_by_todays(
        self, small, monkeypatch
    ):
        """Code that became ten times faster would fit into no short budget."""
        small.go()
        old = [row | {"seconds": 500.0} for row in small.folder.rows()]
        small.change("0.1 * seed", "0.2 * seed")
        work = small.work()
        new = old[0] | {"seconds": 3.0, "code": dict(work.units[0].code)}
        for rows, expected in ((old, 500.0), ([*old, new], 3.0)):
            monkeypatch.setattr(Folder, "rows", lambda self, rows=rows: rows)
            assert {*work.estimates().values()} == {expected}

    def test_a_budget_counts_from_the_start_of_the_command(
        self, small, capsys, monkeypatch
    ):
        """The import of torch may take long from a cluster's shared disk."""
        small.change("seconds=0.3", "seconds=30")
        given = [*fixed(small), "--budget", "40"]
        assert full.main(given, time.time() - 10) == 1
        assert "30 s are left, but the shortest" in capsys.readouterr().err
        seen = []
        monkeypatch.setattr(full, "main", lambda *given: seen.append(given) or 0)
        assert command.main(["full", "tide"]) == 0
        assert seen == [(["tide"], command.START)]


class TestCommandLine:
    def test_a_page_that_is_named_twice_is_one_page(self, small, capsys):
        assert full.main(["tide", *fixed(small), "--list"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1

    def test_a_folder_without_rows_merges_into_nothing(self, small, capsys):
        """A misspelt folder would leave an empty file in the book."""
        assert full.main([*fixed(small), "--merge"]) == 0
        assert f"tide: no rows in {small.units}" in capsys.readouterr().err
        assert not (small.root / "data" / "units").exists()

    def test_a_row_names_the_versions_that_units_compute_with(self, small):
        small.go()
        (row, *_) = small.folder.rows()
        assert set(row["versions"]) == {"torch", "numpy", "scipy"}

"""Pretraining in two processes follows the same loss curve as in one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN = """
import json, sys
import torch
from accelerate import Accelerator
from blogcore import cloze, encoder, processes, training
from blogcore.blocks import EncoderConfig
from blogcore.runtime import stream

kind, path = sys.argv[1:]
torch.set_num_threads(1)
accelerator = Accelerator(cpu=True)
config = EncoderConfig(30, 16, 2, 2, 32, 12, dropout=0.0)
make = {"tta": encoder.tta, "mlm": encoder.bert}[kind]
model = make(config, stream(0, "init"))
ids = torch.randint(5, 30, (20, 7, 12), generator=stream(0, "texts"))
valid = torch.arange(12) < torch.tensor([12, 3, 9, 12, 5, 7, 12])[:, None]
dice = stream(0, "masking")

def batches(step):
    if kind == "tta":
        return cloze.every_token(ids[step], (0,), valid)
    return cloze.mask_tokens(ids[step], 0.3, 4, 30, dice, (0,), valid)

optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
module, objective, optimizer, mine = processes.in_processes(
    accelerator, model, cloze.token_prediction, optimizer, batches
)
history = training.train(module, mine, objective, optimizer, 20)
if accelerator.is_main_process:
    total = sum(p.double().sum().item() for p in model.parameters())
    found = {"processes": accelerator.num_processes, "weights": total}
    found |= {name: values.tolist() for name, values in history.items()}
    open(path, "w", encoding="utf-8").write(json.dumps(found))
accelerator.end_training()
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def trained(folder: Path, kind: str, processes: int) -> dict:
    """The history of a run under torchrun, as its first process wrote it."""
    script, path = folder / "run.py", folder / f"{kind}{processes}.json"
    script.write_text(RUN, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", str(processes), script, kind, path]
    quiet = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [*map(str, torchrun)],
        env=os.environ | quiet,
        capture_output=True,
        encoding="utf-8",
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["tta", "mlm"])
def test_two_processes_follow_the_curve_of_one(tmp_path, kind):
    """Texts of unequal length: a plain mean of the two losses would be another."""
    one, two = (trained(tmp_path, kind, count) for count in (1, 2))
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    assert one["loss"][0] - one["loss"][-1] > 0.05, "nothing was learnt"
    assert two["loss"] == pytest.approx(one["loss"], rel=0, abs=1e-5)
    assert two["accuracy"] == pytest.approx(one["accuracy"], rel=0, abs=1e-5)
    assert two["weights"] == pytest.approx(one["weights"], rel=0, abs=1e-3)

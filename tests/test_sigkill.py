"""A killed process leaves whole files, and its training resumes to the same bits."""

import hashlib
import multiprocessing
import random
import signal
import time
from itertools import count
from multiprocessing.connection import wait
from pathlib import Path

import pytest
import torch
from torch import nn

from blogcore.checkpoint import Checkpoint, load_tree, save_tree
from blogcore.data import Examples, shuffled
from blogcore.networks import mlp, normalised_relu
from blogcore.objectives import classification, flood
from blogcore.runtime import stream, write_safely
from blogcore.training import seeded, train

KILLS, STEPS, SEEDS = 50, 40, [0, 1]
# Children are forked from a server that has imported all that a training needs, and
# what the first step of an optimizer imports (seconds), but computed nothing.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pytest", "blogcore.training", "torch._dynamo"])


def dropout(members: int, width: int) -> nn.Module:
    return nn.Sequential(normalised_relu(members, width), nn.Dropout(0.2))


def run(path: Path, every: int, running=None) -> str:
    """Train with a checkpoint; the sha256 of all that the training leaves behind.

    ``running`` is told when the first step begins.
    """
    torch.set_num_threads(1)
    generator = stream(0, "data")
    inputs = torch.randn(40, 20, generator=generator)
    examples = Examples(inputs, torch.randint(0, 3, (40,), generator=generator))
    model = mlp((20, 60, 60, 3), [stream(s, "init") for s in SEEDS], dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    if running:
        running.set()
    history = train(
        model,
        seeded(shuffled(examples, 8, SEEDS), 1),
        flood(classification, 0.5),
        optimizer,
        STEPS,
        checkpoint=Checkpoint(path, every, "killed"),
    )
    state = [model.state_dict(), optimizer.state_dict(), history]
    save_tree(path.with_name("end"), state)
    return hashlib.sha256(path.with_name("end").read_bytes()).hexdigest()


def write_in_turn(path: Path, running) -> None:
    """Replace a file over and over by one or the other of two contents."""
    running.set()
    for number in count():
        write_safely(path, bytes([number % 2]) * 2_000_000)


def kill_after(seconds: float, target, *arguments) -> bool:
    """Start a process, kill it so long after it began; whether that stopped it."""
    running = processes.Event()
    child = processes.Process(target=target, args=(*arguments, running))
    child.start()
    assert running.wait(60)
    wait([child.sentinel], seconds)
    child.kill()
    child.join()
    return child.exitcode == -signal.SIGKILL


@pytest.mark.slow
def test_training_resumes_bit_identically_after_fifty_kills(tmp_path):
    expected = run(tmp_path / "whole", every=STEPS)
    start = time.perf_counter()
    run(tmp_path / "timed", every=1)
    duration = time.perf_counter() - start
    dice, steps = random.Random(0), []
    for attempt in count():
        path = tmp_path / f"attempt-{attempt}" / "run"
        every = dice.choice([1, 1, 1, 2, 5])
        if not kill_after(dice.uniform(0, duration), run, path, every):
            continue  # it was faster than the signal
        steps.append(load_tree(path)["step"] if path.exists() else 0)
        assert run(path, every) == expected, f"killed at step {steps[-1]}"
        if len(steps) == KILLS:
            break
    assert len(set(steps)) > STEPS / 4, f"the moments are too much alike: {steps}"


@pytest.mark.slow
def test_a_file_is_whole_whenever_its_writer_is_killed(tmp_path):
    path, dice = tmp_path / "file", random.Random(0)
    write_safely(path, b"\x02" * 2_000_000)
    found = set()
    for _ in range(20):
        assert kill_after(dice.uniform(0, 0.05), write_in_turn, path)
        content = path.read_bytes()
        assert len(content) == 2_000_000
        (byte,) = set(content)
        found.add(byte)
    assert {0, 1} <= found, "the writer was never caught at work"

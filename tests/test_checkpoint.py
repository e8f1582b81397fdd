"""A resumed training equals one that never stopped, and takes no other's place."""

import random
import struct

import pytest
import torch
from torch import nn

from blogcore import checkpoint
from blogcore.checkpoint import Checkpoint, load_tree, save_tree
from blogcore.data import Examples, shuffled
from blogcore.networks import mlp, normalised_relu
from blogcore.objectives import classification, flood
from blogcore.optim import linear_decay
from blogcore.runtime import stream
from blogcore.training import seeded, train

SEEDS = [3, 5]


def dropout(members, width) -> nn.Module:
    """BatchNorm and a draw from torch's global stream at every step."""
    return nn.Sequential(normalised_relu(members, width), nn.Dropout(0.3))


def machine(seeds=SEEDS) -> nn.Sequential:
    return mlp((4, 6, 3), [stream(seed, "init") for seed in seeds], dropout)


@pytest.fixture
def examples() -> Examples:
    generator = stream(0, "data")
    inputs = torch.randn(20, 4, generator=generator)
    return Examples(inputs, torch.randint(0, 3, (20,), generator=generator))


OPTIMIZERS = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01),
}


class StoppedError(Exception):
    """Stands for whatever ends a training too early."""


def run(examples, optimizer, steps, path=None, every=4, until=None):
    """Train with dropout, minibatches, flooding, a decaying rate: all that is left."""
    model = machine()
    optimizer = OPTIMIZERS[optimizer](model)

    def die(step, parts):
        if step == until:
            raise StoppedError

    history = train(
        model,
        seeded(shuffled(examples, 6, SEEDS), 11),
        flood(classification, 0.9),
        optimizer,
        steps,
        [linear_decay(optimizer, 40), die],
        Checkpoint(path, every, "dropout") if path else None,
    )
    packed = checkpoint._Packed([model.state_dict(), optimizer.state_dict(), history])
    return packed.skeleton, packed.tensors


def assert_same_bits(found, expected):
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    assert all(torch.equal(found[1][name], expected[1][name]) for name in found[1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("until", [1, 4, 5, 17, 29])
def test_a_resumed_training_is_bit_identical(tmp_path, examples, optimizer, until):
    path = tmp_path / "run.safetensors"
    expected = run(examples, optimizer, 30)
    with pytest.raises(StoppedError):
        run(examples, optimizer, 30, path, until=until)
    torch.rand(7)
    assert path.exists() == (until >= 4)
    assert_same_bits(run(examples, optimizer, 30, path), expected)


def test_a_finished_training_resumes_to_what_it_was(tmp_path, examples):
    path = tmp_path / "run.safetensors"
    expected = run(examples, "adamw", 8, path)
    content = path.read_bytes()
    assert_same_bits(run(examples, "adamw", 8, path), expected)
    assert path.read_bytes() == content


def test_a_checkpoint_beyond_the_last_step_is_check_refused(tmp_path, examples):
    path = tmp_path / "run.safetensors"
    run(examples, "sgd", 8, path)
    with pytest.raises(ValueError, match="steps: 7 are fewer than the checkpoint's 8"):
        run(examples, "sgd", 7, path)


def test_checkpoints_are_written_every_so_many_steps(tmp_path, examples, monkeypatch):
    steps = []

    def note(path, tree):
        steps.append(tree["step"])

    monkeypatch.setattr(checkpoint, "save_tree", note)
    run(examples, "sgd", 14, tmp_path / "run.safetensors")
    assert steps == [4, 8, 12]


def check_refused(words, path, model, optimizer, run="dropout") -> None:
    """Resuming is refused with these words, and nothing has moved."""
    before = checkpoint._Packed([model.state_dict(), optimizer.state_dict()])
    with pytest.raises(ValueError) as caught:
        Checkpoint(path, 4, run).resume(model, optimizer)
    assert words in str(caught.value)
    after = checkpoint._Packed([model.state_dict(), optimizer.state_dict()])
    assert after.digest() == before.digest()


def test_another_runs_checkpoint_is_refused_before_anything_moves(tmp_path, examples):
    """Seed 1 used to take seed 0's history without a word."""
    path = tmp_path / "run.safetensors"
    run(examples, "sgd", 8, path)
    make, other = OPTIMIZERS["sgd"], machine([3, 6])
    check_refused("model: ", path, other, make(other))
    wide = mlp((4, 7, 3), [stream(s, "init") for s in SEEDS], dropout)
    check_refused("model: ", path, wide, make(wide))
    same = machine()
    check_refused("run: level 0, but", path, same, make(same), run="level 0")
    check_refused("optimizer: AdamW [", path, same, OPTIMIZERS["adamw"](same))
    for settings in ({"lr": 0.2, "momentum": 0.9}, {"lr": 0.1, "momentum": 0}):
        optimizer = torch.optim.SGD(same.parameters(), **settings)
        check_refused("optimizer: SGD [{'lr': ", path, same, optimizer)
    part = torch.optim.SGD(list(same.parameters())[:2], lr=0.1, momentum=0.9)
    check_refused("optimizer: SGD", path, same, part)
    fused = torch.optim.SGD(same.parameters(), lr=0.1, momentum=0.9, fused=True)
    assert Checkpoint(path, 4, "dropout").resume(same, fused).done == 8


@pytest.mark.parametrize("tree", [3, [1, 2], {"step": 3}, {"model": {}, "step": 1}])
def test_a_file_that_holds_something_else_is_check_refused(tmp_path, tree):
    path, model = tmp_path / "tree", machine()
    save_tree(path, tree)
    check_refused("path: ", path, model, OPTIMIZERS["sgd"](model))


def test_parts_of_another_objective_are_refused_at_the_first_step(tmp_path, examples):
    path, model = tmp_path / "run", machine()

    def bare(model, batch):
        loss, parts = classification(model, batch)
        return loss, {"loss": parts["loss"]}

    for steps, objective in ((4, classification), (8, bare)):
        model = machine()
        batches = seeded(shuffled(examples, 6, SEEDS), 11)
        arguments = (model, batches, objective, OPTIMIZERS["sgd"](model), steps)
        keep = Checkpoint(path, 4, "parts")
        if objective is bare:
            with pytest.raises(ValueError, match=r"parts are \['loss'\] in step 4"):
                train(*arguments, checkpoint=keep)
        else:
            train(*arguments, checkpoint=keep)
    assert load_tree(path)["step"] == 4


def test_a_tensor_that_stands_in_many_places_is_written_once(tmp_path):
    """A stack shared twelvefold used to take twelve times the disk."""
    layer = nn.Linear(100, 100)
    sizes = []
    for count in (1, 12):
        stack = nn.Sequential(*[layer] * count)
        save_tree(tmp_path / "stack", stack.state_dict())
        sizes.append((tmp_path / "stack").stat().st_size)
        found = load_tree(tmp_path / "stack")
        assert len(found) == 2 * count
        assert all(torch.equal(v, found[k]) for k, v in stack.state_dict().items())
    assert sizes[1] < 1.1 * sizes[0]
    rows = torch.arange(6.0).view(2, 3)
    views = {"whole": rows, "row": rows[0], "turned": rows.T, "again": rows}
    views |= {"square": torch.eye(3, 3).cumsum(0), "part": rows[:, 1:]}
    views |= {"mirrored": views["square"].T}  # same place, same shape
    save_tree(tmp_path / "views", views)
    found = load_tree(tmp_path / "views")
    assert all(torch.equal(found[name], view) for name, view in views.items())


TREE = {
    "step": 3,
    "rate": 0.1,
    "text": '梯度 \x00 "',
    "nothing": None,
    7: [True, [], {}, {"tensor": "0", "dict": [1]}],
    "double": torch.tensor([[0.1, -0.0], [torch.inf, torch.nan]], dtype=torch.float64),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(5),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 4),
    "strided": torch.arange(6.0).view(2, 3).T,
    "state": torch.get_rng_state(),
}


def bits(tree) -> str:
    """A text that is equal for equal trees: types, shapes, strides of nothing, bits."""
    packed = checkpoint._Packed(tree)
    return packed.skeleton + packed.digest()


def test_a_tree_comes_back_as_it_was(tmp_path):
    path = tmp_path / "tree"
    save_tree(path, TREE)
    found = load_tree(path)
    assert bits(found) == bits(TREE)
    assert found[7] == TREE[7]
    assert found["double"].dtype == torch.float64
    assert found["double"][0, 1].signbit()
    assert torch.equal(found["strided"], TREE["strided"])


def test_equal_trees_are_written_as_equal_bytes(tmp_path):
    for number in range(10):
        save_tree(tmp_path / str(number), TREE)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_tree_with_something_else_in_it_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_tree(tmp_path / "tree", {"model": object()})
    assert not list(tmp_path.iterdir())


def damaged(content: bytes, number: int) -> bytes:
    """The content cut short, spliced, or with one bit flipped (often in its header)."""
    dice = random.Random(number)
    place = dice.randrange(len(content))
    if number % 4 == 0:
        return content[:place]
    if number % 4 == 1:
        return content[:place] + content[dice.randrange(len(content)) :]
    if number % 4 == 2:
        place = dice.randrange(8 + struct.unpack("<Q", content[:8])[0])
    wrong = bytearray(content)
    wrong[place] ^= 1 << dice.randrange(8)
    return bytes(wrong)


@pytest.mark.slow
def test_a_thousand_damaged_files_are_refused_or_load_the_same_content(tmp_path):
    path = tmp_path / "tree"
    save_tree(path, TREE)
    content, expected, refused = path.read_bytes(), bits(TREE), 0
    for number in range(1000):
        path.write_bytes(damaged(content, number))
        try:
            found = load_tree(path)
        except ValueError:
            refused += 1
        else:
            assert bits(found) == expected, number
    assert refused > 950


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 100, b"\xff" * 100])
def test_a_file_that_is_no_checkpoint_is_check_refused(tmp_path, content):
    path = tmp_path / "tree"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"path: {path} is no intact checkpoint"):
        load_tree(path)

"""A bag forgets the order, weighs as told, and trains only what occurs."""

import pytest
import torch

from blogcore.bags import Bag, Recipe, accuracies, accuracy, fitted, stages
from blogcore.data import Examples
from blogcore.objectives import classification
from blogcore.phrases import padded
from blogcore.runtime import stream

TABLE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [5.0, 5.0]])
IDS = padded([[0, 1], [2], [1, 1, 0], [2, 0]])
EXAMPLES = Examples(IDS, torch.tensor([0, 1, 0, 1]))


def test_means_are_those_of_the_tokens():
    found = Bag(TABLE, 2).means(IDS)
    expected = torch.tensor([[0.5, 0.5], [2, 2], [1 / 3, 2 / 3], [1.5, 1]])
    assert torch.allclose(found, expected)
    weighted = Bag(TABLE, 2, torch.tensor([1.0, 3.0, 1.0, 1.0])).means(IDS)
    assert torch.allclose(weighted[0], torch.tensor([0.25, 0.75]))
    assert torch.equal(Bag(TABLE, 2)(IDS), torch.zeros(4, 2))


def test_training_equals_that_of_the_whole_table():
    recipe = Recipe(steps=20, rate=0.05, batch=3)
    bag = fitted(TABLE, EXAMPLES, 2, recipe, seed=0)
    whole = Bag(TABLE, 2)
    optimizer = torch.optim.Adam(whole.parameters(), lr=0.05)
    for step in range(20):
        rows = torch.randint(4, (3,), generator=stream(0, f"batches/{step}"))
        batch = Examples(IDS[rows], EXAMPLES.labels[rows])
        optimizer.zero_grad()
        classification(whole, batch)[0].backward()
        optimizer.step()
    assert torch.allclose(bag.table, whole.table, rtol=0, atol=1e-6)
    assert torch.equal(bag.table[3], TABLE[3])
    assert accuracy(bag, EXAMPLES) == 100.0
    assert torch.equal(TABLE[0], torch.tensor([1.0, 0.0]))


def test_a_stage_is_the_bag_of_so_many_steps():
    sizes, recipe = torch.tensor([1.0, 3.0, 1.0, 1.0]), Recipe(6, 0.05, 3)
    found = stages(TABLE, EXAMPLES, 2, recipe, 0, [0, 2, 6], sizes)
    assert list(found) == [0, 2, 6]
    for steps, bag in found.items():
        alone = fitted(TABLE, EXAMPLES, 2, Recipe(steps, 0.05, 3), 0, sizes)
        assert torch.equal(bag.table, alone.table)
        assert torch.equal(bag(IDS), alone(IDS))
    with pytest.raises(ValueError, match="looks: "):
        stages(TABLE, EXAMPLES, 2, recipe, 0, [7])


def test_accuracy_of_groups_is_that_of_their_texts():
    bag = fitted(TABLE, EXAMPLES, 2, Recipe(2, 0.05, 3), seed=0)
    groups = torch.tensor([[True] * 4, [True, False, True, False], [False, True] * 2])
    found = accuracies(bag, EXAMPLES, groups)
    assert found[0] == pytest.approx(accuracy(bag, EXAMPLES))
    for group, share in zip(groups, found, strict=True):
        part = Examples(IDS[group], EXAMPLES.labels[group])
        assert share == pytest.approx(accuracy(bag, part))


def test_names_what_is_wrong():
    for wrong in ({"steps": -1}, {"steps": 1, "batch": 0}, {"steps": 1, "rate": -1}):
        with pytest.raises(ValueError, match=next(reversed(wrong))):
            Recipe(**wrong)


def test_a_bag_moves_as_a_whole_and_its_state_is_what_it_learns():
    bag = Bag(TABLE, 2, torch.tensor([1.0, 3.0, 1.0, 1.0]))
    assert set(bag.state_dict()) == {"table", "linear.weight", "linear.bias"}
    there = bag.to("meta")
    assert there.sizes.device.type == there(IDS.to("meta")).device.type == "meta"

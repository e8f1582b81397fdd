"""Members of the bench differ in what they are told to, and in nothing else."""

import pytest
import torch

from blogcore.bench import bench
from blogcore.data import full_batch
from blogcore.objectives import classification
from blogcore.training import evaluate, train

SEEDS, NOISE, LEVEL = [3, 3, 4], [0.1, 0.2, 0.1], [0.0, 0.3, 0.3]


def test_equal_seeds_start_equal_and_see_equal_points():
    made = bench(SEEDS, NOISE, LEVEL)
    for parameter in made.model.parameters():
        assert torch.equal(parameter[0], parameter[1])
    for examples in made.sets.values():
        assert torch.equal(examples.inputs[0], examples.inputs[1])
        assert not torch.equal(examples.inputs[0], examples.inputs[2])


def test_labels_are_as_wrong_as_asked_and_those_of_the_test_are_right():
    made = bench(SEEDS, NOISE, LEVEL)
    wrong = made.sets["train"].labels != made.truth
    assert wrong.sum(1).tolist() == [10, 20, 10]
    for part, counts in (("validation", [10, 20, 10]), ("test", [0, 0, 0])):
        x, y = made.sets[part]
        right = 1.5 * x[..., 0] + torch.sin(1.5 * x[..., 1]) > 0
        assert (y != right.long()).sum(1).tolist() == counts, part


def test_each_member_is_flooded_at_its_own_level():
    made = bench(SEEDS, NOISE, LEVEL)
    plain, _ = classification(made.model, made.sets["train"])
    asked, _ = made.objective(made.model, made.sets["train"])
    levels = torch.tensor(LEVEL)
    torch.testing.assert_close(asked, (plain - levels).abs() + levels)


def test_scores_are_those_of_settled_statistics_and_leave_the_model_alone():
    made = bench(SEEDS, NOISE, LEVEL)
    optimizer = torch.optim.SGD(made.model.parameters(), lr=0.05)
    train(made.model, full_batch(made.sets["train"]), made.objective, optimizer, 5)
    before = {k: v.clone() for k, v in made.model.state_dict().items()}
    found = made.score("train")["loss"]
    # Settled on the very set that is scored, evaluation is what training computes.
    exact = classification(made.model.train(), made.sets["train"])[0]
    torch.testing.assert_close(found, exact.detach(), rtol=0.05, atol=0)
    made.model.load_state_dict(before)
    lagging = evaluate(made.model, classification, made.sets["train"])["loss"]
    assert ((lagging - exact).abs() > 2 * (found - exact).abs()).all()
    assert all(torch.equal(v, before[k]) for k, v in made.model.state_dict().items())


def test_losses_of_examples_have_the_scored_mean():
    made = bench(SEEDS, NOISE, LEVEL)
    losses = made.losses("test")
    assert losses.shape == (3, 1000)
    torch.testing.assert_close(losses.mean(1), made.score("test")["loss"])


def test_as_many_levels_and_noise_rates_as_seeds():
    with pytest.raises(ValueError, match="level: 1 of them for 2 seeds"):
        bench([0, 1], [0.1, 0.1], [0.3])
    with pytest.raises(ValueError, match="longer"):
        bench([0, 1], [0.1, 0.1, 0.1], [0.3, 0.3])

"""The examples are what they claim to be, and batches are functions of the step."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from scipy import stats

from blogcore import data
from blogcore.data import (
    Examples,
    digits,
    flip_labels,
    full_batch,
    noise_entropy,
    noisy_sinusoid,
    shuffled,
    sinusoid,
    split,
    stack,
)
from blogcore.runtime import stream


def numbered(count: int, shift: int = 0) -> Examples:
    """Examples whose label is their own number, and their input too."""
    rows = torch.arange(shift, shift + count)
    return Examples(rows[:, None].float(), rows)


def test_sinusoid_is_uniform_in_the_disc_of_radius_two():
    x = sinusoid(20_000, stream(0, "data")).inputs.double()
    radius, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    assert x.shape == (20_000, 2)
    assert radius.max() <= 2
    assert stats.kstest((radius / 2) ** 2, "uniform").pvalue > 0.01
    assert stats.kstest(angle, "uniform", (-np.pi, 2 * np.pi)).pvalue > 0.01
    assert abs(stats.spearmanr(radius, angle).statistic) < 0.02


def test_sinusoid_labels_say_on_which_side_of_the_wave_a_point_lies():
    x, y = sinusoid(500, stream(0, "data"))
    expected = [1.5 * a + np.sin(1.5 * b) > 0 for a, b in x.double().tolist()]
    assert y.tolist() == expected
    assert y.dtype == torch.int64


def test_digits_are_the_known_1797():
    x, y = digits()
    assert x.shape == (1797, 64)
    assert (x.min(), x.max(), x.dtype) == (0, 1, torch.float32)
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert y.bincount().tolist() == counts


def test_pictures_are_standardised_channel_by_channel():
    levels = torch.randint(0, 256, (4, 3, 32, 32), generator=stream(0, "levels"))
    mean, std = np.reshape([data.CIFAR_MEAN, data.CIFAR_STD], (2, 1, 3, 1, 1))
    found = data.standardised(levels.to(torch.uint8))
    np.testing.assert_allclose(found, (levels.numpy() / 255 - mean) / std, atol=1e-5)


@pytest.mark.parametrize("rate", [0, 0.1, 0.29])
def test_noise_moves_labels_and_never_the_points(rate):
    found, truth = (noisy_sinusoid(100, p, 4, "train") for p in (rate, 0.0))
    assert torch.equal(found.inputs, truth.inputs)
    assert (found.labels != truth.labels).sum() == round(100 * rate)
    other = noisy_sinusoid(100, rate, 4, "test")
    assert not torch.equal(found.inputs, other.inputs)


@pytest.mark.parametrize(("rate", "classes"), [(0.1, 2), (0.2, 10), (0.5, 2), (0, 3)])
def test_noise_entropy_is_the_loss_of_who_knows_all_but_which(rate, classes):
    labels = torch.zeros(20_000, dtype=torch.int64)
    noisy = flip_labels(labels, rate, classes, stream(0, "noise"))
    best = torch.full((classes,), rate / (classes - 1), dtype=torch.float64)
    best[0] = 1 - rate
    loss = -best[noisy].log().mean().item()
    assert noise_entropy(rate, classes) == pytest.approx(loss, abs=1e-12)


def test_no_noise_has_no_entropy_and_no_sign():
    assert str(noise_entropy(0.0)) == "0.0"


def test_noise_entropy_of_ten_classes_is_that_of_the_cifar_runs():
    assert round(noise_entropy(0.2, 10), 3) == 0.940


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("count", [1, 7, 50, 100, 999])
def test_flip_labels_moves_exactly_the_floor_of_n_times_p(count, classes):
    labels = torch.randint(0, classes, (count,), generator=stream(0, "labels"))
    before = labels.clone()
    for percent in range(101):
        rate = percent / 100
        noisy = flip_labels(labels, rate, classes, stream(percent, "noise"))
        expected = floor(count * Fraction(percent, 100))
        assert (noisy != labels).sum() == expected, (count, rate)
        assert 0 <= noisy.min() <= noisy.max() < classes
    assert torch.equal(labels, before)


def test_flip_labels_is_uniform_over_places_and_over_other_classes():
    labels = torch.arange(4).repeat(10)
    noisy = torch.stack(
        [flip_labels(labels, 0.3, 4, stream(s, "noise")) for s in range(4000)]
    )
    moved = noisy != labels
    assert stats.chisquare(moved.sum(0)).pvalue > 0.01
    for old in range(4):
        shift = (noisy - labels)[:, labels == old][moved[:, labels == old]] % 4
        assert stats.chisquare(shift.bincount(minlength=4)[1:]).pvalue > 0.01


def test_split_gives_disjoint_parts_of_the_sizes_asked_for():
    parts = split(numbered(20), [7, 5, 3], stream(0, "split"))
    rows = torch.cat([part.labels for part in parts])
    assert [len(part.labels) for part in parts] == [7, 5, 3]
    assert len(rows.unique()) == 15
    assert all(torch.equal(p.inputs[:, 0].long(), p.labels) for p in parts)
    assert rows.tolist() != sorted(rows.tolist())
    again = split(numbered(20), [7, 5, 3], stream(1, "split"))
    assert not torch.equal(rows, torch.cat([part.labels for part in again]))


def test_stack_joins_members_along_a_new_first_axis():
    both = stack([numbered(5), numbered(5, shift=5)])
    assert both.inputs.shape == (2, 5, 1)
    assert both.labels.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_full_batch_is_the_same_at_every_step():
    examples = numbered(4)
    assert full_batch(examples)(0) is full_batch(examples)(17) is examples


@pytest.mark.parametrize(("count", "size"), [(12, 3), (13, 3), (5, 5), (6, 1)])
def test_shuffled_shows_each_example_at_most_once_an_epoch(count, size):
    batches, per_epoch = shuffled(numbered(count), size, seeds=[0, 1]), count // size
    epochs = []
    for epoch in range(4):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        shown = torch.cat([batches(step).labels for step in steps], dim=1)
        assert shown.shape == (2, per_epoch * size)
        assert all(len(member.unique()) == per_epoch * size for member in shown)
        epochs += shown.tolist()
    if count > 5:
        assert len(set(map(tuple, epochs))) == 8, "an order is used twice"


def test_a_shuffled_batch_is_a_function_of_the_step_and_of_the_seed_alone():
    ahead, random_access = (shuffled(numbered(10), 2, [4, 7]) for _ in range(2))
    in_order = [ahead(step).labels for step in range(15)]
    torch.rand(100)
    for step in (14, 3, 0, 9):
        assert torch.equal(random_access(step).labels, in_order[step])
        alone = shuffled(numbered(10), 2, [7])(step).labels
        assert torch.equal(alone[0], in_order[step][1])


def test_shuffled_takes_each_member_from_its_own_examples():
    members = stack([numbered(6), numbered(6, shift=6)])
    batch = shuffled(members, 4, [0, 1])(0)
    shared = shuffled(numbered(6), 4, [0, 1])(0)
    assert torch.equal(batch.labels[0], shared.labels[0])
    assert torch.equal(batch.labels[1], shared.labels[1] + 6)
    assert torch.equal(batch.inputs[..., 0].long(), batch.labels)


def test_noisy_digits_are_disjoint_parts_with_wrong_labels_in_the_first():
    train, test = data.noisy_digits((300, 1000), 0.3, [3, 4])
    clean, same = data.noisy_digits((300, 1000), 0.0, [3, 4])
    assert train.inputs.shape == (2, 300, 64)
    assert test.labels.shape == (2, 1000)
    assert torch.equal(train.inputs, clean.inputs)
    assert torch.equal(test.labels, same.labels)
    assert (train.labels != clean.labels).sum(1).tolist() == [90, 90]
    known = {(tuple(x.tolist()), int(y)) for x, y in zip(*data.digits(), strict=True)}
    found = zip(clean.inputs[1], clean.labels[1], strict=True)
    assert all((tuple(x.tolist()), int(y)) in known for x, y in found)
    one, _ = data.noisy_digits((300, 1000), 0.3, [4])
    assert torch.equal(one.labels[0], train.labels[1])

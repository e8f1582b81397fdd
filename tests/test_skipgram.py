"""Skip-grams: members alone and together, and what their two objectives lead to."""

from math import log, sqrt

import pytest
import torch

from blogcore.objectives import joint_softmax, negative_sampling
from blogcore.runtime import stream
from blogcore.training import train
from blogcore.wordvec import SkipGram, pmi

close = pytest.approx
OBJECTIVES = {"softmax": joint_softmax, "sampling": negative_sampling(3)}


def joint_of(rows=6, columns=6, members=(), rank=None, seed=0) -> torch.Tensor:
    """Distributions that sum to one; their logarithm has ``rank``, two more at most."""
    dice = stream(seed, "joint")
    rank = rank or min(rows, columns)
    u = torch.randn(*members, rows, rank, generator=dice).double()
    v = torch.randn(*members, columns, rank, generator=dice).double()
    tilt = torch.randn(*members, rows, 1, generator=dice).double()
    energies = 1.5 / rank**0.5 * u @ v.mT + tilt
    return energies.flatten(-2).softmax(-1).view(*members, rows, columns)


def machine(joint, dimension, seeds, scale=0.25) -> SkipGram:
    dice = [stream(seed, "init") for seed in seeds]
    return SkipGram(joint.sum(-1), joint.sum(-2), dimension, dice, scale).double()


class Fixed(torch.nn.Module):
    """Energies that are the parameters themselves."""

    def __init__(self, energies):
        super().__init__()
        self.energies = torch.nn.Parameter(energies.clone())

    def forward(self):
        return self.energies


def test_energies_and_log_joint_are_the_formula():
    joint = joint_of(4, 5, (3,))
    model = machine(joint, 2, range(3))
    energies, logs = model(), model.log_joint()
    for s in range(3):
        for i in range(4):
            for j in range(5):
                inner = model.centre[s, i] @ model.context[s, j]
                biases = model.centre_bias[s, i] + model.context_bias[s, j]
                assert energies[s, i, j].item() == close((inner + biases).item())
    assert logs.shape == (3, 4, 5)
    assert logs.exp().sum((1, 2)).detach() == close([1, 1, 1], abs=1e-14)
    differences = (logs - energies).flatten(1)
    assert (differences - differences[:, :1]).abs().max() < 1e-13


def test_the_biases_start_at_the_logarithms_of_the_marginals():
    joint = joint_of(4, 5, (2,))
    model = machine(joint, 3, range(2), scale=0.0)
    rows, columns = joint.sum(-1), joint.sum(-2)
    torch.testing.assert_close(
        model.centre_bias.exp().detach(), rows, rtol=1e-6, atol=0
    )
    product = rows[:, :, None] * columns[:, None, :]
    torch.testing.assert_close(model.log_joint().exp(), product, rtol=1e-5, atol=0)
    shared = machine(joint[0], 3, range(2), scale=0.0)
    for member in range(2):
        assert torch.equal(shared.centre_bias[member], shared.centre_bias[0])
        assert torch.equal(shared.centre_bias[member], model.centre_bias[0])
    even = torch.full((4,), 0.25)  # of the default type: nothing has to be converted
    apart = SkipGram(even, even, 3, [stream(seed, "init") for seed in range(2)])
    with torch.no_grad():
        apart.centre_bias[0] += 1
    assert not torch.equal(apart.centre_bias[0], apart.centre_bias[1])
    assert torch.equal(even, torch.full((4,), 0.25))


@pytest.mark.parametrize("scale", [0.25, 2.0])
@pytest.mark.parametrize("dimension", [1, 4, 64])
def test_energies_start_with_the_deviation_asked_for(dimension, scale):
    even = torch.full((200,), 1 / 200)
    model = SkipGram(even, even, dimension, [stream(0, "init")], scale)
    inner = model.centre @ model.context.mT
    tolerance = 0.15 if dimension == 1 else 0.08
    assert inner.std().item() == close(scale, rel=tolerance)
    assert inner.mean().abs().item() < 5 * scale / 200
    assert model.centre.std().item() == close(model.context.std().item(), rel=0.15)
    assert not torch.equal(model.centre, model.context)
    expected = sqrt(scale) / dimension**0.25
    assert model.centre.std().item() == close(expected, rel=0.15)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_members_learn_what_separate_runs_learn(objective, own):
    seeds = [0, 1, 5]
    joint = joint_of(6, 5, (3,) if own else ())

    def fit(model, batch):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        return train(model, lambda _: batch, OBJECTIVES[objective], optimizer, 40)

    together = machine(joint, 3, seeds)
    losses = fit(together, joint)["loss"]
    assert (losses[-1] < losses[0] - 0.02).all()
    for member, seed in enumerate(seeds):
        batch = joint[member] if own else joint
        alone = machine(batch, 3, [seed])
        single = fit(alone, batch)["loss"][:, 0]
        torch.testing.assert_close(losses[:, member], single, rtol=0, atol=1e-12)
        for name, value in alone.state_dict().items():
            same = together.state_dict()[name][member]
            torch.testing.assert_close(same, value[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("members", [(), (2,)], ids=["shared", "own"])
def test_joint_softmax_is_the_cross_entropy_of_all_pairs(members):
    joint = joint_of(4, 5, members)
    model = machine(joint, 2, [3, 4], scale=2.0)
    loss, parts = joint_softmax(model, joint)
    expected = -(joint * model.log_joint()).sum((1, 2))
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-14)
    assert torch.equal(parts["loss"], loss)
    assert not parts["loss"].requires_grad
    entropy = -(joint * joint.log()).sum((-2, -1))
    divergence = (joint * (joint.log() - model.log_joint())).sum((-2, -1))
    torch.testing.assert_close(loss, entropy + divergence, rtol=0, atol=1e-14)
    assert (divergence > 0).all()


def test_the_gradient_of_joint_softmax_is_model_less_data():
    joint, energies = joint_of(4, 5), torch.randn(2, 4, 5, generator=stream(0, "e"))
    model = Fixed(energies.double())
    loss, _ = joint_softmax(model, joint)
    (slope,) = torch.autograd.grad(loss.sum(), model.energies)
    shares = model.energies.flatten(1).softmax(1).view(2, 4, 5)
    torch.testing.assert_close(slope, shares - joint, rtol=0, atol=1e-15)


def test_joint_softmax_stays_finite_for_extreme_energies():
    model = Fixed(torch.tensor([[[2000.0, -2000.0], [0.0, 1000.0]]]).double())
    loss, _ = joint_softmax(model, torch.full((2, 2), 0.25).double())
    assert loss.item() == close(2000 - 250)


def minimum(model, joint, objective, steps=120) -> torch.Tensor:
    """The loss where L-BFGS ends."""
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=steps,
        history_size=40,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = objective(model, joint)[0].sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return objective(model, joint)[0].detach()


def test_joint_softmax_ends_at_the_truth_once_the_dimension_reaches_its_rank():
    joint = joint_of(7, 7, rank=3)
    entropy = -(joint * joint.log()).sum()
    excess = {}
    for dimension in (1, 2, 3):
        model = machine(joint, dimension, [2], scale=1.0)
        end = minimum(model, joint, joint_softmax, 300)
        excess[dimension] = (end - entropy).item()
    assert excess[1] > excess[2] > 1e-4
    assert -1e-14 < excess[3] < 1e-9
    assert (model.log_joint() - joint.log()).abs().max() < 1e-3


@pytest.mark.parametrize("count", [0.5, 1, 5])
def test_negative_sampling_is_the_published_sum(count):
    joint = joint_of(4, 5, (2,))
    model = machine(joint, 2, [3, 4], scale=2.0)
    loss, parts = negative_sampling(count)(model, joint)
    scores = model().detach()
    expected = torch.zeros(2).double()
    for s in range(2):
        for i in range(4):
            for j in range(5):
                hit = 1 / (1 + torch.exp(-scores[s, i, j]))
                noise = joint[s, i].sum() * joint[s, :, j].sum()
                expected[s] -= joint[s, i, j] * hit.log()
                expected[s] -= count * noise * (1 - hit).log()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-13)
    assert torch.equal(parts["loss"], loss)
    assert not parts["loss"].requires_grad


@pytest.mark.parametrize("count", [0.5, 1, 5])
@pytest.mark.parametrize("members", [(), (2,)], ids=["shared", "own"])
def test_negative_sampling_rests_at_pmi_less_the_logarithm(count, members):
    joint = joint_of(4, 5, members)
    best = (pmi(joint) - log(count)).expand(2, -1, -1)
    objective, model = negative_sampling(count), Fixed(best)
    loss, _ = objective(model, joint)
    (slope,) = torch.autograd.grad(loss.sum(), model.energies)
    assert slope.abs().max() < 1e-15
    for seed in range(5):
        shift = 0.1 * torch.randn(2, 4, 5, generator=stream(seed, "e")).double()
        assert (objective(Fixed(best + shift), joint)[0] > loss).all()


def test_negative_sampling_of_a_full_rank_skip_gram_ends_there():
    joint = joint_of(4, 4).sqrt()
    joint /= joint.sum()
    model = machine(joint, 4, [0, 1], scale=1.0)
    minimum(model, joint, negative_sampling(4), 300)
    assert (model() - (pmi(joint) - log(4))).abs().max() < 1e-4


def test_negative_sampling_bears_scores_that_saturate():
    model = Fixed(torch.tensor([[[800.0, -800.0], [800.0, -800.0]]]).double())
    loss, _ = negative_sampling(2)(model, torch.full((2, 2), 0.25).double())
    assert loss.item() == close(400 + 2 * 400)

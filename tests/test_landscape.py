"""Derivatives of the loss as a function of θ, and steps along them."""

import copy

import numpy as np
import pytest
import torch

from blogcore.data import Examples
from blogcore.landscape import (
    as_function,
    gradient,
    onto_level,
    penalty_gradient,
    sharpness,
    signed_steps,
)
from blogcore.networks import mlp, normalised_relu, tanh
from blogcore.objectives import classification, flood
from blogcore.runtime import stream


def machine(hidden=tanh, members=3):
    generators = [stream(seed, "init") for seed in range(members)]
    return mlp((4, 5, 3), generators, hidden).double()


@pytest.fixture
def examples() -> Examples:
    generator = stream(0, "data")
    inputs = torch.randn(10, 4, generator=generator).double()
    return Examples(inputs, torch.randint(0, 3, (10,), generator=generator))


@pytest.fixture(params=[tanh, normalised_relu])
def model(request):
    network = machine(request.param)
    network(torch.randn(3, 50, 4, generator=stream(0, "settle")).double())
    return network.eval()


def diagonal(*curvatures):
    """L(θ) = ½ Σ aᵢ θᵢ² with other a for each member: all derivatives are known."""
    a = torch.tensor(curvatures, dtype=torch.float64)
    return lambda theta: 0.5 * (a * theta.square()).sum(-1)


def test_as_function_gives_the_models_own_loss_and_gradient(model, examples):
    before = copy.deepcopy(model.state_dict())
    loss, theta = as_function(classification, model, examples)
    expected, _ = classification(model, examples)
    assert theta.shape == (3, 4 * 5 + 5 + 5 * 3 + 3 + (10 if len(before) > 4 else 0))
    torch.testing.assert_close(loss(theta), expected, rtol=0, atol=1e-14)
    slopes = torch.autograd.grad(expected.sum(), list(model.parameters()))
    flat = torch.cat([s.flatten(1) for s in slopes], 1)
    torch.testing.assert_close(gradient(loss)(theta), flat, rtol=0, atol=1e-14)
    loss(theta + 1)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_no_member_reaches_another(model, examples):
    loss, theta = as_function(classification, model, examples)
    moved = theta.clone()
    moved[1] += 0.1
    change = (loss(moved) - loss(theta)).abs()
    assert change[1] > 0
    assert change[[0, 2]].tolist() == [0, 0]


def test_the_penalty_gradient_is_twice_curvature_times_gradient(model, examples):
    loss, theta = as_function(classification, model, examples)
    expected = gradient(lambda t: gradient(loss)(t).square().sum(-1))(theta)
    torch.testing.assert_close(penalty_gradient(loss)(theta), expected)


def test_signed_steps_follow_their_definition_in_order():
    start = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    expected = start - 0.1 * start**2
    expected = expected + 0.2 * expected**2
    assert torch.equal(signed_steps(torch.square, start, (0.1, -0.2)), expected)
    assert torch.equal(signed_steps(torch.square, start, ()), start)


def test_descent_then_ascent_leaves_half_eps_squared_of_the_penalty(examples):
    loss, theta = as_function(classification, machine(), examples)
    predicted = -0.5 * penalty_gradient(loss)(theta)
    sizes = [0.04, 0.02, 0.01, 0.005]
    errors = []
    for size in sizes:
        moved = signed_steps(gradient(loss), theta, (size, -size)) - theta
        errors.append((moved / size**2 - predicted).norm().item())
    order = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert order == pytest.approx(1, abs=0.05)


def test_flooding_below_its_level_turns_the_landscape_upside_down(examples):
    network = machine()
    level = classification(network, examples)[0].detach() + 0.1
    plain, theta = as_function(classification, network, examples)
    flooded, _ = as_function(flood(classification, level), network, examples)
    down, up = (gradient(loss)(theta) for loss in (plain, flooded))
    torch.testing.assert_close(up, -down)
    down, up = (sharpness(loss, theta, stream(0, "v")) for loss in (plain, flooded))
    torch.testing.assert_close(up, -down)


def test_sharpness_is_the_signed_eigenvalue_of_largest_size():
    loss = diagonal([1.0, 3.0, -2.0], [1.0, 3.0, -5.0], [0.0, 0.0, 0.0])
    theta = torch.ones(3, 3, dtype=torch.float64)
    found = sharpness(loss, theta, stream(0, "power"))
    expected = torch.tensor([3.0, -5.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_sharpness_converges_at_the_stated_rate():
    theta = torch.ones(1, 2, dtype=torch.float64)
    errors = []
    for iterations in (4, 8):
        found = sharpness(diagonal([2.0, 1.0]), theta, stream(0, "v"), iterations)
        errors.append(abs(found.item() - 2))
    assert errors[1] / errors[0] == pytest.approx(0.5 ** (2 * 4), rel=0.05)


def test_newton_steps_lead_along_the_gradient_onto_the_level():
    loss = diagonal([1.0, 1.0], [4.0, 4.0])
    theta = torch.tensor([[0.6, 0.8], [-0.3, 0.4]], dtype=torch.float64)
    there = onto_level(loss, theta, 0.4)
    assert ((loss(there) - 0.4).abs() < 1e-6).all()
    torch.testing.assert_close(there / theta, (there / theta)[:, :1].expand(2, 2))
    assert torch.equal(onto_level(loss, theta, 0.4, steps=0), theta)


def test_networks_with_batch_statistics_reach_the_level(examples):
    loss, theta = as_function(classification, machine(normalised_relu), examples)
    level = loss(theta).mean().item() - 0.05
    there = onto_level(loss, theta, level)
    assert ((loss(there) - level).abs() < 1e-3).all()

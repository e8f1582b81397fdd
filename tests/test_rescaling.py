"""What shifting and rescaling leave alone, what they change, and what they refuse."""

import math

import pytest
import torch
from scipy import optimize
from torch import nn

from blogcore import networks, rescaling
from blogcore.networks import Linear, mlp
from blogcore.rescaling import (
    balanced,
    direction,
    excess,
    intrinsic,
    l2,
    log_norm,
    path_norm,
    post_shift,
    rescale_units,
    shift,
    squared_norms,
)
from blogcore.runtime import stream

SEEDS = [0, 1, 2]
FACTORS = [4.0, 0.5, 0.25, 2.0]
X = torch.randn(30, 6, generator=stream(0, "x"), dtype=torch.float64)


def population(hidden=nn.ReLU, seeds=SEEDS) -> nn.Sequential:
    generators = [stream(seed, "init") for seed in seeds]
    return mlp((6, 12, 9, 7, 4), generators, lambda members, width: hidden()).double()


def single(*middle: nn.Module) -> nn.Sequential:
    """Convolutions, pooling and two dense layers, as torch's own modules."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    body = [nn.Conv2d(5, 4, 3, padding=1, bias=False), *middle, nn.Flatten()]
    return nn.Sequential(
        nn.Sequential(*stem), *body, nn.Linear(16, 8), nn.LeakyReLU(), nn.Linear(8, 3)
    ).double()


def check_close(a, b, off=1e-12):
    torch.testing.assert_close(a, b, rtol=off, atol=off)


def one_member(model: nn.Sequential, member: int) -> nn.Sequential:
    """The member as a network of torch's own layers."""
    twins = []
    for layer in model:
        if isinstance(layer, Linear):
            twin = nn.Linear(*layer.weight.shape[1:], dtype=torch.float64)
            twin.weight.data = layer.weight[member].T.clone()
            twin.bias.data = layer.bias[member, 0].clone()
            layer = twin
        twins.append(layer)
    return nn.Sequential(*twins)


@pytest.mark.parametrize("factors", [FACTORS, [1.0] * 4, [1e4, 1e-4, 3.0, 1 / 3]])
def test_a_shifted_network_is_the_same_function(factors):
    model = population()
    twin = shift(model, factors)
    check_close(twin(X), model(X))
    check_close(
        squared_norms(twin),
        torch.tensor(factors, dtype=torch.float64)[:, None] ** 2 * squared_norms(model),
    )
    images = torch.randn(3, 2, 4, 4, generator=stream(0, "images"), dtype=torch.float64)
    check_close(shift(single(nn.ReLU()), factors)(images), single(nn.ReLU())(images))


def test_factors_may_differ_from_member_to_member():
    model = population()
    gamma = torch.tensor([FACTORS, [1.0] * 4, FACTORS[::-1]]).T
    twin = shift(model, gamma)
    check_close(twin(X), model(X))
    for member in range(3):
        same = shift(one_member(model, member), gamma[:, member])
        check_close(rescaling.squared_norms(twin)[:, member], squared_norms(same))


def test_the_rule_of_the_post_is_another_function():
    model = population()
    out, wrong = model(X), post_shift(model, FACTORS)(X)
    assert ((wrong - out).norm() / out.norm()) > 0.05
    with torch.no_grad():
        for layer in rescaling.layers(model)[1:]:
            layer.bias.zero_()
    check_close(post_shift(model, FACTORS)(X), model(X))


@pytest.mark.parametrize("hidden", [nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh])
def test_smooth_activations_are_refused(hidden):
    with pytest.raises(TypeError, match=f"{hidden.__name__}.*homogeneous"):
        shift(population(hidden), FACTORS)


def test_the_model_itself_is_left_as_it_is():
    model = population()
    before = [p.detach().clone() for p in model.parameters()]
    shift(model, FACTORS), balanced(model), post_shift(model, FACTORS)
    rescale_units(model, [2.0 * torch.ones(w) for w in (12, 9, 7)])
    assert all(
        torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)
    )


def test_norms_are_those_of_each_member_alone():
    model = population()
    for value in (squared_norms, l2, log_norm, direction, intrinsic, excess, path_norm):
        alone = [value(one_member(model, member)) for member in range(3)]
        check_close(value(model), torch.stack(alone, -1))


def test_norms_count_weights_and_nothing_else():
    norms = squared_norms(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    assert norms.shape == (1,)
    model = population()
    by_hand = sum(
        layer.weight.square().sum((1, 2))
        for layer in model
        if len([*layer.parameters()])
    )
    check_close(2 * l2(model), by_hand)


def test_what_is_invariant_and_what_is_not():
    model, twin = population(), shift(population(), FACTORS)
    for invariant in (log_norm, direction, intrinsic, path_norm):
        check_close(invariant(twin), invariant(model))
    for other in (l2, excess):
        assert (other(twin) > 1.5 * other(model)).all()


def test_units_can_be_rescaled_and_only_the_path_norm_does_not_notice():
    model = population()
    scales = [
        torch.rand(3, width, generator=stream(0, "c")) + 0.1 for width in (12, 9, 7)
    ]
    twin = rescale_units(model, scales)
    check_close(twin(X), model(X))
    check_close(path_norm(twin), path_norm(model))
    assert ((log_norm(twin) - log_norm(model)).abs() > 0.1).all()
    assert ((direction(twin) - direction(model)).abs() > 0.1).all()
    alone = rescale_units(one_member(model, 1), [scale[1] for scale in scales])
    check_close(alone(X), model(X)[1])


def test_the_path_norm_is_the_sum_over_paths():
    model = mlp((2, 2, 2), [stream(0, "init")], networks.tanh).double()
    model[1] = nn.ReLU()
    a, b = model[0].weight[0], model[2].weight[0]
    paths = [
        a[i, j] ** 2 * b[j, k] ** 2 for i in (0, 1) for j in (0, 1) for k in (0, 1)
    ]
    check_close(path_norm(model), sum(paths)[None])


def test_the_least_l2_within_reach_is_that_of_equal_norms():
    # Against a numerical minimiser, which knows nothing of the inequality of means.
    model = shift(population(seeds=[0]), FACTORS)
    squares = squared_norms(model)[:, 0].detach().numpy()

    def reached(free):
        logs = [*free, -sum(free)]
        return sum(s * math.exp(2 * x) for s, x in zip(squares, logs, strict=True))

    least = optimize.minimize(reached, [0.0] * 3, tol=1e-14).fun
    assert math.isclose(least, intrinsic(model).item(), rel_tol=1e-10)
    twin = balanced(model)
    check_close(twin(X), model(X))
    check_close(2 * l2(twin), intrinsic(model))
    check_close(excess(twin), torch.zeros(1, dtype=torch.float64), off=1e-10)


def test_the_gradients_are_the_stated_ones():
    model = population()
    for penalty, expected in (
        (l2, lambda w, norm: w),
        (log_norm, lambda w, norm: w / norm**2),
        (
            direction,
            lambda w, norm: (
                w.sign() / norm - w * w.abs().sum((1, 2), keepdim=True) / norm**3
            ),
        ),
    ):
        weights = [layer.weight for layer in rescaling.layers(model)]
        slopes = torch.autograd.grad(penalty(model).sum(), weights)
        for weight, slope in zip(weights, slopes, strict=True):
            norm = weight.norm(dim=(1, 2), keepdim=True)
            check_close(slope, expected(weight, norm))


def test_direction_is_one_for_a_single_entry():
    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    model[0].weight.data = torch.diag(torch.tensor([-5.0, 0, 0]))
    assert direction(model).item() == 1.0
    model[0].weight.data = -torch.ones(3, 3)
    assert math.isclose(direction(model).item(), 3.0, rel_tol=1e-6)


def dead_layer() -> nn.Sequential:
    model = population()
    with torch.no_grad():
        model[2].weight[1].zero_()
    return model


REFUSED = [
    (
        lambda: shift(population(), [2.0, 1.0, 1.0, 1.0]),
        ValueError,
        "factors.*2.0.*not 1",
    ),
    (lambda: shift(population(), [-1.0, -1.0, 1.0, 1.0]), ValueError, "factors.*> 0"),
    (lambda: shift(population(), [0.0, 1.0, 1.0, 1.0]), ValueError, "factors.*> 0"),
    (lambda: shift(population(), [math.inf, 0.5, 1, 1]), ValueError, "factors.*finite"),
    (lambda: shift(population(), [math.nan, 1, 1, 1]), ValueError, "factors.*finite"),
    (lambda: shift(population(), [2.0, 0.5]), ValueError, r"factors: shape \(2,\)"),
    (lambda: post_shift(population(), [2.0, 1, 1, 1]), ValueError, "factors.*not 1"),
    (lambda: log_norm(dead_layer()), ValueError, "layer 1 of member 1 has norm 0"),
    (lambda: direction(dead_layer()), ValueError, "layer 1 of member 1"),
    (lambda: intrinsic(dead_layer()), ValueError, "layer 1 of member 1"),
    (lambda: balanced(dead_layer()), ValueError, "layer 1 of member 1"),
    (lambda: l2(nn.Sequential(nn.ReLU())), ValueError, "model.*no linear layer"),
    (
        lambda: shift(networks.resnet18(10, 4), [1.0] * 21),
        TypeError,
        "model: BatchNorm2d",
    ),
    (lambda: path_norm(single()), TypeError, "model: .*fully connected"),
    (
        lambda: rescale_units(population(), [torch.ones(12)]),
        ValueError,
        "scales: 1 for 3",
    ),
    (
        lambda: rescale_units(
            population(), [torch.ones(12), torch.ones(9), -torch.ones(7)]
        ),
        ValueError,
        "scales.*> 0",
    ),
]


@pytest.mark.parametrize(("call", "error", "words"), REFUSED)
def test_bad_input_is_refused_by_name(call, error, words):
    with pytest.raises(error, match=words):
        call()

"""The formulas are torch's optimizers, to the last digits; decay where it belongs."""

from functools import partial

import pytest
import torch
from torch import nn

from blogcore.networks import mlp, tanh
from blogcore.optim import (
    Optimizer,
    adam,
    decoupled,
    l2,
    linear_decay,
    sgd,
    warm_up,
)
from blogcore.runtime import stream

TORCH = torch.optim
PAIRS = {
    "sgd": (partial(Optimizer, rule=sgd, lr=0.1), partial(TORCH.SGD, lr=0.1)),
    "momentum": (
        partial(Optimizer, rule=sgd, lr=0.1, momentum=0.9),
        partial(TORCH.SGD, lr=0.1, momentum=0.9),
    ),
    "momentum and L2": (
        partial(Optimizer, rule=l2(sgd), lr=0.1, momentum=0.9, weight_decay=0.3),
        partial(TORCH.SGD, lr=0.1, momentum=0.9, weight_decay=0.3),
    ),
    "adam": (
        partial(Optimizer, rule=adam, lr=0.05, betas=(0.8, 0.95), eps=1e-3),
        partial(TORCH.Adam, lr=0.05, betas=(0.8, 0.95), eps=1e-3),
    ),
    "adam and L2": (
        partial(Optimizer, rule=l2(adam), lr=0.05, weight_decay=0.3),
        partial(TORCH.Adam, lr=0.05, weight_decay=0.3),
    ),
    "adamw": (
        partial(Optimizer, rule=decoupled(adam), lr=0.05, weight_decay=0.3),
        partial(TORCH.AdamW, lr=0.05, weight_decay=0.3),
    ),
}


def machine() -> nn.Module:
    return mlp((3, 4, 2), [stream(0, "init")], tanh).double()


def two_groups(model: nn.Module) -> list[dict]:
    """Weights that decay, biases that do not."""
    halves = {True: [], False: []}
    for name, parameter in model.named_parameters():
        halves[name.endswith("weight")].append(parameter)
    return [{"params": halves[d], "weight_decay": 0.2 * d} for d in (True, False)]


def moved(make, steps=50, *, groups=False) -> nn.Module:
    """A network after some steps along gradients that change with it."""
    model = machine()
    optimizer = make(two_groups(model) if groups else model.parameters())
    schedule = linear_decay(optimizer, 60, 5)
    for step in range(steps):
        schedule(step)
        x = torch.randn(7, 3, generator=stream(step, "x")).double()
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
    return model


DECAYING = ("momentum and L2", "adam and L2", "adamw")


@pytest.mark.parametrize(
    ("name", "groups"), [*((n, False) for n in PAIRS), *((n, True) for n in DECAYING)]
)
def test_a_formula_moves_parameters_as_torch_does(name, groups):
    ours, torchs = PAIRS[name]
    found, expected = (moved(make, groups=groups) for make in (ours, torchs))
    assert not torch.allclose(found[0].weight, machine()[0].weight, atol=0.05)
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_for_plain_sgd_l2_and_decoupled_decay_are_one_and_for_adam_two():
    def ends(rule):
        make = partial(Optimizer, lr=0.1, weight_decay=0.3)
        return [moved(partial(make, rule=d(rule)))[0].weight for d in (l2, decoupled)]

    torch.testing.assert_close(*ends(sgd), rtol=0, atol=1e-12)
    assert not torch.allclose(*ends(adam), atol=0.05)


def test_l2_is_the_gradient_of_half_the_squared_norm():
    penalised, plain = machine(), machine()
    x = torch.randn(7, 3, generator=stream(0, "x")).double()
    optimizer = Optimizer(penalised.parameters(), l2(sgd), lr=0.1, weight_decay=0.3)
    penalised(x).square().mean().backward()
    optimizer.step()
    squared = sum(p.square().sum() for p in plain.parameters())
    (plain(x).square().mean() + 0.15 * squared).backward()
    for one, other in zip(penalised.parameters(), plain.parameters(), strict=True):
        expected = other - 0.1 * other.grad
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("rule", [l2(sgd), decoupled(adam)])
def test_without_a_gradient_nothing_moves_and_nothing_decays(rule):
    model = machine()
    optimizer = Optimizer(model.parameters(), rule, lr=0.1, weight_decay=0.3)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    assert all(map(torch.equal, model.parameters(), before))
    assert not optimizer.state


def test_the_rate_rises_to_the_whole_once_and_falls_to_zero():
    optimizer = torch.optim.SGD(
        [{"params": [torch.ones(1)]}, {"params": [torch.ones(1)], "lr": 4.0}], lr=2.0
    )
    schedule, rates = linear_decay(optimizer, 8, warm_up=3), []
    for step in (*range(9), 3):
        schedule(step, {"loss": torch.tensor(1.0)})
        rates.append([group["lr"] for group in optimizer.param_groups])
    first, second = zip(*rates, strict=True)
    shares = [0.25, 0.5, 0.75, 1, 0.8, 0.6, 0.4, 0.2, 0, 1]
    assert first == pytest.approx([2 * share for share in shares], abs=1e-12)
    assert second == pytest.approx([4 * share for share in shares], abs=1e-12)


def test_without_a_decay_the_whole_rate_stays():
    optimizer = torch.optim.SGD([torch.ones(1)], lr=2.0)
    schedule, rates = warm_up(optimizer, 3), []
    for step in (0, 1, 2, 3, 4, 99, 0):
        schedule(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [0.5, 1, 1.5, 2, 2, 2, 0.5]


def test_wrong_settings_are_refused_by_name():
    parameters = [torch.ones(1)]
    calls = [
        ("lr: -1", lambda: Optimizer(parameters, sgd, lr=-1)),
        ("lr: nan", lambda: Optimizer(parameters, sgd, lr=float("nan"))),
        ("eps: -1", lambda: Optimizer(parameters, adam, lr=1, eps=-1)),
        ("momentum: 1.5", lambda: Optimizer(parameters, sgd, lr=1, momentum=1.5)),
        ("momentum: 1 ", lambda: Optimizer(parameters, sgd, lr=1, momentum=1)),
        ("betas: 1.0 ", lambda: Optimizer(parameters, adam, lr=1, betas=(0.9, 1.0))),
        (
            "weight_decay: -2",
            lambda: Optimizer(
                [{"params": parameters, "weight_decay": -2}], l2(sgd), lr=1
            ),
        ),
        (
            "weight_decay: 0.1, but adam does not decay",
            lambda: Optimizer(parameters, adam, lr=1, weight_decay=0.1),
        ),
    ]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    calls += [
        ("steps: 0", lambda: linear_decay(optimizer, 0)),
        ("steps: -1", lambda: warm_up(optimizer, -1)),
        ("warm_up: -1", lambda: linear_decay(optimizer, 5, -1)),
        ("warm_up: 5 leaves none of 5", lambda: linear_decay(optimizer, 5, 5)),
    ]
    for words, call in calls:
        with pytest.raises(ValueError) as caught:
            call()
        assert words in str(caught.value)


def test_a_closure_is_asked_for_loss_and_gradients():
    theta = nn.Parameter(torch.tensor([3.0]))
    optimizer = Optimizer([theta], sgd, lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = theta.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 9
    assert theta.item() == 1.5
    assert optimizer.step() is None
    assert theta.item() == 0

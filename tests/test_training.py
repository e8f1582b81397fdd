"""The loop does what it says, in the order it says."""

from itertools import pairwise
from math import inf

import pytest
import torch
from torch import nn

from blogcore.asking import in_eval_mode
from blogcore.data import Examples, full_batch
from blogcore.networks import mlp, normalised_relu, tanh
from blogcore.objectives import classification, gradient_penalty
from blogcore.runtime import stream
from blogcore.training import (
    Probe,
    StopBelow,
    evaluate,
    prepared,
    seeded,
    settled,
    train,
)

SEEDS = [3, 5]


def machine(hidden=tanh) -> nn.Sequential:
    return mlp((4, 6, 3), [stream(seed, "init") for seed in SEEDS], hidden)


def dropout(members, width) -> nn.Module:
    """BatchNorm and a draw from torch's global stream at every step."""
    return nn.Sequential(normalised_relu(members, width), nn.Dropout(0.3))


class Frozen(nn.Module):
    """A network whose first part is frozen: no gradient, and always in eval mode."""

    def __init__(self):
        super().__init__()
        self.old = machine(normalised_relu).requires_grad_(False).eval()
        self.new = machine(dropout)
        self.used = True

    def forward(self, x):
        return self.old(x) + (self.new(x) if self.used else 0)


@pytest.fixture
def examples() -> Examples:
    generator = stream(0, "data")
    inputs = torch.randn(20, 4, generator=generator)
    return Examples(inputs, torch.randint(0, 3, (20,), generator=generator))


def sgd(model, **settings) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), **({"lr": 0.1} | settings))


def test_train_takes_the_optimizers_steps_along_the_objective(examples):
    model = machine()
    expected = [p.detach().clone().requires_grad_() for p in model.parameters()]
    history = train(model, full_batch(examples), classification, sgd(model), 3)
    losses = []
    for _ in range(3):
        placed = dict(zip(dict(model.named_parameters()), expected, strict=True))
        logits = torch.func.functional_call(model, placed, (examples.inputs,))
        labels = examples.labels.expand(2, -1)
        loss = nn.functional.cross_entropy(logits.mT, labels, reduction="none").mean(1)
        slopes = torch.autograd.grad(loss.sum(), expected)
        losses.append(loss.detach())
        expected = [
            (p - 0.1 * g).detach().requires_grad_()
            for p, g in zip(expected, slopes, strict=True)
        ]
    for found, wanted in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted.detach())
    torch.testing.assert_close(history["loss"], torch.stack(losses))
    assert history["accuracy"].shape == (3, 2)


def test_parts_in_eval_mode_stay_there_and_everything_else_trains(examples):
    model, modes = Frozen(), []
    before = {name: value.clone() for name, value in model.old.state_dict().items()}

    def note(step, parts):
        modes.append((model.training, model.old.training, model.new.training))
        evaluate(model, classification, examples)

    batches = seeded(full_batch(examples), 0)
    train(model, batches, classification, sgd(model), 3, [note])
    assert modes == [(True, False, True)] * 3
    after = model.old.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    twin = settled(model, examples.inputs)
    assert all(torch.equal(v, before[k]) for k, v in twin.old.state_dict().items())


def test_what_a_step_needs_is_there_before_its_forward_pass(examples):
    """A schedule as ``on_step`` came one step late: step 0 had no plan."""
    model, seen = Frozen(), []

    def plan(step):
        model.used = step % 2 == 1

    def objective(network, batch):
        seen.append(network.used)
        return classification(network, batch)

    batches = prepared(seeded(full_batch(examples), 0), plan)
    train(model, batches, objective, sgd(model), 4)
    assert seen == [False, True, False, True]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1),
    ],
    ids=["sgd", "adamw"],
)
@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_a_step_that_trains_nothing_moves_nothing(examples, make, penalty):
    """Neither momentum nor decay, nor the count of Adam's steps."""
    model, kept = Frozen(), []

    def plan(step):
        model.used = step % 2 == 0

    def keep(step, parts):
        kept.append([p.detach().clone() for p in model.new.parameters()])

    objective = gradient_penalty(classification, penalty)
    batches = prepared(seeded(full_batch(examples), 0), plan)
    optimizer = make(model.new.parameters())
    history = train(model, batches, objective, optimizer, 5, [keep])
    moved = [not all(map(torch.equal, a, b)) for a, b in pairwise(kept)]
    assert moved == [True, False, True, False]
    assert history["loss"].shape == (5, 2)
    counts = {int(s["step"]) for s in optimizer.state.values() if "step" in s}
    assert counts in (set(), {3})


def test_an_objective_that_never_trains_is_refused(examples):
    model = machine()

    def cut(network, batch):
        loss, parts = classification(network, batch)
        return loss.detach(), parts

    with pytest.raises(ValueError, match="objective: in 3 steps, no loss needed"):
        train(model, full_batch(examples), cut, sgd(model), 3)


def test_parts_may_not_change_their_names(examples):
    model, steps = machine(), iter(range(9))

    def objective(network, batch):
        loss, parts = classification(network, batch)
        return loss, parts if next(steps) < 2 else {"loss": parts["loss"]}

    message = r"objective: its parts are \['loss'\] in step 2 and were \['accuracy', "
    with pytest.raises(ValueError, match=message):
        train(model, full_batch(examples), objective, sgd(model), 5)


def test_dropout_draws_from_the_named_stream_of_its_step(examples):
    """One stray draw from torch's global stream used to move the loss."""

    def losses(seed, stray=0):
        model = machine(dropout)
        call = lambda step, parts: torch.rand(stray)  # noqa: E731
        batches = seeded(full_batch(examples), seed)
        return train(model, batches, classification, sgd(model), 4, [call])["loss"]

    assert torch.equal(losses(0), losses(0, stray=7))
    assert not torch.equal(losses(0), losses(1))
    first = stream(0, "dropout/0").initial_seed()
    torch.manual_seed(first)
    model = machine(dropout)
    assert torch.equal(classification(model, examples)[0], losses(0)[0])


def test_a_draw_that_nobody_named_is_refused(examples):
    model = machine(dropout)
    torch.manual_seed(0)
    torch.rand(1)
    message = r"objective: in step 0 the forward pass draws .* seeded\(batches, seed\)"
    with pytest.raises(ValueError, match=message):
        train(model, full_batch(examples), classification, sgd(model), 3)
    torch.manual_seed(0)  # once is not enough: step 1 would depend on step 0's draws
    with pytest.raises(ValueError, match="objective: in step 1"):
        train(model, full_batch(examples), classification, sgd(model), 3)


def test_train_sees_each_step_once_in_order_and_in_training_mode(examples):
    model, steps = machine().eval(), []

    def batches(step):
        steps.append((step, model.training))
        return examples

    train(model, batches, classification, sgd(model), 4)
    assert steps == [(0, True), (1, True), (2, True), (3, True)]


def test_on_step_sees_the_parameters_that_the_parts_belong_to(examples):
    model, seen = machine(), []

    def look(step, parts):
        loss = evaluate(model, classification, examples)["loss"]
        seen.append((step, torch.equal(loss, parts["loss"])))

    train(model, full_batch(examples), classification, sgd(model), 3, [look])
    assert seen == [(0, True), (1, True), (2, True)]


def test_no_steps_leave_the_model_as_it_is(examples):
    model = machine()
    before = [p.clone() for p in model.parameters()]
    assert train(model, full_batch(examples), classification, sgd(model), 0) == {}
    assert all(map(torch.equal, model.parameters(), before))


def test_a_loss_that_is_not_finite_stops_with_step_members_and_parts(examples):
    model = machine()

    def poison(step, parts):
        if step == 2:
            model[0].weight.data[1] = torch.inf

    optimizer = sgd(model)
    with pytest.raises(FloatingPointError, match=r"step 3: .*members \[1\].*'loss'"):
        train(model, full_batch(examples), classification, optimizer, 9, [poison])
    assert torch.isfinite(model[0].weight[0]).all()


def test_a_single_models_loss_that_is_not_finite_stops_too():
    model = nn.Linear(1, 1)

    def objective(network, batch):
        return network(batch).mean() / 0, {"loss": torch.tensor(1.5)}

    with pytest.raises(FloatingPointError, match=r"step 0: .*'loss': 1.5"):
        train(model, lambda step: torch.ones(1, 1), objective, sgd(model), 1)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluate_uses_eval_mode_and_puts_the_mode_back(examples, mode):
    model = machine(normalised_relu).train(mode)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = []

    def objective(network, batch):
        modes.extend(m.training for m in network.modules())
        return classification(network, batch)

    parts = evaluate(model, objective, examples)
    assert not any(modes)
    assert all(m.training == mode for m in model.modules())
    model[1].train(not mode)
    with in_eval_mode(model):
        assert not any(m.training for m in model.modules())
    assert (model.training, model[1].training) == (mode, not mode)
    model.train(mode)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert not parts["loss"].requires_grad

    def fail(network, batch):
        raise ValueError("broken objective")

    with pytest.raises(ValueError, match="broken objective"):
        evaluate(model, fail, examples)
    assert model.training == mode


def test_a_probe_measures_before_every_so_many_updates(examples):
    model = machine()
    probe = Probe(3, lambda: evaluate(model, classification, examples))
    batches = full_batch(examples)
    history = train(model, batches, classification, sgd(model), 8, [probe])
    assert probe.steps == [0, 3, 6]
    torch.testing.assert_close(probe.history()["loss"], history["loss"][[0, 3, 6]])


@pytest.mark.parametrize("hidden", [tanh, normalised_relu])
@pytest.mark.parametrize("levels", [(1.0, 0.0), (1.05, 1.0)])
def test_stop_below_remembers_each_member_at_its_first_crossing(
    examples, hidden, levels
):
    model, snapshots = machine(hidden), []
    stop, batches = StopBelow(model, torch.tensor(levels)), full_batch(examples)

    def keep(step, parts):
        snapshots.append({k: v.clone() for k, v in model.state_dict().items()})

    optimizer = sgd(model, lr=0.02 if hidden is normalised_relu else 0.1)
    history = train(model, batches, classification, optimizer, 90, [stop, keep])
    snapshots.append({k: v.clone() for k, v in model.state_dict().items()})
    below = history["loss"] < torch.tensor(levels)
    first = [int(b.nonzero()[0]) if b.any() else inf for b in below.T]
    assert 0 < first[0] < inf
    assert abs(first[1] - first[0]) > 1
    assert stop.step.tolist() == first
    stop.restore()
    for name, found in model.state_dict().items():
        for member, hit in enumerate(first):
            step = -1 if hit == inf else hit  # the last state: it never got there
            assert torch.equal(found[member], snapshots[step][name][member])


def test_stop_below_counts_the_first_crossing_not_the_last(examples):
    model = machine()
    stop = StopBelow(model, 1.0)
    for step, loss in enumerate([1.2, 0.9, 1.1, 0.8]):
        stop(step, {"loss": torch.tensor([loss, 1.0])})
    assert stop.step.tolist() == [1, inf]


def test_steps_after_a_crossing_that_never_came_are_none():
    """As −1 it was an index: the chapter on Flooding failed for one seed in eight."""
    stop = StopBelow(machine(), 1.0)
    losses = [[1.2, 1.1], [1.1, 1.2], [0.9, 1.1]]
    for step, loss in enumerate(losses):
        stop(step, {"loss": torch.tensor(loss)})
    after = torch.arange(3)[:, None] >= stop.step
    assert after.sum(0).tolist() == [1, 0]


@pytest.mark.parametrize("steps", [0, 3])
def test_what_never_fell_below_is_left_as_it_is(examples, steps):
    """Also before any step: restore() was a TypeError there."""
    model = machine()
    stop = StopBelow(model, 0.0)
    train(model, full_batch(examples), classification, sgd(model), steps, [stop])
    before = [p.detach().clone() for p in model.parameters()]
    stop.restore()
    assert all(map(torch.equal, model.parameters(), before))
    assert (stop.step == inf).all()


def test_stop_below_takes_a_single_model():
    model = nn.Linear(2, 1)
    stop = StopBelow(model, 0.5)
    before = model.weight.detach().clone()
    stop(0, {"loss": torch.tensor(0.4)})
    nn.init.zeros_(model.weight)
    stop(1, {"loss": torch.tensor(0.1)})
    stop.restore()
    assert torch.equal(model.weight, before)


def test_settled_statistics_are_those_of_the_whole_batch(examples):
    model = machine(normalised_relu)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    twin = settled(model, examples.inputs)
    hidden = model[0](examples.inputs)
    torch.testing.assert_close(twin[1][0].running_mean, hidden.mean(1))
    torch.testing.assert_close(twin[1][0].running_var, hidden.var(1))
    assert [twin[1][0].momentum, model[1][0].momentum] == [0.1, 0.1]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for name, parameter in twin.named_parameters():
        assert torch.equal(parameter, before[name])


def test_on_a_device_the_first_loss_that_is_not_finite_is_named_later(monkeypatch):
    """There a look is a wait: it comes after many steps, and names the same step."""
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    weight = torch.nn.Linear(1, 1)
    seen = []

    def objective(model, step):
        seen.append(step)
        bad = float("nan") if step == 3 else 1.0
        loss = model.weight.sum() * 0 + bad
        return loss, {"loss": loss.detach()}

    sgd = torch.optim.SGD(weight.parameters(), lr=0.1)
    with pytest.raises(FloatingPointError, match="step 3: loss is not finite"):
        train(weight, lambda step: step, objective, sgd, 7)
    assert seen == [0, 1, 2, 3, 4, 5, 6]

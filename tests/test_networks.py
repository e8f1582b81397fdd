"""A population is S separate networks: it computes and learns what each would alone."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blogcore import networks
from blogcore.data import Batches, Examples, full_batch, shuffled
from blogcore.networks import (
    BatchNorm,
    Linear,
    for_relu,
    mlp,
    normalised_relu,
    relu,
    resnet18,
    tanh,
)
from blogcore.objectives import classification, flood
from blogcore.runtime import stream
from blogcore.training import train

SEEDS, LEVELS, STEPS = [0, 1, 2], [0.0, 1.0, 1.1], 60
HIDDEN = {"tanh": tanh, "batchnorm": normalised_relu}
OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05, momentum=0.9),
    "adamw": partial(torch.optim.AdamW, lr=0.01),
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def population(hidden: str, dtype=torch.float64, seeds=SEEDS) -> nn.Sequential:
    generators = [stream(seed, "init") for seed in seeds]
    return mlp((5, 8, 8, 3), generators, HIDDEN[hidden]).to(dtype)


def examples(dtype=torch.float64, count=24) -> Examples:
    generator = stream(0, "data")
    inputs = torch.randn(count, 5, generator=generator).to(dtype)
    return Examples(inputs, torch.randint(0, 3, (count,), generator=generator))


def batches(kind: str, dtype, seeds) -> Batches:
    if kind == "full":
        return full_batch(examples(dtype))
    return shuffled(examples(dtype), 7, seeds)


def twin(machine: nn.Sequential, member: int) -> nn.Sequential:
    """One member as an ordinary ``torch.nn`` network with the same numbers."""

    def layer(module: nn.Module) -> nn.Module:
        if isinstance(module, nn.Sequential):
            return nn.Sequential(*map(layer, module))
        state = {name: value[member] for name, value in module.state_dict().items()}
        if isinstance(module, Linear):
            same = nn.Linear(*state["weight"].shape, dtype=state["weight"].dtype)
            state = {"weight": state["weight"].T, "bias": state["bias"][0]}
        elif isinstance(module, BatchNorm):
            same = nn.BatchNorm1d(len(state["weight"]), dtype=state["weight"].dtype)
            state["num_batches_tracked"] = torch.tensor(0)
        else:
            return copy.deepcopy(module)
        same.load_state_dict(state)
        return same

    return layer(machine)


def learn_alone(network, optimizer, batches, level: float) -> torch.Tensor:
    """The plain loop over one ``torch.nn`` network: the losses of every step."""
    losses = []
    for step in range(STEPS):
        inputs, labels = batches(step)
        loss = F.cross_entropy(network(inputs.view(-1, 5)), labels.view(-1))
        optimizer.zero_grad()
        ((loss - level).abs() + level).backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def assert_same_member(machine, member, network, atol, *, but=()):
    """A member's parameters and running statistics equal those of another network."""
    expected = network.state_dict()
    for name, value in twin(machine, member).state_dict().items():
        if name not in but and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, expected[name], rtol=0, atol=atol)


each_way = [
    pytest.mark.parametrize("hidden", HIDDEN),
    pytest.mark.parametrize("optimizer", OPTIMIZERS),
    pytest.mark.parametrize(
        ("kind", "dtype"),
        [("full", torch.float32), ("mini", torch.float64)],
        ids=["full-float32", "mini-float64"],
    ),
]


def in_every_way(test):
    for mark in each_way:
        test = mark(test)
    return test


@in_every_way
def test_members_learn_what_separate_runs_learn(hidden, optimizer, kind, dtype):
    atol = TOLERANCE[dtype]
    together = population(hidden, dtype)
    start = [twin(together, member) for member in range(3)]
    levels = torch.tensor(LEVELS)
    history = train(
        together,
        batches(kind, dtype, SEEDS),
        flood(classification, levels),
        OPTIMIZERS[optimizer](together.parameters()),
        STEPS,
    )
    # BatchNorm cancels the biases in front of it. Their gradients are rounding noise,
    # which AdamW scales up to whole steps: only there, and in the means that follow.
    noise = (optimizer, hidden) == ("adamw", "batchnorm")
    but = ("0.bias", "2.bias", "1.0.running_mean", "3.0.running_mean") if noise else ()
    below = (history["loss"] < levels).any(0).tolist()
    assert below == [False, True, True], "flooding was never put to the test"
    for member, seed in enumerate(SEEDS):
        alone = population(hidden, dtype, [seed])
        single = train(
            alone,
            batches(kind, dtype, [seed]),
            flood(classification, levels[member : member + 1]),
            OPTIMIZERS[optimizer](alone.parameters()),
            STEPS,
        )
        plain = start[member]
        losses = learn_alone(
            plain,
            OPTIMIZERS[optimizer](plain.parameters()),
            batches(kind, dtype, [seed]),
            levels[member].item(),
        )
        for other in (single["loss"][:, 0], losses):
            torch.testing.assert_close(
                history["loss"][:, member], other, rtol=0, atol=atol
            )
        assert_same_member(together, member, twin(alone, 0), atol, but=but)
        assert_same_member(together, member, plain, atol, but=but)


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_member_computes_what_its_torch_twin_computes(hidden, mode):
    machine = population(hidden)
    with torch.no_grad():
        for tensor in machine.state_dict().values():  # defaults pass trivially
            tensor.add_(torch.rand(tensor.shape, generator=stream(0, "shift")))
    twins = [twin(machine, member) for member in range(3)]
    own = torch.randn(3, 11, 5, generator=stream(0, "own"), dtype=torch.float64)
    machine.train(mode == "train")
    for x in (own, own[0]):
        y = machine(x)
        for member, network in enumerate(twins):
            expected = network.train(mode == "train")(x.expand(3, -1, -1)[member])
            torch.testing.assert_close(y[member], expected, rtol=0, atol=1e-12)
    for member, network in enumerate(twins):
        assert_same_member(machine, member, network, 1e-12)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_no_member_reaches_another(hidden):
    machine = population(hidden)
    loss, _ = classification(machine, examples())
    for member in range(3):
        slopes = torch.autograd.grad(
            loss[member], list(machine.parameters()), retain_graph=True
        )
        reached = torch.stack([slope.flatten(1).abs().sum(1) for slope in slopes])
        others = [m for m in range(3) if m != member]
        assert (reached[:, others] == 0).all()
        assert reached[0, member] > 0


def test_members_start_from_their_own_streams_and_from_nothing_else():
    together = population("tanh", torch.float32)
    torch.rand(9)
    for member, seed in enumerate(SEEDS):
        alone = population("tanh", torch.float32, [seed])
        for name, value in alone.state_dict().items():
            assert torch.equal(value[0], together.state_dict()[name][member])


def test_initial_weights_fill_torchs_range():
    layer = Linear(100, 200, [stream(0, "init")])
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max() <= 0.1
        assert parameter.min() < -0.09 < 0.09 < parameter.max()
    assert abs(layer.weight.std() - 0.1 / 3**0.5) < 0.001


def test_started_for_relu_a_deep_network_keeps_its_mean_square():
    """He et al.: E y² = E x² from layer to layer; torch's start leaves a sixth."""
    x = torch.randn(400, 256, generator=stream(0, "x"))
    widths, dice = [256] * 11, [stream(s, "init") for s in SEEDS]
    deep = mlp(widths, dice, relu, for_relu)
    for layer in deep[::2]:
        assert layer.weight.abs().max() <= (6 / 256) ** 0.5
        assert layer.weight.var().item() == pytest.approx(2 / 256, rel=0.02)
        assert not layer.bias.any()
    squares = [deep[: 2 * depth + 1](x).square().mean().item() for depth in (0, 10)]
    assert squares[1] == pytest.approx(squares[0], rel=0.5)
    plain = mlp(widths, [stream(s, "init") for s in SEEDS], relu)
    assert plain(x).square().mean() < 1e-3 * squares[1]


def test_both_starts_draw_the_same_numbers():
    one, two = (
        mlp((5, 8, 3), [stream(0, "init")], relu, start)
        for start in (networks.as_in_torch, for_relu)
    )
    for layer, other in zip(one[::2], two[::2], strict=True):
        ratio = other.weight / layer.weight
        torch.testing.assert_close(ratio, torch.full_like(ratio, 6**0.5))


def test_mlp_puts_a_hidden_layer_between_linear_layers_only():
    kinds = [type(m).__name__ for m in population("tanh")]
    assert kinds == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]
    assert [m.weight.shape for m in population("tanh")[::2]] == [
        (3, 5, 8),
        (3, 8, 8),
        (3, 8, 3),
    ]


def test_tanh_has_no_state_and_normalised_relu_is_never_negative():
    x = torch.randn(3, 10, 4, generator=stream(0, "x"))
    assert torch.equal(tanh(3, 4)(x), x.tanh())
    assert torch.equal(relu(3, 4)(x), x.clamp(min=0))
    y = normalised_relu(3, 4)(x)
    assert y.min() == 0
    assert (y > 0).any((0, 1)).all()


@pytest.mark.parametrize(("fan_in", "stride"), [(4, 1), (4, 2), (2, 1)])
def test_a_residual_block_adds_its_input(fan_in, stride):
    block = networks.Residual(fan_in, 4, stride).eval()
    nn.init.zeros_(block.body[-1].weight)  # BatchNorm's scale: F(x) = 0
    x = torch.randn(2, fan_in, 8, 8, generator=stream(0, "x"))
    assert block(x).shape == (2, 4, 8 // stride, 8 // stride)
    assert torch.equal(block(x), block.shortcut(x).relu())
    assert (len(block.shortcut) == 0) == (fan_in == 4 and stride == 1)


def test_resnet18_draws_from_torchs_global_stream_alone():
    nets = []
    for _ in range(2):
        torch.manual_seed(5)
        nets.append(resnet18(3, width=4))
    x = torch.randn(2, 3, 32, 32, generator=stream(0, "x"))
    assert torch.equal(nets[0](x), nets[1](x))
    assert nets[0](x).shape == (2, 3)

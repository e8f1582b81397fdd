"""Each objective's gradient is the one its formula promises, member by member."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blogcore.asking import at
from blogcore.blocks import EncoderConfig
from blogcore.cloze import every_token, token_prediction
from blogcore.data import Examples, full_batch
from blogcore.elbo import Batch, negative_elbo
from blogcore.encoder import bert
from blogcore.likelihoods import Bernoulli
from blogcore.networks import mlp, normalised_relu, tanh
from blogcore.objectives import (
    bfloat16,
    classification,
    cross_entropy,
    example_losses,
    finite_difference_penalty,
    flood,
    gradient_penalty,
    iflood,
    penalised,
    scaled,
    signed,
    squared_norm,
)
from blogcore.runtime import stream
from blogcore.training import train
from blogcore.vae import HierarchicalVAE, Hierarchy

CURVATURE = torch.tensor(
    [[[2.0, 0.5], [0.5, 1.0]], [[3.0, -1.0], [-1.0, 0.5]]], dtype=torch.float64
)


class Point(nn.Module):
    """θ (S, 2), or (2,) for a single model: all that a machine needs to have here."""

    def __init__(self, *coordinates):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(coordinates, dtype=torch.float64))

    def forward(self, _):
        return self.theta


def quadratic(model, curvature):
    """L = ½ θᵀAθ for every member, with a minimum of 0 at 0."""
    theta = model(None)
    loss = 0.5 * torch.einsum("...i,...ij,...j", theta, curvature, theta)
    return loss, {"loss": loss.detach()}


def slope(objective, model, batch) -> torch.Tensor:
    """The gradient for all parameters in one row a member, (S, P)."""
    loss, _ = objective(model, batch)
    parameters = list(model.parameters())
    slopes = torch.autograd.grad(loss.sum(), parameters, allow_unused=True)
    return torch.cat([g.flatten(loss.ndim) for g in slopes], -1)


def machine(hidden=tanh, members=2) -> nn.Sequential:
    generators = [stream(seed, "init") for seed in range(members)]
    return mlp((4, 6, 3), generators, hidden).double()


def examples(count=12, members=()) -> Examples:
    generator = stream(0, "data")
    inputs = torch.randn(*members, count, 4, generator=generator).double()
    labels = torch.randint(0, 3, (*members, count), generator=generator)
    return Examples(inputs, labels)


@pytest.mark.parametrize("members", [(), (2,)], ids=["shared", "own"])
def test_losses_are_torchs_cross_entropy_of_each_member(members):
    batch, model = examples(members=members), machine()
    losses = example_losses(model, batch)
    loss, parts = classification(model, batch)
    for member, logits in enumerate(model(batch.inputs)):
        labels = batch.labels[member] if members else batch.labels
        expected = F.cross_entropy(logits, labels, reduction="none")
        torch.testing.assert_close(losses[member], expected, rtol=0, atol=1e-14)
        hits = (logits.argmax(1) == labels).double().mean()
        assert parts["accuracy"][member] == pytest.approx(hits.item(), abs=1e-7)
    torch.testing.assert_close(loss, losses.mean(1))
    assert torch.equal(parts["loss"], loss)
    assert not any(value.requires_grad for value in parts.values())


@pytest.mark.parametrize("objective", [classification, iflood(0.1)])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda y: y.to(torch.uint8), TypeError, "labels: torch.uint8 is not"),
        (lambda y: y + 0.5, TypeError, "labels: torch.float32 is not torch.int64"),
        (lambda y: y[:, None], ValueError, "labels: shape (12, 1) is neither (2, 12)"),
        (lambda y: y[:1], ValueError, "labels: shape (1,) is neither (2, 12), as the"),
        (lambda y: y[0], ValueError, "labels: shape () is neither"),
        (lambda y: y.expand(3, -1), ValueError, "labels: shape (3, 12)"),
        (lambda y: y + 1, ValueError, "labels: 1 … 3 are not all in 0 … 2"),
        (lambda y: y - 1, ValueError, "labels: -1 … 1 are not all in 0 … 2"),
        (
            lambda y: torch.where(y == 0, -100, y),
            ValueError,
            "labels: -100 … 2 are not all in 0 … 2",
        ),
    ],
)
def test_labels_that_are_none_are_refused(objective, change, error, words):
    """A column of labels used to broadcast, and −100 to be passed over."""
    inputs, labels = examples()
    with pytest.raises(error) as caught:
        objective(machine(), Examples(inputs, change(labels)))
    assert words in str(caught.value)


def test_a_single_model_has_a_loss_without_axes():
    model, batch = nn.Linear(4, 3).double(), examples()
    loss, parts = classification(model, batch)
    torch.testing.assert_close(loss, F.cross_entropy(model(batch.inputs), batch.labels))
    assert loss.shape == parts["accuracy"].shape == ()


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.5])
def test_flooding_only_multiplies_the_gradient_by_a_sign(factor):
    model = Point([1.0, 2.0], [0.5, -1.0])
    loss, parts = quadratic(model, CURVATURE)
    level = factor * loss.detach()
    flooded, kept = flood(quadratic, level)(model, CURVATURE)
    plain = slope(quadratic, model, CURVATURE)
    found = slope(flood(quadratic, level), model, CURVATURE)
    assert torch.equal(found, torch.sign(loss - level)[:, None] * plain)
    assert (flooded >= level).all()
    assert torch.equal(kept["loss"], parts["loss"]), "the parts must stay the raw loss"


def test_members_may_flood_at_levels_of_their_own():
    model = Point([1.0, 2.0], [0.5, -1.0])
    loss, plain = quadratic(model, CURVATURE)[0], slope(quadratic, model, CURVATURE)
    level = torch.stack([loss[0].detach() + 1, loss[1].detach() - 0.1])
    signs = torch.tensor([[-1.0], [1.0]])
    assert torch.equal(slope(flood(quadratic, level), model, CURVATURE), signs * plain)


def test_a_level_is_not_rounded_to_single_precision():
    model = Point([1.0, 2.0])
    loss = quadratic(model, CURVATURE[:1])[0]
    flooded = flood(quadratic, 0.1)(model, CURVATURE[:1])[0]
    assert torch.equal(flooded, (loss - 0.1).abs() + 0.1)


def test_flooding_keeps_the_type_of_the_loss():
    model, batch = machine().float(), examples()
    batch = Examples(batch.inputs.float(), batch.labels)
    for level in (0.1, np.float64(0.1), torch.tensor([0.1, 0.2], dtype=torch.float64)):
        for objective in (flood(classification, level), iflood(level)):
            assert objective(model, batch)[0].dtype == torch.float32


@pytest.mark.parametrize("flooding", [flood(classification, 0.0), iflood(0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_level_zero_training_is_plain_training_bit_by_bit(flooding, dtype):
    batch = examples()
    batch = Examples(batch.inputs.to(dtype), batch.labels)
    ends = []
    for objective in (classification, flooding):
        model = machine(normalised_relu).to(dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        train(model, full_batch(batch), objective, optimizer, 30)
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_iflood_is_flood_where_a_batch_is_one_example():
    for level in (0.5, 1.0, 1.5, torch.tensor([0.8, 1.4])):
        model, batch = machine(), examples(count=1)
        one, two = flood(classification, level), iflood(level)
        assert torch.equal(one(model, batch)[0], two(model, batch)[0])
        assert torch.equal(slope(one, model, batch), slope(two, model, batch))


def test_iflood_mirrors_each_loss_and_flood_their_mean():
    model, batch, level = machine(), examples(), torch.tensor([1.0, 1.2])
    losses = example_losses(model, batch)
    assert ((losses < level[:, None]).any(1) & (losses > level[:, None]).any(1)).all()
    loss, parts = iflood(level)(model, batch)
    expected = [(row - b).abs().mean() + b for row, b in zip(losses, level)]  # noqa: B905
    torch.testing.assert_close(loss, torch.stack(expected), rtol=0, atol=1e-14)
    assert torch.equal(parts["loss"], losses.detach().mean(1))
    assert (loss > flood(classification, level)(model, batch)[0] + 0.01).all()


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0])
def test_the_penalty_on_a_quadratic_is_the_analytic_one(strength):
    model = Point([1.0, 2.0], [0.5, -1.0])
    objective = gradient_penalty(quadratic, strength)
    loss, parts = objective(model, CURVATURE)
    theta = model.theta.detach()
    g = torch.einsum("sij,sj->si", CURVATURE, theta)
    expected = g + 2 * strength * torch.einsum("sij,sj->si", CURVATURE, g)
    squared = g.square().sum(1)
    torch.testing.assert_close(slope(objective, model, CURVATURE), expected)
    torch.testing.assert_close(parts["gradient_norm²"], squared)
    torch.testing.assert_close(
        loss, quadratic(model, CURVATURE)[0] + strength * squared
    )


def dense_penalty(model, batch, strength: float) -> torch.Tensor:
    """g + 2λHg of a one-member population, with H formed entry by entry."""
    named = dict(model.named_parameters())
    flat = torch.cat([p.detach().flatten() for p in named.values()])

    def loss(theta):
        sizes = [p.numel() for p in named.values()]
        pieces = zip(named.items(), theta.split(sizes), strict=True)
        placed = {name: piece.view(old.shape) for (name, old), piece in pieces}
        logits = torch.func.functional_call(model, placed, (batch.inputs,))[0]
        return F.cross_entropy(logits, batch.labels)

    g = torch.autograd.functional.jacobian(loss, flat)
    return g + 2 * strength * torch.autograd.functional.hessian(loss, flat) @ g


@pytest.mark.parametrize("hidden", [tanh, normalised_relu])
def test_the_penalty_agrees_with_a_dense_hessian_member_by_member(hidden):
    model, batch = machine(hidden), examples()
    found = slope(gradient_penalty(classification, 0.7), model, batch)
    for member in range(2):
        alone = machine(hidden, members=1)
        state = {k: v[member : member + 1] for k, v in model.state_dict().items()}
        alone.load_state_dict(state)
        expected = dense_penalty(alone, batch, 0.7)
        torch.testing.assert_close(found[member], expected, rtol=0, atol=1e-12)


def test_the_penalty_of_a_single_model_has_no_member_axis():
    model = Point(1.0, 2.0)
    found = slope(gradient_penalty(quadratic, 0.5), model, CURVATURE[0])
    A, theta = CURVATURE[0], model.theta.detach()
    torch.testing.assert_close(found, A @ theta + A @ A @ theta)


def test_the_finite_difference_penalty_approaches_it_with_slope_one():
    model, batch = machine(), examples()
    exact = slope(gradient_penalty(classification, 0.7), model, batch)
    distances = [0.04, 0.02, 0.01, 0.005]
    errors = [
        (slope(finite_difference_penalty(classification, 0.7, d), model, batch) - exact)
        .norm(dim=1)
        .mean()
        .item()
        for d in distances
    ]
    order = np.polyfit(np.log(distances), np.log(errors), 1)[0]
    assert order == pytest.approx(1, abs=0.05)


def test_the_finite_difference_penalty_is_exact_on_a_quadratic():
    model = Point([1.0, 2.0], [0.5, -1.0])
    exact = slope(gradient_penalty(quadratic, 0.3), model, CURVATURE)
    found = slope(finite_difference_penalty(quadratic, 0.3, 0.5), model, CURVATURE)
    torch.testing.assert_close(found, exact)


@pytest.mark.parametrize(
    "regularised",
    [gradient_penalty, lambda f, s: finite_difference_penalty(f, s, 0.01)],
    ids=["double backward", "finite difference"],
)
def test_a_penalty_shows_running_statistics_each_batch_once(regularised):
    models = [machine(normalised_relu) for _ in range(2)]
    classification(models[0], examples())
    regularised(classification, 0.5)(models[1], examples())
    expected, found = (dict(model.named_buffers()) for model in models)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert found["1.0.running_mean"].abs().min() > 0


def test_a_penalty_leaves_parameters_that_are_not_trained_alone():
    model, batch = machine(), examples()
    free = copy.deepcopy(model)
    free[0].requires_grad_(False)
    for make in (gradient_penalty, lambda f, s: finite_difference_penalty(f, s, 1e-4)):
        loss, _ = make(classification, 0.5)(free, batch)
        slopes = torch.autograd.grad(loss.sum(), list(free[2].parameters()))
        assert all(torch.isfinite(s).all() for s in slopes)
    _, parts = gradient_penalty(classification, 0.5)(free, batch)
    _, full = gradient_penalty(classification, 0.5)(model, batch)
    assert (parts["gradient_norm²"] < full["gradient_norm²"]).all()


def test_the_order_of_composition_matters():
    model = Point([1.0, 2.0], [0.5, -1.0])
    level = quadratic(model, CURVATURE)[0].detach() + 0.1
    g = slope(quadratic, model, CURVATURE)
    curved = 2 * torch.einsum("sij,sj->si", CURVATURE, g)
    outside = gradient_penalty(flood(quadratic, level), 1.0)
    torch.testing.assert_close(slope(outside, model, CURVATURE), -g + curved)
    inside = flood(gradient_penalty(quadratic, 1.0), level)
    torch.testing.assert_close(slope(inside, model, CURVATURE), g + curved)


def test_signed_steps_of_sgd_descend_and_ascend_by_their_sizes():
    model = Point([1.0, 2.0], [0.5, -1.0])
    sizes = (torch.tensor([0.3, 0.1], dtype=torch.float64), -0.2)
    batches = signed(lambda step: CURVATURE, sizes, same_batch=True)
    theta = model.theta.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    history = train(model, batches, scaled(quadratic), optimizer, 3)
    losses = []
    for size in (sizes[0][:, None], sizes[1], sizes[0][:, None]):
        losses.append(0.5 * torch.einsum("si,sij,sj->s", theta, CURVATURE, theta))
        theta = theta - size * torch.einsum("sij,sj->si", CURVATURE, theta)
    torch.testing.assert_close(model.theta.detach(), theta, rtol=0, atol=1e-14)
    torch.testing.assert_close(history["loss"], torch.stack(losses))


def test_a_pattern_keeps_its_batch_or_takes_a_new_one_each_step():
    sizes = (0.5, -0.4, 0.1)
    same = [signed(lambda step: step, sizes, same_batch=True)(s) for s in range(7)]
    other = [signed(lambda step: step, sizes, same_batch=False)(s) for s in range(7)]
    assert [index for index, _ in same] == [0, 0, 0, 1, 1, 1, 2]
    assert [index for index, _ in other] == list(range(7))
    assert [s for _, s in same] == [s for _, s in other] == [*sizes, *sizes, 0.5]


def test_bfloat16_rounds_the_products_but_not_the_losses():
    model, batch = machine().float(), examples()
    batch = Examples(batch.inputs.float(), batch.labels)
    exact, rounded = classification, bfloat16(classification)
    losses = [f(model, batch)[0] for f in (exact, rounded)]
    assert losses[1].dtype == torch.float32
    assert not torch.equal(*losses)
    torch.testing.assert_close(*losses, rtol=0.02, atol=0)
    slopes = [slope(f, model, batch) for f in (exact, rounded)]
    assert torch.cosine_similarity(*slopes).min() > 0.99
    assert not torch.is_autocast_enabled("cpu")


def test_squared_norm_sums_all_but_the_member_axes():
    tensors = [torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[2.0], [1.0]])]
    assert squared_norm(tensors, 1).tolist() == [9.0, 10.0]
    assert squared_norm(tensors, 0).item() == 19.0


def squares(model) -> torch.Tensor:
    """½ ‖θ‖² of each member: a penalty, for its gradient is θ."""
    return squared_norm(list(model.parameters()), 1) / 2


@pytest.mark.parametrize("strength", [0.0, 0.3, torch.tensor([0.2, 1.5])])
def test_a_penalty_adds_its_own_gradient_member_by_member(strength):
    model = Point([1.0, 2.0], [0.5, -1.0])
    objective = penalised(quadratic, strength, squares)
    loss, parts = objective(model, CURVATURE)
    plain, kept = quadratic(model, CURVATURE)
    expected = torch.tensor([2.5, 0.625], dtype=torch.float64)
    assert torch.equal(parts["penalty"], expected)
    assert torch.equal(parts["loss"], kept["loss"])
    factor = torch.as_tensor(strength).double()
    torch.testing.assert_close(loss, plain + factor * expected, rtol=0, atol=1e-7)
    change = slope(objective, model, CURVATURE) - slope(quadratic, model, CURVATURE)
    expected = factor.reshape(-1, 1) * model.theta.detach()
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-7)
    assert not parts["penalty"].requires_grad


def test_a_penalty_is_of_the_model_that_is_asked():
    """Two models under one objective: neither reaches the other, nothing is kept."""
    objective = penalised(quadratic, 0.3, squares)
    one, two = Point([1.0, 2.0], [0.5, -1.0]), Point([3.0, 0.0], [1.0, 1.0])
    first = slope(objective, one, CURVATURE)
    objective(two, CURVATURE)[0].sum().backward()
    assert one.theta.grad is None
    assert torch.equal(slope(objective, one, CURVATURE), first)


def test_a_penalty_of_another_shape_than_the_loss_is_refused():
    """One number for two members would be counted twice in the gradient."""
    model = Point([1.0, 2.0], [0.5, -1.0])
    for penalty in (lambda m: squares(m).sum(), lambda m: squares(m)[:1]):
        with pytest.raises(ValueError, match=r"penalty: shape .* the loss's \(2,\)"):
            penalised(quadratic, 0.1, penalty)(model, CURVATURE)


@pytest.mark.parametrize(
    "regularised",
    [gradient_penalty, lambda f, s: finite_difference_penalty(f, s, 1e-3)],
    ids=["double backward", "finite difference"],
)
def test_members_may_have_strengths_of_their_own(regularised):
    model, batch = machine(), examples()
    both = slope(regularised(classification, torch.tensor([0.2, 0.9])), model, batch)
    for member, strength in enumerate((0.2, 0.9)):
        alone = slope(regularised(classification, strength), model, batch)
        torch.testing.assert_close(both[member], alone[member], rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match=r"strength: shape \(3,\)"):
        regularised(classification, torch.ones(3))(model, batch)


def cloze():
    """A small BERT, and questions about two texts."""
    config = EncoderConfig(9, 8, 2, 1, 16, 5, segments=0, dropout=0.0)
    model = bert(config, stream(0, "init")).double()
    ids = torch.randint(1, 9, (2, 5), generator=stream(0, "texts"))
    return token_prediction, model, every_token(ids)


def digits():
    """A small hierarchical VAE, and a batch of images with its noise."""
    hierarchy = Hierarchy(outputs=1, width=4, latent_channels=1, groups=(1, 1))
    model = HierarchicalVAE(hierarchy, stream(0, "init")).eval()
    images = torch.randint(0, 2, (3, 1, 8, 8), generator=stream(0, "images"))
    return negative_elbo(Bernoulli()), model, Batch(images, (0, "noise"), 0.5)


@pytest.mark.parametrize("task", [cloze, digits])
def test_regularisers_take_objectives_of_every_room(task):
    """The same gradient by differences, whatever the model and its batch are."""
    objective, model, batch = task()
    plain, parts = objective(model, batch)
    exact = slope_of(gradient_penalty(objective, 0.01), model, batch)
    found = slope_of(finite_difference_penalty(objective, 0.01, 1e-3), model, batch)
    change = [slope_of(objective, model, batch) - s for s in (exact, found)]
    assert torch.cosine_similarity(*change, dim=0) > 0.99
    flooded, kept = flood(objective, plain.item() + 1)(model, batch)
    assert flooded > plain
    assert kept.keys() == parts.keys()


def slope_of(objective, model, batch) -> torch.Tensor:
    """The gradient of one model in one row, zeros where the loss does not reach."""
    loss, _ = objective(model, batch)
    parameters = list(model.parameters())
    slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
    pairs = zip(slopes, parameters, strict=True)
    return torch.cat([(0 * p if s is None else s).flatten() for s, p in pairs])


def test_the_two_losses_of_a_finite_difference_draw_the_same_dropout():
    """Other masks would differ by more than εg, and 1/ε would blow that up."""
    generators = [stream(seed, "init") for seed in range(2)]
    model = mlp((4, 6, 3), generators, lambda s, w: nn.Dropout(0.5)).double()
    slopes, states = [], []
    for make in (gradient_penalty, lambda f, s: finite_difference_penalty(f, s, 1e-5)):
        torch.manual_seed(3)
        slopes.append(slope(make(classification, 0.7), model, examples()))
        states.append(torch.get_rng_state())
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-4)


def test_other_parameters_leave_the_model_as_it_is_and_sharing_as_it_was():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    model[1].weight = model[0].weight
    before = model[0].weight.detach().clone()

    def tied(model, batch):
        assert model[1].weight is model[0].weight
        return model(batch).sum(), {}

    found, _ = at(model, {"0.weight": 2 * before}, tied, torch.tensor([1, 3]))
    expected, _ = tied(model, torch.tensor([1, 3]))
    torch.testing.assert_close(found, 4 * expected)
    assert torch.equal(model[0].weight, before)


def test_a_module_that_stands_in_two_places_gets_its_parameters_back():
    """BERT's head holds the embedding itself; torch's functional_call forgets that."""
    objective, model, batch = cloze()
    before = dict(model.named_parameters())
    moved = {name: p + 1 for name, p in before.items()}
    assert not torch.equal(
        at(model, moved, objective, batch)[0], objective(model, batch)[0]
    )
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_the_mean_cross_entropy_is_torchs_bit_for_bit():
    logits = torch.randn(3000, 12, generator=stream(0, "logits"))
    labels = torch.randint(12, (3000,), generator=stream(0, "labels"))
    found = cross_entropy(logits, labels, "mean")
    assert torch.equal(found, F.cross_entropy(logits, labels))
    torch.testing.assert_close(cross_entropy(logits, labels).mean(), found)

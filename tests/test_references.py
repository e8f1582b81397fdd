"""The package against what others published or ship: formulas, torch, scipy."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from blogcore.data import Examples
from blogcore.evidence import average, contrast
from blogcore.landscape import as_function, gradient, penalty_gradient, sharpness
from blogcore.networks import mlp, resnet18, tanh
from blogcore.objectives import classification, example_losses, flood, iflood
from blogcore.runtime import stream


def logits_and_labels(seed: int, dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of 3 members for 16 examples, as if θ were the logits themselves."""
    generator = stream(seed, "logits")
    logits = 2 * torch.randn(3, 16, 4, generator=generator).to(dtype)
    return logits.requires_grad_(), torch.randint(0, 4, (16,), generator=generator)


# Each published criterion as a function of one network's losses per example.
PUBLISHED = {
    # Ishida et al. (2020), synthetic/demo_synth.py: loss = (loss-flood).abs()+flood
    "flood": (flood, lambda losses, b: (losses.mean() - b).abs() + b),
    # Xie et al. (2022), as restated in AdaFlood's criterion.py
    "iflood": (iflood, lambda losses, b: ((losses - b).abs() + b).mean()),
}


@pytest.mark.parametrize("level", [0.01, 0.3, 0.7, 1.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PUBLISHED)
def test_flooding_is_the_published_line(name, dtype, level):
    ours, published = PUBLISHED[name]
    objective = ours(classification, level) if name == "flood" else ours(level)
    for seed in range(20):
        logits, labels = logits_and_labels(seed, dtype)
        loss, _ = objective(lambda x: x, Examples(logits, labels))
        (slope,) = torch.autograd.grad(loss.sum(), logits)
        for member in range(3):
            own = logits.detach()[member].requires_grad_()
            expected = published(F.cross_entropy(own, labels, reduction="none"), level)
            expected.backward()
            assert torch.equal(loss[member], expected)
            assert torch.equal(slope[member], own.grad)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_iflood_is_adaflood_with_the_same_difficulty_for_all(gamma):
    # Bae et al. (2024): b = −log((1 − γ) exp(−a) + γ), a the auxiliary network's loss
    auxiliary = torch.tensor([0.4, 1.1, 2.3], dtype=torch.float64)
    levels = -torch.log((1 - gamma) * torch.exp(-auxiliary) + gamma)
    logits, labels = logits_and_labels(0, torch.float64)
    batch = Examples(logits, labels)
    losses = example_losses(lambda x: x, batch)
    expected = [((row - b).abs() + b).mean() for row, b in zip(losses, levels)]  # noqa: B905
    found, _ = iflood(levels)(lambda x: x, batch)
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-14)


def plain_resnet18(x: torch.Tensor, state: dict, training: bool) -> torch.Tensor:
    """The network of He et al. in torch's functions, weights in order of definition."""
    tensors = iter(state.values())

    def convolution(x, stride):
        weight = next(tensors)
        scale, shift, mean, variance, _ = (next(tensors) for _ in range(5))
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        return F.batch_norm(x, mean, variance, scale, shift, training)

    x = convolution(x, 1).relu()
    for stage in range(4):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            y = convolution(convolution(x, stride).relu(), 1)
            x = (y + (convolution(x, stride) if stride == 2 else x)).relu()
    return F.linear(x.mean((2, 3)), next(tensors), next(tensors))


def test_resnet18_has_the_known_number_of_parameters():
    assert sum(p.numel() for p in resnet18(10).parameters()) == 11_173_962


@pytest.mark.parametrize("training", [True, False])
def test_resnet18_computes_what_the_paper_draws(training):
    torch.manual_seed(0)
    model = resnet18(10, width=8).double().train(training)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():  # defaults pass trivially
            if "num_batches" not in name:
                tensor.add_(0.1 * torch.rand_like(tensor))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(3, 3, 32, 32, generator=stream(0, "images")).double()
    expected = plain_resnet18(x, state, training)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert expected.std() > 0.01


@pytest.fixture(scope="module")
def network():
    """A population's loss and θ, and the same loss for one member's θ alone."""
    model = mlp((3, 4, 3), [stream(s, "init") for s in range(3)], tanh).double()
    generator = stream(0, "data")
    inputs = torch.randn(9, 3, generator=generator).double()
    batch = Examples(inputs, torch.randint(0, 3, (9,), generator=generator))
    loss, theta = as_function(classification, model, batch)

    def alone(member: int):
        def single(vector: torch.Tensor) -> torch.Tensor:
            rows = [vector if m == member else theta[m] for m in range(3)]
            return loss(torch.stack(rows))[member]

        return single

    return loss, 1.5 * theta, alone


@pytest.mark.parametrize("member", range(3))
def test_derivatives_are_those_of_torchs_autograd(network, member):
    loss, theta, alone = network
    g = torch.autograd.functional.jacobian(alone(member), theta[member])
    H = torch.autograd.functional.hessian(alone(member), theta[member])
    _, hg = torch.autograd.functional.hvp(alone(member), theta[member], g)
    found = penalty_gradient(loss)(theta)[member]
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(gradient(loss)(theta)[member], g, **close)
    torch.testing.assert_close(found, 2 * hg, **close)
    torch.testing.assert_close(found, 2 * H @ g, **close)


def test_sharpness_is_the_largest_eigenvalue_of_the_dense_hessian(network):
    loss, theta, alone = network
    found = sharpness(loss, theta, stream(0, "power"), iterations=400)
    for member in range(3):
        H = torch.autograd.functional.hessian(alone(member), theta[member])
        eigenvalues = torch.linalg.eigvalsh(H)
        largest = eigenvalues[eigenvalues.abs().argmax()]
        torch.testing.assert_close(found[member], largest, rtol=1e-8, atol=0)


def test_intervals_and_contrasts_are_those_of_scipys_t_tests():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"arm": ["a", "b"] * 8, "seed": np.repeat(range(8), 2)})
    table["score"] = rng.normal(size=16) + 3 * table["seed"]
    a, b = (table[table["arm"] == arm]["score"].to_numpy() for arm in "ab")
    paired = stats.ttest_rel(a, b).confidence_interval(0.95)
    single = stats.ttest_1samp(a, 0).confidence_interval(0.95)
    found = contrast(table, "score", {"arm": "a"}, {"arm": "b"})
    assert (found.low, found.high) == pytest.approx(tuple(paired), rel=1e-12)
    found = average(table, "score", {"arm": "a"})
    assert (found.low, found.high) == pytest.approx(tuple(single), rel=1e-12)

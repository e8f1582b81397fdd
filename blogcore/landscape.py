"""The loss as a function of one long vector θ: gradients, curvature, signed steps.

All members of a population stand side by side: θ has shape (S, P), L(θ) shape (S,), and
since no member reaches another, one call differentiates them all.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.func import grad, vjp

from blogcore.asking import Objective, at
from blogcore.checks import check_integer

Loss = Callable[[torch.Tensor], torch.Tensor]
Field = Callable[[torch.Tensor], torch.Tensor]


def as_function(
    objective: Objective, model: nn.Module, batch: object
) -> tuple[Loss, torch.Tensor]:
    """(L, θ₀): a population's loss on a batch as a function of θ (S, P), and its own θ.

    The model is left as it is; buffers (running statistics) count as constants only in
    eval mode.
    """
    named = dict(model.named_parameters())
    axes = {len(parameter) for parameter in named.values()}
    if len(axes) != 1:
        raise ValueError(f"model: no common member axis, first axes are {axes}")
    members = axes.pop()
    sizes = [parameter[0].numel() for parameter in named.values()]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        pieces = zip(named.items(), theta.split(sizes, dim=-1), strict=True)
        placed = {name: piece.view(old.shape) for (name, old), piece in pieces}
        return at(model, placed, objective, batch)[0]

    flat = [parameter.detach().reshape(members, -1) for parameter in named.values()]
    return loss, torch.cat(flat, dim=-1)


def gradient(loss: Loss) -> Field:
    """g(θ) = ∇L(θ) for every member: (S, P) → (S, P)."""
    return grad(lambda theta: loss(theta).sum())


def penalty_gradient(loss: Loss) -> Field:
    """∇‖g‖² = 2 H g, since ∇g = H is symmetric: (S, P) → (S, P)."""

    def field(theta: torch.Tensor) -> torch.Tensor:
        slope, product = vjp(gradient(loss), theta)
        return 2 * product(slope)[0]

    return field


def onto_level(
    loss: Loss, theta: torch.Tensor, level: float, steps: int = 3
) -> torch.Tensor:
    """θ moved to L(θ) = level by Newton steps along the gradient: (S, P) → (S, P).

    θ ← θ − (L − level) ∇L / ‖∇L‖², so many times. Points of one level can be compared;
    flooding jumps across its own at every step.
    """
    check_integer("steps", steps, 0)
    slope_of = gradient(loss)
    for _ in range(steps):
        slope, above = slope_of(theta), loss(theta) - level
        theta = theta - (above / slope.square().sum(-1))[:, None] * slope
    return theta


def signed_steps(
    slope: Field, theta: torch.Tensor, sizes: Sequence[float]
) -> torch.Tensor:
    """θ ← θ − s g(θ) for each size s in turn: descent for s > 0, ascent for s < 0."""
    for size in sizes:
        theta = theta - size * slope(theta)
    return theta


def sharpness(
    loss: Loss, theta: torch.Tensor, generator: torch.Generator, iterations: int = 60
) -> torch.Tensor:
    """The Hessian's eigenvalue of largest size, by power iteration: (S, P) → (S,).

    The Rayleigh quotient vᵀHv/‖v‖² of the last iterate, hence signed; its error falls
    with the square of (|λ₂|/|λ₁|)^iterations.
    """
    check_integer("iterations", iterations, 1)
    v = torch.randn(theta.shape, generator=generator).to(theta)
    smallest = torch.finfo(v.dtype).tiny  # a flat member has eigenvalue 0, not NaN
    _, product = vjp(gradient(loss), theta)
    for _ in range(iterations):
        v = v / v.norm(dim=-1, keepdim=True).clamp_min(smallest)
        (ahead,) = product(v)
        eigenvalue, v = (v * ahead).sum(-1), ahead
    return eigenvalue

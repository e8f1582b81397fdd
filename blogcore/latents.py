"""Diagonal Gaussians for latents: their KL, relative and absolute posteriors, draws.

A ``Draw`` is what makes z out of a Gaussian in a walk: fresh noise, at a temperature,
or latents that are played again.
"""

from collections.abc import Callable, Sequence
from math import log, pi
from typing import NamedTuple

import torch

from blogcore.checks import check_number


class Gaussian(NamedTuple):
    """A diagonal Gaussian N(mean, e^{2 log_std}), of any shape."""

    mean: torch.Tensor
    log_std: torch.Tensor

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """log density of every entry of z."""
        scaled = (z - self.mean) * (-self.log_std).exp()
        return -(scaled.square() + log(2 * pi)) / 2 - self.log_std

    def kl(self, other: "Gaussian") -> torch.Tensor:
        """KL(self ‖ other) of every entry, in nats."""
        return residual_kl(
            self.mean - other.mean, self.log_std - other.log_std, other.log_std
        )


WIDEST = 5.0
Relation = Callable[[Gaussian, torch.Tensor, torch.Tensor], Gaussian]
Draw = Callable[[int, Gaussian], torch.Tensor]


def residual_kl(
    mean: torch.Tensor, log_std: torch.Tensor, prior_log_std: torch.Tensor
) -> torch.Tensor:
    """KL(N(μ + Δμ, (σ Δσ)²) ‖ N(μ, σ²)) = ½ (Δμ²/σ² + Δσ² − log Δσ² − 1), in nats.

    ``mean`` Δμ, ``log_std`` log Δσ, ``prior_log_std`` log σ; μ itself does not matter.
    Source: Vahdat and Kautz (2020), eq. 2.
    """
    distance = mean * (-prior_log_std).exp()
    return (distance.square() + torch.expm1(2 * log_std)) / 2 - log_std


def bounded(log_std: torch.Tensor) -> torch.Tensor:
    """5 tanh(log_std / 5): nothing near 0, but no head can reach beyond e^±5.

    On Δ itself, so that ``residual_kl`` stays exact; NVAE's public code bounds the sum
    with the prior instead. Without it a few large steps during warm-up end in infinity.
    """
    return WIDEST * (log_std / WIDEST).tanh()


def relative(prior: Gaussian, mean: torch.Tensor, log_std: torch.Tensor) -> Gaussian:
    """The posterior as a change of the prior: N(μ + Δμ, (σ Δσ)²). NVAE's choice."""
    return Gaussian(prior.mean + mean, prior.log_std + log_std)


def absolute(prior: Gaussian, mean: torch.Tensor, log_std: torch.Tensor) -> Gaussian:
    """The posterior by itself, whatever the prior: N(μ, σ²). VDVAE's choice."""
    return Gaussian(mean, log_std)


def fresh(generator: torch.Generator, temperature: float = 1.0) -> Draw:
    """Draw z = mean + temperature · std · ε. Temperature 0 is the mean.

    Only temperature 1 draws from the model; any other is another distribution.
    Raises ValueError for a negative or non-finite temperature.
    """
    check_number("temperature", temperature, 0)

    def draw(index: int, gaussian: Gaussian) -> torch.Tensor:
        mean, log_std = gaussian
        noise = torch.randn(mean.shape, generator=generator, device=generator.device)
        return mean + temperature * log_std.exp() * noise.to(mean)

    return draw


def given(noise: Sequence[torch.Tensor]) -> Draw:
    """Draw z = mean + std · ε with the ε of ``noise``, one a group from the top.

    As ``fresh`` at temperature 1, where somebody else has drawn.
    """

    def draw(index: int, gaussian: Gaussian) -> torch.Tensor:
        return gaussian.mean + gaussian.log_std.exp() * noise[index]

    return draw


def replay(latents: Sequence[torch.Tensor], then: Draw | None = None) -> Draw:
    """Put in these latents, one a group from the top; below them draw with ``then``.

    Raises ValueError in the walk if one has not its group's shape, or if latents are
    missing and there is no ``then``.
    """

    def draw(index: int, gaussian: Gaussian) -> torch.Tensor:
        if index >= len(latents):
            if then is None:
                raise ValueError(
                    f"latents: {len(latents)} given, group {index} has none"
                )
            return then(index, gaussian)
        if latents[index].shape != gaussian.mean.shape:
            raise ValueError(
                f"latents: {tuple(latents[index].shape)} for group {index}, which has "
                f"{tuple(gaussian.mean.shape)}"
            )
        return latents[index]

    return draw

"""The bench of the tutorial on NVAE: flat VAEs that learn photographs tile by tile.

One group of latents for a tile of 8 × 8 grey pixels, standardised so that a pixel has
standard deviation 1. What is varied is the decoder's standard deviation σ.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import Adam

from blogcore import images, networks
from blogcore.asking import Parts
from blogcore.checks import check_integer
from blogcore.latents import Gaussian, bounded
from blogcore.optim import linear_decay
from blogcore.runtime import stream
from blogcore.training import train

SIDE = 8  # pixels
WIDTH, BATCH, RATE = 64, 128, 0.01


class Arm(NamedTuple):
    """A decoder's σ (None: learned), how many latents it has, and one member a seed."""

    sigma: float | None
    latents: int
    seeds: Sequence[int]


class Network(nn.Module):
    """A straight line beside one hidden layer, for each member of a population."""

    def __init__(self, fan_in: int, fan_out: int, dice: Sequence[torch.Generator]):
        super().__init__()
        self.line = networks.Linear(fan_in, fan_out, dice)
        self.bend = networks.mlp((fan_in, WIDTH, fan_out), dice, networks.tanh)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x) + self.bend(x)


class FlatVAE(nn.Module):
    """Members of all arms side by side: x (S, N, 64) → mean, q(z|x), log σ."""

    def __init__(self, arms: Sequence[Arm]):
        super().__init__()
        members = [(arm, seed) for arm in arms for seed in arm.seeds]
        self.count = max(arm.latents for arm in arms)
        sizes = torch.tensor([arm.latents for arm, _ in members])
        masks = {
            "used": torch.arange(self.count) < sizes[:, None, None],
            "free": torch.tensor([arm.sigma is None for arm, _ in members]),
            "fixed": torch.tensor([math.log(arm.sigma or 1) for arm, _ in members]),
        }
        for name, tensor in masks.items():  # buffers move with the parameters
            self.register_buffer(name, tensor, persistent=False)
        self.learned = nn.Parameter(torch.zeros(len(members)))
        dice = {n: [stream(s, n) for _, s in members] for n in ("encoder", "decoder")}
        self.encoder = Network(SIDE**2, 2 * self.count, dice["encoder"])
        self.decoder = Network(self.count, SIDE**2, dice["decoder"])

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> tuple:
        mean, log_std = self.encoder(x).chunk(2, -1)
        q = Gaussian(mean * self.used, bounded(log_std) * self.used)
        z = (q.mean + q.log_std.exp() * noise) * self.used
        return self.decoder(z), q, torch.where(self.free, self.learned, self.fixed)


def negative_elbo(model: FlatVAE, batch: tuple) -> tuple[torch.Tensor, Parts]:
    """−log N(x; mean, σ²) + KL(q(z|x) ‖ N(0, 1)), mean over tiles, for each member."""
    x, noise = batch
    mean, q, log_sigma = model(x, noise)
    surprise = -Gaussian(mean, log_sigma[:, None, None]).log_prob(x).sum(-1)
    prior = Gaussian(torch.zeros_like(q.mean), torch.zeros_like(q.mean))
    loss = (surprise + q.kl(prior).sum(-1)).mean(-1)
    return loss, {"nats": loss.detach()}


class Painted(NamedTuple):
    """A face that no member has seen, and what each arm's members make of it.

    ``face`` (192, 192) and ``returned``, (S, 576, 64) for each arm, are standardised;
    ``grey`` takes them to levels 0 … 255. ``sigmas`` has (S,) for each arm.
    """

    face: torch.Tensor
    returned: list[torch.Tensor]
    sigmas: list[torch.Tensor]
    middle: torch.Tensor
    scale: torch.Tensor

    def grey(self, picture: torch.Tensor) -> torch.Tensor:
        """Standardised values as grey levels."""
        return (picture * self.scale + self.middle).clamp(0, 255)

    def edges(self, tiles: torch.Tensor) -> torch.Tensor:
        """Percentage of the face's edges that tiles (…, 576, 64) have: 100 for a copy.

        100 (1 − Σ (d − d_face)² / Σ d_face²) over all differences d of neighbours
        within a tile. A flat grey scores 0, noise less.
        """
        truth = _differences(cut(self.face))
        lost = (_differences(tiles) - truth).square().mean((-1, -2))
        return 100 * (1 - lost / truth.square().mean())


def painted(arms: Sequence[Arm], steps: int) -> Painted:
    """Train all members on tiles of two photographs; show them the face.

    Equal seeds have equal weights, tiles and noise, whatever the arm. Raises ValueError
    for a negative number of steps.
    """
    check_integer("steps", steps, 0)
    levels = images.photographs(SIDE, 4)[0].inputs.float().mean(1).flatten(1)
    middle, scale = levels.mean(), (levels - levels.mean(0)).square().mean().sqrt()
    known, face = (levels - middle) / scale, images.face().float().mean(1)[0]
    face, model = (face - middle) / scale, FlatVAE(arms)
    seeds = sorted({seed for arm in arms for seed in arm.seeds})
    places = [seeds.index(seed) for arm in arms for seed in arm.seeds]

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        dice = [stream(seed, f"tiles/{step}") for seed in seeds]
        rows = [torch.randint(len(known), (BATCH,), generator=g) for g in dice]
        noise = [torch.randn(BATCH, model.count, generator=g) for g in dice]
        return known[torch.stack(rows)][places], torch.stack(noise)[places]

    optimizer = Adam(model.parameters(), lr=RATE, fused=True)
    hooks = [linear_decay(optimizer, steps)] if steps else []
    train(model, batches, negative_elbo, optimizer, steps, hooks)
    with torch.no_grad():
        unseen = cut(face).expand(len(places), -1, -1)
        returned, _, log_sigma = model(unseen, torch.zeros(1))
    counts = [len(arm.seeds) for arm in arms]
    sigmas = list(log_sigma.exp().split(counts))
    return Painted(face, list(returned.split(counts)), sigmas, middle, scale)


def cut(picture: torch.Tensor) -> torch.Tensor:
    """A picture (H, W) as tiles (H W / 64, 64), row by row."""
    return picture.unfold(0, SIDE, SIDE).unfold(1, SIDE, SIDE).reshape(-1, SIDE**2)


def assembled(tiles: torch.Tensor) -> torch.Tensor:
    """Tiles of a square picture, put together: the inverse of ``cut``."""
    side = math.isqrt(len(tiles))
    square = tiles.view(side, side, SIDE, SIDE).transpose(1, 2)
    return square.reshape(side * SIDE, side * SIDE)


def _differences(tiles: torch.Tensor) -> torch.Tensor:
    square = tiles.unflatten(-1, (SIDE, SIDE))
    return torch.cat([square.diff(dim=axis).flatten(-2) for axis in (-1, -2)], -1)

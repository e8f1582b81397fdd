"""Likelihoods of images whose pixels are integers: p(x|z) that sums to one.

Each says how many ``outputs`` a decoder owes it a pixel, how pixels are ``scaled`` for
a network, the ``log_prob`` of images, how to ``sample`` them, and their ``mean``.
Images are integers 0 … levels − 1, shape (N, channels, H, W); nats throughout.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from blogcore.checks import check_integer

LEAST_LOG_SCALE = -7.0
MOST_LEVELS = 256  # samples are bytes
INTEGERS = (torch.uint8, torch.int16, torch.int32, torch.int64)


class Bernoulli:
    """Pixels 0 or 1, one logit each."""

    def __init__(self, channels: int = 1):
        check_integer("channels", channels, 1)
        self.channels = self.outputs = channels
        self.levels = 2

    def scaled(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels as floats in −1 … 1."""
        return _scaled(self, images)

    def log_prob(self, outputs: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """log p(x) of every image: (N,)."""
        _check_outputs(self, outputs)
        _check_images(self, images)
        wrong = F.softplus(torch.where(images.bool(), -outputs, outputs))
        return -wrong.sum((1, 2, 3))

    def sample(self, outputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Images drawn from p(x)."""
        outputs = _fine(outputs)
        return (_uniform(outputs, generator) < self.mean(outputs)).to(torch.uint8)

    def mean(self, outputs: torch.Tensor) -> torch.Tensor:
        """E x / (levels − 1), in 0 … 1."""
        _check_outputs(self, outputs)
        return outputs.sigmoid()


class Bins(NamedTuple):
    """Which interval of the real line stands for which level.

    Level v owns centre ± half, without a lower end where ``bottom``, without an upper
    one where ``top``. Exact bins tile the line, so their probabilities sum to one.
    """

    centres: torch.Tensor  # (levels,), float64
    half: float
    bottom: torch.Tensor
    top: torch.Tensor


def exact_bins(levels: int) -> Bins:
    """Centres −1 … 1; the ends belong to the levels 0 and levels − 1, and to no other.

    Raises ValueError unless there are 2 … 256 levels: samples are bytes.
    Source: Salimans et al. (2017), eq. 2, with edges by integer level.
    """
    _check_levels(levels)
    number = torch.arange(levels)
    centres = 2 * number.double() / (levels - 1) - 1
    return Bins(centres, 1 / (levels - 1), number == 0, number == levels - 1)


def nvae_bins(bits: int) -> Bins:
    """The bins of NVAE's public code: an end wherever |x| is large as a *float*.

    Its test x > 0.99 for the last of 256 levels is true for 254 as well, so level 254
    gets all that lies above it and the sum over levels is 1 + P(255).
    """
    exact = exact_bins(_levels(bits))
    return exact._replace(bottom=exact.centres < -0.999, top=exact.centres > 0.99)


def vdvae_bins(bits: int) -> Bins:
    """The bins of VDVAE's public code: exact for 8 bits, but not for 5.

    There the levels keep their places 8v among 256, 8/127.5 apart, while the intervals
    are 2/31 wide: they overlap, and no level passes the test x > 0.999 for an end.
    """
    exact = exact_bins(_levels(bits))
    step = 2 ** (8 - bits)
    centres = (step * torch.arange(len(exact.centres)).double() - 127.5) / 127.5
    return Bins(centres, exact.half, centres < -0.999, centres > 0.999)


class LogisticMixture:
    """A mixture of ``components`` logistics, cut into the levels of ``bins``.

    P(v) = Σ_k π_k [F_k(centre + half) − F_k(centre − half)]; of several channels each
    mean moves linearly with the channels before it, and π is shared. For each of the M
    components the outputs are a logit, a mean and a log-scale a channel, and a
    coefficient (through tanh) a pair of channels, in the order of (1 + 2C + pairs, M).
    Source: Salimans et al. (2017), eq. 2–3.
    """

    def __init__(self, bins: Bins, components: int, channels: int = 1):
        check_integer("components", components, 1)
        check_integer("channels", channels, 1)
        self.bins, self.components, self.channels = bins, components, channels
        self.levels = len(bins.centres)
        self._brought: dict[tuple, tuple[torch.Tensor, ...]] = {}
        self.pairs = channels * (channels - 1) // 2
        self.outputs = components * (1 + 2 * channels + self.pairs)

    def scaled(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels as floats in −1 … 1."""
        return _scaled(self, images)

    def log_prob(self, outputs: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """log p(x) of every image: (N,)."""
        _check_images(self, images)
        level = images.long()[:, :, None]
        x, bottom, top = (table[level] for table in self._tables(outputs))
        logits, means, log_scales, coefficients = self._split(outputs)
        distance = x - self._moved(means, coefficients, x)
        logs = _interval(distance, log_scales, self.bins.half, bottom, top).sum(1)
        return (logs + logits.log_softmax(1)).logsumexp(1).sum((1, 2))

    def sample(self, outputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Images drawn from p(x), one channel after the other; exact for exact bins."""
        logits, means, log_scales, coefficients = self._split(_fine(outputs))
        chosen = _chosen(logits, generator)[:, None, None]
        means, log_scales, coefficients = (
            t.gather(2, chosen.expand(-1, t.shape[1], -1, -1, -1))
            for t in (means, log_scales, coefficients)
        )
        noise = log_scales.exp() * _uniform(means, generator).logit()
        centres = self.bins.centres.to(means)
        inner = (centres[1:] + centres[:-1]) / 2
        x, levels = torch.zeros_like(means), []
        for channel in range(self.channels):
            drawn = (self._moved(means, coefficients, x) + noise)[:, channel, 0]
            levels.append(torch.bucketize(drawn.contiguous(), inner))
            x[:, channel, 0] = centres[levels[-1]]
        return torch.stack(levels, 1).to(torch.uint8)

    def mean(self, outputs: torch.Tensor) -> torch.Tensor:
        """The mixture's mean in 0 … 1, as NVAE shows it: cut off, not integrated."""
        logits, means, _, coefficients = self._split(outputs)
        weights, x = logits.softmax(1)[:, None], torch.zeros_like(means[:, :, :1])
        for channel in range(self.channels):
            moved = self._moved(means, coefficients, x)
            average = (weights * moved).sum(2, keepdim=True).clamp(-1, 1)
            x = torch.cat([x[:, :channel], average[:, channel:]], 1)
        return (x[:, :, 0] + 1) / 2

    def _tables(self, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Centres, bottom and top where ``like`` is; brought to a GPU once.

        To bring them at every step would wait for the GPU.
        """
        key = like.device, like.dtype
        if key not in self._brought:
            bins, where = self.bins, like.device
            ends = bins.bottom.to(where), bins.top.to(where)
            self._brought[key] = bins.centres.to(like), *ends
        return self._brought[key]

    def _split(self, outputs: torch.Tensor) -> list[torch.Tensor]:
        """Logits (N, M, H, W); means, log-scales, coefficients (N, …, M, H, W)."""
        _check_outputs(self, outputs)
        table = outputs.unflatten(1, (-1, self.components))
        sizes = [1, self.channels, self.channels, self.pairs]
        logits, means, log_scales, coefficients = table.split(sizes, 1)
        log_scales = log_scales.clamp(min=LEAST_LOG_SCALE)
        return [logits[:, 0], means, log_scales, coefficients.tanh()]

    def _moved(self, means, coefficients, x) -> torch.Tensor:
        """The means given the channels before: m_c + Σ_{b<c} a_cb x_b."""
        moved, pair = list(means.unbind(1)), 0
        for channel in range(self.channels):
            for before in range(channel):
                moved[channel] = moved[channel] + coefficients[:, pair] * x[:, before]
                pair += 1
        return torch.stack(moved, 1)


Likelihood = Bernoulli | LogisticMixture


def _interval(distance, log_scale, half: float, bottom, top) -> torch.Tensor:
    """log [F(d + half) − F(d − half)] of a logistic F, or of a half-line at the ends.

    = log σ(b) + log σ(−a) + log(1 − e^{a − b}) for a < b: nothing cancels.
    """
    inverse = (-log_scale).exp()
    upper = F.logsigmoid((distance + half) * inverse)
    lower = F.logsigmoid((half - distance) * inverse)
    width = (-2 * half * inverse).expm1().neg().log()
    none = torch.zeros_like(upper)
    logs = torch.where(top, none, upper) + torch.where(bottom, none, lower)
    return logs + torch.where(top | bottom, none, width)


def _check_levels(levels: int) -> None:
    check_integer("levels", levels, 2)
    if levels > MOST_LEVELS:
        raise ValueError(f"levels: {levels} is not in 2 … {MOST_LEVELS}")


def _levels(bits: int) -> int:
    check_integer("bits", bits, 1)
    if bits > 8:
        raise ValueError(f"bits: {bits} is not in 1 … 8")
    return 2**bits


def _check_outputs(likelihood: Likelihood, outputs: torch.Tensor) -> None:
    if outputs.ndim != 4 or outputs.shape[1] != likelihood.outputs:
        raise ValueError(
            f"outputs: shape {tuple(outputs.shape)} is not "
            f"(N, {likelihood.outputs}, H, W)"
        )


def _check_images(likelihood: Likelihood, images: torch.Tensor) -> None:
    if images.dtype not in INTEGERS:
        raise TypeError(f"images: {images.dtype} is not an integer type")
    if images.ndim != 4 or not len(images) or images.shape[1] != likelihood.channels:
        raise ValueError(
            f"images: shape {tuple(images.shape)} is not "
            f"(N ≥ 1, {likelihood.channels}, H, W)"
        )
    if not images.is_cpu:
        return  # to look at values would wait for the device, at every step
    least, most = map(int, images.aminmax())  # a uint8 tensor has no 256 to compare
    if not 0 <= least <= most < likelihood.levels:
        raise ValueError(
            f"images: {least} … {most} are not all in 0 … {likelihood.levels - 1}"
        )


def _scaled(likelihood: Likelihood, images: torch.Tensor) -> torch.Tensor:
    _check_images(likelihood, images)
    return images.float() * (2 / (likelihood.levels - 1)) - 1


def _fine(outputs: torch.Tensor) -> torch.Tensor:
    """The outputs in float32 at least: in bfloat16 a uniform draw may be 1."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def _uniform(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.rand(like.shape, generator=generator, device=generator.device)
    return drawn.to(_fine(like[:0]))


def _chosen(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """An index along axis 1, drawn with probability softmax: the Gumbel trick."""
    return (logits - (-_uniform(logits, generator).log()).log()).argmax(1)

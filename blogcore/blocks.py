"""The algebra of blocks: whatever reads a memory has one signature.

``block(x, memory=None, allowed=None) → x``: the queries x (B, T, width) read from the
memory (B, M, width), which is x itself if None, wherever ``allowed`` is True. A
``Stack`` of blocks is a block; the same object several times is ALBERT's sharing; T-TA
is a stack with other queries, another memory and another mask.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import nn

from blogcore.checks import check_integer, check_number

SHARED = {
    "none": (),
    "attention": ("attention",),
    "feed_forward": ("feed_forward",),
    "all": ("attention", "feed_forward"),
}
GELU = {"exact": "none", "tanh": "tanh"}  # and torch's words for the same


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of an encoder; beyond the vocabulary, BERT-base is the default.

    ``inner`` is the width inside the feed-forward net, ``positions`` the longest text,
    ``epsilon`` that of LayerNorm; ``segments`` = 0 leaves the segment table out;
    ``gelu`` is "exact", or "tanh" for the approximation that ALBERT was trained with.
    Source: Devlin et al. (2019); the field names follow the paper's words.
    """

    vocabulary: int
    width: int = 768
    heads: int = 12
    layers: int = 12
    inner: int = 3072
    positions: int = 512
    segments: int = 2
    dropout: float = 0.1
    epsilon: float = 1e-12
    gelu: str = "exact"

    def __post_init__(self):
        for field in fields(self):
            if field.type is int:
                least = 0 if field.name == "segments" else 1
                check_integer(field.name, getattr(self, field.name), least)
        check_number("dropout", self.dropout, 0, 1)
        check_number("epsilon", self.epsilon, 0)
        if self.gelu not in GELU:
            raise ValueError(f"gelu: {self.gelu!r} is not one of {list(GELU)}")
        if self.width % self.heads:
            raise ValueError(
                f"width: {self.width} is no multiple of heads: {self.heads}"
            )


class Attention(nn.Module):
    """LN(x + W_O · heads), each head softmax(q kᵀ/√d) v with k, v from the memory.

    A query that may attend to nothing receives zeros from its heads, never NaN.
    Source: Vaswani et al. (2017), eq. 1; the norm after the sum as in BERT.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.output = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: torch.Tensor,
        memory: torch.Tensor | None = None,
        allowed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        q, k, v = self._projected(x, memory, allowed)
        dropped = self.dropout.p if self.training else 0.0
        read = F.scaled_dot_product_attention(q, k, v, allowed, dropped)
        joined = read.transpose(1, 2).flatten(2)
        return self.norm(x + self.dropout(self.output(joined)))

    def weights(
        self,
        x: torch.Tensor,
        memory: torch.Tensor | None = None,
        allowed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What query i gives to memory j: (B, heads, T, M), rows sum to 1 or 0."""
        q, k, _ = self._projected(x, memory, allowed)
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        if allowed is None:
            return scores.softmax(-1)
        shares = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
        return shares.masked_fill(~allowed.any(-1, keepdim=True), 0.0)

    def _projected(self, x, memory, allowed):
        memory = x if memory is None else memory
        if allowed is not None:
            check_allowed(allowed, (len(x), self.heads, x.shape[1], memory.shape[1]))
        return [
            projection(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, source in (
                (self.query, x),
                (self.key, memory),
                (self.value, memory),
            )
        ]


class FeedForward(nn.Module):
    """LN(x + W₂ GELU(W₁ x)), each token by itself: x (…, width) → (…, width).

    GELU(z) = z Φ(z), with the normal distribution's Φ unless the config says "tanh".
    Source: Hendrycks and Gimpel (2016); BERT.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.inner = nn.Linear(config.width, config.inner)
        self.activation = nn.GELU(GELU[config.gelu])
        self.output = nn.Linear(config.inner, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = self.output(self.activation(self.inner(x)))
        return self.norm(x + self.dropout(change))


class Block(nn.Module):
    """Attention, then the feed-forward net: one layer of BERT."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(
        self,
        x: torch.Tensor,
        memory: torch.Tensor | None = None,
        allowed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return self.feed_forward(self.attention(x, memory, allowed))


class Deepened(nn.Module):
    """A block whose memory first goes through a net of its own, token by token.

    Memory j stays a function of token and position j alone: a mask that hides token i
    from output i hides it as before. ``net`` (…, width) → (…, width).
    """

    def __init__(self, block: nn.Module, net: nn.Module):
        super().__init__()
        self.block, self.net = block, net

    def forward(
        self,
        x: torch.Tensor,
        memory: torch.Tensor | None = None,
        allowed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return self.block(x, self.net(x if memory is None else memory), allowed)


class Stack(nn.ModuleList):
    """Blocks one after the other, and itself a block; a slice of it is a ``Stack``.

    With a memory every block reads that same memory, without one its own input. The
    same block may stand in it several times.
    """

    def forward(
        self,
        x: torch.Tensor,
        memory: torch.Tensor | None = None,
        allowed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        for block in self:
            x = block(x, memory, allowed)
        return x


def shared(config: EncoderConfig, what: str = "all", groups: int = 1) -> Stack:
    """As many blocks as the config has layers, of which some parts are one object.

    ``what`` the layers of a group share: "all" (one block, as in ALBERT), "attention",
    "feed_forward", or "none". Layer i is of group ⌊i · groups / layers⌋. Raises
    ValueError for another word, or groups that do not divide the layers. Source: Lan et
    al. (2020), 3.1 and table 4.
    """
    if what not in SHARED:
        raise ValueError(f"what: {what!r} is not one of {list(SHARED)}")
    check_integer("groups", groups, 1)
    if config.layers % groups:
        raise ValueError(f"groups: {groups} do not divide {config.layers} layers")
    blocks = [Block(config) for _ in range(config.layers)]
    for layer, block in enumerate(blocks):
        first = blocks[layer - layer % (config.layers // groups)]
        for part in SHARED[what]:
            setattr(block, part, getattr(first, part))
        if what == "all":
            blocks[layer] = first
    return Stack(blocks)


def not_self(length: int, device=None) -> torch.Tensor:
    """Who may be read, (T, T) bool: everyone but oneself."""
    check_integer("length", length, 1)
    return ~torch.eye(length, dtype=torch.bool, device=device)


def not_same_word(words: torch.Tensor) -> torch.Tensor:
    """Who may be read, (B, 1, T, T) bool: every token of another word.

    ``words`` (B, T) holds the number of the word to which each token belongs.
    """
    if words.ndim != 2 or words.is_floating_point():
        raise ValueError(
            f"words: {words.dtype} of shape {tuple(words.shape)} is not integers (B, T)"
        )
    return (words[:, :, None] != words[:, None, :])[:, None]


def check_allowed(allowed: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless it is a bool mask for ``shape`` (B, heads, T, M)."""
    # Three axes are refused: (B, T, T) would pass for (heads, T, T) where B = heads.
    sizes = zip(reversed(allowed.shape), reversed(shape), strict=False)
    fits = allowed.ndim in (2, 4) and all(own in (1, size) for own, size in sizes)
    if allowed.dtype != torch.bool or not fits:
        raise ValueError(
            f"allowed: {allowed.dtype} of shape {tuple(allowed.shape)} is not torch."
            f"bool of shape {shape[2:]}, nor of four axes that broadcast to {shape}"
        )

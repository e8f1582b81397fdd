"""Chains of look-ups: encoders whose weights are set by hand, and an adversary.

A text is [s, f(0), …, f(N − 1), answer], where the answer after k look-ups is fᵏ(s).
The machines below are ordinary encoders of one head. Each token, place and intermediate
result has coordinates of its own (one-hot), and attention is so sharp that in float64
its weights are exactly 0 or 1.
"""

from functools import partial

import torch
from torch import nn

from blogcore.blocks import EncoderConfig
from blogcore.checks import check_integer
from blogcore.encoder import Bert, TextAutoencoder, bert, tta

SHARP = 1e4


class Layout:
    """Which coordinates mean what, for tables of ``size`` entries: index tensors.

    ``token`` (N,), ``place`` (N + 2,), ``found(layer)`` (N,): what a layer has read,
    ``kept(layer)`` (N + 1,): what a gate lets through, and one more for “nothing”.
    """

    def __init__(self, size: int, layers: int):
        check_integer("size", size, 2)
        check_integer("layers", layers, 1)
        self.size, self.layers = size, layers
        self.token = torch.arange(size)
        self.place = size + 1 + torch.arange(size + 2)  # token N is [MASK]
        self.width = 2 * size + 3 + layers * (2 * size + 1)

    def found(self, layer: int) -> torch.Tensor:
        """The coordinates into which this layer's attention writes."""
        return 2 * self.size + 3 + layer * self.size + self.token

    def kept(self, layer: int) -> torch.Tensor:
        """The coordinates into which this layer's gate writes."""
        first = 2 * self.size + 3 + self.layers * self.size + layer * (self.size + 1)
        return first + torch.arange(self.size + 1)


def hop(attention: nn.Module, pointer, goal, content, result) -> None:
    """Set weights: find the place that ``pointer`` names, write its content.

    ``pointer`` (n,) are the query's coordinates and ``goal`` (n,) those of the places
    that they mean; ``content`` and ``result`` (N,) are read there and written here.
    """
    every, carrier = (
        torch.arange(attention.key.weight.shape[1]),
        torch.arange(len(result)),
    )
    attention.query.weight.data[goal, pointer] = SHARP
    attention.key.weight.data[every, every] = 1.0
    attention.value.weight.data[carrier, content] = 1.0
    attention.output.weight.data[result, carrier] = 1.0


def chaser(size: int, layers: int) -> TextAutoencoder:
    """T-TA that makes ``layers`` − 1 look-ups: the query is the pointer."""
    at = Layout(size, layers)
    model = _blank(partial(tta, start=size), at)
    start = at.place[0].expand(size + 2)
    hop(model.blocks[0].attention, at.place, start, at.token, at.found(0))
    for layer in range(1, layers):
        pointer, result = at.found(layer - 1), at.found(layer)
        hop(model.blocks[layer].attention, pointer, at.place[1:-1], at.token, result)
    return model


def doubler(size: int, layers: int) -> Bert:
    """BERT that makes 2^(layers − 1) − 1 look-ups: every place hops, twice as far."""
    at = Layout(size, layers)
    model, known = _blank(bert, at), at.token
    for layer, block in enumerate(model.blocks[:-1]):
        hop(block.attention, known, at.place[1:-1], known, at.found(layer))
        known = at.found(layer)
    start = at.place[0].expand(size + 2)
    hop(model.blocks[-1].attention, at.place, start, known, at.found(layers - 1))
    return model


class FixedAttention(nn.Module):
    """LN(x + W_O · heads), each head A v, where no token can change the matrix A.

    Takes value, output and norm of an ``Attention``; A = softmax(scores), a row a
    query, scores (heads, T, T). Source: Tay et al. (2021), Random Synthesizer.
    """

    def __init__(self, attention: nn.Module, scores: torch.Tensor):
        super().__init__()
        self.value, self.output = attention.value, attention.output
        self.norm, self.scores = attention.norm, nn.Parameter(scores)

    def forward(
        self,
        x: torch.Tensor,
        memory: torch.Tensor | None = None,
        allowed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        v = self.value(x).unflatten(-1, (len(self.scores), -1)).transpose(1, 2)
        read = (self.scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.norm(x + self.output(read))


def broadcaster(size: int, layers: int) -> Bert:
    """Constant attention that makes ``layers`` − 1 look-ups by broadcast and gate."""
    at = Layout(size, layers)
    model, content, places = _blank(bert, at, size**2), at.token, size + 2
    x = model.embedding(_samples(size))
    for layer, block in enumerate(model.blocks):
        scores = torch.zeros(1, places, places).double()  # an average of all places,
        scores[:, :, 0] = 0.0 if layer else SHARP  # but first everyone reads s
        attention, weight = block.attention, float(places if layer else 1)
        attention.value.weight.data[at.token, content] = weight
        attention.output.weight.data[at.found(layer), at.token] = 1.0
        block.attention = FixedAttention(attention, scores)
        if layer < layers - 1:
            _gate(block.feed_forward, at, layer, block.attention(x))
            content = at.kept(layer)[:-1]
        x = block(x)
    return model


def pointer_chase(
    count: int, size: int, hops: int, generator: torch.Generator
) -> torch.Tensor:
    """Rows [s, π(0), …, π(size − 1), πᵏ(s)] with k = ``hops``: ids (N, size + 2).

    π is one cycle through all places, so that πᵏ(s), with s alone known, is uniform
    over the ``size`` − 1 others. In a uniform permutation it would be s itself with
    probability d/size, where d counts the divisors of k.
    """
    check_integer("count", count, 1)
    check_integer("size", size, 2)
    check_integer("hops", hops, 1)
    if hops >= size:
        raise ValueError(f"hops: {hops} are not in 1 … {size - 1}: π has period {size}")
    cycle = torch.rand(count, size, generator=generator).argsort(1)
    pointers = torch.empty_like(cycle).scatter_(1, cycle, cycle.roll(-1, 1))
    # The order is uniform, so its first place is a uniform s.
    return torch.cat([cycle[:, :1], pointers, cycle[:, hops, None]], 1)


def answers(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """log p of the last token, which is hidden: (texts, N + 1)."""
    hidden = ids.clone()
    hidden[:, -1] = ids.shape[1] - 2  # [MASK]
    with torch.no_grad():
        return model.head(model(hidden)[:, -1]).log_softmax(-1)


def follow(ids: torch.Tensor, hops: int) -> torch.Tensor:
    """The true answers, fᵏ(s) with k = ``hops``: (texts,)."""
    check_integer("hops", hops, 0)
    pointer = ids[:, 0]
    for _ in range(hops):
        pointer = ids.gather(1, pointer[:, None] + 1)[:, 0]
    return pointer


def adversary(model: TextAutoencoder, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two texts (1, N + 2) that a hard T-TA of one head cannot tell apart.

    It fills the table while it is read. Each layer reads, of all pairs of place and
    token that are still possible, the one with the highest score; the tip of the chain
    may point to unread entries alone. In the end the unread entries all point to one of
    themselves, or all to another: from k = layers look-ups on the answers differ.
    Raises ValueError for a table of fewer than layers + 3 entries.
    """
    check_integer("size", size, len(model.blocks) + 3)
    tokens = model.embedding.tokens.weight[:size, None].expand(-1, size + 2, -1)
    pairs = model.embedding.placed(tokens)[:, :-1]  # every token at every entry
    x = model.queries(torch.zeros(1, size + 2, dtype=torch.int64))[:, -1:]
    fixed, tip = {}, 0
    for block in model.blocks:
        possible = _possible(size, fixed, tip).flatten()
        memory = pairs.flatten(0, 1)[possible][None]
        chosen = block.attention.weights(x, memory)[0, 0, 0].argmax()
        token, place = divmod(possible.nonzero()[chosen].item(), size + 1)
        x = block(x, memory[:, chosen, None])
        fixed[place] = token
        tip = token + 1 if place == tip else tip
    unread = [e for e in range(1, size + 1) if e not in fixed and e != tip]
    texts = [[fixed.get(e, to - 1) for e in range(size + 1)] for to in unread[:2]]
    one, other = (torch.tensor([[*text, size]]) for text in texts)
    return one, other


def _possible(size: int, fixed: dict[int, int], tip: int) -> torch.Tensor:
    """Which token may still stand at which entry: (N, N + 1) bool."""
    possible = torch.ones(size, size + 1, dtype=torch.bool)
    for place, token in fixed.items():
        possible[:, place] = torch.arange(size) == token
    unread = [e for e in range(1, size + 1) if e not in fixed and e != tip]
    if tip not in fixed:
        possible[:, tip] = torch.isin(torch.arange(1, size + 1), torch.tensor(unread))
    return possible


def _blank(make, at: Layout, inner: int = 1):
    """A model without weights, but with one-hot tokens and places, and a head."""
    shape = (at.size + 1, at.width, 1, at.layers, inner, at.size + 2, 0, 0.0)
    model = make(EncoderConfig(*shape), torch.Generator()).double().eval()
    for name, parameter in model.named_parameters():
        nn.init.constant_(parameter, float(name.endswith("norm.weight")))
    every = torch.arange(at.size + 1)
    model.embedding.tokens.weight.data[every, every] = 1.0
    model.embedding.positions.weight.data[at.place - at.place[0], at.place] = 1.0
    # What lies above the average of the last slot is the answer.
    centred = 100 * (torch.eye(at.size) - 1 / at.size).double()
    model.head.dense.weight.data[: at.size, at.found(at.layers - 1)] = centred
    return model


def _samples(size: int) -> torch.Tensor:
    """Texts with every start, whose tables are rotations: to find activation levels."""
    start, entry = torch.arange(size), torch.arange(size)
    tables = (start[:, None] + entry) % size
    return torch.cat([start[:, None], tables, start[:, None]], 1)


def _gate(net: nn.Module, at: Layout, layer: int, sample: torch.Tensor) -> None:
    """Place j keeps its token if the pointer found is j, else “nothing”.

    A unit for each pair of place and token is on where pointer, place and token agree:
    its threshold lies halfway between three agreements and two.
    """
    pointer, kept = at.found(layer), at.kept(layer)
    for j in range(at.size):
        units = at.size * j + at.token
        for coordinate in (pointer[j], at.place[j + 1]):
            net.inner.weight.data[units, coordinate] = SHARP
        net.inner.weight.data[units, at.token] = SHARP
        net.output.weight.data[kept[:-1], units] = 1.0
    net.output.weight.data[kept[-1]] = -1.0
    three, two = net.inner(sample).round(decimals=3).unique().flip(0)[:2]
    net.inner.bias.data.fill_(-(three + two).item() / 2)
    net.output.weight.data /= (three - two).item() / 2
    net.output.bias.data[kept[-1]] = 1.0

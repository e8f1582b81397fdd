"""Blocks are what their formulas say, and whatever is made of blocks is a block."""

import ast
import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blogcore.blocks import (
    Attention,
    Block,
    Deepened,
    EncoderConfig,
    FeedForward,
    Stack,
    not_same_word,
    not_self,
)
from blogcore.encoder import initialise
from blogcore.runtime import stream

CONFIG = EncoderConfig(11, 8, heads=2, layers=2, inner=12, positions=9, dropout=0.0)


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Initialised, then moved off the defaults, with which checks pass trivially."""
    generator = stream(seed, "init")
    initialise(module, generator)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
    return module.double().eval()


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "vectors")).double()


def check_close(found, expected, atol=1e-12):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return norm.weight * centred / scale + norm.bias


MASKS = {
    "none": None,
    "diagonal": not_self(6),
    "words": not_same_word(torch.tensor([[0, 1, 1, 2, 2, 2]]).expand(3, -1)),
    "heads": torch.rand(3, 2, 6, 6, generator=stream(0, "mask")) < 0.6,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("memory", [None, vectors(3, 6, 8, seed=1)], ids=["x", "other"])
def test_attention_is_its_formula_head_by_head(mask, memory):
    """LN(x + W_O [head₁; head₂]): the softmax over what is allowed, scaled by √d."""
    attention, x = shaken(Attention(CONFIG)), vectors(3, 6, 8)
    source = x if memory is None else memory
    allowed = torch.ones(6, 6, dtype=torch.bool) if MASKS[mask] is None else MASKS[mask]
    heads = []
    for head in range(2):
        own = slice(4 * head, 4 * head + 4)
        q, k, v = (
            (s @ p.weight.T + p.bias)[..., own]
            for p, s in zip(
                (attention.query, attention.key, attention.value),
                (x, source, source),
                strict=True,
            )
        )
        reach = allowed.expand(3, 2, 6, 6)[:, head].double()
        scores = (q @ k.mT / 4**0.5).exp() * reach
        shares = scores / scores.sum(-1, keepdim=True)
        check_close(attention.weights(x, memory, MASKS[mask])[:, head], shares)
        heads.append(shares @ v)
    joined = torch.cat(heads, -1)
    total = x + joined @ attention.output.weight.T + attention.output.bias
    check_close(attention(x, memory, MASKS[mask]), layer_norm(total, attention.norm))


def test_memory_may_have_another_length_than_the_queries():
    block, x, memory = shaken(Block(CONFIG)), vectors(3, 4, 8), vectors(3, 6, 8, seed=1)
    allowed = torch.rand(4, 6, generator=stream(0, "mask")) < 0.7
    whole = block(x, memory, allowed)
    assert whole.shape == (3, 4, 8)
    for query in range(4):
        seen = memory[:, allowed[query]]
        check_close(whole[:, query], block(x[:, query, None], seen)[:, 0])


def test_feed_forward_is_its_formula_and_knows_no_neighbours():
    net, x = shaken(FeedForward(CONFIG)), vectors(3, 6, 8)
    z = x @ net.inner.weight.T + net.inner.bias
    bent = z * (1 + torch.erf(z / 2**0.5)) / 2
    total = x + bent @ net.output.weight.T + net.output.bias
    check_close(net(x), layer_norm(total, net.norm))
    check_close(net(x)[:, 2], net(x[:, 2]))


def test_a_block_is_attention_then_feed_forward():
    block, x, memory = shaken(Block(CONFIG)), vectors(3, 6, 8), vectors(3, 6, 8, seed=1)
    allowed = MASKS["heads"]
    expected = block.feed_forward(block.attention(x, memory, allowed))
    assert torch.equal(block(x, memory, allowed), expected)
    assert not torch.equal(block(x, memory, allowed), block(x, memory))
    assert torch.equal(block(x), block(x, x))


def test_every_norm_divides_by_the_root_of_variance_plus_epsilon():
    wide = replace(CONFIG, epsilon=0.5)
    attention, net = shaken(Attention(wide)), shaken(FeedForward(wide))
    for norm in (attention.norm, net.norm):
        x = vectors(5, 8)
        check_close(norm(x), layer_norm(x, norm))
        assert norm.eps == 0.5
    assert EncoderConfig(11).epsilon == 1e-12


@pytest.mark.parametrize("dropout", [0.0, 0.5])  # for each torch has its own path
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_that_may_read_nothing_gets_zeros_and_finite_gradients(dropout, dtype):
    attention = shaken(Attention(replace(CONFIG, dropout=dropout))).to(dtype)
    x, memory = vectors(3, 6, 8).to(dtype), vectors(3, 6, 8, seed=1).to(dtype)
    allowed = torch.rand(6, 6, generator=stream(0, "mask")) < 0.5
    allowed[[1, 4]] = False
    memory.requires_grad_()
    empty = layer_norm(x + attention.output.bias, attention.norm)
    check_close(attention(x, memory, allowed)[:, [1, 4]], empty[:, [1, 4]], atol=1e-5)
    assert (attention.weights(x, memory, allowed)[:, :, [1, 4]] == 0).all()
    out = attention.train()(x, memory, allowed)
    whole, none = out.square().sum(), out[:, [1, 4]].square().sum()
    own = [memory, *attention.parameters()]
    for slope in torch.autograd.grad(whole, own, retain_graph=True):
        assert slope.isfinite().all()
    (slope,) = torch.autograd.grad(none, memory)
    assert (slope == 0).all()


def test_a_stack_passes_memory_and_mask_to_every_block():
    stack = shaken(Stack(Block(CONFIG) for _ in range(3)))
    x, memory, allowed = vectors(3, 6, 8), vectors(3, 6, 8, seed=1), MASKS["diagonal"]
    by_hand = x
    for block in stack:
        by_hand = block(by_hand, memory, allowed)
    assert torch.equal(stack(x, memory, allowed), by_hand)
    by_hand = x
    for block in stack:
        by_hand = block(by_hand, by_hand, allowed)
    assert torch.equal(stack(x, None, allowed), by_hand)


def test_stacks_nest_slice_share_and_let_blocks_be_replaced():
    blocks = shaken(Stack(Block(CONFIG) for _ in range(4)))
    x, memory = vectors(3, 6, 8), vectors(3, 6, 8, seed=1)
    nested = Stack([blocks[:2], Stack([blocks[2], blocks[3]])])
    assert torch.equal(nested(x, memory), blocks(x, memory))
    assert isinstance(blocks[:2], Stack)
    shared = Stack([blocks[0]] * 4)
    assert sum(p.numel() for p in shared.parameters()) == sum(
        p.numel() for p in blocks[0].parameters()
    )
    twin = copy.deepcopy(shared)
    assert twin[0] is twin[3] is not shared[0]
    unshared = Stack(copy.deepcopy(block) for block in shared)
    assert torch.equal(unshared(x, memory), shared(x, memory))
    assert unshared[0] is not unshared[1]
    shared[2] = blocks[3]
    one, other = blocks[0], blocks[3]
    expected = one(other(one(one(x, memory), memory), memory), memory)
    assert torch.equal(shared(x, memory), expected)


def test_a_part_of_a_block_can_be_shared_alone():
    stack = shaken(Stack(Block(CONFIG) for _ in range(3)))
    before = sum(p.numel() for p in stack.parameters())
    for block in stack[1:]:
        block.feed_forward = stack[0].feed_forward
    net = sum(p.numel() for p in stack[0].feed_forward.parameters())
    assert sum(p.numel() for p in stack.parameters()) == before - 2 * net
    x = vectors(3, 6, 8)
    stack(x).sum().backward()
    assert stack[0].feed_forward.inner.weight.grad.abs().sum() > 0


def test_deepening_changes_what_is_read_and_never_who_reads():
    plain, net = shaken(Block(CONFIG)), shaken(FeedForward(CONFIG), 1)
    deep, x, memory = Deepened(plain, net), vectors(3, 6, 8), vectors(3, 6, 8, seed=1)
    allowed = MASKS["heads"]
    expected = plain(x, net(memory), allowed)
    assert torch.equal(deep(x, memory, allowed), expected)
    assert torch.equal(deep(x, None, allowed), plain(x, net(x), allowed))
    changed = memory.clone()
    changed[:, 2] += 1
    allowed = not_self(6)
    before, after = deep(x, memory, allowed), deep(x, changed, allowed)
    assert torch.equal(before[:, 2], after[:, 2])
    assert (before != after).any(-1)[:, [0, 1, 3, 4, 5]].all()


def test_dropout_works_in_training_only_and_at_every_place(monkeypatch):
    half = replace(CONFIG, dropout=0.5)
    block, x = shaken(Block(half)), vectors(3, 6, 8)
    expected = shaken(Block(CONFIG))(x)
    assert torch.equal(block(x), expected)
    given, real = [], F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a: given.append(a[4]) or real(*a)
    )
    block(x)
    block.train()
    assert not torch.equal(block(x), block(x))
    assert given == [0.0, 0.5, 0.5]
    for part in (block.attention, block.feed_forward):
        part.dropout.p = 1.0  # what is left is the residual
    block.attention.heads = 2
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a: real(*a[:4]))
    rest = layer_norm(layer_norm(x, block.attention.norm), block.feed_forward.norm)
    check_close(block(x), rest)


def test_masks_say_who_may_be_read():
    assert not_self(3).tolist() == [
        [False, True, True],
        [True, False, True],
        [True, True, False],
    ]
    words = torch.tensor([[5, 5, 7], [0, 1, 2]])
    found = not_same_word(words)
    assert found.shape == (2, 1, 3, 3)
    assert found.dtype == not_self(3).dtype == torch.bool
    assert found[0, 0].tolist() == [
        [False, False, True],
        [False, False, True],
        [True, True, False],
    ]
    assert torch.equal(found[1, 0], not_self(3))


SHAPE = {"vocabulary": 11, "width": 8, "heads": 2, "layers": 2, "inner": 12}
X, MEMORY = torch.zeros(2, 5, 8), torch.zeros(2, 7, 8)
BLOCK = Block(EncoderConfig(**SHAPE))


def block(*shape, dtype=torch.bool):
    return BLOCK(X, MEMORY, torch.ones(*shape, dtype=dtype))


WRONG = [
    (lambda: EncoderConfig(0), "vocabulary: 0"),
    (lambda: EncoderConfig(11.0), "vocabulary: 11.0"),
    (lambda: EncoderConfig(True), "vocabulary: True"),
    (lambda: EncoderConfig(**SHAPE | {"width": 0}), "width: 0"),
    (lambda: EncoderConfig(**SHAPE | {"heads": 3}), "width: 8 is no multiple of head"),
    (lambda: EncoderConfig(**SHAPE | {"heads": 0}), "heads: 0"),
    (lambda: EncoderConfig(**SHAPE | {"layers": 0}), "layers: 0"),
    (lambda: EncoderConfig(**SHAPE | {"inner": -1}), "inner: -1"),
    (lambda: EncoderConfig(**SHAPE, positions=0), "positions: 0"),
    (lambda: EncoderConfig(**SHAPE, segments=-1), "segments: -1"),
    (lambda: EncoderConfig(**SHAPE, dropout=1.1), "dropout: 1.1"),
    (lambda: EncoderConfig(**SHAPE, dropout=float("nan")), "dropout: nan"),
    (lambda: EncoderConfig(**SHAPE, epsilon=-1e-12), "epsilon: -1e-12"),
    (lambda: not_self(0), "length: 0"),
    (lambda: not_self(2.0), "length: 2.0"),
    (lambda: not_same_word(torch.zeros(3, dtype=torch.int64)), "words: torch.int64 of"),
    (lambda: not_same_word(torch.zeros(2, 3)), "words: torch.float32 of"),
    (lambda: block(5, 7, dtype=torch.float32), "allowed: torch.float32"),
    (lambda: block(5, 7, dtype=torch.int64), "allowed: torch.int64"),
    (lambda: block(7, 5), "allowed: torch.bool of shape (7, 5)"),
    (lambda: block(5, 5), "allowed: torch.bool of shape (5, 5)"),
    (lambda: block(7), "allowed: torch.bool of shape (7,)"),
    (lambda: block(2, 5, 7), "four axes that broadcast to (2, 2, 5, 7)"),
    (lambda: block(3, 1, 5, 7), "allowed: torch.bool of shape (3, 1, 5, 7)"),
    (lambda: block(2, 4, 5, 7), "allowed: torch.bool of shape (2, 4, 5, 7)"),
]


@pytest.mark.parametrize(("call", "words"), WRONG, ids=[words for _, words in WRONG])
def test_wrong_calls_are_refused(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert words in str(error.value)


def test_every_forward_says_what_it_takes_and_returns():
    rooms = ("blocks", "embeddings", "encoder", "electra", "lookups", "wordvec")
    folder = Path(__file__).parents[1] / "blogcore"
    found = [
        (path.stem, node)
        for path in (folder / f"{room}.py" for room in rooms)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "forward"
    ]
    assert len(found) > 14
    for room, node in found:
        takes = [*node.args.args[1:], *node.args.kwonlyargs]
        assert all(argument.annotation for argument in takes), (room, node.lineno)
        assert node.returns, (room, node.lineno)


def test_weights_of_a_network_that_broke_are_not_a_number():
    attention, x = shaken(Attention(CONFIG)), vectors(1, 4, 8)
    allowed = torch.ones(4, 4, dtype=torch.bool)
    allowed[2] = False
    x[0, 1] = torch.nan
    found = attention.weights(x, x[:, [0, 2, 3, 0]], allowed)[0]
    assert found[:, 1].isnan().all()
    assert (found[:, 2] == 0).all()
    assert found[:, [0, 3]].isfinite().all()
    assert attention.weights(x).isnan().all()

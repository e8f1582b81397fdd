"""Encoders set by hand make exactly their look-ups; the adversary fools hard ones."""

import pytest
import torch

from blogcore import lookups
from blogcore.blocks import EncoderConfig
from blogcore.encoder import tta
from blogcore.lookups import adversary, answers, follow, pointer_chase
from blogcore.runtime import stream

DICE = stream(0, "x")
HOPS = {
    "chaser": lambda layers: layers - 1,
    "doubler": lambda layers: 2 ** (layers - 1) - 1,
    "broadcaster": lambda layers: layers - 1,
}


def share_right(model, size, hops):
    ids = pointer_chase(60, size, hops, stream(hops, "chase"))
    return (answers(model, ids).argmax(1) == ids[:, -1]).double().mean().item()


def hard_reader(seed, layers, size):
    """A T-TA of random weights, far from linear, whose attention is hard."""
    shape = (size + 1, 16, 1, layers, 32, size + 2, 0, 0.0)
    model = tta(EncoderConfig(*shape), stream(seed, "reader")).double().eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data *= 10
    for block in model.blocks:
        block.attention.query.weight.data *= 1e9
    return model


@pytest.mark.parametrize("size", [5, 8])
@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize("name", HOPS)
def test_machines_make_their_look_ups_and_no_others(name, layers, size):
    model = getattr(lookups, name)(size, layers)
    for hops in range(1, size):
        expected = float((hops - HOPS[name](layers)) % size == 0)
        assert share_right(model, size, hops) == expected


def test_machines_follow_tables_with_repetitions():
    ids = torch.randint(6, (200, 8), generator=stream(0, "any table"))
    for name, hops in HOPS.items():
        found = answers(getattr(lookups, name)(6, 3), ids).argmax(1)
        assert torch.equal(found, follow(ids, hops(3))), name


def test_attention_of_the_broadcaster_sees_no_token():
    for block in lookups.broadcaster(5, 3).blocks:
        attention = block.attention
        assert not hasattr(attention, "query")
        assert torch.allclose(
            attention.scores.softmax(-1).sum(-1), torch.ones(1, 7).double()
        )


def test_follow_by_hand():
    ids = torch.tensor([[2, 1, 0, 3, 1, 9]])  # s = 2, f = (1, 0, 3, 1)
    assert [follow(ids, k).item() for k in range(6)] == [2, 3, 1, 0, 1, 0]


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_adversary_fools_every_hard_reader(seed, layers):
    model = hard_reader(seed, layers, 8)
    one, other = adversary(model, 8)
    assert torch.equal(answers(model, one), answers(model, other))
    for hops in range(layers, 12):
        assert follow(one, hops) != follow(other, hops)


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_adversary_fools_the_chaser_by_one_look_up(layers):
    one, other = adversary(lookups.chaser(8, layers), 8)
    model = lookups.chaser(8, layers)
    assert (answers(model, one) - answers(model, other)).abs().max() < 1e-12
    assert follow(one, layers) != follow(other, layers)
    assert follow(one, layers - 1) == follow(other, layers - 1)


@pytest.mark.parametrize(("size", "hops"), [(8, 1), (8, 2), (8, 6), (5, 4), (2, 1)])
def test_pointers_lead_where_the_target_says(size, hops):
    ids = pointer_chase(4000, size, hops, stream(0, "chase"))
    assert (ids.shape, ids.dtype) == ((4000, size + 2), torch.int64)
    start, pointers, target = ids[:, :1], ids[:, 1:-1], ids[:, -1]
    here, visited = start, []
    for hop in range(size):
        visited.append(here)
        here = pointers.gather(1, here)
        if hop + 1 == hops:
            assert torch.equal(here[:, 0], target)
    assert torch.equal(here, start), "one cycle through all places"
    every = torch.arange(size).expand(4000, -1)
    assert torch.equal(torch.cat(visited, 1).sort(1).values, every)
    counts = torch.zeros(size, size).index_put_(
        (start[:, 0], target), torch.tensor(1.0), True
    )
    assert (counts.diag() == 0).all()
    expected = 4000 / size / (size - 1)
    others = counts[~torch.eye(size, dtype=torch.bool)]
    assert (others - expected).abs().max() < 5 * expected**0.5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pointer_chase(0, 8, 1, DICE), "count: 0"),
        (lambda: pointer_chase(1, 1, 1, DICE), "size: 1"),
        (lambda: pointer_chase(1, 8, 0, DICE), "hops: 0"),
        (lambda: pointer_chase(1, 8, 8, DICE), "hops: 8 are not in 1 … 7"),
        (lambda: lookups.chaser(1, 2), "size: 1"),
        (lambda: lookups.doubler(4, 0), "layers: 0"),
        (lambda: follow(torch.zeros(1, 4, dtype=torch.int64), -1), "hops: -1"),
        (lambda: adversary(lookups.chaser(5, 3), 5), "size: 5"),
    ],
)
def test_wrong_calls_name_the_argument(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value)

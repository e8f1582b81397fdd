"""What is known exactly is exact: by enumeration, in log space, by construction."""

import math
from itertools import pairwise, product

import pytest
import torch

from blogcore.corpus import (
    HiddenMarkov,
    peaked,
    random_markov,
    ring_language,
)
from blogcore.runtime import stream

HALVES = torch.full((2,), 0.5)
SWITCH = HiddenMarkov(
    HALVES, torch.eye(2).flip(0), torch.tensor([[1, 0, 0], [0, 0.5, 0.5]])
)


def uneven(states: int, vocabulary: int, seed: int) -> HiddenMarkov:
    """A drawn language whose first state is drawn too."""
    dice = stream(seed, "language")
    drawn = random_markov(states, vocabulary, dice, 0.8, 0.7)
    start = torch.rand(states, generator=dice, dtype=torch.float64)
    return HiddenMarkov(start / start.sum(), drawn.transition, drawn.emission)


def joint(language: HiddenMarkov, length: int) -> torch.Tensor:
    """p(x) of every sequence, summed over every path of states: (V, …, V)."""
    states, vocabulary = language.emission.shape
    total = torch.zeros([vocabulary] * length, dtype=torch.float64)
    for path in product(range(states), repeat=length):
        weight = language.start[path[0]].clone()
        for before, after in pairwise(path):
            weight *= language.transition[before, after]
        for state in path:
            weight = weight[..., None] * language.emission[state]
        total += weight
    return total


def conditional(table: torch.Tensor, known: dict[int, int], asked: int) -> torch.Tensor:
    """p(x_asked | the known ones), by summing a joint table over all others."""
    where = tuple(
        slice(known.get(i), known[i] + 1) if i in known else slice(None)
        for i in range(table.ndim)
    )
    axes = [axis for axis in range(table.ndim) if axis != asked]
    kept = table[where].sum(axes) if axes else table[where]
    return kept / kept.sum()


@pytest.mark.parametrize("length", [1, 2, 3, 4])
@pytest.mark.parametrize(("states", "vocabulary"), [(1, 3), (2, 2), (3, 3), (4, 2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_probability_is_that_of_enumeration(states, vocabulary, length, seed):
    language = uneven(states, vocabulary, seed)
    table = joint(language, length)
    ids = torch.tensor([*product(range(vocabulary), repeat=length)])
    seen = torch.rand(ids.shape, generator=stream(seed, "seen")) < 0.6
    for mask in (None, seen):
        cloze = language.cloze(ids, mask)
        likely = language.log_likelihood(ids, mask)
        for row, x in enumerate(ids.tolist()):
            shown = (
                range(length) if mask is None else mask[row].nonzero()[:, 0].tolist()
            )
            known = {i: x[i] for i in shown}
            where = tuple(known.get(i, slice(None)) for i in range(length))
            assert abs(table[where].sum().log() - likely[row]) < 1e-12
            for i in range(length):
                rest = {j: v for j, v in known.items() if j != i}
                expected = conditional(table, rest, i).log()
                assert (cloze[row, i] - expected).abs().max() < 1e-12


def in_log_space(language: HiddenMarkov, ids: torch.Tensor) -> torch.Tensor:
    """log p(x_i = v | x_∖i), every sum a logsumexp: slow, and nothing underflows."""
    start, transition, emission = (
        table.log()
        for table in (language.start, language.transition, language.emission)
    )
    told = emission.T[ids]
    alpha = [start.expand(len(ids), -1)]
    beta = [torch.zeros_like(alpha[0])]
    for now in range(ids.shape[1] - 1):
        step = (alpha[-1] + told[:, now])[:, :, None] + transition
        alpha.append(step.logsumexp(1))
        step = transition + (beta[-1] + told[:, -1 - now])[:, None]
        beta.append(step.logsumexp(2))
    weights = torch.stack(alpha, 1) + torch.stack(beta[::-1], 1)
    return (weights[..., None] + emission).logsumexp(2).log_softmax(2)


@pytest.mark.parametrize("concentration", [0.01, 0.15, 1.0])
def test_long_sequences_stay_exact(concentration):
    """Also where most tokens are wrong: uniform ids are astronomically unlikely."""
    language = random_markov(8, 32, stream(3, "language"), concentration, 0.1)
    ids = language.sample(4, 512, stream(0, "text")).ids
    ids = torch.cat([ids, torch.randint(32, ids.shape, generator=stream(0, "noise"))])
    cloze = language.cloze(ids)
    assert (cloze.exp().sum(2) - 1).abs().max() < 1e-12
    torch.testing.assert_close(cloze, in_log_space(language, ids), rtol=0, atol=1e-10)
    # p(x) summed over x_i is p(x_∖i), which does not depend on the token at i.
    other = ids.clone()
    other[:, 9] = (ids[:, 9] + 1) % 32
    whole = [language.log_likelihood(x) for x in (ids, other)]
    told = [cloze[:, 9].gather(1, x[:, 9:10])[:, 0] for x in (ids, other)]
    torch.testing.assert_close(
        whole[0] - whole[1], told[0] - told[1], rtol=0, atol=1e-9
    )


def test_what_is_not_seen_is_padding():
    language = random_markov(4, 6, stream(0, "language"))
    ids = language.sample(5, 9, stream(0, "text")).ids
    seen = torch.ones(ids.shape, dtype=torch.bool)
    seen[:, 6:] = False
    short = ids[:, :6]
    pairs = [
        (language.cloze(ids, seen)[:, :6], language.cloze(short)),
        (language.log_likelihood(ids, seen), language.log_likelihood(short)),
    ]
    for padded, plain in pairs:
        torch.testing.assert_close(padded, plain, rtol=0, atol=1e-13)


def test_no_guess_beats_the_floor_and_the_floor_is_calibrated():
    language = random_markov(8, 32, stream(0, "language"))
    ids = language.sample(4000, 24, stream(0, "text")).ids
    log_p = language.cloze(ids)
    told = -log_p.gather(2, ids[:, :, None])[:, :, 0]
    ahead = -language.log_likelihood(ids) / ids.shape[1]  # from left to right
    entropy = -(log_p.exp() * log_p.clamp_min(-1e3)).sum(2)
    error = 3 * (told - entropy).mean(1).std() / len(ids) ** 0.5
    assert abs(told.mean() - entropy.mean()) < error < 0.02
    assert told.mean() + 0.2 < ahead.mean() < math.log(32) - 0.5


def test_samples_follow_the_tables():
    language = uneven(3, 4, 0)
    ids, states = language.sample(20_000, 6, stream(0, "text"))
    assert ids.shape == states.shape == (20_000, 6)
    before, after = states[:, :-1].flatten(), states[:, 1:].flatten()
    counted = [
        (torch.bincount(states[:, 0], minlength=3).double(), language.start),
        (
            torch.bincount(before * 3 + after, minlength=9).view(3, 3).double(),
            language.transition,
        ),
        (
            torch.bincount((states * 4 + ids).flatten(), minlength=12)
            .view(3, 4)
            .double(),
            language.emission,
        ),
    ]
    for counts, expected in counted:
        total = counts.sum(-1, keepdim=True)
        error = (expected * (1 - expected) / total).sqrt()
        assert ((counts / total - expected).abs() <= 4 * error).all()


def test_a_language_and_its_samples_come_from_their_streams_alone():
    torch.manual_seed(0)
    untouched = torch.get_rng_state()
    first, second = (random_markov(5, 7, stream(1, "language")) for _ in range(2))
    assert torch.equal(first.transition, second.transition)
    assert torch.equal(first.emission, second.emission)
    other = random_markov(5, 7, stream(2, "language"))
    assert not torch.equal(first.transition, other.transition)
    drawn = [first.sample(3, 9, stream(0, "text")) for _ in range(2)]
    assert all(map(torch.equal, *drawn))
    assert torch.equal(torch.get_rng_state(), untouched)


def test_concentrations_shape_the_rows_they_name():
    dull = random_markov(20, 30, stream(0, "x"), transition=1000, emission=0.01)
    assert dull.transition.max() < 0.07
    assert dull.emission.max(1).values.mean() > 0.7
    assert torch.equal(dull.start, torch.full((20,), 0.05, dtype=torch.float64))


def test_what_cannot_be_is_impossible_not_wrong():
    """State 0 says 0, state 1 says 1 or 2, and they take turns."""
    fits, odd = torch.tensor([[0, 1, 0]]), torch.tensor([[0, 1, 1]])
    assert SWITCH.log_likelihood(torch.cat([fits, odd])).isfinite().tolist() == [
        True,
        False,
    ]
    alone = torch.tensor([[0, 0, 0]])  # at fault in the middle only
    cloze = SWITCH.cloze(alone, torch.tensor([[True, False, True]]))
    assert cloze[0, 1].exp().tolist() == [0, 0.5, 0.5]
    with pytest.raises(ValueError, match="position 0 of sequence 1 has probability 0"):
        SWITCH.cloze(torch.cat([fits, odd]))


def table(*rows):
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: HiddenMarkov(table(0.5, 0.500001), torch.eye(2), torch.eye(2)),
            "start: a row sums to 1.000001",
        ),
        (
            lambda: HiddenMarkov(table(1, 0), table([1, 0], [0.2, 0.2]), torch.eye(2)),
            "transition: a row sums to 0.4",
        ),
        (
            lambda: HiddenMarkov(table(1, 0), torch.eye(2), table([1, 0], [1.5, -0.5])),
            r"emission: -0.5 … 1.5 are not in 0 … 1",
        ),
        (
            lambda: HiddenMarkov(table(1, math.nan), torch.eye(2), torch.eye(2)),
            "start: nan",
        ),
        (
            lambda: HiddenMarkov(table(1, 0), torch.eye(3), torch.eye(2)),
            r"transition: shape \(3, 3\)",
        ),
        (
            lambda: HiddenMarkov(table(1, 0), torch.eye(2), torch.eye(3)),
            "emission: 3 rows do not fit 2 states",
        ),
        (
            lambda: HiddenMarkov(torch.eye(2), torch.eye(2), torch.eye(2)),
            r"start: shape \(2, 2\)",
        ),
        (
            lambda: HiddenMarkov(table(), torch.eye(2), torch.eye(2)),
            r"start: shape \(0,\)",
        ),
        (lambda: SWITCH.sample(0, 3, stream(0, "x")), "count: 0"),
        (lambda: SWITCH.sample(3, 0, stream(0, "x")), "length: 0"),
        (lambda: SWITCH.sample(3, -1, stream(0, "x")), "length: -1"),
        (
            lambda: SWITCH.cloze(torch.tensor([[0, 3]])),
            "ids: 0 … 3 are not all in 0 … 2",
        ),
        (lambda: SWITCH.cloze(torch.tensor([[-1, 2]])), "ids: -1 … 2"),
        (
            lambda: SWITCH.cloze(torch.tensor([0, 1])),
            r"ids: torch.int64 of shape \(2,",
        ),
        (lambda: SWITCH.cloze(torch.zeros(0, 4).long()), r"shape \(0, 4\)"),
        (lambda: SWITCH.log_likelihood(torch.zeros(1, 4)), "ids: torch.float32"),
        (
            lambda: SWITCH.cloze(torch.zeros(1, 4).long(), torch.ones(1, 4)),
            "seen: torch.float32",
        ),
        (
            lambda: SWITCH.cloze(torch.zeros(1, 4).long(), torch.ones(4) > 0),
            r"seen: torch.bool of shape \(4,\)",
        ),
        (lambda: random_markov(0, 3, stream(0, "x")), "states: 0"),
        (lambda: ring_language(1.1, peaked(2, (1,)), stream(0, "x")), "stay: 1.1"),
        (lambda: peaked(0, (1,)), "states: 0"),
        (lambda: peaked(2, ()), r"shares: \[\]"),
        (lambda: peaked(2, (1, -1)), r"shares: \[1, -1\]"),
        (lambda: random_markov(3, 0, stream(0, "x")), "vocabulary: 0"),
        (lambda: random_markov(3, 3, stream(0, "x"), 0.0), "transition: 0.0"),
        (lambda: random_markov(3, 3, stream(0, "x"), 1, math.nan), "emission: nan"),
    ],
)
def test_wrong_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_ring_goes_round_and_its_tokens_are_peaked():
    own = [[0.75, 0.25, 0, 0, 0, 0], [0, 0, 0.75, 0.25, 0, 0], [0] * 4 + [0.75, 0.25]]
    expected = (torch.tensor(own, dtype=torch.float64) + 0.001) / 1.006
    language = ring_language(0.9, peaked(3, (3, 1)), stream(0, "ring"))
    assert torch.allclose(language.emission, expected, rtol=0, atol=1e-15)
    assert (language.transition.diag() == 0.9).all()
    state, seen = 0, []
    for _ in range(3):
        seen.append(state)
        away = language.transition[state].clone()
        away[state] = 0
        assert abs(away.max() - 0.1) < 1e-12
        state = away.argmax().item()
    assert (sorted(seen), state) == ([0, 1, 2], 0)  # one circle through all states
    drawn = {
        tuple(ring_language(0.5, peaked(6, (1,)), stream(s, "ring")).transition[0])
        for s in range(20)
    }
    assert len(drawn) > 1

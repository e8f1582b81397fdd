"""The testbed of compression: its words, its network, its fairness."""

import copy

import pytest
import torch
from torch import nn

from blogcore import theseus, wordclasses
from blogcore.blocks import FeedForward
from blogcore.lexicon import embedding
from blogcore.objectives import classification
from blogcore.runtime import stream


def test_words_are_jiebas_and_every_character_has_a_vector():
    words = wordclasses.known_words()
    ids, labels = words.examples
    assert len(words.words) == len(labels) == len(ids) > 250_000
    at = words.words.index("图书馆")
    assert words.classes[labels[at]] == "n"
    read = wordclasses.vectors(ids[at])
    assert read.shape == (512,)
    assert read[384:].abs().max() == 0 < read[:384].abs().min()
    characters, table = embedding()
    assert torch.equal(read[256:384], table[characters.index("馆")])
    assert (ids[:, :2] > 1).all()


def test_network_is_berts_layer_without_attention():
    model = wordclasses.network(2, stream(0, "init"))
    first, body, last = model
    x = torch.randn(5, 512, generator=stream(0, "x"))
    block = body[0]
    assert isinstance(block, FeedForward)
    hidden = first(x)
    inner = nn.functional.gelu(hidden @ block.inner.weight.T + block.inner.bias)
    change = inner @ block.output.weight.T + block.output.bias
    expected = nn.functional.layer_norm(hidden + change, (48,), eps=1e-12)
    assert torch.allclose(block(hidden), expected, atol=1e-6)
    assert model(x).shape == (5, 12)
    assert last.weight.abs().max() <= 48**-0.5
    again = wordclasses.network(2, stream(0, "init"))
    assert torch.equal(again(x), model(x))


def test_ship_and_baseline_start_from_the_same_network():
    old = wordclasses.network(6, stream(0, "init"))
    x = torch.randn(5, 512, generator=stream(0, "x"))
    ship, cut = wordclasses.ship(old), wordclasses.first_blocks(old)
    assert torch.equal(theseus.successor(ship)(x), cut(x))
    assert [p.requires_grad for p in cut.parameters()] == [True] * 24
    assert sum(p.requires_grad for p in ship.parameters()) == 18


def test_fit_learns_and_moves_what_wants_a_gradient_only():
    task = wordclasses.Task(0, many=2_000, few=500)
    old = wordclasses.network(6, stream(0, "init"))
    ship = wordclasses.ship(old)
    frozen = copy.deepcopy(ship[0].state_dict())
    before = wordclasses.accuracy(ship, task.test)
    wordclasses.fit(ship, task.batches(), classification, 3e-3, 60)
    assert wordclasses.accuracy(ship, task.test) > before + 10
    assert all(torch.equal(ship[0].state_dict()[k], v) for k, v in frozen.items())


def test_a_frozen_input_layer_reads_the_few_words_once():
    task = wordclasses.Task(0, many=2_000, few=500)
    old, x = wordclasses.network(6, stream(0, "init")), task.test.inputs[:64]
    whole, tail = wordclasses.ship(old), wordclasses.ship(old)
    wordclasses.fit(whole, task.batches(), classification, 3e-3, 20)
    model, batches = wordclasses.reading(tail, task)
    assert len(model) == 2
    assert batches(0).inputs.shape == (128, 48)
    wordclasses.fit(model, batches, classification, 3e-3, 20)
    assert torch.allclose(tail(x), whole(x), atol=1e-5)
    assert not torch.allclose(tail(x), wordclasses.ship(old)(x), atol=1e-2)


def test_an_input_layer_that_trains_or_has_more_to_read_stays():
    task = wordclasses.Task(0, many=2_000, few=500)
    ship = wordclasses.ship(wordclasses.network(6, stream(0, "init")))
    model, batches = wordclasses.reading(ship, task, 2_000)
    assert model is ship
    assert batches(0).inputs.shape == (128, 512)
    ship[0].requires_grad_(True)
    assert wordclasses.reading(ship, task)[0] is ship


def test_the_rate_is_that_of_its_formula(monkeypatch):
    rates = []

    def walked(model, batches, objective, optimizer, steps, hooks):
        for step in range(steps):
            hooks[0](step, {})
            rates.append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(wordclasses, "train", walked)
    wordclasses.fit(nn.Linear(2, 2), None, classification, 0.5, 100, warm=20)
    assert rates[0] == pytest.approx(0.5 / 20)
    assert rates[19] == max(rates) == pytest.approx(0.5 * 0.81)
    assert rates[-1] == pytest.approx(0.5 / 100)


def test_damping_multiplies_the_rate():
    task = wordclasses.Task(0, many=2_000, few=500)
    old = wordclasses.network(6, stream(0, "init"))

    def fitted(rate, **damping):
        small = wordclasses.first_blocks(old)
        wordclasses.fit(small, task.batches(), classification, rate, 5, **damping)
        return nn.utils.parameters_to_vector(small.parameters())

    start = nn.utils.parameters_to_vector(wordclasses.first_blocks(old).parameters())
    assert torch.equal(fitted(3e-3, damping=theseus.constant(0)), start)
    halved = fitted(3e-3, damping=theseus.constant(0.5))
    assert torch.allclose(halved, fitted(1.5e-3), atol=1e-6)
    assert not torch.allclose(halved, fitted(3e-3), atol=1e-5)


def test_words_of_a_task_are_its_own():
    task = wordclasses.Task(3, many=2_000, few=500)
    assert len(task.many.labels) == 2_000
    assert task.test.inputs.shape == (4_000, 512)
    seen = {tuple(row) for row in task.many.inputs.tolist()}
    assert len(seen) == 2_000
    batch = task.batches()(0)
    few = wordclasses.vectors(task.many.inputs[:500])
    assert (batch.inputs[:, None] == few).all(-1).any(1).all()
    test = task.test.inputs[:50]
    many = wordclasses.vectors(task.many.inputs)
    assert not (test[:, None] == many).all(-1).any()


def test_blocks_must_be_some():
    with pytest.raises(ValueError, match="blocks: 0"):
        wordclasses.network(0, stream(0, "init"))


def test_hybrids_are_scored_as_the_networks_that_they_are():
    task = wordclasses.Task(0, many=2_000, few=500)
    new = wordclasses.network(3, stream(1, "init"))[1]
    plans = [(0.0, 0.0, 0.0), (1.0, 0.0, 1.0), (1.0, 1.0, 1.0)]
    ship = wordclasses.ship(task.predecessor, new)
    by_hand = [
        wordclasses.accuracy(theseus.hybrid(ship, plan), task.test) for plan in plans
    ]
    assert wordclasses.hybrid_accuracies(task, new, plans) == by_hand
    assert by_hand[0] == wordclasses.accuracy(task.predecessor, task.test)
    assert len(set(by_hand)) == 3


def test_the_predecessors_start_and_words_give_the_predecessor(monkeypatch):
    monkeypatch.setattr(wordclasses, "STEPS", 8)
    task = wordclasses.Task(3, many=2_000, few=500)
    again = wordclasses.network(6, stream(3, "init"))
    batches = task.batches(2_000)
    wordclasses.fit(again, batches, classification, wordclasses.RATE, 8)
    assert torch.equal(again(task.test.inputs), task.predecessor(task.test.inputs))

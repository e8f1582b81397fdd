"""The contest of cloze models: its languages, questions and scores."""

import math

import pytest
import torch

from blogcore import contest
from blogcore import pseudolikelihood as pseudo
from blogcore.encoder import TextAutoencoder, bert, tta
from blogcore.runtime import stream


class Knowing(TextAutoencoder):
    """Answers all questions about the test texts with given logits, in one pass."""

    def __init__(self, logits):
        torch.nn.Module.__init__(self)
        self.logits = logits.view(-1, contest.LENGTH, contest.WORDS + 1)
        self.head = torch.nn.Identity()

    def forward(self, ids, valid=None):
        return self.logits


def test_a_language_tells_enough_and_is_drawn_once_for_all():
    law = contest.language(3)
    ids = law.sample(200, contest.LENGTH, stream(3, "more")).ids
    assert contest.blind(law.cloze(ids).exp().flatten(0, 1)) > 0.25
    assert contest.language(3) is law
    with pytest.raises(ValueError, match="least: no language"):
        contest.language(3, least=99.0)


def test_a_world_has_the_steps_that_are_asked_for():
    here = contest.world(3, 2)
    assert here.learn.shape == (2, contest.BATCH, contest.LENGTH)
    assert contest.world(3, 5).learn.shape[0] == 5
    assert torch.equal(contest.world(3, 5).test, here.test)
    assert torch.allclose(here.truth.sum(1), torch.ones(()).double())
    with pytest.raises(ValueError, match="steps: 0"):
        contest.world(3, 0)


def test_the_truth_has_no_excess_and_mask_counts_as_an_answer():
    here = contest.world(3, 1)
    none = torch.full((len(here.truth), 1), -math.inf)
    exact = torch.cat([here.truth.log(), none], 1)
    assert contest.excess(Knowing(exact), here) == pytest.approx(0, abs=1e-6)
    half = torch.cat([here.truth.log(), torch.zeros(len(here.truth), 1)], 1)
    assert contest.excess(Knowing(half), here) == pytest.approx(math.log(2), abs=1e-6)


def test_one_pass_of_tta_is_scored_as_one_mask_at_a_time_would_be():
    model, here = tta(contest.CONFIG, stream(0, "x"), contest.MASK), contest.world(3, 1)
    found = contest.guesses(model, here.test[:2])
    hidden = here.test[:2].clone()
    hidden[:, 7] = contest.MASK
    again = contest.guesses(model, hidden).view(2, contest.LENGTH, -1)[:, 7]
    assert torch.equal(found.view(2, contest.LENGTH, -1)[:, 7], again)


def test_guesses_follow_the_convention_of_the_pseudo_log_likelihood():
    model, ids = bert(contest.CONFIG, stream(0, "x")), contest.world(3, 1).test[:3]
    found = contest.guesses(model, ids)
    assert torch.allclose(found.exp().sum(1), torch.ones(len(found)).double())
    own = found.gather(1, ids.flatten()[:, None])[:, 0]
    score = pseudo.pseudo_log_likelihood(model, ids, contest.MASK).flatten()
    assert torch.allclose(own.float(), score, atol=1e-5)


def test_arms_are_asked_as_they_say():
    ids = contest.world(3, 1).learn[0]
    for arm, count, hidden in (
        (contest.autoencoder(), 20, False),
        (contest.autoencoder(0.15), 3, False),
        (contest.masked(0.15), 3, True),
    ):
        asked = contest.questions(ids, arm, stream(0, "masks"))
        assert len(asked.positions) == count * len(ids)
        assert (asked.inputs == contest.MASK).any() == hidden
    both = (contest.autoencoder(0.15), contest.masked(0.15))
    places = [contest.questions(ids, a, stream(0, "m")).positions for a in both]
    assert torch.equal(*places)


def test_copies_of_a_text_have_questions_of_their_own():
    ids = contest.world(3, 1).learn[0]
    asked = contest.questions(ids, contest.masked(0.15, 7), stream(0, "masks"))
    assert asked.inputs.shape == (7 * len(ids), contest.LENGTH)
    assert len(asked.positions) == 21 * len(ids)
    assert torch.equal(asked.targets, ids.repeat(7, 1).flatten()[asked.positions])
    places = asked.positions.view(7, len(ids), 3) % contest.LENGTH
    assert not torch.equal(places[0], places[1])
    with pytest.raises(ValueError, match="copies: 0"):
        contest.masked(0.15, 0)


def test_arms_of_a_seed_start_equal_and_keep_their_curve():
    model, curve = contest.learn(3, contest.masked(0.15), 4, 2)
    again, same = contest.learn(3, contest.masked(0.15), 4, 2)
    assert curve.tolist() == same.tolist()
    assert len(curve) == 3
    pairs = zip(model.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_spread_is_that_of_the_width():
    model = contest.at_width(bert(contest.CONFIG, stream(0, "x")), contest.CONFIG)
    spread = model.blocks[0].feed_forward.inner.weight.std().item()
    assert spread == pytest.approx(0.02 * math.sqrt(768 / 32), rel=0.1)


def test_a_deepened_memory_opens_no_leak():
    model = contest.deepened(contest.CONFIG, stream(0, "x")).double().eval()
    ids = contest.world(3, 1).test[:1]
    other = ids.clone()
    other[0, 4] = (other[0, 4] + 1) % contest.WORDS
    change = (model(ids) - model(other))[0].abs().amax(1)
    assert change[4] == 0
    assert (change[5:] > 0).all()


def test_a_deepened_bert_has_the_nets_of_a_deepened_tta():
    pair = (contest.deepened, contest.deepened_bert)
    sizes = [
        sum(p.numel() for p in make(contest.CONFIG, stream(0, "x")).parameters())
        for make in pair
    ]
    assert sizes[0] == sizes[1]


def test_a_relative_change_averages_logarithms():
    found = contest.relative([math.log(2), math.log(8)], [0, 1], "a")
    assert found.mean == pytest.approx(300)
    assert (1 + found.low / 100) * (1 + found.high / 100) == pytest.approx(16)
    assert [row[2] for row in found.rows] == pytest.approx([100, 700])
    assert contest.relative([-0.7, 0.7], [0, 1], "a").mean == pytest.approx(0)

"""ELECTRA's game: what is drawn, what is asked, and what could be known at best."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_blocks import check_close

from blogcore import electra as room
from blogcore.asking import at
from blogcore.blocks import EncoderConfig
from blogcore.cloze import Cloze, mask_tokens, token_prediction
from blogcore.electra import (
    Corrupted,
    Electra,
    Round,
    corrupt,
    electra,
    game,
    knowable,
    optimal,
    optimal_alone,
    replaced_token_detection,
)
from blogcore.encoder import bert
from blogcore.objectives import finite_difference_penalty
from blogcore.runtime import stream
from blogcore.training import train

V, T, MASK = 20, 8, 4
CONFIG = EncoderConfig(V, 16, 2, 2, 32, T, 0, 0.0)
SMALL = replace(CONFIG, width=8, heads=1, inner=16)


def players(seed: int = 0) -> Electra:
    return electra(CONFIG, SMALL, 12, stream(seed, "init")).double()


def texts(count: int = 6) -> torch.Tensor:
    return torch.randint(5, V, (count, T), generator=stream(0, "texts"))


def asked(ids=None, rate: float = 0.3, valid=None) -> Cloze:
    ids = texts() if ids is None else ids
    return mask_tokens(ids, rate, MASK, V, stream(0, "masks"), range(5), valid)


class TestCorruption:
    """Drawn tokens stand where something was asked, and only there."""

    def test_only_the_places_asked_are_written_and_labels_compare_tokens(self):
        ids, batch = texts(40), asked(texts(40), 0.5)
        log_q = torch.randn(len(batch.targets), V, generator=stream(0, "q"))
        found = corrupt(batch, log_q, stream(0, "draws"))
        assert torch.equal(found.changed, found.inputs != ids)
        there = torch.zeros(ids.numel(), dtype=torch.bool)
        there[batch.positions] = True
        assert torch.equal(found.resampled, there.view_as(ids))
        assert not (found.changed & ~found.resampled).any()
        assert (found.resampled & ~found.changed).any()  # lucky ones count as original
        assert not (found.inputs == MASK).all(1).any()
        assert torch.equal(batch.inputs, asked(texts(40), 0.5).inputs)

    def test_a_sure_generator_writes_what_it_is_sure_of(self):
        batch = asked()
        sure = torch.full((len(batch.targets), V), -torch.inf)
        right = sure.clone()
        right[torch.arange(len(sure)), batch.targets] = 0.0
        found = corrupt(batch, right, stream(0, "draws"))
        assert torch.equal(found.inputs, texts())
        assert not found.changed.any()
        wrong = sure.clone()
        wrong[:, 0] = 0.0
        found = corrupt(batch, wrong, stream(0, "draws"))
        assert torch.equal(found.changed, found.resampled)
        assert (found.inputs[found.resampled] == 0).all()

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
    def test_tokens_are_drawn_in_proportion(self, temperature):
        n = 40_000
        batch = Cloze(torch.full((n, 1), 9), None, torch.arange(n), torch.full((n,), 9))
        log_q = torch.tensor([0.5, 0.3, 0.2]).log()
        drawn = corrupt(batch, log_q.expand(n, 3), stream(0, "draws"), temperature)
        expected = (log_q / temperature).softmax(0)
        shares = drawn.inputs.flatten().bincount(minlength=3) / n
        spread = (expected * (1 - expected) / n).sqrt()
        assert ((shares - expected).abs() < 4.5 * spread).all()

    def test_draws_are_those_of_the_stream_and_have_no_gradient(self):
        batch = asked()
        log_q = torch.randn(len(batch.targets), V, generator=stream(0, "q"))
        log_q.requires_grad_()
        one, two = (corrupt(batch, log_q, stream(1, "draws")) for _ in range(2))
        assert torch.equal(one.inputs, two.inputs)
        assert not one.inputs.requires_grad
        other = corrupt(batch, log_q, stream(2, "draws"))
        assert not torch.equal(one.inputs, other.inputs)


class TestGame:
    """Both losses, what is shared, and where gradients go."""

    def test_the_loss_is_the_sum_of_both_means(self):
        model = players()
        valid = torch.arange(T) < torch.tensor([8, 3, 5, 8, 6, 7])[:, None]
        batch = Round(asked(valid=valid), (3, "draws"))
        loss, parts = game(7.0, temperature=2.0)(model, batch)
        fills, _ = token_prediction(model.generator, batch.cloze)
        hidden = model.generator(batch.cloze.inputs, valid).flatten(0, 1)
        logits = model.generator.head(hidden[batch.cloze.positions])
        seen = corrupt(batch.cloze, logits, stream(3, "draws"), 2.0)
        odds = model.discriminator.head(model.discriminator(seen.inputs, valid))
        each = -F.logsigmoid(torch.where(seen.changed, odds, -odds))
        check_close(parts["generator"], fills.detach())
        check_close(parts["discriminator"], each[valid].mean().detach())
        check_close(loss, fills + 7 * each[valid].mean())
        assert parts["changed"] == seen.changed.float().mean()
        assert set(parts) == {"loss", "generator", "discriminator", "changed"}
        assert not any(part.requires_grad for part in parts.values())

    def test_one_round_gives_one_answer(self):
        model, batch = players(), Round(asked(), (0, "draws/1"))
        assert game()(model, batch)[0] == game()(model, batch)[0]
        named = batch._replace(noise=(0, "draws/1", torch.device("cpu")))
        assert game()(model, batch)[0] == game()(model, named)[0]
        other = batch._replace(noise=(0, "draws/2"))
        assert game()(model, batch)[0] != game()(model, other)[0]

    def test_embeddings_are_one_object_and_moves_keep_them_one(self):
        model = players().to(torch.float32)
        table = model.generator.embedding.narrow
        assert model.discriminator.embedding.narrow is table
        assert model.generator.head.tokens is table.tokens
        named = dict(model.named_parameters())
        assert len({id(p) for p in named.values()}) == len(named)
        alone = electra(CONFIG, SMALL, 16, stream(0, "init"))
        assert alone.discriminator.embedding is alone.generator.embedding.narrow

    def test_the_discriminators_loss_does_not_reach_the_generator(self):
        model, batch = players(), Round(asked(), (0, "draws"))
        game(50.0)(model, batch)[0].backward()
        own = model.generator.head.dense.weight.grad.clone()
        model.zero_grad()
        game(0.0)(model, batch)[0].backward()
        check_close(model.generator.head.dense.weight.grad, own)
        assert not model.discriminator.head.dense.weight.grad.any()
        model.zero_grad()
        shared = model.discriminator.embedding.tokens.weight
        game(1.0)(model, batch)[0].backward()
        both = shared.grad.clone()
        model.zero_grad()
        token_prediction(model.generator, batch.cloze)[0].backward()
        assert not torch.equal(shared.grad, both)  # both players train the table

    @pytest.mark.parametrize("question", ["changed", "resampled"])
    def test_the_question_chooses_the_label(self, question):
        model = players().discriminator
        labels = torch.rand(6, T, generator=stream(0, "labels")) < 0.5
        other = torch.zeros_like(labels)
        pair = {"changed": other, "resampled": other} | {question: labels}
        batch = Corrupted(texts(), None, **pair)
        loss, parts = replaced_token_detection(question)(model, batch)
        odds = model.head(model(texts()))
        check_close(loss, -F.logsigmoid(torch.where(labels, odds, -odds)).mean())
        assert parts["accuracy"] == ((odds > 0) == labels).float().mean()

    def test_it_is_an_objective_like_others(self):
        model, batch = players(), Round(asked(), (0, "draws"))
        loss, _ = at(model, dict(model.named_parameters()), game(), batch)
        check_close(loss, game()(model, batch)[0])
        penalised, _ = finite_difference_penalty(game(), 0.0, 0.1)(model, batch)
        check_close(penalised, loss)

    @pytest.mark.slow
    def test_playing_lowers_both_losses(self):
        """Texts that repeat one token: holes are easy, and so are strangers."""
        model = players().float()
        adam = torch.optim.Adam(model.parameters(), 5e-3)

        def batches(step):
            row = torch.randint(5, V, (32, 1), generator=stream(step, "texts"))
            ids = row.expand(32, T).contiguous()
            masked = mask_tokens(ids, 0.3, MASK, V, stream(step, "masks"), range(5))
            return Round(masked, (step, "draws"))

        history = train(model, batches, game(10.0), adam, 300)
        first, last = slice(0, 30), slice(-30, None)
        assert history["generator"][first].mean() > 2.5
        assert history["generator"][last].mean() < 1.3
        for when, least, most in ((first, 0.8, 2.0), (last, 0.0, 0.3)):
            share = history["changed"][when].mean()
            base = -torch.xlogy(share, share) - torch.xlogy(1 - share, 1 - share)
            known = history["discriminator"][when].mean() / base
            assert least < known < most


class TestOptimum:
    """The formulas against enumeration of every text that the game can make."""

    def language(self, size=3, length=4):
        """A random joint distribution over all texts, and all its conditionals."""
        texts = torch.tensor(list(itertools.product(range(size), repeat=length)))
        raw = torch.randn(len(texts), generator=stream(0, "joint"))
        joint = (2 * raw.double()).softmax(0)
        return texts, joint.view([size] * length)

    def conditionals(self, texts, joint) -> torch.Tensor:
        """log p(x_t | rest) for each text and place: (texts, T)."""
        own = joint.flatten()[:, None]
        sums = [joint.sum(t, keepdim=True).expand_as(joint) for t in range(joint.ndim)]
        return (own / torch.stack([s.flatten() for s in sums], 1)).log()

    @pytest.mark.parametrize("sharpness", [0.0, 0.5, 1.0, 1.7])
    def test_one_place_resampled_is_bayes_rule_over_all_texts(self, sharpness):
        texts, joint = self.language()
        size, length = 3, 4
        raw = self.conditionals(texts, joint).exp() ** sharpness
        q = torch.stack(
            [
                (
                    raw[:, t].view(joint.shape)
                    / raw[:, t].view(joint.shape).sum(t, True)
                ).flatten()
                for t in range(length)
            ],
            1,
        )
        number = {tuple(x): n for n, x in enumerate(texts.tolist())}
        wrote = torch.zeros(len(texts), length).double()
        another = torch.zeros(len(texts), length).double()
        for n, text in enumerate(texts.tolist()):
            for t, v in itertools.product(range(length), range(size)):
                result = number[(*text[:t], v, *text[t + 1 :])]
                chance = joint.flatten()[n] * q[result, t] / length
                wrote[result, t] += chance
                another[result, t] += chance * (v != text[t])
        total = wrote.sum(1, keepdim=True)
        found = optimal(self.conditionals(texts, joint), q.log())
        check_close(found.resampled, wrote / total)
        check_close(found.changed, another / total)

    def test_a_perfect_generator_hides_where_it_wrote_but_not_what_is_odd(self):
        texts, joint = self.language()
        log_p = self.conditionals(texts, joint)
        found = optimal(log_p, log_p)
        check_close(found.resampled, torch.full((81, 4), 0.25).double())
        check_close(found.changed, (1 - log_p.exp()) / 4)

    def test_three_tokens_by_hand(self):
        p = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
        perfect = optimal_alone(p, p, 1 / 3)
        check_close(
            perfect.changed, torch.tensor([0.1, 4 / 15, 0.3], dtype=torch.float64)
        )
        check_close(perfect.resampled, torch.full((3,), 1 / 3, dtype=torch.float64))
        flat = optimal_alone(p, torch.full((3,), 1 / 3, dtype=torch.float64), 1 / 3)
        expected = ((1 - p) / 9) / (2 * p / 3 + 1 / 9)
        check_close(flat.changed, expected)
        assert [round(x, 3) for x in flat.changed.tolist()] == [0.058, 0.364, 0.562]

    def test_knowable_is_the_share_of_the_entropy(self):
        p = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
        own = [-(x * math.log(x) + (1 - x) * math.log(1 - x)) for x in p.tolist()]
        whole = math.log(2)
        assert knowable(p) == pytest.approx(1 - sum(own) / 3 / whole, abs=1e-12)
        assert knowable(torch.tensor([0.0, 1.0, 1.0, 0.0])) == 1.0
        assert knowable(torch.full((5,), 0.3).double()) == pytest.approx(0, abs=1e-12)
        assert knowable(torch.zeros(3)) == 0.0


BATCH = asked()
FLAT = torch.zeros(len(BATCH.targets), V)
DICE = stream(0, "x")
NONE = Cloze(texts(), None, torch.zeros(0).long(), torch.zeros(0).long())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: corrupt(NONE, FLAT[:0], DICE), "cloze: no position is asked about"),
        (lambda: corrupt(BATCH, FLAT, DICE, 0), "temperature: 0 is not above 0"),
        (lambda: corrupt(BATCH, FLAT, DICE, -1.0), "temperature: -1.0"),
        (lambda: corrupt(BATCH, FLAT, DICE, math.nan), "temperature: nan"),
        (lambda: corrupt(BATCH, FLAT[:-1], DICE), "log_q: shape ("),
        (lambda: corrupt(BATCH, FLAT[0], DICE), "log_q: shape (20,)"),
        (lambda: game(-1.0), "weight: -1.0"),
        (lambda: replaced_token_detection("new"), "question: 'new'"),
        (
            lambda: electra(CONFIG, replace(SMALL, vocabulary=30), 12, DICE),
            "small: vocabulary 30 is not config's, 20",
        ),
        (lambda: electra(CONFIG, replace(SMALL, positions=9), 12, DICE), "positions 9"),
        (lambda: electra(CONFIG, SMALL, 0, DICE), "narrow: 0"),
        (
            lambda: Electra(
                bert(replace(CONFIG, vocabulary=21), DICE), players().discriminator
            ),
            "generator: its vocabulary of 21 exceeds the discriminator's, 20",
        ),
        (lambda: optimal(FLAT, FLAT[:, 1:]), "log_q: shape"),
        (lambda: optimal_alone(FLAT, FLAT, 1.5), "rate: 1.5"),
        (lambda: knowable(FLAT[:0]), "probabilities: none"),
        (lambda: knowable(FLAT / 0), "probabilities: none, or not finite"),
    ],
)
def test_wrong_calls_name_the_argument(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value)


def test_both_questions_are_labels():
    assert set(room.QUESTIONS) <= set(Corrupted._fields)

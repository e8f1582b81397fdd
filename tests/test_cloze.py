"""Masking that is exactly BERT's, questions about the right tokens, and the scores."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blogcore import encoder, training
from blogcore.blocks import EncoderConfig
from blogcore.cloze import every_token, mask_tokens, token_prediction
from blogcore.corpus import random_markov
from blogcore.pseudolikelihood import (
    cloze_distribution,
    one_mask_each,
    one_pass_log_likelihood,
    pseudo_log_likelihood,
)
from blogcore.runtime import stream

PAD, CLS, SEP, MASK = range(4)
VOCABULARY = 24
SPECIAL = (PAD, CLS, SEP)
CONFIG = EncoderConfig(
    VOCABULARY, width=16, heads=2, layers=2, inner=32, positions=16, dropout=0.0
)


def texts(count: int, length: int, name: str = "texts") -> torch.Tensor:
    """[CLS] words [SEP] padding: the row n has n mod 5 pads."""
    ids = torch.randint(4, VOCABULARY, (count, length), generator=stream(0, name))
    ids[:, 0] = CLS
    for row in range(count):
        end = length - row % 5
        ids[row, end - 1], ids[row, end:] = SEP, PAD
    return ids


def masked(ids, rate=0.15, name="masking", **options):
    options = {"special": SPECIAL, "valid": ids != PAD} | options
    return mask_tokens(ids, rate, MASK, VOCABULARY, stream(1, name), **options)


@pytest.fixture(scope="module")
def models():
    """BERT and T-TA in double precision."""
    pair = (encoder.bert(CONFIG, stream(2, "b")), encoder.tta(CONFIG, stream(2, "t")))
    return [model.double().eval() for model in pair]


class TestMasking:
    """What is chosen, what becomes of it, and what must never happen."""

    def test_splits_eighty_ten_ten_independently(self):
        """Each share within 4.5 standard deviations; 81/10/9 would be 25 away."""
        ids = torch.full((4000, 100), 10)
        batch = masked(ids, rate=0.5)
        n = len(batch.targets)
        assert n == 4000 * 50
        there = batch.inputs.flatten()[batch.positions]
        words = VOCABULARY - 4
        shares = {  # a random word is, once in V − 4 times, the old one
            "masked": ((there == MASK), 0.8),
            "the same": ((there == 10), 0.1 + 0.1 / words),
            "another": ((there != MASK) & (there != 10), 0.1 - 0.1 / words),
        }
        for name, (found, share) in shares.items():
            off = found.double().mean().item() - share
            assert abs(off) < 4.5 * math.sqrt(share * (1 - share) / n), name

    def test_random_words_are_uniform_over_all_ordinary_ones(self):
        ids = torch.full((4000, 100), 10)
        batch = masked(ids, rate=0.5)
        there = batch.inputs.flatten()[batch.positions]
        counts = torch.bincount(there, minlength=VOCABULARY).double()
        assert counts[[PAD, CLS, SEP]].sum() == 0
        others = counts[[v for v in range(4, VOCABULARY) if v != 10]]
        expected = len(there) * 0.1 / (VOCABULARY - 4)
        chi_square = ((others - expected) ** 2 / expected).sum().item()
        assert chi_square < len(others) + 5 * math.sqrt(2 * len(others))

    def test_fates_of_neighbours_are_independent(self):
        """Two chosen tokens of a row both become [MASK] with probability .64."""
        ids = torch.full((40_000, 4), 10)
        batch = masked(ids, rate=0.5)
        there = (batch.inputs.flatten()[batch.positions] == MASK).view(-1, 2)
        both = there.all(1).double().mean().item()
        assert abs(both - 0.64) < 4.5 * math.sqrt(0.64 * 0.36 / 40_000)

    @pytest.mark.parametrize("rate", [0.0, 0.15, 0.4, 1.0])
    def test_chooses_exactly_the_share_of_each_row(self, rate):
        ids = texts(25, 16)
        batch = masked(ids, rate=rate)
        ordinary = ((ids != PAD) & (ids != CLS) & (ids != SEP)).sum(1)
        rows = torch.bincount(batch.positions // 16, minlength=25)
        expected = (rate * ordinary).round().clamp(min=1).long()
        assert rows.tolist() == expected.tolist()

    def test_every_place_is_chosen_equally_often(self):
        ids = torch.full((20_000, 10), 10)
        places = torch.bincount(masked(ids, rate=0.3).positions % 10)
        spread = math.sqrt(20_000 * 0.3 * 0.7)
        assert (places - 6000).abs().max() < 4.5 * spread

    def test_leaves_specials_padding_and_its_input_alone(self):
        ids = texts(500, 16)
        before = ids.clone()
        batch = masked(ids, rate=1.0)
        assert torch.equal(ids, before)
        untouched = torch.isin(ids, torch.tensor(SPECIAL))
        assert torch.equal(batch.inputs[untouched], ids[untouched])
        assert not untouched.flatten()[batch.positions].any()
        assert len(batch.positions) == (~untouched).sum()

    def test_padding_counts_by_valid_even_if_it_holds_words(self):
        ids = torch.full((50, 8), 10)
        valid = (torch.arange(8) < 3).expand(50, 8)
        batch = masked(ids, rate=1.0, valid=valid)
        assert (batch.positions % 8).max() == 2

    def test_what_was_masked_already_is_not_asked(self):
        ids = torch.full((50, 8), 10)
        ids[:, 5] = MASK
        assert not (masked(ids, rate=1.0).positions % 8 == 5).any()

    def test_targets_are_the_original_tokens(self):
        ids = texts(50, 16)
        batch = masked(ids, rate=0.4)
        assert torch.equal(batch.targets, ids.flatten()[batch.positions])
        assert batch.inputs.data_ptr() != ids.data_ptr()

    def test_same_stream_same_masks(self):
        one, two = masked(texts(9, 16)), masked(texts(9, 16))
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))

    def test_rows_without_words_are_asked_nothing(self):
        ids = texts(5, 16)
        ids[2] = PAD
        batch = masked(ids)
        assert not (batch.positions // 16 == 2).any()


class TestQuestions:
    """Every token, and one masked copy a token."""

    def test_every_token_asks_all_words_and_hides_none(self):
        ids = texts(9, 16)
        batch = every_token(ids, SPECIAL, ids != PAD)
        expected = ~torch.isin(ids, torch.tensor(SPECIAL))
        assert torch.equal(batch.inputs, ids)
        assert torch.equal(batch.positions, expected.flatten().nonzero()[:, 0])
        assert torch.equal(batch.targets, ids[expected])

    @pytest.mark.parametrize("rows", [1, 7, 1000])
    def test_copies_hide_one_token_each(self, rows):
        ids = texts(6, 16)
        whole = every_token(ids, SPECIAL, ids != PAD)
        seen = 0
        for part in one_mask_each(whole, MASK, rows):
            assert len(part.positions) <= rows
            for copy, place in enumerate(part.positions.tolist()):
                row, column = divmod(place, 16)
                expected = ids[row].clone()
                expected[column] = MASK
                assert torch.equal(part.asked.inputs[copy], expected)
                assert torch.equal(part.asked.valid[copy], ids[row] != PAD)
                assert part.asked.positions[copy] == copy * 16 + column
                assert part.asked.targets[copy] == ids[row, column]
            seen += len(part.positions)
        assert seen == len(whole.positions)

    @pytest.mark.parametrize("parts", [1, 2, 3])
    def test_parts_share_the_questions_out(self, parts):
        batch = masked(texts(7, 16), rate=0.4)
        found = []
        for index in range(parts):
            part = batch.part(index, parts)
            rows, columns = part.positions // 16, part.positions % 16
            assert torch.equal(part.inputs, batch.inputs[index::parts])
            assert torch.equal(part.valid, batch.valid[index::parts])
            places = (rows * parts + index) * 16 + columns
            found += zip(places.tolist(), part.targets.tolist(), strict=True)
        expected = zip(batch.positions.tolist(), batch.targets.tolist(), strict=True)
        assert sorted(found) == sorted(expected)

    def test_moves_to_a_device_with_or_without_padding(self):
        ids = texts(5, 16)
        for batch in (every_token(ids), every_token(ids, valid=ids != PAD)):
            moved = batch.to(torch.device("meta"))
            assert moved.inputs.device.type == "meta"
            assert (moved.valid is None) == (batch.valid is None)


class TestObjective:
    """The loss is the mean over the questions, and nothing else is computed."""

    def test_is_the_cross_entropy_at_the_questions(self, models):
        ids = texts(6, 16)
        batch = masked(ids, rate=0.4)
        for model in models:
            loss, parts = token_prediction(model, batch)
            logits = model.head(model(batch.inputs, batch.valid).flatten(0, 1))
            there = F.cross_entropy(logits[batch.positions], batch.targets)
            assert torch.allclose(loss, there, rtol=0, atol=1e-12)
            hits = (logits.argmax(-1)[batch.positions] == batch.targets).float().mean()
            assert torch.equal(parts["accuracy"], hits)
            assert parts["loss"].requires_grad is False

    def test_the_head_sees_only_the_questions(self, models):
        batch = masked(texts(6, 16))
        shapes = []
        hook = models[0].head.register_forward_hook(
            lambda module, args, out: shapes.append(tuple(out.shape))
        )
        token_prediction(models[0], batch)
        hook.remove()
        assert shapes == [(len(batch.targets), VOCABULARY)]

    def test_padding_does_not_count(self, models):
        ids = texts(1, 10)
        longer = F.pad(ids, (0, 6), value=PAD)
        for model in models:
            short, _ = token_prediction(model, every_token(ids, SPECIAL, ids != PAD))
            long = every_token(longer, SPECIAL, longer != PAD)
            assert torch.allclose(
                short, token_prediction(model, long)[0], rtol=0, atol=1e-12
            )

    @pytest.mark.slow
    def test_training_by_it_reaches_the_exact_floor(self):
        """T-TA learns a tiny hidden Markov language to within .05 nat of Bayes."""
        language = random_markov(2, 4, stream(3, "language"), 0.2, 0.3)
        ids = language.sample(24_000, 6, stream(3, "train")).ids
        batches = [every_token(ids[i : i + 100]) for i in range(0, 24_000, 100)]
        config = EncoderConfig(4, 16, 2, 2, 32, 6, segments=0, dropout=0.0)
        model = encoder.tta(config, stream(3, "init"))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        training.train(model, batches.__getitem__, token_prediction, optimizer, 240)
        test = language.sample(2000, 6, stream(3, "test")).ids
        found = one_pass_log_likelihood(model, test)
        floor = -language.cloze(test).gather(2, test[:, :, None]).mean().item()
        assert floor < -found.mean().item() < floor + 0.05


class TestScores:
    """Pseudo-log-likelihoods by n passes and by one."""

    def test_masked_passes_equal_the_definition(self, models):
        bert, ids = models[0], texts(4, 12)
        found = pseudo_log_likelihood(bert, ids, MASK, SPECIAL, ids != PAD, rows=5)
        for row, column in torch.cartesian_prod(torch.arange(4), torch.arange(12)):
            if ids[row, column] in SPECIAL:
                assert found[row, column] == 0
                continue
            hidden = ids[row : row + 1].clone()
            hidden[0, column] = MASK
            with torch.no_grad():
                logits = bert.head(bert(hidden, hidden != PAD)[0, column][None])
            expected = logits.log_softmax(-1)[0, ids[row, column]]
            assert abs(found[row, column] - expected) < 1e-6

    def test_one_pass_of_tta_equals_its_masked_passes(self, models):
        """T-TA cannot see the token it is asked about, so hiding it changes nothing."""
        tta, ids = models[1], texts(4, 12)
        scored = (ids, SPECIAL, ids != PAD)
        one = one_pass_log_likelihood(tta, *scored)
        many = pseudo_log_likelihood(tta, ids, MASK, SPECIAL, ids != PAD, rows=7)
        assert torch.allclose(one, many, rtol=0, atol=1e-6)
        assert (one[ids == PAD] == 0).all()

    def test_one_pass_of_bert_does_not(self, models):
        bert, ids = models[0], texts(4, 12)
        one = one_pass_log_likelihood(bert, ids)
        many = pseudo_log_likelihood(bert, ids, MASK)
        assert (one - many).abs().max() > 1e-3

    def test_model_keeps_its_mode_and_gets_no_gradient(self, models):
        model = encoder.bert(CONFIG, stream(4, "mode"))
        model.train()
        model.blocks[0].eval()  # a frozen part, which used to be woken up
        log_p = cloze_distribution(model, every_token(texts(2, 8)))
        assert model.training
        assert not model.blocks[0].training
        assert not log_p.requires_grad
        assert torch.allclose(log_p.exp().sum(-1), torch.ones(16), atol=1e-5)


IDS = torch.full((2, 4), 10)
DICE = stream(0, "bad input")


def wrong_mask(ids=IDS, rate=0.15, mask=MASK, vocabulary=VOCABULARY, **options):
    return mask_tokens(ids, rate, mask, vocabulary, DICE, **options)


class Silent(nn.Module):
    """Must not be reached."""


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: wrong_mask(rate=1.1), "rate: 1.1"),
        (lambda: wrong_mask(rate=-0.1), "rate: -0.1"),
        (lambda: wrong_mask(rate=math.nan), "rate: nan"),
        (lambda: wrong_mask(vocabulary=0), "vocabulary: 0"),
        (lambda: wrong_mask(vocabulary=9), "ids: 10 … 10"),
        (lambda: wrong_mask(ids=-IDS), "ids: -10"),
        (lambda: wrong_mask(ids=IDS.float()), "torch.float32"),
        (lambda: wrong_mask(ids=IDS[0]), "shape (4,)"),
        (lambda: wrong_mask(ids=IDS[:0]), "shape (0, 4)"),
        (lambda: wrong_mask(mask=VOCABULARY), "mask: 24"),
        (lambda: wrong_mask(mask=-1), "mask: -1"),
        (lambda: wrong_mask(mask=None), "mask: None is not an integer"),
        (lambda: wrong_mask(mask=4.0), "mask: 4.0 is not an integer"),
        (lambda: wrong_mask(mask=True), "mask: True is not an integer"),
        (lambda: wrong_mask(special=range(VOCABULARY)), "mask: 3"),
        (lambda: wrong_mask(special=[10]), "no ordinary token"),
        (lambda: wrong_mask(valid=IDS > 10), "no ordinary token"),
        (lambda: wrong_mask(valid=IDS), "valid: torch.int64"),
        (lambda: wrong_mask(valid=IDS[0] > 0), "valid: torch.bool of shape (4,)"),
        (lambda: every_token(IDS, special=[10]), "no ordinary token"),
        (lambda: every_token(IDS.int()), "torch.int32"),
        (lambda: every_token(IDS, valid=IDS), "valid: torch.int64"),
        (
            lambda: pseudo_log_likelihood(Silent(), IDS, -1),
            "mask: -1",
        ),
        (
            lambda: pseudo_log_likelihood(Silent(), IDS, MASK, rows=0),
            "rows: 0",
        ),
    ],
)
def test_wrong_calls_name_the_argument(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value)

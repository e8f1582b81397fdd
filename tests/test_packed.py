"""Packed rows, and masks that are drawn where they lie, with no wait for a device."""

import pytest
import torch

from blogcore import packed
from blogcore.blocks import EncoderConfig
from blogcore.cloze import hide_tokens, mask_tokens, token_prediction
from blogcore.encoder import bert
from blogcore.runtime import stream
from blogcore.tokens import BertTokenizer, Vocabulary, character_vocabulary
from blogcore.training import train

TEXTS = ["天地玄黄", "宇宙洪荒", "日月盈昃", "辰宿列张", "寒来暑往"]
TOKENIZER = BertTokenizer(character_vocabulary(TEXTS))
PAD, _, FIRST, LAST, MASK = TOKENIZER.vocabulary.specials
WORDS = torch.tensor([1, *range(5, 25)])
SPECIAL = torch.tensor([PAD, FIRST, LAST, MASK])


def test_rows_hold_the_texts_in_order_with_marks_between_and_no_padding():
    rows = packed.packed(TEXTS, TOKENIZER, 8)
    assert rows.shape == (4, 8)
    assert (rows[:, 0] == FIRST).all()
    assert (rows[:, -1] == LAST).all()
    assert not (rows == PAD).any()
    told = [TOKENIZER.vocabulary.tokens[i] for i in rows[:, 1:-1].flatten().tolist()]
    assert (
        "".join(told).replace("[SEP]", "|")
        == "天地玄黄|宇宙洪荒|日月盈昃|辰宿列张|寒来暑往"[:24]
    )


def test_what_fills_no_row_is_an_error():
    with pytest.raises(ValueError, match="25 ids do not fill a row of 28"):
        packed.packed(TEXTS, TOKENIZER, 28)


@pytest.mark.parametrize("seed", range(5))
def test_full_rows_are_masked_as_by_the_plain_function_bit_for_bit(seed):
    ids = torch.randint(5, 25, (7, 20), generator=stream(seed, "ids"))
    ids[:, 0], ids[:, -1] = FIRST, LAST
    special = (PAD, FIRST, LAST)
    plain = mask_tokens(ids, 0.15, MASK, 25, stream(seed, "dice"), special)
    dice = stream(seed, "dice")
    there = hide_tokens(ids, round(0.15 * 18), MASK, WORDS, SPECIAL, dice)
    assert there.valid is None
    for name in ("inputs", "positions", "targets"):
        assert torch.equal(getattr(plain, name), getattr(there, name)), name


def test_no_mark_inside_a_row_is_asked_about():
    rows = packed.packed(TEXTS * 20, TOKENIZER, 8)
    batch = packed.questions(rows, TOKENIZER.vocabulary, 500, 0.5, 3)(0)
    assert batch.inputs.shape == (500, 8)
    assert len(batch.targets) == 500 * 3
    assert not torch.isin(batch.targets, SPECIAL).any()
    again = packed.questions(rows, TOKENIZER.vocabulary, 500, 0.5, 3)(0)
    assert torch.equal(batch.inputs, again.inputs)
    other = packed.questions(rows, TOKENIZER.vocabulary, 500, 0.5, 3)(1)
    assert not torch.equal(batch.inputs, other.inputs)


def test_rows_with_too_few_ordinary_tokens_are_an_error():
    rows = packed.packed(TEXTS, TOKENIZER, 8)
    with pytest.raises(ValueError, match="asks 6 of a row, one has only 5"):
        packed.questions(rows, TOKENIZER.vocabulary, 2, 1.0, 0)


def test_made_up_texts_have_the_form_of_the_real_ones():
    found = packed.made_up(["a", "b"])
    assert found["rows"].dtype == torch.int16
    parts, classes = packed.examples(found, "a", torch.device("cpu"))
    assert classes == 2
    assert [len(part.labels) for part in parts] == [80, 80, 80]
    assert parts[0].inputs.ids.max() < len(found["vocabulary"])


def test_a_training_step_never_waits_for_the_device():
    """On the meta device every wait raises, for there are no values to wait for."""
    config = EncoderConfig(25, 16, 2, 2, 32, 8, dropout=0.0, segments=0)
    model = bert(config, stream(0, "init")).to("meta")
    ids = torch.zeros(6, 8, dtype=torch.int64, device="meta")
    words, special = WORDS.to("meta"), SPECIAL.to("meta")
    optimizer = torch.optim.AdamW(model.parameters())

    def batches(step: int):
        return hide_tokens(ids, 2, MASK, words, special, None)

    history = train(model, batches, token_prediction, optimizer, 3)
    assert history["loss"].shape == (3,)


def test_the_plain_masking_does_wait():
    ids = torch.zeros(6, 8, dtype=torch.int64, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        mask_tokens(ids, 0.15, MASK, 25, stream(0, "dice"))


def test_pretraining_learns_and_repeats():
    found = packed.made_up([])
    vocabulary = Vocabulary(found["vocabulary"])
    size = len(vocabulary), 16, 2, 1, 32, 12
    config = EncoderConfig(*size, segments=0)

    def losses() -> torch.Tensor:
        model = bert(config, stream(0, "init"))
        asked = packed.questions(found["rows"], vocabulary, 16, 0.15, 0)
        given = (model, asked, token_prediction, 40, 0, 0.02)
        return packed.pretrain(*given)["loss"]

    first = losses()
    assert first.dtype == torch.float32
    assert first[-10:].mean() < first[:10].mean() - 0.1
    assert torch.equal(first, losses())
